"""Types of the results of operators that the onnx package has no schema for: those of onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from tosaic.frontend.static_graph import Value


def infer_contrib_types(
    node: onnx.NodeProto, operands: Sequence[Value | None]
) -> list[onnx.TypeProto | None] | None:
    """The types of the results, None for an operator that is not known here."""
    return None
