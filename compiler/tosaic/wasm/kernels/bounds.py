"""How large an integer sum of products can become, known from its constant operand."""

from __future__ import annotations

import numpy as np

from tosaic.wasm.kernel import KernelRequest
from tosaic.wasm.lanes import INT_RANGES

SUMMED_AXES = {
    "conv2d": (1, 2, 3),
    "conv3d": (1, 2, 3, 4),
    "transpose_conv2d": (1, 2, 3),
    "depthwise_conv2d": (0, 1),
    "matmul": (1,),
    "matmul_t": (2,),
}
"""Axes of the second operand that a result sums over (transposed convolutions: at most)."""


def result_bound(request: KernelRequest) -> int | None:
    """The largest magnitude of the kernel's own results, None if it is not known (or not an integer)."""
    constants = [operand.array for operand in request.inputs[1:3]]
    left = request.inputs[0].view.element
    if request.op not in SUMMED_AXES or request.result != "i32" or left not in INT_RANGES:
        return None
    has_bias = "conv" in request.op
    if constants[0] is None or (has_bias and constants[1] is None):
        return None
    zero_points = [int(request.attributes.get(name, 0)) for name in _zero_points(has_bias)]
    low, high = INT_RANGES[left]
    largest = max(abs(low - zero_points[0]), abs(high - zero_points[0]))
    weights = np.abs(constants[0].astype(np.int64) - zero_points[1])
    bias = int(np.abs(constants[1].astype(np.int64)).max()) if has_bias else 0  # type: ignore[union-attr]
    return int(weights.sum(axis=SUMMED_AXES[request.op]).max()) * largest + bias


def _zero_points(is_convolution: bool) -> tuple[str, str]:
    return ("input_zp", "weight_zp") if is_convolution else ("a_zp", "b_zp")
