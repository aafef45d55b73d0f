"""Models and encoders of ai.onnx.ml.

Features are multiples of a half, as thresholds are, so that comparisons meet equal numbers. Of labels that hang on
the greatest of several scores, those of a tie may differ; scores are drawn so that ties are unlikely.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from random_nodes.case import ML, Case, Draw, strategy

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


@strategy("Scaler", domain=ML)
def scaler(d: Draw, op: str) -> Case:
    shape = d.sizes(2, 1, 4)
    size = d.pick([1, shape[1]])
    attributes = {"offset": numbers(d, size), "scale": numbers(d, size)}
    return Case({"x": d.array(shape, d.pick(["float32", "int32", "int64"]))}, attributes)


@strategy("Normalizer", domain=ML)
def normalizer(d: Draw, op: str) -> Case:
    x = halves(d, d.sizes(2, 1, 4)).astype(d.pick(["float32", "int32", "int64"]))
    return Case({"x": x}, {"norm": d.pick(["MAX", "L1", "L2"])})


@strategy("Binarizer", domain=ML)
def binarizer(d: Draw, op: str) -> Case:
    return Case({"x": halves(d, d.sizes(2, 1, 4))}, {"threshold": d.int(-4, 4) / 2})


@strategy("ArrayFeatureExtractor", domain=ML)
def columns(d: Draw, op: str) -> Case:
    shape = d.shape(1, 3)
    operands = {"x": d.array(shape, d.pick(["float32", "int32", "int64"]))}
    operands["indices"] = d.ints([1, d.int(1, 4)], 0, shape[-1] - 1)
    return Case(operands, constants=d.pick([[], ["indices"]]))


@strategy("FeatureVectorizer", domain=ML)
def side_by_side(d: Draw, op: str) -> Case:
    rows, widths, dtype = d.int(1, 3), d.sizes(d.int(1, 3), 1, 4), d.pick(["float32", "int32", "int64"])
    operands = {f"x{i}": d.array([rows, width], dtype) for i, width in enumerate(widths)}
    return Case(operands, {"inputdimensions": widths})


@strategy("Imputer", domain=ML)
def imputer(d: Draw, op: str) -> Case:
    shape = d.sizes(2, 1, 4)
    size = d.pick([1, shape[1]])
    if d.bool():
        attributes = {"imputed_value_int64s": d.ints([size], -9, 9).tolist(), "replaced_value_int64": 1}
        return Case({"x": d.ints(shape, 0, 2)}, attributes)
    x, missing = halves(d, shape), d.pick([float("nan"), 1.0])
    x[d.bools(shape)] = missing
    return Case({"x": x}, {"imputed_value_floats": numbers(d, size), "replaced_value_float": missing})


@strategy("OneHotEncoder", domain=ML)
def one_hot(d: Draw, op: str) -> Case:
    x = d.ints(d.shape(1, 3), 0, 7).astype(d.pick(["float32", "int32", "int64"]))
    return Case({"x": x}, {"cats_int64s": d.distinct(d.int(1, 6), 8).tolist(), "zeros": 1})


@strategy("LabelEncoder", domain=ML)
def label_encoder(d: Draw, op: str) -> Case:
    """Keys that are close to each other, far apart, or floats with a NaN."""
    count, shape = d.int(1, 6), d.shape(1, 3)
    keys = d.distinct(count, 8) * d.pick([1, 1000])
    names = {"i": "int64s", "f": "floats"}
    values = d.pick([d.ints([count], -9, 9), d.floats([count])])
    default: dict[str, Any] = {"default_int64": 5} if values.dtype.kind == "i" else {"default_float": 0.5}
    attributes = {f"values_{names[values.dtype.kind]}": values.tolist()} | default
    if d.bool():
        choices = np.append(keys, 3)
        x = choices[d.ints(shape, 0, count)]
        return Case({"x": x}, attributes | {"keys_int64s": keys.tolist()}, domain_opset=d.pick([2, 4]))
    floats = np.where(np.arange(count) == d.int(0, 5), np.nan, keys / 2).astype(np.float32)
    x = np.append(floats, np.float32(99))[d.ints(shape, 0, count)]
    return Case({"x": x}, attributes | {"keys_floats": floats.tolist()}, domain_opset=d.pick([2, 4]))


@strategy("LinearRegressor", domain=ML)
def linear_regressor(d: Draw, op: str) -> Case:
    rows, features, targets = d.sizes(3, 1, 4)
    attributes = {"coefficients": numbers(d, targets * features), "targets": targets}
    attributes |= {"intercepts": numbers(d, targets)} if d.bool() else {}
    return Case({"x": d.floats([rows, features])}, attributes | {"post_transform": d.pick(TRANSFORMS)})


@strategy("LinearClassifier", domain=ML)
def linear_classifier(d: Draw, op: str) -> Case:
    rows, features, scores = d.sizes(3, 1, 4)
    labels = d.distinct(max(scores, 2), 9).tolist()
    attributes = {"coefficients": numbers(d, scores * features), "intercepts": numbers(d, scores)}
    attributes |= {"classlabels_ints": labels, "post_transform": d.pick(TRANSFORMS)}
    return Case({"x": d.floats([rows, features])}, attributes, outputs=2)


@strategy("SVMRegressor", domain=ML)
def svm_regressor(d: Draw, op: str) -> Case:
    rows, features, vectors = d.sizes(3, 1, 4)
    vectors = d.pick([0, vectors])
    attributes = kernel(d, vectors) | {"rho": numbers(d, 1), "one_class": d.int(0, 1), "n_supports": vectors}
    attributes |= {"coefficients": numbers(d, vectors or features)}
    attributes |= {"support_vectors": numbers(d, vectors * features)} if vectors else {}
    return Case({"x": d.floats([rows, features], -1, 1)}, attributes, rtol=1e-3, atol=1e-4)


@strategy("SVMClassifier", domain=ML)
def svm_classifier(d: Draw, op: str) -> Case:
    rows, features, classes = d.int(1, 3), d.int(1, 3), d.int(2, 4)
    vectors, pairs = d.sizes(classes, 1, 3), classes * (classes - 1) // 2
    attributes = kernel(d, sum(vectors)) | {
        "classlabels_ints": d.distinct(classes, 9).tolist(),
        "coefficients": numbers(d, (classes - 1) * sum(vectors)),
        "rho": numbers(d, pairs),
        "support_vectors": numbers(d, sum(vectors) * features),
        "vectors_per_class": vectors,
        "post_transform": d.pick(TRANSFORMS),
    }
    return Case({"x": d.floats([rows, features], -1, 1)}, attributes, outputs=2, rtol=1e-3, atol=1e-4)


@strategy("TreeEnsembleRegressor", domain=ML)
def tree_regressor(d: Draw, op: str) -> Case:
    """Base values only where each leaf gives to each target: onnxruntime forgets them for one without."""
    targets = d.int(1, 3)
    trees = nodes(d)
    given = weights(d, trees, "target", targets)
    is_full = len(given["target_ids"]) == trees["nodes_modes"].count("LEAF") * targets
    attributes = trees | given | {"n_targets": targets}
    attributes |= {"aggregate_function": d.pick(["SUM", "AVERAGE", "MIN", "MAX"])}
    attributes |= {"base_values": numbers(d, targets)} if is_full and d.bool() else {}
    return Case({"x": missing_halves(d)}, attributes | {"post_transform": d.pick(TRANSFORMS)}, domain_opset=3)


@strategy("TreeEnsembleClassifier", domain=ML)
def tree_classifier(d: Draw, op: str) -> Case:
    """Two classes of which the trees know one, or more than two: where they know both, onnxruntime looks at one."""
    classes, trees = d.int(2, 4), nodes(d)
    given = weights(d, trees, "class", 1 if classes == 2 else classes)
    if d.bool():
        given["class_weights"] = np.abs(given["class_weights"]).tolist()
    attributes = trees | given | {"classlabels_int64s": d.distinct(classes, 9).tolist()}
    attributes |= {"base_values": numbers(d, classes)} if classes > 2 and d.bool() else {}
    transforms = d.pick(TRANSFORMS)
    case = Case({"x": missing_halves(d)}, attributes | {"post_transform": transforms}, outputs=2)
    case.domain_opset = 3
    return case


@strategy("TreeEnsemble", domain=ML)
def tree_ensemble(d: Draw, op: str) -> Case:
    """Each tree is a chain of branches with a leaf at each.

    Of the numbers of ONNX's transformations, onnxruntime takes softmax (1) and logistic (2) for each other; of sets
    it takes those of integers.
    """
    table: dict[str, list] = {
        name: [] for name in ("feature", "mode", "split", "true", "false", "last", "missing")
    }
    leaves, members, roots, modes = 0, [], [], [0, 1, 2, 3, 4, 5, 6]
    for _ in range(d.int(1, 3)):
        roots.append(len(table["mode"]))
        length = d.int(1, 4)
        for place in range(length):
            mode, is_last = d.pick(modes), place == length - 1
            if mode == 6:
                members += [*(d.distinct(d.int(1, 2), 2) + 1.0).tolist(), float("nan")]
            row = (
                d.int(0, 2),
                mode,
                d.int(-4, 4) / 2,
                leaves,
                leaves + 1 if is_last else len(table["mode"]) + 1,
            )
            for name, value in zip(table, (*row, is_last, d.int(0, 1))):
                table[name].append(value)
            leaves += 1 + is_last
    targets = d.int(1, 3)
    attributes = {
        "aggregate_function": d.int(0, 3),
        "leaf_targetids": d.ints([leaves], 0, targets - 1).tolist(),
        "leaf_weights": tensor(d.floats([leaves])),
        "n_targets": targets,
        "nodes_falseleafs": [int(last) for last in table["last"]],
        "nodes_falsenodeids": table["false"],
        "nodes_featureids": table["feature"],
        "nodes_missing_value_tracks_true": table["missing"],
        "nodes_modes": tensor(np.array(table["mode"], np.uint8)),
        "nodes_splits": tensor(np.array(table["split"], np.float32)),
        "nodes_trueleafs": [1] * len(table["true"]),
        "nodes_truenodeids": table["true"],
        "post_transform": d.pick([0, 3]),
        "tree_roots": roots,
    }
    if members:
        attributes["membership_values"] = tensor(np.array(members, np.float32))
    return Case({"x": missing_halves(d)}, attributes, domain_opset=5)


def numbers(d: Draw, count: int) -> list[float]:
    return d.floats([count], -1, 1).tolist()


def halves(d: Draw, shape: list[int]) -> np.ndarray:
    return (d.ints(shape, -4, 4) / 2).astype(np.float32)


def missing_halves(d: Draw) -> np.ndarray:
    """Rows of 3 features, some of them missing."""
    x = halves(d, [d.int(1, 4), 3])
    x[d.ints(x.shape, 0, 9) == 0] = np.nan
    return x


def tensor(array: np.ndarray) -> Any:
    import onnx

    return onnx.numpy_helper.from_array(np.asarray(array))


def kernel(d: Draw, vectors: int) -> dict[str, Any]:
    """A kernel and its gamma, coef0 and degree; without vectors it is linear."""
    kind = d.pick(["LINEAR", "RBF", "POLY", "SIGMOID"]) if vectors else "LINEAR"
    return {"kernel_type": kind, "kernel_params": [d.float(0.25, 1), d.float(-1, 1), float(d.int(1, 3))]}


def nodes(d: Draw) -> dict[str, Any]:
    """Trees of at most 3 levels over 3 features, in the attributes of opsets 1 and 3."""
    names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    table: dict[str, list] = {name: [] for name in (*names, "missing_value_tracks_true")}
    modes = d.pick([MODES, MODES[:1]])

    def grow(tree: int, level: int) -> int:
        number = table["treeids"].count(tree)
        row = len(table["treeids"])
        is_leaf = level == 3 or d.int(0, 3) == 0
        mode = "LEAF" if is_leaf else d.pick(modes)
        for name, value in zip(table, (tree, number, d.int(0, 2), mode, d.int(-4, 4) / 2, 0, 0, d.int(0, 1))):
            table[name].append(value)
        if not is_leaf:
            table["truenodeids"][row] = grow(tree, level + 1)
            table["falsenodeids"][row] = grow(tree, level + 1)
        return number

    for tree in range(d.int(1, 3)):
        grow(tree, 0)
    return {f"nodes_{name}": values for name, values in table.items()}


def weights(d: Draw, trees: dict[str, Any], kind: str, targets: int) -> dict[str, Any]:
    """What each leaf gives: to one target, to all, or each tree to its own."""
    shape = d.pick(["one", "all", "tree"])
    rows: list[tuple[int, int, int]] = []
    for tree, node, mode in zip(trees["nodes_treeids"], trees["nodes_nodeids"], trees["nodes_modes"]):
        if mode == "LEAF":
            given = {"one": [d.int(0, targets - 1)], "all": range(targets), "tree": [tree % targets]}[shape]
            rows += [(tree, node, target) for target in given]
    ids = zip(("treeids", "nodeids", "ids"), zip(*rows))
    return {f"{kind}_{name}": list(column) for name, column in ids} | {
        f"{kind}_weights": numbers(d, len(rows))
    }
