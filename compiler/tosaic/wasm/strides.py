"""Which kernels read and write tensors whose elements do not lie side by side."""

from __future__ import annotations

from tosaic.wasm.graph import Node, Value
from tosaic.wasm.grouping import MATRIX_OPS, REDUCTIONS, Cluster, is_pointwise
from tosaic.wasm.views import MOVEMENTS, Window

_STRIDED = MATRIX_OPS | REDUCTIONS | {"avg_pool2d", "max_pool2d"}
"""Ops besides elementwise ones that read and write tensors whose rows lie apart."""

_SCALAR_OPERANDS = {
    "conv2d": (0,),
    "conv3d": (0,),
    "transpose_conv2d": (0,),
    "matmul": (0, 1),
    "matmul_t": (0, 1),
}
"""Operands that are read element by element, or packed: any strides cost the same."""


def follows(user: Node, cluster: Cluster, value: Value, window: Window) -> bool:
    """True if a node, in a kernel of a cluster, can read a value in this window."""
    if window.view.is_contiguous or user.op in MOVEMENTS or user.op in ("concat", "pad"):
        return True
    if user.op == "table" and value is user.inputs[1]:
        return False
    if user is cluster.root and not is_pointwise(user):
        scalar_operands = [user.inputs[i] for i in _SCALAR_OPERANDS.get(user.op, ())]
        follows_rows = user.op in _STRIDED and _has_rows(window)
        return follows_rows or (value in scalar_operands and min(window.strides) >= 0)
    if cluster.root.op in MATRIX_OPS or len(value.users) > 1:
        return _has_rows(window)
    return True


def writes(cluster: Cluster, window: Window) -> bool:
    """True if the kernel of a cluster can write its result in this window."""
    writes_rows = cluster.root.op in _STRIDED or is_pointwise(cluster.root)
    return window.view.is_contiguous or (writes_rows and _has_rows(window))


def _has_rows(window: Window) -> bool:
    """True if neighbours along the innermost dimension are neighbours in memory (or all the same element)."""
    for size, stride in zip(reversed(window.shape), reversed(window.strides)):
        if size != 1:
            return stride in (0, window.view.element_bytes) and all(s >= 0 for s in window.strides)
    return True
