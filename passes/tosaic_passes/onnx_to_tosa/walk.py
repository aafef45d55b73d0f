"""One walk over an ONNX function that builds its TOSA twin beside it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch_mlir import ir
from torch_mlir.dialects import func

from tosaic_passes import border
from tosaic_passes.border import EmptyResult
from tosaic_passes.errors import UnsupportedNode
from tosaic_passes.onnx_to_tosa import refusals, registry
from tosaic_passes.onnx_to_tosa.context import LoweringContext, Region
from tosaic_passes.onnx_to_tosa.dtypes import (
    FLOAT32,
    held_shape,
    narrowed,
    narrowing_loses,
    onnx_dtype,
    storage_type,
)
from tosaic_passes.onnx_to_tosa.failure import LoweringFailure
from tosaic_passes.onnx_to_tosa.tensor import ResultType, Tensor
from tosaic_passes.weights import WeightTable

_NOT_ATTRIBUTES = {"domain", "onnx_node_name", "onnx_opset", "doc_string"}
"""Said about a node, not to it; `onnx_opset` is its opset where that is not the module's."""
_CASTS = {"onnx.Cast", "onnx.CastLike"}
_TERMINATORS = {"func.return", "onnx.Return", "onnx.Yield"}


class FunctionLowering:
    """The state of one walk: ONNX value -> tensor, and the nodes that failed."""

    def __init__(
        self,
        function: ir.Operation,
        weights: WeightTable,
        opset: dict[str, int],
        *,
        float64_as_float32: bool = False,
    ) -> None:
        self.failures: list[UnsupportedNode] = []
        self.narrowed: set[str] = set()
        self._function = function
        self._weights = weights
        self._opset = opset
        self._float64_as_float32 = float64_as_float32
        self._tensors: dict[ir.Value, Tensor | None] = {}

    def run(self) -> func.FuncOp:
        """The lowered function, inserted before the old one; not to be used if there are `failures`."""
        old_block = self._function.regions[0].blocks[0]
        self._check_float64(old_block)
        inputs = [self._argument_type(argument.type) for argument in old_block.arguments]
        with ir.InsertionPoint(self._function):
            lowered = func.FuncOp("main_tosa", (inputs, []), loc=self._function.location)
        try:
            self._fill(lowered, old_block, inputs)
        except BaseException:
            lowered.operation.erase()
            raise
        return lowered

    def _fill(self, lowered: func.FuncOp, old_block: ir.Block, inputs: list[ir.Type]) -> None:
        block = lowered.add_entry_block()
        self._bind_arguments(old_block.arguments, block.arguments)
        with ir.InsertionPoint(block):
            self._context = LoweringContext(self._weights, self._opset)
            self._lower_operations(old_block)
            results = [self._returned(value) for value in _terminator(old_block).operands]
            func.ReturnOp([value for value in results if value is not None])
        self._finish_signature(lowered, inputs, results)

    # The border

    def _argument_type(self, type: ir.Type) -> ir.Type:
        result = _result_type(type)
        if result is None:
            self._fail("main", "graph", f"an input of type {type} is no tensor of numbers")
            return ir.RankedTensorType.get([1], ir.F32Type.get())
        self._note_narrowing(result)
        return storage_type(result.shape, result.dtype)

    def _check_float64(self, block: ir.Block) -> None:
        """Refuses float64 inputs that are computed with: nobody knows yet whether their values fit float32."""
        if self._float64_as_float32:
            return
        for index, argument in enumerate(block.arguments):
            result = _result_type(argument.type)
            if result is None or result.onnx_dtype != np.float64:
                continue
            if any(use.owner.operation.name not in _CASTS for use in argument.uses):
                self._fail(
                    self._input_name(index),
                    "input",
                    "it is float64 and TOSA computes in float32, where a value beyond 3.4e38 is infinite",
                    "allow it with --float64-as-float32, or cast the input in the model",
                )

    def _input_name(self, index: int) -> str:
        """What the model calls an input; its number in a module that does not say."""
        given = self._function.attributes
        attributes = ir.ArrayAttr(given["arg_attrs"])[index] if "arg_attrs" in given else {}
        return attributes["ic.name"].value if "ic.name" in attributes else str(index)

    def _bind_arguments(self, old: Sequence[ir.Value], new: Sequence[ir.Value]) -> None:
        for before, after in zip(old, new):
            result = _result_type(before.type)
            if result is None:  # refused by _argument_type; what reads it is still checked
                self._tensors[before] = Tensor((1,), FLOAT32, value=after)
                continue
            empty = np.zeros(result.shape, result.onnx_dtype) if 0 in result.shape else None
            self._tensors[before] = Tensor(result.shape, result.dtype, array=empty, value=after)

    def _finish_signature(
        self, lowered: func.FuncOp, inputs: list[ir.Type], results: list[ir.Value | None]
    ) -> None:
        """`results` has None for those that are no results in TOSA."""
        old_type = ir.FunctionType(ir.TypeAttr(self._function.attributes["function_type"]).value)
        arguments = self._seen("arg_attrs", old_type.inputs)
        seen = self._seen("res_attrs", old_type.results)
        held = [(value.type, entry) for value, entry in zip(results, seen) if value is not None]
        signature = ir.FunctionType.get(inputs, [type for type, _ in held])
        lowered.attributes["function_type"] = ir.TypeAttr.get(signature)
        lowered.attributes["arg_attrs"] = _dictionaries(arguments)
        lowered.attributes["res_attrs"] = _dictionaries([entry for _, entry in held])
        border.list_empty_results(
            lowered.operation,
            [
                EmptyResult(place, _empty_type(old_type.results[place]), seen[place])
                for place, value in enumerate(results)
                if value is None
            ],
        )

    def _seen(self, key: str, types: Sequence[ir.Type]) -> list[dict[str, ir.Attribute]]:
        """What callers see of each argument or result."""
        old = self._function.attributes
        given = list(ir.ArrayAttr(old[key])) if key in old else [ir.DictAttr.get({})] * len(types)
        return [_with_border(border.entries(attributes), type) for attributes, type in zip(given, types)]

    # Nodes

    def _lower_operations(self, block: ir.Block) -> None:
        for op in block.operations:
            operation = op.operation
            if operation.name in _TERMINATORS:
                return
            with operation.location:
                self._lower_operation(operation)

    def _region(self, region: ir.Region) -> Region:
        block = region.blocks[0]
        yielded = [self._tensors.get(value) for value in _terminator(block).operands]
        return Region(
            lower=functools.partial(self._lower_region, block),
            constant_results=tuple(None if tensor is None else tensor.array for tensor in yielded),
        )

    def _lower_region(self, block: ir.Block, arguments: Sequence[Tensor]) -> list[Tensor | None]:
        """The results of a graph inside the node at hand, which stays at hand."""
        node = self._context.results, self._context.regions
        for old, argument in zip(block.arguments, arguments, strict=True):
            self._tensors[old] = self._context.reshape(argument, ir.RankedTensorType(old.type).shape)
        self._lower_operations(block)
        self._context.results, self._context.regions = node
        return [self._tensors[value] for value in _terminator(block).operands]

    def _returned(self, value: ir.Value) -> ir.Value | None:
        """What `@main` returns for an output, None for one without elements."""
        tensor = self._tensors[value]
        if tensor is None:
            self._fail("main", "graph", f"an output of type {value.type} is no tensor of numbers")
            return ir.Operation.create("ic.failed", results=[value.type]).results[0]
        if tensor.size == 0:
            return None
        try:
            return self._context.value(tensor)
        except LoweringFailure as failure:
            self._fail("main", "graph", f"an output: {failure.reason}", failure.remedy)
            return self._context.value(self._placeholder(tensor))

    def _lower_operation(self, operation: ir.Operation) -> None:
        results = tuple(_result_type(result.type) for result in operation.results)
        try:
            outputs = self._lower(operation, results)
        except LoweringFailure as failure:
            self._fail(node_name(operation), op_type(operation), failure.reason, failure.remedy)
            outputs = [None if result is None else self._placeholder(result) for result in results]
        for result, output in zip(operation.results, outputs):
            self._tensors[result] = output

    def _lower(
        self, operation: ir.Operation, results: tuple[ResultType | None, ...]
    ) -> Sequence[Tensor | None]:
        if operation.name == "onnx.NoValue":
            return [None]
        if operation.name == "onnx.Constant" and "value" in operation.attributes:
            return [Tensor.constant(self._weights.array(operation.attributes["value"]))]
        lowering = self._find(operation)
        self._check_results(operation, results)
        if all(result is None or 0 in result.shape for result in results):
            return [None if result is None else _without_elements(result) for result in results]
        operands = [self._tensors[value] for value in operation.operands]
        attributes = self._attributes(operation, lowering)
        _check_operands(operands, lowering)
        self._context.results = results
        self._context.regions = tuple(self._region(region) for region in operation.regions)
        outputs = self._apply(lowering, operands, attributes)
        _check_outputs(outputs, results)
        return outputs

    def _apply(
        self, lowering: registry.Lowering, operands: Sequence[Tensor | None], attributes: dict[str, Any]
    ) -> tuple[Tensor | None, ...]:
        """The results of a lowering; some divide by a size, or want a greatest element, that may not be there."""
        try:
            outputs = lowering.function(self._context, *operands, **attributes)
        except (ArithmeticError, LookupError, ValueError):
            if all(operand is None or operand.size for operand in operands):
                raise
            raise LoweringFailure(
                "an operand has no elements, and what it gives then is not defined"
            ) from None
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _find(self, operation: ir.Operation) -> registry.Lowering:
        op, domain = op_type(operation), _domain(operation)
        own = operation.attributes["onnx_opset"].value if "onnx_opset" in operation.attributes else None
        opset = own or self._opset.get(domain, 1 if domain else 0)
        lowering = registry.find(op, domain, opset)
        if lowering is None:
            oldest = registry.first_opset(op, domain)
            if oldest is not None:
                raise LoweringFailure(
                    f"opset {opset} is too old", f"convert the model to opset {oldest} or newer"
                )
            where = f" of domain '{domain}'" if domain else ""
            reason = None if domain else refusals.REASONS.get(op)
            raise LoweringFailure(reason or f"the operator{where} has no lowering to TOSA")
        return lowering

    def _check_results(self, operation: ir.Operation, results: tuple[ResultType | None, ...]) -> None:
        for value, result in zip(operation.results, results):
            if result is None and str(value.type) != "none":
                raise LoweringFailure(
                    f"a result of type {value.type} is no tensor of numbers with known shape"
                )
            if result is not None:
                self._note_narrowing(result)

    def _attributes(self, operation: ir.Operation, lowering: registry.Lowering) -> dict[str, Any]:
        named = {key: value for key, value in operation.attributes.items() if key not in _NOT_ATTRIBUTES}
        unknown = sorted(set(named) - lowering.attributes)
        if unknown:
            raise LoweringFailure(f"attribute '{unknown[0]}' is not supported")
        missing = sorted(lowering.required_attributes - set(named))
        if missing:
            raise LoweringFailure(f"attribute '{missing[0]}' is missing")
        return {name: self._python_value(attribute) for name, attribute in named.items()}

    def _python_value(self, attribute: ir.Attribute) -> Any:
        if isinstance(attribute, ir.ArrayAttr):
            return [self._python_value(item) for item in attribute]
        if isinstance(attribute, ir.TypeAttr):
            return onnx_dtype(attribute.value)
        if isinstance(attribute, ir.IntegerAttr | ir.FloatAttr | ir.StringAttr | ir.BoolAttr):
            return attribute.value
        return self._weights.array(attribute)

    # Failures and notes

    def _fail(self, node: str, op: str, reason: str, remedy: str = "") -> None:
        self.failures.append(UnsupportedNode(node, op, reason, remedy, str(ir.Location.current)))

    def _placeholder(self, like: ResultType | Tensor) -> Tensor:
        """Stands for what a failed node would give, so that the nodes after it are checked as well."""
        failed = ir.Operation.create("ic.failed", results=[storage_type(like.shape, like.dtype)])
        return Tensor(like.shape, like.dtype, value=failed.results[0])

    def _note_narrowing(self, result: ResultType) -> None:
        if narrowing_loses(result.onnx_dtype):
            self.narrowed.add(f"{result.onnx_dtype} as {result.dtype}")


def _terminator(block: ir.Block) -> ir.Operation:
    return block.operations[len(block.operations) - 1].operation


def op_type(operation: ir.Operation) -> str:
    """The ONNX operator of a node."""
    return operation.name.removeprefix("onnx.")


def _domain(operation: ir.Operation) -> str:
    attributes = operation.attributes
    domain = attributes["domain"].value if "domain" in attributes else ""
    return "" if domain == "ai.onnx" else domain


def node_name(operation: ir.Operation) -> str:
    """What the model calls a node."""
    if "onnx_node_name" in operation.attributes:
        return operation.attributes["onnx_node_name"].value
    location = operation.location
    return location.name_str if isinstance(location, ir.NameLoc) else str(location)


def _result_type(type: ir.Type) -> ResultType | None:
    if not isinstance(type, ir.RankedTensorType) or not type.has_static_shape:
        return None
    dtype = onnx_dtype(type.element_type)
    return ResultType(tuple(type.shape), narrowed(dtype), dtype) if dtype is not None else None


def _with_border(given: dict[str, ir.Attribute], type: ir.Type) -> dict[str, ir.Attribute]:
    """The attributes of an argument or result with its ONNX dtype and, where TOSA holds another, its shape."""
    result = _result_type(type)
    if result is None:
        return given
    own = {border.DTYPE: ir.StringAttr.get(result.onnx_dtype.name)}
    if held_shape(result.shape) != result.shape:
        own[border.SHAPE] = ir.DenseI64ArrayAttr.get(result.shape)
    return {**own, **given}


def _dictionaries(entries: Sequence[dict[str, ir.Attribute]]) -> ir.ArrayAttr:
    return ir.ArrayAttr.get([ir.DictAttr.get(entry) for entry in entries])


def _empty_type(type: ir.Type) -> ir.RankedTensorType:
    result = _result_type(type)
    assert result is not None
    return storage_type(result.shape, result.dtype)


def _without_elements(result: ResultType) -> Tensor:
    return Tensor.constant(np.zeros(result.shape, result.onnx_dtype))


def _check_operands(operands: Sequence[Tensor | None], lowering: registry.Lowering) -> None:
    least, most = lowering.operands
    if len(operands) < least or (most is not None and len(operands) > most):
        raise LoweringFailure(f"it has {len(operands)} operands")
    for operand in operands[:least]:
        if operand is None:
            raise LoweringFailure("a required operand is missing")


def _check_outputs(outputs: tuple[Tensor | None, ...], results: tuple[ResultType | None, ...]) -> None:
    """Our shape and dtype must be those that ONNX infers: a last net under every lowering."""
    wanted = [result for result in results if result is not None]
    if len(outputs) < len(results):
        raise LoweringFailure(f"result {len(outputs)} is not supported")
    if not wanted:
        return
    for output, result in zip(outputs, results):
        if result is None:
            continue
        if output is None:
            raise LoweringFailure("an optional result is not supported")
        if output.shape != result.shape or output.dtype != result.dtype:
            raise LoweringFailure(
                f"its lowering gives {list(output.shape)} {output.dtype}, "
                f"but ONNX says {list(result.shape)} {result.dtype}",
                "please report this as a bug of tosaic",
            )
