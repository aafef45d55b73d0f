"""Sequences leave the graph when their lengths and the positions in them are known."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import reference_model
from frontend_models import model
from single_node import lower
from tosaic.errors import TosaicError
from tosaic.frontend import load

X = np.arange(12, dtype=np.float32).reshape(3, 4)

GRAPHS = {
    "pieces of one size": "<int64 n = {3}> { s = SplitToSequence <axis = 1> (x, n) y = SequenceAt (s, n1) }",
    "pieces of given sizes": "<int64[2] n = {1, 3}> { s = SplitToSequence <axis = 1> (x, n) y = SequenceAt (s, n1) }",
    "rows without their axis": "{ s = SplitToSequence <keepdims = 0> (x) y = SequenceAt (s, n1) }",
    "rows with their axis": "{ s = SplitToSequence (x) y = SequenceAt (s, n1) }",
    "stacked": "{ s = SequenceConstruct (x, x, x) y = ConcatFromSequence <axis = -1, new_axis = 1> (s) }",
    "joined": "{ z = Neg (x) s = SequenceConstruct (x, z) y = ConcatFromSequence <axis = 1> (s) }",
    "inserted": """{ e = SequenceEmpty () z = Neg (x) a = SequenceInsert (e, x) b = SequenceInsert (a, z, n0)
        c = SequenceInsert (b, z) y = ConcatFromSequence <axis = 0> (c) }""",
    "erased": """{ z = Neg (x) s = SequenceConstruct (x, z, x) a = SequenceErase (s, n1) b = SequenceErase (a)
        y = ConcatFromSequence <axis = 0> (b) }""",
    "inserted from the end": """{ z = Neg (x) s = SequenceConstruct (x, x) a = SequenceInsert (s, z, n1)
        y = ConcatFromSequence <axis = 0> (a) }""",
    "length": "{ s = SplitToSequence (x) n = SequenceLength (s) f = Cast <to = 1> (n) y = Add (x, f) }",
    "filled in a loop": """<int64 trips = {3}, bool yes = {1}> { e = SequenceEmpty ()
        s = Loop (trips, yes, e) <body = row (int64 i, bool on, seq(float[4]) t) => (bool on2, seq(float[4]) u) {
            on2 = Identity (on) r = Gather (x, i) u = SequenceInsert (t, r, n0) }>
        y = ConcatFromSequence <axis = 0, new_axis = 1> (s) }""",
    "optional": """{ o = Optional (x) has = OptionalHasElement (o)
        y = If (has) <then_branch = a () => (float[3, 4] p) { p = OptionalGetElement (o) },
                      else_branch = b () => (float[3, 4] q) { q = Neg (x) }> }""",
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_sequences_become_tensors(graph: str) -> None:
    constants = "int64 n0 = {0}, int64 n1 = {-1}"
    body = f"<{constants}> {graph}" if graph.startswith("{") else graph.replace("<", f"<{constants}, ", 1)
    proto = model(f"g (float[3, 4] x) => (y) {body}")
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": X})
    (actual,) = reference_model.run(lower(proto), [X])
    np.testing.assert_array_equal(actual, expected[0])


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            "g (float[3, 4] x, int64 i) => (float[1, 4] y) { s = SplitToSequence (x) y = SequenceAt (s, i) }",
            "its position in the sequence depends on data (bind 'i' with --constant)",
        ),
        (
            "g (float[3, 4] x, int64 i) => (float[1, 4] y) <int64 n = {3}> "
            "{ s = SplitToSequence (x) y = SequenceAt (s, n) }",
            "its position 3 is outside of a sequence of 3",
        ),
        (
            "g (float[3, 4] x, int64[2] n) => (float[1, 4] y) <int64 i = {0}> "
            "{ s = SplitToSequence (x, n) y = SequenceAt (s, i) }",
            "the sizes of its pieces depend on data (bind 'n', 'x' with --constant)",
        ),
        (
            "g (float[3] x) => (float[3] y) { s = Optional <type = float[3]> () y = OptionalGetElement (s) }",
            "its optional value is empty",
        ),
        (
            "g (float[3] x) => (float[3] y) { s = SequenceEmpty () y = ConcatFromSequence <axis = 0> (s) }",
            "its sequence is empty",
        ),
        (
            "g (float[3] x) => (int64 n) { n = SequenceLength (x) }",
            "its operand is no sequence",
        ),
        (
            "g (float[3] x) => (seq(float[3]) s) { s = SequenceConstruct (x, x) }",
            "output 's' is a sequence; tosaic gives tensors only",
        ),
        (
            """g (float[3] x, int64 n) => (float[3] y) <int64 i = {0}, bool t = {1}> { s = SequenceConstruct (x)
            z = Loop (n, t, s) <body = b (int64 k, bool c, seq(float[3]) p) => (bool d, seq(float[3]) q) {
                d = Identity (c) q = SequenceInsert (p, x) }>
            y = SequenceAt (z, i) }""",
            "it takes a sequence, and how often or whether it runs depends on data",
        ),
    ],
)
def test_what_stays_a_sequence_is_refused(graph: str, reason: str) -> None:
    with pytest.raises(TosaicError) as refused:
        load(model(graph))
    assert reason in str(refused.value)


def test_a_map_of_scores_is_the_tensor_of_scores(caplog: pytest.LogCaptureFixture) -> None:
    proto = model(
        "g (float[3, 2] x) => (seq(map(int64, float)) y) { z = Neg (x)"
        " y = ai.onnx.ml.ZipMap <classlabels_int64s = [7, 5]> (z) }",
        '<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 1]> ',
    )
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    (actual,) = reference_model.run(lower(proto), [rows])
    np.testing.assert_array_equal(actual, -rows)
    assert "a tensor of scores, its columns in the order 7, 5" in caplog.text
