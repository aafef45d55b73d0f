"""Rescaling by constant vectors of shifts: the same integers as Python computes, at the price of SIMD."""

from __future__ import annotations

import numpy as np
import pytest

from tosaic.wasm.kernel import Expression, KernelRequest, Operand, View
from tosaic.wasm.kernels import build
from wasm.harness import DTYPES, PRICES, run_kernel, view_of


def request_of(x, multiplier, shift, target: str, **attributes) -> KernelRequest:
    """x [rows, channels] with a multiplier and a shift for each channel, and an output zero point of 3."""
    nodes = [("input", (k,), ()) for k in range(3)] + [("constant", (), (("value", v),)) for v in (0, 3)]
    nodes.append(("rescale", (0, 1, 2, 3, 4), (("scale32", True), *attributes.items())))
    elements = ("i32", "i32", "i8", "i32", target, target)
    vectors = [
        Operand(View(element, x.shape, (0, array.itemsize)), np.broadcast_to(array, x.shape))
        for element, array in (("i32", multiplier), ("i8", shift))
    ]
    operands = (Operand(view_of(x, "i32")), *vectors)
    output = View.contiguous(target, x.shape)
    return KernelRequest("elementwise", operands, (output,), epilogue=Expression(tuple(nodes), elements))


def specified(x, multiplier, shift, target: str, double_round: bool = False) -> np.ndarray:
    info = np.iinfo(DTYPES[target])
    out = np.empty(x.shape, np.int64)
    for (row, channel), value in np.ndenumerate(x):
        s = int(shift[channel])
        rounding = 1 << (s - 1)
        if double_round and s > 31:
            rounding += 1 << 30 if value >= 0 else -(1 << 30)
        scaled = ((int(value) * int(multiplier[channel]) + rounding) >> s) + 3
        out[row, channel] = min(max(scaled, info.min), info.max)
    return out


def inputs(channels: int, shifts: tuple[int, int], bits: int = 31):
    rng = np.random.default_rng(1)
    x = rng.integers(-(1 << bits), 1 << bits, (9, channels)).astype(np.int32)
    x[0], x[1], x[2] = -(1 << bits), (1 << bits) - 1, 0
    multiplier = rng.integers(1 << 30, 1 << 31, channels).astype(np.int32)
    return x, multiplier, rng.integers(*shifts, channels, endpoint=True).astype(np.int8)


@pytest.mark.parametrize("target", ["i8", "i16", "i32"])
@pytest.mark.parametrize("shifts", [(33, 38), (38, 48), (36, 36), (34, 60), (32, 40)])
@pytest.mark.parametrize("channels", [4, 7])
def test_equals_the_specification(channels: int, shifts: tuple[int, int], target: str) -> None:
    x, multiplier, shift = inputs(channels, shifts)
    request = request_of(x, multiplier, shift, target, rounding_mode="SINGLE_ROUND")
    found = run_kernel(build(request, PRICES), request, [x, *(o.array for o in request.inputs[1:])])[0]
    np.testing.assert_array_equal(found, specified(x, multiplier, shift, target))


@pytest.mark.parametrize("attributes", [{"rounding_mode": "DOUBLE_ROUND"}, {"rounding_mode": "SINGLE_ROUND"}])
def test_what_factors_cannot_hold_is_computed_by_lanes(attributes) -> None:
    """Double rounding, and a range of shifts that is too wide."""
    x, multiplier, shift = inputs(6, (20, 50), bits=15)
    request = request_of(x, multiplier, shift, "i32", **attributes)
    found = run_kernel(build(request, PRICES), request, [x, *(o.array for o in request.inputs[1:])])[0]
    expected = specified(x, multiplier, shift, "i32", attributes["rounding_mode"] == "DOUBLE_ROUND")
    np.testing.assert_array_equal(found, expected)


def test_the_price_of_an_element() -> None:
    x, multiplier, shift = inputs(64, (36, 44))
    request = request_of(x, multiplier, shift, "i8", rounding_mode="SINGLE_ROUND")
    assert build(request, PRICES).cost <= 14 * x.size
