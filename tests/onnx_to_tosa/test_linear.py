"""Matrix products against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


SHAPES = [
    ((3, 4), (4, 5)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((4,), (4,)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (3, 4, 5)),
    ((4,), (2, 4, 5)),
]


@pytest.mark.parametrize("constants", [[], ["b"]], ids=["computed", "constant"])
@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...], constants: list[str]) -> None:
    check("MatMul", {"a": normal(*a), "b": normal(*b)}, constants=constants)


def test_matmul_of_integers_wraps_around() -> None:
    a = np.array([[2**30, 3], [-5, 7]], np.int32)
    check("MatMul", {"a": a, "b": a})


def test_matmul_of_halves_adds_up_in_f32() -> None:
    a = RNG.normal(size=(2, 300)).astype(np.float16)
    check("MatMul", {"a": a, "b": a.T.copy()}, rtol=2e-3, atol=1e-2)


@pytest.mark.parametrize("constants", [[], ["b"], ["a"]], ids=str)
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5, "beta": 2.0}], ids=str)
@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_gemm(trans_a: int, trans_b: int, factors: dict[str, float], constants: list[str]) -> None:
    a, b = normal(3, 4), normal(4, 5)
    operands = {"a": a.T.copy() if trans_a else a, "b": b.T.copy() if trans_b else b, "c": normal(5)}
    check("Gemm", operands, constants=constants, transA=trans_a, transB=trans_b, **factors)


@pytest.mark.parametrize("c", [(), (1,), (3, 1), (3, 5)], ids=str)
def test_gemm_broadcasts_c(c: tuple[int, ...]) -> None:
    check("Gemm", {"a": normal(3, 4), "b": normal(4, 5), "c": normal(*c)}, beta=0.5)


def test_gemm_without_c() -> None:
    check("Gemm", {"a": normal(3, 4), "b": normal(4, 5)})


@pytest.mark.parametrize("size", [1, 2, 5])
def test_det(size: int) -> None:
    x = np.random.default_rng(3).normal(size=(2, 3, size, size)).astype(np.float32)
    check("Det", {"x": x}, rtol=1e-4, atol=1e-5)


def test_det_of_a_permutation_and_of_a_singular_matrix() -> None:
    permutation = np.eye(4, dtype=np.float32)[[2, 0, 3, 1]]
    check("Det", {"x": np.stack([permutation, np.ones((4, 4), np.float32), 0 * permutation])})
