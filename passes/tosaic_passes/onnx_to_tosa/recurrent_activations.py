"""The activations of recurrent operators, by the names that ONNX gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tosaic_passes.onnx_to_tosa import activation as act
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.tensor import Tensor

Activation = Callable[[LoweringContext, Tensor], Tensor]

_ALPHA_ONLY = {
    "LeakyRelu": (act.leaky_relu, 0.01),
    "Elu": (act.elu, 1.0),
    "ThresholdedRelu": (act.thresholded_relu, 1.0),
}
_PLAIN: dict[str, Activation] = {
    "Relu": act.relu,
    "Tanh": act.tanh,
    "Sigmoid": act.sigmoid,
    "Softsign": act.softsign,
    "Softplus": act.softplus,
}
_TWO_PARAMETERS = {
    "Affine": (lambda ctx, x, a, b: ctx.add(ctx.mul(x, a), b), 1.0, 0.0),
    "ScaledTanh": (lambda ctx, x, a, b: ctx.mul(ctx.tanh(ctx.mul(x, b)), a), 1.0, 1.0),
    "HardSigmoid": (lambda ctx, x, a, b: act.hard_sigmoid(ctx, x, alpha=a, beta=b), 0.2, 0.5),
}


def named_activations(
    ctx: LoweringContext, names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> Iterator[Activation]:
    """The functions by name; alpha and beta go to those that take them, in order."""
    alpha, beta = iter(alphas), iter(betas)
    for name in names:
        if name in _PLAIN:
            yield _PLAIN[name]
        elif name in _ALPHA_ONLY:
            one, default = _ALPHA_ONLY[name]
            a = next(alpha, default)
            yield partial(one, alpha=a)
        elif name in _TWO_PARAMETERS:
            two, first, second = _TWO_PARAMETERS[name]
            a, b = next(alpha, first), next(beta, second)
            yield partial(two, a=a, b=b)
        else:
            ctx.fail(f"the activation '{name}' is not known")
