"""`onnx.*`: no classes (docs/design.md, contract 1)."""
