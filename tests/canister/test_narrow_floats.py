"""Every code of the floats that TOSA lacks, through canisters' borders, against ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

import tosaic

CODES = {"float8e4m3fnuz": 256, "float8e5m2fnuz": 256, "float8e8m0": 256, "float4e2m1": 16}
DTYPES = {
    "float8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8e8m0": ml_dtypes.float8_e8m0fnu,
    "float4e2m1": ml_dtypes.float4_e2m1fn,
}

WIDENED = """<ir_version: 13, opset_import: ["" : 25]>
main (TYPE[COUNT] x) => (float[COUNT] wide, TYPE[COUNT] same) {
    wide = Cast <to = 1> (x)
    same = Identity (x)
}"""


@pytest.mark.parametrize("name", CODES)
def test_every_code_is_widened_and_comes_back(name, tmp_path):
    text = WIDENED.replace("TYPE", name).replace("COUNT", str(CODES[name]))
    model = tosaic.load(tosaic.compile_model(onnx.parser.parse_model(text), tmp_path / "a.tosaic"))
    codes = np.arange(CODES[name], dtype=np.uint8).view(DTYPES[name])
    result = model.run({"x": codes})
    np.testing.assert_array_equal(result.outputs["wide"], codes.astype(np.float32))
    np.testing.assert_array_equal(result.outputs["same"].view(np.uint8), codes.view(np.uint8))
    assert result.total_metered == result.total_predicted


@pytest.mark.parametrize("name", ["float8e4m3fnuz", "float8e5m2fnuz", "float4e2m1"])
def test_a_negative_zero_is_no_nan(name, tmp_path):
    """Two of the formats have no negative zero; its code is their NaN."""
    target = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES[name]))
    text = f"""<ir_version: 13, opset_import: ["" : 25]>
    main (float[3] x) => ({name}[3] y) {{ y = Cast <to = {target}> (x) }}"""
    model = tosaic.load(tosaic.compile_model(onnx.parser.parse_model(text), tmp_path / "a.tosaic"))
    result = model.run({"x": np.array([-0.0, 0.0, -0.5], np.float32)})
    np.testing.assert_array_equal(result.outputs["y"].astype(np.float32), [0, 0, -0.5])
