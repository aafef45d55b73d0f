"""Windows follow numpy: a movement on a window sees what numpy's movement of the array sees."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from tosaic.wasm.views import Window, moved, tiled


def seen(window: Window, buffer: np.ndarray) -> np.ndarray:
    return as_strided(buffer[window.offset // 4 :], window.shape, window.strides)


def movement(rng: random.Random, array: np.ndarray):
    """A random movement of the array: op, attributes, numpy's result."""
    shape = array.shape
    match rng.choice(["transpose", "slice", "reverse", "reshape", "tile"]):
        case "transpose":
            perms = rng.sample(range(len(shape)), len(shape))
            return "transpose", {"perms": perms}, array.transpose(perms)
        case "slice":
            start = [rng.randrange(n) for n in shape]
            size = [rng.randint(1, n - b) for n, b in zip(shape, start)]
            part = array[tuple(slice(b, b + n) for b, n in zip(start, size))]
            return "slice", {"start": start, "size": size}, part
        case "reverse":
            axis = rng.randrange(len(shape))
            return "reverse", {"axis": axis}, np.flip(array, axis)
        case "tile":
            multiples = [rng.choice([1, 2]) for _ in shape]
            return "tile", {"multiples": multiples}, np.tile(array, multiples)
    target = [1, *rng.sample([n for n in range(1, array.size + 1) if array.size % n == 0], 1), 1]
    target[rng.choice([0, 2])] = array.size // target[1]
    return "reshape", {"shape": target}, array.reshape(target)


@given(st.integers(0, 1 << 30))
def test_chains_of_movements_see_what_numpy_sees(seed):
    rng = random.Random(seed)
    shape = [rng.choice([1, 2, 3, 4]) for _ in range(rng.randint(1, 4))]
    window = Window.whole("f32", shape)
    buffer = np.arange(window.view.size, dtype=np.float32)
    expected = buffer.reshape(shape)
    for _ in range(4):
        op, attributes, expected = movement(rng, expected)
        window = moved(op, window, attributes)
        if window is None:
            return
        np.testing.assert_array_equal(seen(window, buffer), expected)


def test_reshape_that_tears_rows_has_no_window():
    assert Window.whole("f32", (4, 6)).slice((0, 0), (4, 3)).reshape((12,)) is None


def test_reshape_that_keeps_rows_has_a_window():
    window = Window.whole("f32", (4, 6)).slice((0, 2), (4, 4)).reshape((2, 2, 2, 2))
    assert window.strides == (48, 24, 8, 4)
    assert window.offset == 8


def test_tile_of_more_than_one_element_has_no_window():
    assert Window.whole("f32", (1, 2)).tile((3, 2)) is None


@pytest.mark.parametrize("multiples", [(2, 3), (1, 2), (3, 1)])
def test_tiled_source_repeats_as_numpy_does(multiples):
    buffer = np.arange(6, dtype=np.float32)
    source = seen(tiled(Window.whole("f32", (2, 3)), multiples), buffer)
    expected = np.tile(buffer.reshape(2, 3), multiples)
    np.testing.assert_array_equal(source.reshape(expected.shape), expected)
