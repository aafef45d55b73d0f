"""An ONNX file becomes MLIR: read, checked, made static, folded, imported (contract 1 of docs/design.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch_mlir import ir

from tosaic.frontend.binding import bind_inputs
from tosaic.frontend.importer import import_graph
from tosaic.frontend.model_file import ModelSource, opsets, read_model
from tosaic.frontend.node_evaluation import Opsets
from tosaic.frontend.resolution import IsLowered, resolve
from tosaic_passes.program import Program

__all__ = ["load"]


def load(
    model: ModelSource,
    *,
    input_shapes: Mapping[str | None, Sequence[int | None]] | None = None,
    dims: Mapping[str, int] | None = None,
    batch_size: int | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    context: ir.Context | None = None,
    is_lowered: IsLowered | None = None,
) -> Program:
    """The model as `onnx.*` operations in one function `@main`, every shape static.

    Args:
        model: path (`.onnx`, or `.onnxtxt` in ONNX's text syntax), bytes of a file, or ModelProto.
        input_shapes: input name -> shape, where None keeps a dimension; the key None means the only input.
        dims: symbolic dimension -> size.
        batch_size: size of the first unknown dimension of each input.
        constants: input name -> value; such inputs vanish from the signature.
        context: where the module is made; a new one if not given.
        is_lowered: whether an operator (name, domain, opset) can be lowered. One that cannot is replaced by
            what it is made of, where ONNX says so; if the model is refused, the refusal names all of them.

    The model keeps its opset: module attribute `onnx.opset`, domain -> version. Weights stay in the file,
    which is mapped.

    Raises:
        TosaicError: the model cannot be read, is not valid, or does not become static.
        UnsupportedNodesError: the nodes that keep it from becoming static.
    """
    proto, tensors = read_model(model)
    inputs = bind_inputs(
        proto.graph, input_shapes=input_shapes, dims=dims, batch_size=batch_size, constants=constants
    )
    versions = opsets(proto)
    graph = resolve(proto, inputs, Opsets(versions, proto.ir_version), tensors, is_lowered)
    names = [info.name for info in proto.graph.output]
    return import_graph(graph, names, versions, tensors, context or ir.Context())
