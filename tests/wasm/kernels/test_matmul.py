"""matmul in f32: bit for bit against numpy in the same order, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.wasm.kernel import Expression, KernelOptions, KernelRequest, Operand, View
from wasm.harness import view_of
from wasm.kernels.products import Case, case, integers, ordered_matmul, values

SIZES = st.integers(1, 40)


@given(st.integers(1, 3), SIZES, SIZES, SIZES, st.booleans(), st.integers(0, 1 << 30))
def test_equals_ordered_sums_bit_for_bit(n: int, h: int, c: int, w: int, constant: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = values(rng, n, h, c), values(rng, n, c, w)
    found = case("matmul", [(left, False), (right, constant)], (n, h, w)).run()
    assert np.array_equal(found, ordered_matmul(left, right, constant))


@pytest.mark.parametrize("columns", [1, 2, 3, 9])
def test_few_columns_are_summed_across(columns: int) -> None:
    rng = np.random.default_rng(1)
    left, right = values(rng, 2, 64, 11).transpose(0, 2, 1), values(rng, 2, 64, columns)
    found = case("matmul", [(left, False), (right, True)], (2, 11, columns)).run()
    assert np.array_equal(found, ordered_matmul(left, right, constant=True))


@pytest.mark.parametrize(
    "options",
    [KernelOptions(locals=40), KernelOptions(function_bytes=4_000), KernelOptions(calls_per_install=1)],
    ids=["few locals", "small functions", "dear install"],
)
def test_every_tile_choice_gives_the_same_bits(options: KernelOptions) -> None:
    rng = np.random.default_rng(1)
    left, right = values(rng, 1, 37, 50), values(rng, 1, 50, 45)
    product = case("matmul", [(left, False), (right, False)], (1, 37, 45))
    assert np.array_equal(product.run(options), product.run())


@pytest.mark.parametrize("constant", [False, True])
def test_transposed_right_hand_side(constant: bool) -> None:
    rng = np.random.default_rng(2)
    left, right = values(rng, 2, 5, 9), values(rng, 2, 11, 9).transpose(0, 2, 1)
    found = case("matmul", [(left, False), (right, constant)], (2, 5, 11)).run()
    assert np.array_equal(found, ordered_matmul(left, right))


def test_matmul_t_has_its_right_hand_side_transposed() -> None:
    rng = np.random.default_rng(2)
    left, right = values(rng, 2, 5, 9), values(rng, 2, 11, 9)
    found = case("matmul_t", [(left, False), (right, True)], (2, 5, 11)).run()
    assert np.array_equal(found, ordered_matmul(left, right.transpose(0, 2, 1)))


def test_operands_and_output_may_be_rows_of_larger_buffers() -> None:
    rng = np.random.default_rng(3)
    left, right = values(rng, 2, 6, 20)[:, :, 3:12], values(rng, 2, 9, 30)[:, :, 1:14]
    output = View("f32", (2, 6, 13), (6 * 80, 80, 4))
    found = case("matmul", [(left, False), (right, False)], output).run()
    assert np.array_equal(found, ordered_matmul(left, right))


def test_one_right_hand_side_for_all_batches() -> None:
    rng = np.random.default_rng(4)
    left, right = values(rng, 3, 5, 7), np.broadcast_to(values(rng, 1, 7, 6), (3, 7, 6))
    found = case("matmul", [(left, False), (right, True)], (3, 5, 6)).run()
    assert np.array_equal(found, ordered_matmul(left, right))


@pytest.mark.parametrize("element", ["f16", "bf16"])
def test_narrow_floats_are_added_in_f32(element: str) -> None:
    import ml_dtypes

    dtype = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}[element]
    rng = np.random.default_rng(5)
    left, right = values(rng, 1, 6, 10).astype(dtype), values(rng, 1, 10, 7).astype(dtype)
    operands = (Operand(view_of(left, element)), Operand(view_of(right, element)))
    request = KernelRequest("matmul", operands, (View.contiguous(element, (1, 6, 7)),), {}, element)
    exact = ordered_matmul(left.astype(np.float32), right.astype(np.float32))
    found = Case(request, [left, right]).run()
    assert np.array_equal(found, exact.astype(dtype))


@given(
    st.integers(1, 3),
    SIZES,
    SIZES,
    SIZES,
    st.booleans(),
    st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    st.integers(0, 1 << 30),
)
def test_i8_is_exact(
    n: int, h: int, c: int, w: int, constant: bool, zeros: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    left, right = integers(rng, np.int8, n, h, c), integers(rng, np.int8, n, c, w)
    found = case("matmul", [(left, False), (right, constant)], (n, h, w), None, zeros, "i32").run()
    assert np.array_equal(found, (left.astype(np.int32) - zeros[0]) @ (right.astype(np.int32) - zeros[1]))


@given(SIZES, SIZES, SIZES, st.booleans(), st.integers(0, 1 << 30))
def test_i16_has_sums_of_48_bits(h: int, c: int, w: int, constant: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = integers(rng, np.int16, 1, h, c), integers(rng, np.int16, 1, c, w)
    found = case("matmul", [(left, False), (right, constant)], (1, h, w), result="i48").run()
    assert np.array_equal(found, left.astype(np.int64) @ right.astype(np.int64))


@pytest.mark.parametrize("w", [5, 6, 7, 8])
def test_epilogue_reads_its_inputs_where_the_result_is(w: int) -> None:
    rng = np.random.default_rng(6)
    left, right, residual = values(rng, 1, 9, 8), values(rng, 1, 8, w), values(rng, 1, 9, w)
    scale = np.broadcast_to(values(rng, w), (1, 9, w))
    plain = case("matmul", [(left, False), (right, True)], (1, 9, w))
    nodes = (
        ("result", (), ()),
        ("input", (2,), ()),
        ("input", (3,), ()),
        ("mul", (0, 2), ()),
        ("add", (3, 1), ()),
    )
    request = KernelRequest(
        "matmul",
        (*plain.request.inputs, Operand(view_of(residual, "f32")), Operand(view_of(scale, "f32"))),
        plain.request.outputs,
        result="f32",
        epilogue=Expression(nodes, ("f32",) * 5),
    )
    found = Case(request, [*plain.arrays, residual, scale]).run()
    assert np.array_equal(found, ordered_matmul(left, right) * scale + residual)


@pytest.mark.parametrize(
    ("shape", "limit"),
    [
        ((1, 256, 256, 256), 1.72),
        ((1, 1, 1280, 1000), 1.9),
        ((12, 64, 64, 64), 1.75),
        ((12, 196, 196, 64), 1.72),
    ],
    ids=str,
)
@pytest.mark.parametrize("constant", [False, True])
def test_instructions_per_multiply_add(shape: tuple[int, ...], limit: float, constant: bool) -> None:
    n, h, c, w = shape
    left, right = np.zeros((n, h, c), np.float32), np.zeros((n, c, w), np.float32)
    kernel = case("matmul", [(left, False), (right, constant)], (n, h, w)).kernel()
    assert kernel.cost <= limit * n * h * c * w
