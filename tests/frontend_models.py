"""Small models for the frontend's tests, in ONNX's text syntax."""

from __future__ import annotations

import onnx
import onnx.parser

HEADER = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> '


def model(graph: str, header: str = HEADER) -> onnx.ModelProto:
    return onnx.parser.parse_model(header + graph)
