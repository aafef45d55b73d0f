"""Types of the results of ai.onnx.ml. ONNX's own inference knows some of these operators, and sizes of few.

Operands are as onnxruntime takes them: a vector is one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import onnx

from tosaic.frontend.static_graph import TensorType, Value

ML = "ai.onnx.ml"

_FLOAT = np.dtype(np.float32)
_INT = np.dtype(np.int64)
_STRING = np.dtype(object)

Types = list[onnx.TypeProto | None]
Attributes = Mapping[str, Any]
Rule = Callable[[Sequence[Value], Attributes], Sequence[TensorType]]


def has_ml_rule(op_type: str) -> bool:
    """Whether the types of an operator's results are known."""
    return op_type in _RULES


def infer_ml_types(node: onnx.NodeProto, operands: Sequence[Value]) -> Types:
    """The types of the results of an operator that has a rule."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    types = _RULES[node.op_type](operands, attributes)
    return [Value("result", type).type_proto for type in types]


def _same(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    return [TensorType(operands[0].dtype, operands[0].shape)]


def _same_shape(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    return [TensorType(_FLOAT, operands[0].shape)]


def _columns(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    data, indices = operands
    rows = data.shape[:-1] or (1,)
    return [TensorType(data.dtype, (*rows, int(np.prod(indices.shape))))]


def _side_by_side(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    widths = [operand.shape[-1] for operand in operands]
    return [TensorType(_FLOAT, (_row_count(operands[0]), sum(widths)))]


def _one_hot(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    categories = attributes.get("cats_int64s") or attributes.get("cats_strings", ())
    return [TensorType(_FLOAT, (*operands[0].shape, len(categories)))]


def _encoded(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    dtypes: dict[str, np.dtype] = {"values_int64s": _INT, "values_floats": _FLOAT, "values_strings": _STRING}
    dtype = next((dtype for name, dtype in dtypes.items() if name in attributes), None)
    if "values_tensor" in attributes:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(attributes["values_tensor"].data_type)
    if dtype is None:  # opset 1: between int64 and strings
        dtype = _INT if operands[0].dtype.kind in "OSU" else _STRING
    return [TensorType(dtype, operands[0].shape)]


def _regression(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    targets = attributes.get("targets", attributes.get("n_targets", 1))
    return [TensorType(_FLOAT, (_row_count(operands[0]), targets))]


def _trees(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    return [TensorType(operands[0].dtype, (_row_count(operands[0]), attributes.get("n_targets", 1)))]


def _one_target(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    return [TensorType(_FLOAT, (_row_count(operands[0]), 1))]


def _linear_classes(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    """Labels and scores; one score becomes two for two labels."""
    count, labels = len(attributes.get("intercepts", ())), _labels(attributes)[1]
    return _classes(operands[0], attributes, 2 if count == 1 and labels == 2 else count)


def _vector_classes(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    """Labels and scores: probabilities of the classes, or one number for each pair of more than two classes."""
    count = _labels(attributes)[1]
    has_pairs = any(attributes.get("vectors_per_class", ())) and "prob_a" not in attributes and count > 2
    return _classes(operands[0], attributes, len(list(combinations(range(count), 2))) if has_pairs else count)


def _tree_classes(operands: Sequence[Value], attributes: Attributes) -> Sequence[TensorType]:
    return _classes(operands[0], attributes, _labels(attributes)[1])


def _classes(rows: Value, attributes: Attributes, scores: int) -> Sequence[TensorType]:
    count = _row_count(rows)
    return [TensorType(_labels(attributes)[0], (count,)), TensorType(_FLOAT, (count, scores))]


def _labels(attributes: Attributes) -> tuple[np.dtype, int]:
    """What labels are, and how many there are."""
    if attributes.get("classlabels_strings"):
        return _STRING, len(attributes["classlabels_strings"])
    return _INT, len(attributes.get("classlabels_ints") or attributes.get("classlabels_int64s") or ())


def _row_count(value: Value) -> int:
    return value.shape[0] if len(value.shape) > 1 else 1


_RULES: dict[str, Rule] = {
    "ArrayFeatureExtractor": _columns,
    "Binarizer": _same,
    "FeatureVectorizer": _side_by_side,
    "Imputer": _same,
    "LabelEncoder": _encoded,
    "LinearClassifier": _linear_classes,
    "LinearRegressor": _regression,
    "Normalizer": _same_shape,
    "OneHotEncoder": _one_hot,
    "SVMClassifier": _vector_classes,
    "SVMRegressor": _one_target,
    "Scaler": _same_shape,
    "TreeEnsemble": _trees,
    "TreeEnsembleClassifier": _tree_classes,
    "TreeEnsembleRegressor": _regression,
}
