"""Recurrent networks against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from single_node import check

STEPS, BATCH, SIZE, HIDDEN = 4, 2, 3, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
OUTPUTS = {"RNN": 2, "GRU": 2, "LSTM": 3}


def uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(np.float32)


def operands(op: str, directions: int = 1, lengths: list[int] | None = None, states: bool = False) -> dict:
    gates = GATES[op] * HIDDEN
    named = {
        "x": uniform(STEPS, BATCH, SIZE),
        "w": uniform(directions, gates, SIZE),
        "r": uniform(directions, gates, HIDDEN),
        "b": uniform(directions, 2 * gates),
        "lengths": np.array(lengths or [STEPS] * BATCH, np.int32),
    }
    if states:
        named["h"] = uniform(directions, BATCH, HIDDEN)
        named |= {"c": uniform(directions, BATCH, HIDDEN) / 2} if op == "LSTM" else {}
    return named


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_directions_with_initial_states(op: str, direction: str) -> None:
    given = operands(op, 2 if direction == "bidirectional" else 1, states=True)
    check(
        op,
        given,
        opset=14,
        constants=["w", "r", "b", "lengths"],
        outputs=OUTPUTS[op],
        hidden_size=HIDDEN,
        direction=direction,
    )


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("known", [True, False], ids=["constant", "computed"])
def test_sequences_of_different_length(op: str, known: bool) -> None:
    check(
        op,
        operands(op, 2, lengths=[2, 4]),
        opset=14,
        constants=["w", "r", "b", *(["lengths"] if known else [])],
        outputs=OUTPUTS[op],
        hidden_size=HIDDEN,
        direction="bidirectional",
    )


def test_gru_resets_after_the_product() -> None:
    given = operands("GRU")
    check(
        "GRU",
        given,
        opset=14,
        constants=["w", "r", "b"],
        hidden_size=HIDDEN,
        linear_before_reset=1,
        outputs=2,
    )


def test_lstm_with_peepholes_and_clip() -> None:
    given = operands("LSTM", states=True) | {"p": uniform(1, 3 * HIDDEN)}
    check("LSTM", given, opset=14, constants=["w", "r", "b", "p"], hidden_size=HIDDEN, clip=0.5, outputs=3)


def test_activations_take_their_parameters_in_order() -> None:
    check(
        "GRU",
        operands("GRU"),
        opset=14,
        constants=["w", "r", "b"],
        outputs=2,
        hidden_size=HIDDEN,
        activations=["HardSigmoid", "LeakyRelu"],
        activation_alpha=[0.3, 0.2],
        activation_beta=[0.4],
    )


def test_quantized_lstm_quantizes_as_onnxruntime_does() -> None:
    rng = np.random.default_rng(5)
    weights = {
        "w": rng.integers(-128, 128, (1, SIZE, 4 * HIDDEN)).astype(np.int8),
        "r": rng.integers(-128, 128, (1, HIDDEN, 4 * HIDDEN)).astype(np.int8),
    }
    scales = {
        "ws": np.array([0.01], np.float32),
        "wz": np.zeros(1, np.int8),
        "rs": np.array([0.02], np.float32),
        "rz": np.zeros(1, np.int8),
    }
    absent = {" " * n: np.zeros(0) for n in range(1, 5)}
    # One sequence: onnxruntime quantises the hidden states of several in parts, as many as it has threads.
    given = {"x": uniform(STEPS, 1, SIZE), **weights, "b": uniform(1, 8 * HIDDEN), **absent, **scales}
    check(
        "DynamicQuantizeLSTM",
        given,
        domain="com.microsoft",
        constants=["w", "r", "b", *scales],
        outputs=3,
        shapes=[(STEPS, 1, 1, HIDDEN), (1, 1, HIDDEN), (1, 1, HIDDEN)],
        hidden_size=HIDDEN,
        rtol=1e-4,
        atol=1e-5,
    )
