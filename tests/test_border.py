"""Tensors at the border that TOSA has no type for: those without elements, and those above rank 6."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

import tosaic
from tosaic.artifact.modules import read_module, to_bytecode

EMPTY_BETWEEN = """<ir_version: 8, opset_import: ["" : 17]>
main (float[2,3] x) => (float[2,3] y, float[0,3] e, float[2,3] z, int64[2,0] n) {
    starts = Constant <value_ints = [2]> ()
    ends = Constant <value_ints = [9]> ()
    axes = Constant <value_ints = [0]> ()
    last = Constant <value_ints = [1]> ()
    y = Exp (x)
    e = Slice (y, starts, ends, axes)
    z = Tanh (y)
    c = Slice (z, ends, ends, last)
    n = Cast <to = 7> (c)
}"""

ONLY_EMPTY = """<ir_version: 8, opset_import: ["" : 17]>
main (TYPE[0,2] x) => (TYPE[0,2] y) { y = Identity (x) }"""

DTYPES = ["float", "double", "float16", "int64", "uint64", "int32", "uint8", "bool"]

RANK_7 = """<ir_version: 8, opset_import: ["" : 17]>
main (int64[2,1,3,1,2,1,2] x) => (int64[2,1,3,1,2,1,2] y, float[3,2,1,1,2,1,2] z) {
    y = Neg (x)
    t = Transpose <perm = [2, 0, 1, 3, 4, 5, 6]> (x)
    z = Cast <to = 1> (t)
}"""


def check(text: str, path, **options) -> tosaic.RunResult:
    """The compiled model gives what onnxruntime gives: dtypes, shapes and values, at the cost predicted.

    CBOR, if the tensors fit a message, carries the same bits.
    """
    model = onnx.parser.parse_model(text)
    loaded = tosaic.load(tosaic.compile_model(model, path, **options))
    inputs = loaded.random_inputs()
    result = loaded.run(inputs)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs)))
    assert list(result.outputs) == list(expected)
    for name, value in expected.items():
        assert (result.outputs[name].dtype, result.outputs[name].shape) == (value.dtype, value.shape)
        np.testing.assert_allclose(result.outputs[name], value, rtol=1e-5)
    assert result.total_metered == result.total_predicted
    if loaded.manifest["cbor"]:
        by_cbor = loaded.run(inputs, "cbor")
        assert by_cbor.total_metered == by_cbor.total_predicted
        assert [a.tobytes() for a in by_cbor.outputs.values()] == [
            a.tobytes() for a in result.outputs.values()
        ]
    return result


def test_outputs_without_elements_keep_their_places(tmp_path):
    check(EMPTY_BETWEEN, tmp_path / "a.tosaic")


def test_outputs_without_elements_survive_a_cut(tmp_path):
    wide = EMPTY_BETWEEN.replace(",3]", ",30000]")
    assert len(check(wide, tmp_path / "a.tosaic", limit_instructions=25_000_000).messages) > 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_may_hold_nothing_but_tensors_without_elements(dtype, tmp_path):
    check(ONLY_EMPTY.replace("TYPE", dtype), tmp_path / "a.tosaic", float64_as_float32=True)


def test_tensors_above_rank_6_are_held_flat(tmp_path):
    check(RANK_7, tmp_path / "a.tosaic")


def test_the_border_is_in_the_module(tmp_path):
    """TOSA that is written and read again makes the same canister."""
    program = tosaic.lower_to_tosa(onnx.parser.parse_model(EMPTY_BETWEEN))
    (tmp_path / "m.mlirbc").write_bytes(to_bytecode(program.module))
    assert str(read_module(tmp_path / "m.mlirbc").module) == str(program.module)
    artifact = tosaic.compile_model(tmp_path / "m.mlirbc", tmp_path / "a.tosaic")
    shapes = {entry["name"]: entry["shape"] for entry in artifact.manifest["outputs"]}
    assert shapes == {"y": [2, 3], "e": [0, 3], "z": [2, 3], "n": [2, 0]}


BRANCH = """<ir_version: 8, opset_import: ["" : 17]>
main (bool c, float[2] x, float[0,2] z) => (float[2] y, float[0,2] e, float[2] w) {
    y, e, w = If (c) <
        then_branch = a () => (float[2] t, float[0,2] u, float[2] v) { t = Neg (x) u = Exp (z) v = Tanh (x) },
        else_branch = b () => (float[2] p, float[0,2] q, float[2] r) { p = Exp (x) q = Neg (z) r = Abs (x) }>
}"""

LOOP = """<ir_version: 8, opset_import: ["" : 17]>
main (int64 m, float[0,2] z, float[2] x) => (float[0,2] e, float[2] y) {
    n = Constant <value_int = 6> ()
    e, y = Loop (n, , z, x) <body = b (int64 i, bool going, float[0,2] s, float[2] r)
                                    => (bool go_on, float[0,2] t, float[2] u) {
        t = Neg (s)
        o = Constant <value_float = 1.5> ()
        u = Add (r, o)
        go_on = Less (i, m)
    }>
}"""


@pytest.mark.parametrize("text", [BRANCH, LOOP], ids=["branch", "loop"])
def test_regions_may_carry_tensors_without_elements(text, tmp_path):
    check(text, tmp_path / "a.tosaic")


HIGH_RANK = """
    <ir_version: 8, opset_import: ["" : 17]>
    main (float[1, 2, 1, 3, 1, 2, 1] x) => (float[1, 2, 1, 3, 1, 2, 1] y) { y = Tanh (x) }"""


def test_a_result_above_rank_6_keeps_its_shape_in_the_canister(tmp_path) -> None:
    found = check(HIGH_RANK, tmp_path)
    assert found.outputs["y"].shape == (1, 2, 1, 3, 1, 2, 1)


def test_a_result_above_rank_6_is_refused_as_bare_tosa() -> None:
    with pytest.raises(
        tosaic.TosaicError, match=r"the output \"y\" has the shape \[1, 2, 1, 3, 1, 2, 1\].*an artifact"
    ):
        tosaic.lower_to_tosa(onnx.parser.parse_model(HIGH_RANK))
