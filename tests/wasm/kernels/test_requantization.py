"""Products that end in 8 bits: the same integers as Python computes, packed several vectors at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.wasm.kernel import Expression, Operand, View
from tosaic.wasm.kernels.reduced_scales import Scale, with_reduced_scales
from tosaic.wasm.kernels.requantization import REQUANTIZE
from wasm.kernels.products import Case, Geometry, case, integers, ordered_depthwise
from wasm.test_expression import rescaled

FLAGS = (("scale32", True), ("per_channel", True))


def constant(value: int, element: str) -> tuple:
    return ("constant", (), (("element", element), ("value", value)))


def ending_in(product: Case, multiplier, shift, zero_point: int = 0, tail: tuple = (), **flags) -> Case:
    """The product (of i32) with a rescale by column behind it, and then the nodes of `tail`, all on i8."""
    request, shape = product.request, product.request.outputs[0].shape
    first = len(request.inputs)
    nodes = [("result", (), ()), ("input", (first,), ()), ("input", (first + 1,), ())]
    nodes += [
        constant(0, "i32"),
        constant(zero_point, "i8"),
        ("rescale", (0, 1, 2, 3, 4), FLAGS + tuple(flags.items())),
    ]
    vectors = [
        Operand(
            View(element, shape, (*(0 for _ in shape[1:]), array.itemsize)), np.broadcast_to(array, shape)
        )
        for element, array in (("i32", multiplier), ("i8", shift))
    ]
    expression = Expression((*nodes, *tail), ("i32", "i32", "i8", "i32", *["i8"] * (2 + len(tail))))
    output = View.contiguous("i8", shape)
    changed = replace(
        request, inputs=(*request.inputs, *vectors), outputs=(output,), epilogue=expression, result="i32"
    )
    return Case(changed, [*product.arrays, *(operand.array for operand in vectors)])


def matmul(rng: np.random.Generator, rows: int, taps: int, columns: int) -> tuple[Case, np.ndarray]:
    """A product of i8, and its sums."""
    left = rng.integers(-128, 128, (1, rows, taps)).astype(np.int8)
    right = rng.integers(-128, 128, (1, taps, columns)).astype(np.int8)
    sums = left.astype(np.int64) @ right.astype(np.int64)
    return case("matmul", [(left, False), (right, True)], (1, rows, columns), result="i32"), sums


def is_packed(found: Case) -> bool:
    epilogue = with_reduced_scales(found.request)[0].epilogue
    return epilogue is not None and epilogue.nodes[-1][0] == REQUANTIZE


def expected(sums: np.ndarray, multiplier, shift, zero_point: int, double_round: bool) -> np.ndarray:
    columns = [
        rescaled(
            column, np.full(column.size, m), np.full(column.size, s), 0, zero_point, -128, 127, double_round
        )
        for column, m, s in zip(sums.reshape(-1, sums.shape[-1]).T, multiplier, shift, strict=True)
    ]
    return np.array(columns).T.reshape(sums.shape)


@given(
    st.tuples(st.integers(1, 20), st.integers(1, 30), st.integers(1, 40)),
    st.sampled_from([(33, 39), (36, 47), (39, 39), (44, 62)]),
    st.sampled_from([31, 24, 16]),
    st.integers(-128, 127),
    st.booleans(),
    st.integers(0, 1 << 30),
)
def test_any_scale(
    size: tuple[int, int, int],
    shifts: tuple[int, int],
    bits: int,
    zero_point: int,
    double_round: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    product, sums = matmul(rng, *size)
    multiplier = (rng.integers(1 << bits - 1, 1 << bits, size[2]) << 31 - bits).astype(np.int32)
    shift = rng.integers(*shifts, size[2], endpoint=True).astype(np.int8)
    rounding = "DOUBLE_ROUND" if double_round else "SINGLE_ROUND"
    found = ending_in(product, multiplier, shift, zero_point, rounding_mode=rounding).run()
    np.testing.assert_array_equal(found, expected(sums, multiplier, shift, zero_point, double_round))


@pytest.mark.parametrize("unsigned_zero", [0, 77, 255])
def test_unsigned_results(unsigned_zero: int) -> None:
    rng = np.random.default_rng(1)
    product, sums = matmul(rng, 6, 50, 21)
    multiplier, shift = np.full(21, 1 << 30, np.int32), np.full(21, 39, np.int8)
    zero_point = unsigned_zero - 256 if unsigned_zero > 127 else unsigned_zero
    quantised = ending_in(product, multiplier, shift, zero_point, output_unsigned=True)
    assert is_packed(quantised)
    wanted = np.clip((sums + (1 << 8) >> 9) + unsigned_zero, 0, 255)
    np.testing.assert_array_equal(quantised.run().view(np.uint8), wanted)


def test_bounds_and_flips_behind_the_rescale() -> None:
    rng = np.random.default_rng(2)
    product, sums = matmul(rng, 5, 60, 19)
    multiplier, shift = np.full(19, 1 << 30, np.int32), np.full(19, 38, np.int8)
    tail = (
        ("clamp", (5,), (("min_val", -100), ("max_val", 90))),
        constant(-17, "i8"),
        ("maximum", (7, 6), ()),
        constant(-128, "i8"),
        ("bitwise_xor", (8, 9), ()),
    )
    quantised = ending_in(product, multiplier, shift, -128, tail)
    assert is_packed(quantised)
    wanted = np.clip((sums + (1 << 7) >> 8) - 128, -17, 90) + 128
    np.testing.assert_array_equal(quantised.run().view(np.uint8), wanted)


def test_scales_of_24_bits_need_no_proof() -> None:
    """What f32 scales give: any shift up to 46 is exact, whatever the sums."""
    rng = np.random.default_rng(3)
    multiplier = (rng.integers(1 << 23, 1 << 24, 16) << 7).astype(np.int32)
    assert is_packed(ending_in(matmul(rng, 4, 2000, 16)[0], multiplier, np.full(16, 46, np.int8)))


def test_a_scale_that_cannot_be_reduced_is_computed_in_full() -> None:
    """Sums so large against the step of the result that 31 bits of the multiplier are needed."""
    rng = np.random.default_rng(4)
    multiplier, shift = np.full(8, (1 << 30) + 1, np.int32), np.full(8, 61, np.int8)
    left = rng.integers(-128, 128, (1, 3, 9)).astype(np.int8)
    right = rng.integers(-128, 128, (1, 9, 8)).astype(np.int8)
    product = case("matmul", [(left, False), (right, False)], (1, 3, 8), result="i32")
    quantised = ending_in(product, multiplier, shift)
    assert not is_packed(quantised)
    sums = left.astype(np.int64) @ right.astype(np.int64)
    np.testing.assert_array_equal(quantised.run(), expected(sums, multiplier, shift, 0, False))


@pytest.mark.parametrize("away", [0, 1 << 30])
def test_reduced_multipliers_do_the_same_for_all_sums(away: int) -> None:
    rng = np.random.default_rng(6)
    bound, levels = 1 << 17, np.arange(-127, 128)
    multiplier = rng.integers(1 << 30, 1 << 31, 32)
    sums = np.arange(-bound, bound + 1)[:, None]
    reduced = 0
    for column in np.split(multiplier, 32):
        scale = Scale(column, np.full(1, 41), away)
        found = scale.reduced(bound, levels)
        if found is not None:
            reduced += 1
            assert found.multiplier < 1 << 29
            assert found.shift == 39
            same = np.clip(found.of(sums), -128, 127)
            np.testing.assert_array_equal(same, np.clip(scale.of(sums), -128, 127))
    assert reduced >= 28


@pytest.mark.parametrize("channels", [8, 13])
def test_depthwise(channels: int) -> None:
    rng = np.random.default_rng(7)
    image, weights = integers(rng, np.int8, 1, 9, 7, channels), integers(rng, np.int8, 3, 3, channels, 1)
    bias = rng.integers(-5000, 5000, channels).astype(np.int32)
    geometry = Geometry(((1, 1), (1, 0)), (1, 2), (1, 1))
    sums = ordered_depthwise(image.astype(np.int32) + 3, weights.astype(np.int32), bias, geometry)
    operands = [(image, False), (weights, True), (bias, True)]
    product = case("depthwise_conv2d", operands, sums.shape, geometry.attributes, (-3, 0), result="i32")
    multiplier = rng.integers(1 << 30, 1 << 31, channels).astype(np.int32)
    shift = rng.integers(37, 41, channels).astype(np.int8)
    quantised = ending_in(product, multiplier, shift, -11)
    assert is_packed(quantised)
    np.testing.assert_array_equal(quantised.run(), expected(sums, multiplier, shift, -11, False))


def test_double_rounding_is_packed_as_well() -> None:
    """Multipliers of 31 bits and sums of some 17, as other compilers to TOSA write them."""
    rng = np.random.default_rng(8)
    product, sums = matmul(rng, 9, 40, 32)
    multiplier = rng.integers(1 << 30, 1 << 31, 32).astype(np.int32)
    shift = rng.integers(38, 42, 32).astype(np.int8)
    quantised = ending_in(product, multiplier, shift, 3, rounding_mode="DOUBLE_ROUND")
    assert is_packed(quantised)
    np.testing.assert_array_equal(quantised.run(), expected(sums, multiplier, shift, 3, True))


def test_the_price_of_a_result() -> None:
    """10.75 instructions for 4 results, where nothing is added to the bytes, and the products themselves."""
    rng = np.random.default_rng(5)
    multiplier = rng.integers(1 << 30, 1 << 31, 64).astype(np.int32)
    product, _ = matmul(rng, 64, 64, 64)
    quantised = ending_in(product, multiplier, np.full(64, 38, np.int8))
    plain = product.kernel()
    stores = 2 * 64 * 64 // 4
    ends = quantised.kernel().cost - (plain.cost - stores)
    assert ends <= 12 * 64 * 64 // 4
