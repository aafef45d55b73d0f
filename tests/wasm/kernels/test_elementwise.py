"""The general loop nest: any strides, any element type, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tosaic.wasm.kernel import ELEMENT_BYTES, Expression, KernelRequest, View
from tosaic.wasm.kernels import build
from wasm.harness import DTYPES, PRICES, operand_of, run_kernel


def run(expression: Expression | None, inputs, output: View) -> np.ndarray:
    """`inputs` are (element, array) pairs."""
    operands = tuple(operand_of(array, element) for element, array in inputs)
    request = KernelRequest("elementwise", operands, (output,), epilogue=expression)
    return run_kernel(build(request, PRICES), request, [array for _, array in inputs])[0]


def copied(array: np.ndarray, element: str, output: View | None = None) -> np.ndarray:
    return run(None, [(element, array)], output or View.contiguous(element, array.shape))


ADD = Expression((("input", (0,), ()), ("input", (1,), ()), ("add", (0, 1), ())), ("f32",) * 3)


def random(shape, element: str = "f32", seed: int = 1) -> np.ndarray:
    values = np.random.default_rng(seed).integers(-100, 100, shape)
    return values.astype(DTYPES[element])


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (7,), (33,), (130,), (5, 3), (2, 3, 130), (3, 1, 2)])
def test_sum_of_contiguous_operands(shape) -> None:
    a, b = random(shape, seed=1), random(shape, seed=2)
    np.testing.assert_array_equal(run(ADD, [("f32", a), ("f32", b)], View.contiguous("f32", shape)), a + b)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((2, 5, 8), (8,)),
        ((2, 5, 3), (2, 1, 3)),
        ((6, 40), (6, 1)),
        ((1, 7), (5, 1)),
        ((4, 4), ()),
        ((3, 2, 65), (2, 1)),
    ],
)
def test_sum_with_broadcast(first, second) -> None:
    a, b = random(first, seed=1), random(second, seed=2)
    expected = a + b
    found = run(ADD, [("f32", a), ("f32", b)], View.contiguous("f32", expected.shape))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("element", ["i1", "i8", "i16", "f16", "i32", "f32", "i64"])
@pytest.mark.parametrize(
    "layout",
    {
        "transpose": lambda x: x.transpose(2, 0, 1),
        "slice": lambda x: x[1:, 2:9, 1:18],
        "strided slice": lambda x: x[:, ::3, ::2],
        "reverse": lambda x: x[:, ::-1, ::-1],
        "reverse outer": lambda x: x[::-1],
        "whole": lambda x: x,
        "one column": lambda x: x[:, :, 4:5],
    }.items(),
    ids=lambda layout: layout[0],
)
def test_copy(layout, element: str) -> None:
    x = layout[1](random((3, 10, 19), element))
    np.testing.assert_array_equal(copied(x, element), x)


@pytest.mark.parametrize("element", ["i8", "i16", "f32", "i64"])
def test_copy_into_a_strided_output(element: str) -> None:
    """Parts of a concatenation, interiors of padded tensors, columns, backwards."""
    size = ELEMENT_BYTES[element]
    x = random((4, 6, 5), element)
    for strides in (
        (600 * size, 50 * size, size),
        (size, 4 * size, 24 * size),
        (300 * size, 50 * size, 2 * size),
    ):
        np.testing.assert_array_equal(copied(x, element, View(element, x.shape, strides)), x)
    backwards = View(element, x.shape, (30 * size, 5 * size, -size))
    np.testing.assert_array_equal(copied(x, element, backwards), x)


@pytest.mark.parametrize(
    ("element", "value"), [("i1", True), ("i8", -3), ("f16", 0.5), ("f32", -np.inf), ("i64", 1 << 40)]
)
def test_fill_a_slab(element: str, value) -> None:
    size = ELEMENT_BYTES[element]
    expression = Expression((("constant", (), (("value", value),)),), (element,))
    found = run(expression, [], View(element, (3, 2, 7), (100 * size, 9 * size, size)))
    np.testing.assert_array_equal(found, np.full((3, 2, 7), value, DTYPES[element]))


def test_broadcast_copy() -> None:
    x = np.broadcast_to(random((3, 1, 5)), (3, 4, 5))
    np.testing.assert_array_equal(copied(x, "f32"), x)


_ELEMENTS = st.sampled_from(["i1", "i8", "i16", "i32", "i64", "f32", "bf16"])


@st.composite
def _strided(draw, shape: tuple[int, ...], element: str):
    """An array of this shape, cut out of a larger one: sliced, reversed, transposed, broadcast."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, 0])) for _ in shape]
    starts = [draw(st.integers(0, 2)) for _ in shape]
    inner = [
        1 if step == 0 else (size - 1) * abs(step) + 1 + 2 * start
        for size, step, start in zip(shape, steps, starts)
    ]
    array = random(tuple(inner[axis] for axis in order), element, draw(st.integers(0, 99)))
    array = array.transpose(np.argsort(order))
    for axis, (size, step, start) in enumerate(zip(shape, steps, starts)):
        index = [slice(None)] * len(shape)
        if step == 0:
            continue
        index[axis] = slice(start, start + (size - 1) * abs(step) + 1, abs(step))
        array = array[tuple(index)]
        if step < 0:
            array = np.flip(array, axis)
    return np.broadcast_to(array, shape)


@given(st.data(), st.lists(st.integers(1, 9), min_size=1, max_size=4), _ELEMENTS)
def test_any_copy(data, shape, element) -> None:
    x = data.draw(_strided(tuple(shape), element))
    np.testing.assert_array_equal(copied(x, element), x)


@given(st.data(), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_any_sum_of_products(data, shape) -> None:
    shape = tuple(shape)
    a, b, c = (data.draw(_strided(shape, "f32")) for _ in range(3))
    nodes = (*(("input", (k,), ()) for k in range(3)), ("mul", (0, 1), ()), ("add", (3, 2), ()))
    found = run(
        Expression(nodes, ("f32",) * 5), [("f32", x) for x in (a, b, c)], View.contiguous("f32", shape)
    )
    np.testing.assert_array_equal(found, a * b + c)


@given(st.data(), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_any_mixture_of_types(data, shape) -> None:
    """select(a > b, cast(c), d) over f32, i8 and i64."""
    shape = tuple(shape)
    a, b = (data.draw(_strided(shape, "f32")) for _ in range(2))
    c, d = data.draw(_strided(shape, "i8")), data.draw(_strided(shape, "i64"))
    nodes = tuple(("input", (k,), ()) for k in range(4))
    nodes += (("greater", (0, 1), ()), ("cast", (2,), ()), ("select", (4, 5, 3), ()))
    expression = Expression(nodes, ("f32", "f32", "i8", "i64", "i1", "i64", "i64"))
    inputs = [("f32", a), ("f32", b), ("i8", c), ("i64", d)]
    found = run(expression, inputs, View.contiguous("i64", shape))
    np.testing.assert_array_equal(found, np.where(a > b, c.astype(np.int64), d))


def test_the_cost_of_large_contiguous_sums_and_copies() -> None:
    """Per vector of 16 bytes: a copy takes 4 instructions, a sum 8, loops a little."""
    big = View.contiguous("f32", (64, 1024))
    array = np.zeros((64, 1024), np.float32)
    copy = build(KernelRequest("elementwise", (operand_of(array, "f32"),), (big,)), PRICES)
    assert copy.cost <= 4.8 * array.size / 4
    sums = build(KernelRequest("elementwise", (operand_of(array, "f32"),) * 2, (big,), epilogue=ADD), PRICES)
    assert sums.cost <= 9.1 * array.size / 4


def test_table_lookup() -> None:
    x, table = np.arange(-128, 128, dtype=np.int8), random((256,), "i8")
    expression = Expression((("input", (0,), ()), ("table", (0,), (("input", 1),))), ("i8", "i8"))
    found = run(expression, [("i8", x), ("i8", table)], View.contiguous("i8", (256,)))
    np.testing.assert_array_equal(found, table)


def test_table_lookup_with_interpolation() -> None:
    x = np.linspace(-32768, 32767, 1000).astype(np.int16)
    table = np.random.default_rng(3).integers(-32768, 32768, 513).astype(np.int16)
    expression = Expression((("input", (0,), ()), ("table", (0,), (("input", 1),))), ("i16", "i32"))
    found = run(expression, [("i16", x), ("i16", table)], View.contiguous("i32", x.shape))
    index, fraction = (x.astype(int) + 32768) >> 7, x.astype(int) & 127
    wide = table.astype(int)
    np.testing.assert_array_equal(found, wide[index] * 128 + (wide[index + 1] - wide[index]) * fraction)
