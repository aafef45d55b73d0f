"""Branches and loops against onnxruntime, as regions and unrolled."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import reference_model
from frontend_models import model
from single_node import check_model, lower
from tosaic import frontend
from tosaic_passes.pipeline import parse_pipeline, run_pipeline

X = np.array([3, -1, 2], np.float32)


def operations(program) -> list[str]:
    main = next(iter(program.module.body.operations))
    return [view.operation.name for view in main.regions[0].blocks[0].operations]


# If

BRANCHES = """<then_branch = t () => (float[3] a, bool[3] p) { two = Constant<value_float = 2.0>()
        s = Add(x, x) a = Mul(s, two) p = Less(x, two) },
    else_branch = e () => (float[3] b, bool[3] q) { b = Neg(x) three = Constant<value_float = 3.0>()
        q = Less(x, three) }>"""
CHOICE = f"g (float[3] x, bool c) => (float[3] y, bool[3] z) {{ y, z = If(c) {BRANCHES} }}"


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_is_taken_at_run_time(condition: bool) -> None:
    check_model(model(CHOICE), {"x": X, "c": np.array(condition)})


@pytest.mark.parametrize("condition", [True, False])
def test_branches_stay_valid_after_all_folds(condition: bool) -> None:
    program = frontend.load(model(CHOICE))
    run_pipeline(program, parse_pipeline("lower-onnx-to-tosa"))
    expected = 4 * X if condition else -X
    np.testing.assert_array_equal(reference_model.run(program, [X, np.array(condition)])[0], expected)


@pytest.mark.parametrize("condition", [True, False])
def test_layouts_fold_inside_and_outside_of_branches(condition: bool) -> None:
    random = np.random.default_rng(1)
    weights = random.normal(size=(3, 3, 1, 1)).astype(np.float32)
    graph = """g (float[1, 3, 4, 5] x, bool c, float[3, 3, 1, 1] w) => (float[1, 3, 4, 5] y) {
        p = Conv(x, w) q = Relu(p)
        r = If(c) <then_branch = t () => (float[1, 3, 4, 5] a) { s = Conv(q, w) a = Relu(s) },
            else_branch = e () => (float[1, 3, 4, 5] b) { b = Tanh(q) }>
        y = Conv(r, w) }"""
    proto = model(graph)
    x, c = random.normal(size=(1, 3, 4, 5)).astype(np.float32), np.array(condition)
    program = frontend.load(proto, constants={"w": weights})
    run_pipeline(program, parse_pipeline("lower-onnx-to-tosa"))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    expected = session.run(None, {"x": x, "c": c, "w": weights})[0]
    np.testing.assert_allclose(reference_model.run(program, [x, c])[0], expected, 1e-4, 1e-5)


def test_a_branch_inside_a_branch() -> None:
    inner = """a = If(d) <then_branch = tt () => (float[3] e) { e = Abs(x) },
        else_branch = te () => (float[3] f) { f = Mul(x, x) }>"""
    graph = f"""g (float[3] x, bool c, bool d) => (float[3] y) {{ y = If(c)
        <then_branch = t () => (float[3] a) {{ {inner} }}, else_branch = o () => (float[3] b) {{ b = Neg(x) }}> }}"""
    check_model(model(graph), {"x": X, "c": np.array(True), "d": np.array(False)})


def test_an_unused_result_of_a_branch() -> None:
    graph = f"g (float[3] x, bool c) => (bool[3] z) {{ y, z = If(c) {BRANCHES} }}"
    check_model(model(graph), {"x": X, "c": np.array(True)})


# Loop

BODY = """<body = b (int64 i, bool going, float[3] s) => (bool go_on, float[3] t, float[3] u) {
    f = Cast<to = 1>(i) t = Add(s, f) u = Mul(t, x) go_on = Identity(going) }>"""
COUNTED = (
    "g (float[3] x) => (float[3] last, float[N, 3] all) <int64 n = {COUNT}> { last, all = Loop(n, , x) %s }"
)


@pytest.mark.parametrize("count", [1, 4])
def test_a_counted_loop_is_unrolled(count: int) -> None:
    proto = model((COUNTED % BODY).replace("COUNT", str(count)))
    assert "tosa.while_loop" not in operations(lower(proto))
    check_model(proto, {"x": X})


def test_a_long_counted_loop_becomes_a_while_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tosaic.frontend.unrolling.UNROLLED_NODES", 5)
    proto = model((COUNTED % BODY).replace("COUNT", "4"))
    assert operations(lower(proto)).count("tosa.while_loop") == 1
    check_model(proto, {"x": X})


def test_a_loop_of_a_shape_that_grows_is_unrolled() -> None:
    graph = """g (float[2] x) => (float[N] y) <int64 n = {3}> { y = Loop(n, , x) <body = b (int64 i, bool going,
        float[N] s) => (bool go_on, float[M] t) { t = Concat<axis = 0>(s, x) go_on = Identity(going) }> }"""
    check_model(model(graph), {"x": X[:2]})


def test_a_condition_that_folds_ends_the_unrolling() -> None:
    graph = """g (float[3] x) => (float[3] y) <bool c = {1}, int64 two = {2}> { y = Loop( , c, x) <body = b (int64 i,
        bool going, float[3] s) => (bool go_on, float[3] t) { t = Mul(s, x) go_on = Less(i, two) }> }"""
    assert operations(lower(model(graph))).count("tosa.mul") == 3
    check_model(model(graph), {"x": X})


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_trip_count_at_run_time(count: int) -> None:
    graph = """g (float[3] x, int64 n) => (float[3] y) { y = Loop(n, , x) <body = b (int64 i, bool going,
        float[3] s) => (bool go_on, float[3] t) { f = Cast<to = 1>(i) u = Add(s, f) t = Mul(u, x)
        go_on = Identity(going) }> }"""
    check_model(model(graph), {"x": X, "n": np.array(count)})


@pytest.mark.parametrize(("limit", "start"), [(3, 1.0), (100, 1.0), (100, 200.0)])
def test_a_condition_at_run_time(limit: int, start: float) -> None:
    graph = """g (float x, int64 n) => (float y) <float hundred = {100}> { c = Less(x, hundred)
        y = Loop(n, c, x) <body = b (int64 i, bool going, float s) => (bool go_on, float t) {
        t = Add(s, s) go_on = Less(t, hundred) }> }"""
    check_model(model(graph), {"x": np.array(start, np.float32), "n": np.array(limit)})


def test_a_branch_inside_a_loop() -> None:
    graph = """g (float[3] x, int64 n) => (float[3] y) <int64 one = {1}> { y = Loop(n, , x) <body = b (int64 i,
        bool going, float[3] s) => (bool go_on, float[3] t) { c = Less(i, one)
        t = If(c) <then_branch = t () => (float[3] a) { a = Add(s, x) },
            else_branch = e () => (float[3] b) { b = Mul(s, x) }>
        go_on = Identity(going) }> }"""
    check_model(model(graph), {"x": X, "n": np.array(3)})


def test_a_loop_that_never_ends_is_refused() -> None:
    graph = """g (float[3] x) => (float[3] y) { y = Loop( , , x) <body = b (int64 i, bool going,
        float[3] s) => (bool go_on, float[3] t) { t = Mul(s, x) go_on = Identity(going) }> }"""
    with pytest.raises(Exception, match="no trip count and its condition stays true"):
        lower(model(graph))


# Scan

SCAN = """g (float[2] s, float[2, 5] x, float[5, 2] z) => (float[2] last, float[2, 5] y, bool[5, 2] p) {
    last, y, p = Scan(s, x, z) <num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [0, 1],
        scan_output_axes = [-1, 0], scan_output_directions = [1, 0],
        body = b (float[2] a, float[2] e, float[2] f) => (float[2] a2, float[2] o, bool[2] q) {
            a2 = Add(a, e) o = Mul(a2, f) q = Less(a2, f) }> }"""


@pytest.mark.parametrize("nodes", [1, 4096])
def test_a_scan(nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tosaic.frontend.unrolling.UNROLLED_NODES", nodes)
    random = np.random.default_rng(0)
    shapes = {"s": (2,), "x": (2, 5), "z": (5, 2)}
    inputs = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    proto = model(SCAN)
    assert ("tosa.while_loop" in operations(lower(proto))) == (nodes == 1)
    check_model(proto, inputs)


def test_a_scan_of_opset_8_runs_over_each_row_of_the_batch() -> None:
    graph = """g (float[2, 3] s, float[2, 4, 3] x) => (float[2, 3] last, float[2, 4, 3] y) {
        last, y = Scan( , s, x) <num_scan_inputs = 1, body = b (float[3] a, float[3] e) => (float[3] c, float[3] d) {
            c = Add(a, e) d = Identity(c) }> }"""
    random = np.random.default_rng(0)
    inputs = {"s": (2, 3), "x": (2, 4, 3)}
    fed = {name: random.normal(size=shape).astype(np.float32) for name, shape in inputs.items()}
    check_model(model(graph, '<ir_version: 3, opset_import: ["": 8]> '), fed)
