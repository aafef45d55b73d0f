"""Resizing against the formulas of the TOSA specification, by phases and by positions computed as needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.wasm.kernel import Expression, KernelRequest, View
from tosaic.wasm.kernels import build
from wasm.harness import DTYPES, PRICES, operand_of, run_kernel

RESULTS = {"f32": "f32", "f16": "f16", "i8": "i32", "i16": "i48"}


def resize(x, element, mode, scale, offset, size, extra=(), epilogue=None) -> np.ndarray:
    result = RESULTS[element] if mode == "BILINEAR" else element
    shape = (x.shape[0], *size, x.shape[3])
    operands = (operand_of(x, element), *(operand_of(array, kind) for kind, array in extra))
    attributes = {"scale": scale, "offset": offset, "border": (0, 0), "mode": mode}
    target = epilogue.elements[-1] if epilogue else result
    request = KernelRequest(
        "resize", operands, (View.contiguous(target, shape),), attributes, result, epilogue
    )
    return run_kernel(build(request, PRICES), request, [x, *(array for _, array in extra)])[0]


def specified(x, mode, scale, offset, size) -> np.ndarray:
    """TOSA RESIZE, pixel by pixel; f32 in f32."""
    is_float = x.dtype.kind == "f"
    wide = x.astype(np.float32 if is_float else np.int64)
    out = np.zeros((x.shape[0], *size, x.shape[3]), wide.dtype)
    for oy in range(size[0]):
        (y0, y1), ry = neighbours(oy, scale[0], scale[1], offset[0], x.shape[1])
        for ox in range(size[1]):
            (x0, x1), rx = neighbours(ox, scale[2], scale[3], offset[1], x.shape[2])
            if mode == "NEAREST":
                y, xx = (y1 if 2 * ry >= scale[0] else y0), (x1 if 2 * rx >= scale[2] else x0)
                out[:, oy, ox] = wide[:, y, xx]
                continue
            if is_float:
                dy, dx = np.float32(ry) / np.float32(scale[0]), np.float32(rx) / np.float32(scale[2])
                a, b = (np.float32(1) - dy, dy), (np.float32(1) - dx, dx)
            else:
                a, b = (scale[0] - ry, ry), (scale[2] - rx, rx)
            out[:, oy, ox] = (
                wide[:, y0, x0] * (a[0] * b[0]) + wide[:, y0, x1] * (a[0] * b[1])
                + wide[:, y1, x0] * (a[1] * b[0]) + wide[:, y1, x1] * (a[1] * b[1])
            )  # fmt: skip
    return out


def neighbours(index, numerator, denominator, offset, size):
    whole, remainder = divmod(index * denominator + offset, numerator)
    return [min(max(place, 0), size - 1) for place in (whole, whole + 1)], remainder


CASES = {
    "twice, asymmetric": ((2, 1, 2, 1), (0, 0), (10, 14)),
    "twice, half pixel": ((4, 2, 4, 2), (-1, -1), (10, 14)),
    "half": ((2, 4, 2, 4), (1, 1), (2, 3)),
    "5 to 8 and 7 to 3": ((16, 10, 6, 14), (-3, 4), (8, 3)),
    "long period": ((58, 10, 82, 14), (-24, -34), (29, 41)),
    "single row": ((2, 1, 2, 1), (0, 0), (1, 14)),
}


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["NEAREST", "BILINEAR"])
def test_float(mode: str, case: str, channels: int) -> None:
    x = np.random.default_rng(1).normal(0, 1, (2, 5, 7, channels)).astype(np.float32)
    found = resize(x, "f32", mode, *CASES[case])
    np.testing.assert_array_equal(found, specified(x, mode, *CASES[case]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["NEAREST", "BILINEAR"])
@pytest.mark.parametrize("element", ["i8", "i16"])
def test_integer(element: str, mode: str, case: str) -> None:
    info = np.iinfo(DTYPES[element])
    x = np.random.default_rng(2).integers(info.min, info.max, (1, 5, 7, 6), info.dtype, endpoint=True)
    found = resize(x, element, mode, *CASES[case])
    np.testing.assert_array_equal(found, specified(x, mode, *CASES[case]))


def test_narrow_float() -> None:
    x = np.random.default_rng(3).normal(0, 1, (1, 5, 7, 6)).astype(np.float16)
    found = resize(x, "f16", "BILINEAR", *CASES["twice, half pixel"])
    np.testing.assert_array_equal(
        found, specified(x, "BILINEAR", *CASES["twice, half pixel"]).astype(np.float16)
    )


@given(st.data(), st.integers(1, 6), st.integers(1, 6), st.sampled_from(["NEAREST", "BILINEAR"]))
def test_any_scale(data, height, width, mode) -> None:
    scale = tuple(data.draw(st.integers(1, 70)) for _ in range(4))
    offset = (data.draw(st.integers(-scale[0], scale[0])), data.draw(st.integers(-scale[2], scale[2])))
    size = (data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20)))
    x = np.random.default_rng(4).normal(0, 1, (1, height, width, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        resize(x, "f32", mode, scale, offset, size), specified(x, mode, scale, offset, size)
    )


@pytest.mark.parametrize("case", ["twice, half pixel", "long period"])
def test_epilogue(case: str) -> None:
    rng = np.random.default_rng(5)
    x, c = (rng.normal(0, 1, s).astype(np.float32) for s in ((2, 5, 7, 6), (1, 1, 1, 6)))
    expected = specified(x, "BILINEAR", *CASES[case])
    b = rng.normal(0, 1, expected.shape).astype(np.float32)
    nodes = (
        ("result", (), ()),
        ("input", (1,), ()),
        ("add", (0, 1), ()),
        ("input", (2,), ()),
        ("mul", (2, 3), ()),
    )
    epilogue = Expression(nodes, ("f32",) * 5)
    found = resize(x, "f32", "BILINEAR", *CASES[case], extra=[("f32", b), ("f32", c)], epilogue=epilogue)
    np.testing.assert_array_equal(found, (expected + b) * c)


def test_the_cost_of_doubling() -> None:
    """A nearest neighbour is a copy: 4 instructions for a vector of four elements and a little."""
    x = np.zeros((1, 40, 40, 64), np.float32)
    attributes = {"scale": (2, 1, 2, 1), "offset": (0, 0), "border": (1, 1), "mode": "NEAREST"}
    request = KernelRequest(
        "resize", (operand_of(x, "f32"),), (View.contiguous("f32", (1, 80, 80, 64)),), attributes, "f32"
    )
    assert build(request, PRICES).cost <= 1.3 * 4 * x.size
