"""TOSA ops on constants, computed by numpy while lowering."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

GROWTH_LIMIT = 1 << 18
"""Elements: a folded result may be larger than its operands only up to this size."""

FOLDS: dict[str, Callable[..., np.ndarray]] = {
    "abs": np.abs,
    "add": np.add,
    "bitwise_and": np.bitwise_and,
    "bitwise_not": np.bitwise_not,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "ceil": np.ceil,
    "cos": np.cos,
    "equal": np.equal,
    "exp": np.exp,
    "floor": np.floor,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "log": np.log,
    "logical_and": np.logical_and,
    "logical_not": np.logical_not,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mul": np.multiply,
    "negate": np.negative,
    "pow": np.power,
    "reciprocal": lambda x: np.asarray(1, x.dtype) / x,
    "rsqrt": lambda x: np.asarray(1, x.dtype) / np.sqrt(x),
    "select": np.where,
    "sigmoid": lambda x: np.asarray(1, x.dtype) / (np.asarray(1, x.dtype) + np.exp(-x)),
    "sin": np.sin,
    "sub": np.subtract,
    "tanh": np.tanh,
}
"""Elementwise TOSA op -> numpy function with the same meaning."""

REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "reduce_all": np.all,
    "reduce_any": np.any,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_product": np.prod,
    "reduce_sum": np.sum,
}


def fold_elementwise(name: str, arrays: list[np.ndarray], dtype: np.dtype) -> np.ndarray | None:
    """The result of an elementwise op on arrays, None if it is not worth folding or has no numpy form."""
    function = FOLDS.get(name)
    size = int(np.prod(np.broadcast_shapes(*(a.shape for a in arrays)), dtype=np.int64))
    if function is None or size > max(GROWTH_LIMIT, *(a.size for a in arrays)):
        return None
    with np.errstate(all="ignore"):
        result = np.asarray(function(*arrays))
    wide = {np.dtype(np.int64): np.dtype(np.int32), np.dtype(np.float64): np.dtype(np.float32)}
    return result if wide.get(result.dtype, result.dtype) == dtype else result.astype(dtype)
