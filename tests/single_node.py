"""One ONNX node, lowered to valid TOSA, run on Arm's reference model, and compared with onnxruntime."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from torch_mlir.passmanager import PassManager

import reference_model
from tosaic import frontend
from tosaic_passes.convert_onnx_to_tosa import ConvertOnnxToTosaPass
from tosaic_passes.onnx_to_tosa.registry import is_lowered
from tosaic_passes.program import Program

Arrays = Mapping[str, np.ndarray]


def check(
    op: str,
    inputs: Arrays,
    *,
    opset: int = 17,
    domain: str = "",
    domain_opset: int = 1,
    constants: Collection[str] = (),
    outputs: int = 1,
    shapes: Sequence[Sequence[int]] = (),
    rtol: float = 1e-5,
    atol: float = 1e-6,
    steps: int = 0,
    observed: bool = False,
    **attributes: Any,
) -> None:
    """Asserts that the TOSA of a node computes what onnxruntime does.

    `inputs` are the operands in order (an empty name stands for an absent one); those in `constants`
    become initializers. `shapes` are those of the (f32) results of an op that onnx does not know.
    Integer results may differ by so many steps. `observed`: the types of the results are those that
    onnxruntime computes, for shapes that depend on data.
    """
    model = node_model(
        op,
        inputs,
        opset=opset,
        domain=domain,
        domain_opset=domain_opset,
        constants=constants,
        outputs=outputs,
        shapes=shapes,
        observed=observed,
        **attributes,
    )
    fed = {name: array for name, array in inputs.items() if name not in constants and name.strip()}
    check_model(model, fed, rtol=rtol, atol=atol, steps=steps)


def check_model(
    model: onnx.ModelProto, fed: Arrays, *, rtol: float = 1e-5, atol: float = 1e-6, steps: int = 0
) -> None:
    """Asserts that the TOSA of a model computes what onnxruntime does; integers may differ by so many steps."""
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, fed)
    actual = reference_model.run(lower(model), list(fed.values()))
    for got, wanted in zip(actual, expected, strict=True):
        assert got.dtype == wanted.dtype
        if wanted.dtype.kind in "iub":
            np.testing.assert_allclose(got.astype(np.int64), wanted.astype(np.int64), rtol=0, atol=steps)
        else:
            np.testing.assert_allclose(got.astype(np.float64), wanted.astype(np.float64), rtol, atol)


def lower(model: onnx.ModelProto) -> Program:
    """The model in TOSA that `tosa-validate` accepts for the target it names."""
    program = frontend.load(model, is_lowered=is_lowered)
    ConvertOnnxToTosaPass(float64_as_float32=True).run(program)
    validate = "builtin.module(tosa-validate{strict-op-spec-alignment})"
    PassManager.parse(validate, program.context).run(program.module.operation)
    return program


def node_model(
    op: str,
    inputs: Arrays,
    *,
    opset: int,
    domain: str = "",
    domain_opset: int = 1,
    constants: Collection[str] = (),
    outputs: int = 1,
    shapes: Sequence[Sequence[int]] = (),
    observed: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """A checked model of one node with the types of its results."""
    names = [name.strip() for name in inputs]
    results = [f"result_{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, name="node", domain=domain, **attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
        if name.strip() and name not in constants
    ]
    initializers = [onnx.numpy_helper.from_array(inputs[name], name) for name in constants]
    graph = helper.make_graph([node], "graph", infos, [], initializers)
    opsets = [helper.make_opsetid("", opset)] + (
        [helper.make_opsetid(domain, domain_opset)] if domain else []
    )
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    known = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in zip(results, shapes)
    ]
    fed = {name: array for name, array in inputs.items() if name not in constants and name.strip()}
    if not known:
        known = _computed(model, results, fed) if domain or observed else _inferred(model, results)
    model.graph.output.extend(known)
    return model


def _computed(model: onnx.ModelProto, results: list[str], fed: Arrays) -> list[onnx.ValueInfoProto]:
    """The types of what onnxruntime computes."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in results)
    arrays = onnxruntime.InferenceSession(probe.SerializeToString()).run(None, fed)
    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(results, arrays, strict=True)
    ]


def _inferred(model: onnx.ModelProto, results: list[str]) -> list[onnx.ValueInfoProto]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in results)
    inferred = onnx.shape_inference.infer_shapes(probe, strict_mode=True, data_prop=True)
    return list(inferred.graph.output)
