"""Operators that onnxruntime fuses, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from single_node import check

CONTRIB = "com.microsoft"
RANDOM = np.random.default_rng(3)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def contrib(op: str, inputs: dict[str, np.ndarray], **given: Any) -> None:
    """Names of spaces only stand for absent operands."""
    check(op, inputs, domain=CONTRIB, rtol=1e-4, atol=1e-5, **given)


@pytest.mark.parametrize("op", ["FusedMatMul", "TransposeMatMul"])
def test_product_of_transposes(op: str) -> None:
    operands = {"a": floats(2, 3, 4), "b": floats(5, 3)}
    contrib(op, operands, transA=1, transB=1, alpha=0.5)


@pytest.mark.parametrize(("name", "alpha"), [("Relu", None), ("LeakyRelu", 0.3), ("Tanh", None)])
def test_gemm_with_activation(name: str, alpha: float | None) -> None:
    parameters = {} if alpha is None else {"activation_alpha": alpha}
    operands = {"a": floats(2, 3), "b": floats(3, 4), "c": floats(4)}
    contrib("FusedGemm", operands, activation=name, alpha=2.0, **parameters)


@pytest.mark.parametrize(("name", "parameters"), [("Relu", []), ("Clip", [-0.5, 0.5]), ("LeakyRelu", [0.1])])
def test_convolution_with_sum_and_activation(name: str, parameters: list[float]) -> None:
    operands = {"x": floats(1, 2, 5, 5), "w": floats(3, 2, 3, 3), "b": floats(3), "z": floats(1, 3, 5, 5)}
    given = {"activation_params": parameters} if parameters else {}
    contrib("FusedConv", operands, pads=[1] * 4, activation=name, **given)


def test_skip_layer_normalization_with_its_sum() -> None:
    operands = {"x": floats(2, 3, 8), "s": floats(2, 3, 8), "g": floats(8), "b": floats(8), "c": floats(8)}
    contrib("SkipLayerNormalization", operands, epsilon=1e-5)


def test_skip_simplified_layer_normalization() -> None:
    operands = {"x": floats(2, 3, 8), "s": floats(2, 3, 8), "g": floats(8)}
    contrib("SkipSimplifiedLayerNormalization", operands, epsilon=1e-5)


def test_simplified_layer_normalization_stands_in_the_domain_of_onnx() -> None:
    operands = {"x": floats(2, 3, 8), "g": floats(8)}
    check("SimplifiedLayerNormalization", operands, observed=True, rtol=1e-4, axis=-1, epsilon=1e-5)


EMBEDDING = {
    "ids": np.array([[1, 5, 2], [0, 3, 3]], np.int32),
    "segments": np.array([[0, 0, 1], [1, 1, 0]], np.int32),
    "words": floats(6, 8),
    "positions": floats(4, 8),
    "kinds": floats(2, 8),
    "gamma": floats(8),
    "beta": floats(8),
}


@pytest.mark.parametrize("with_segments", [True, False])
def test_embed_layer_normalization(with_segments: bool) -> None:
    operands = dict(EMBEDDING)
    if not with_segments:
        replaced = {"segments": " ", "kinds": "  "}
        operands = {
            replaced.get(name, name): np.zeros(0) if name in replaced else x for name, x in operands.items()
        }
    contrib("EmbedLayerNormalization", operands, outputs=2, epsilon=1e-5)


MASKS = {
    "none": {},
    "lengths": {"mask": np.array([3, 5], np.int32)},
    "flags": {"mask": np.array([[1, 1, 0, 1, 1], [1, 0, 0, 1, 1]], np.int32)},
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(mask: str, causal: int) -> None:
    operands = {"x": floats(2, 5, 6), "w": floats(6, 24), "b": floats(24), **MASKS[mask]}
    contrib("Attention", operands, num_heads=2, unidirectional=causal)


def test_multi_head_attention_with_bias_and_mask() -> None:
    operands = {
        "q": floats(2, 3, 8),
        "k": floats(2, 5, 8),
        "v": floats(2, 5, 12),
        "b": floats(28),
        "m": np.array([[1, 1, 0, 1, 1], [1, 0, 0, 1, 1]], np.int32),
        "a": floats(1, 2, 3, 5),
    }
    contrib("MultiHeadAttention", operands, num_heads=2)


def test_multi_head_attention_with_cache() -> None:
    operands = {
        "q": floats(2, 1, 8),
        "k": floats(2, 1, 8),
        "v": floats(2, 1, 8),
        " ": np.zeros(0),
        "  ": np.zeros(0),
        "   ": np.zeros(0),
        "pk": floats(2, 2, 4, 4),
        "pv": floats(2, 2, 4, 4),
    }
    contrib("MultiHeadAttention", operands, outputs=3, num_heads=2)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(
    "positions", [np.array([2]), np.array([[0, 1, 2], [3, 1, 0]])], ids=["first", "each"]
)
def test_rotary_embedding(positions: np.ndarray, interleaved: int) -> None:
    operands = {"x": floats(2, 3, 16), "at": positions, "cos": floats(6, 4), "sin": floats(6, 4)}
    contrib("RotaryEmbedding", operands, interleaved=interleaved)


def test_rotary_embedding_of_a_part_of_each_head() -> None:
    operands = {"x": floats(2, 2, 3, 8), "at": np.array([0]), "cos": floats(6, 2), "sin": floats(6, 2)}
    contrib("RotaryEmbedding", operands, num_heads=2, rotary_embedding_dim=4)
