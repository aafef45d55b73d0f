"""From TOSA in MLIR to the backend's graph: operands sorted into tensors and attributes, constants folded.

Node attributes carry the names that TOSA gives its attributes and operands ("stride", "input_zp", "perms",
"multiples"...): tuples of int for shapes and arrays, int or float for zero points and single-element constants,
bool, and str for enumerations ("PROPAGATE", "SINGLE_ROUND", "BILINEAR") and types ("f32").
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from torch_mlir import ir

from tosaic.errors import TosaicError
from tosaic.wasm.graph import Border, Folded, Graph, Node, Value, scalar
from tosaic.wasm.kernel import ELEMENT_BYTES
from tosaic.wasm.trips import is_counted, most_trips
from tosaic_passes.border import DTYPE, NAME, EmptyResult, empty_results, entries, seen_shape
from tosaic_passes.diagnostics import place_of
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable

ELEMENTWISE = frozenset(
    """abs add arithmetic_right_shift bitwise_and bitwise_not bitwise_or bitwise_xor cast ceil clamp clz cos equal
    erf exp floor greater greater_equal identity intdiv log logical_and logical_left_shift logical_not logical_or
    logical_right_shift logical_xor maximum minimum mul negate pow reciprocal rescale rsqrt select sigmoid sin sub
    tanh""".split()
)
"""Ops whose output elements each depend on the operands' elements at the same place."""

_CONVOLUTION = ("input", "weight", "bias", "input_zp", "weight_zp")
_MATMUL = ("a", "b", "a_zp", "b_zp")
_OPERANDS: Mapping[str, tuple[str, ...]] = {
    "avg_pool2d": ("input", "input_zp", "output_zp"),
    "conv2d": _CONVOLUTION,
    "conv3d": _CONVOLUTION,
    "depthwise_conv2d": _CONVOLUTION,
    "transpose_conv2d": _CONVOLUTION,
    "matmul": _MATMUL,
    "matmul_t": _MATMUL,
    "mul": ("input1", "input2", "shift"),
    "negate": ("input1", "input1_zp", "output_zp"),
    "pad": ("input1", "padding", "pad_const"),
    "rescale": ("input", "multiplier", "shift", "input_zp", "output_zp"),
    "reshape": ("input1", "shape"),
    "resize": ("input", "scale", "offset", "border"),
    "row_gather": ("values", "indices", "row_count"),
    "slice": ("input1", "start", "size"),
    "tile": ("input1", "multiples"),
}
"""Operand names of the ops that have constant operands among them; the operands of all others are tensors."""

_TENSORS = frozenset("input input1 input2 weight bias a b multiplier values indices".split())
_SCALARS = frozenset("input_zp weight_zp output_zp input1_zp a_zp b_zp pad_const row_count".split())

_OTHERS = frozenset(
    """argmax avg_pool2d concat conv2d conv3d depthwise_conv2d gather matmul matmul_t max_pool2d pad reduce_all
    reduce_any reduce_max reduce_min reduce_product reduce_sum reshape resize reverse row_gather scatter slice
    table tile transpose transpose_conv2d""".split()
)
CONTROL = frozenset({"cond_if", "while_loop"})
"""Ops with regions."""

SUPPORTED = ELEMENTWISE | _OTHERS | CONTROL

MOST_TRIPS = "ic.most_trips"
"""Discardable attribute of a `tosa.while_loop`: a bound on its trips that whoever made the loop vouches for."""


_REMEDIES = {
    r"tosa\.variable.*": "make the state an input and an output of @main, as a call keeps none",
    r"tosa\..*": "express them by other ops of TOSA 1.0",
    r".*": "lower the whole model to TOSA",
}
"""What to do about ops without a kernel, by their names: the first that matches."""


def _remedy(names: Iterable[str]) -> str:
    found = {next(text for form, text in _REMEDIES.items() if re.fullmatch(form, name)) for name in names}
    return "; ".join(text for text in _REMEDIES.values() if text in found)


def read(program: Program) -> Graph:
    """The program's @main as a graph; calls of segments are inlined, so cutting a program does not change it.

    Raises TosaicError naming every op that the backend does not know.
    """
    functions = {_symbol(op): op for op in program.module.body.operations if op.operation.name == "func.func"}
    if "main" not in functions:
        raise TosaicError("the module has no function @main", "name the entry function @main")
    return _Reader(program.weights, functions).read()


def _places(found: Sequence[ir.Location]) -> str:
    """How many there are, and where the first one is."""
    place = place_of(found[0])
    return str(len(found)) if place == "unknown" else f"{len(found)}, first at {place}"


class _Reader:
    def __init__(self, weights: WeightTable, functions: Mapping[str, ir.OpView]) -> None:
        self.weights = weights
        self.functions = functions
        self.graph = Graph()
        self.unknown: dict[str, list[ir.Location]] = {}

    def read(self) -> Graph:
        main = self.functions["main"]
        block = main.regions[0].blocks[0]
        values = {argument: _value(argument) for argument in block.arguments}
        results = self._block(block, values, segment=0)
        if self.unknown:
            listed = ", ".join(f"{name} ({_places(found)})" for name, found in sorted(self.unknown.items()))
            raise TosaicError(f"these ops have no WebAssembly kernel: {listed}", _remedy(self.unknown))
        self.graph.inputs = _border(main, "arg_attrs", list(values.values())[: len(block.arguments)], "input")
        self.graph.outputs = _border(main, "res_attrs", results, "output")
        for empty in empty_results(main.operation):
            self.graph.outputs.insert(empty.place, _empty_border(empty))
        self.graph.segments = self.graph.segments or ["segment_0"]
        return self.graph

    def _block(self, block: ir.Block, values: dict[ir.Value, Value], segment: int) -> list[Value]:
        """Read the ops of a block; the values that its terminator yields."""
        for view in block.operations:
            operation = view.operation
            if operation.name in ("func.return", "tosa.yield"):
                return [values[operand] for operand in operation.operands]
            if operation.name in ("func.call", "call"):
                self._call(operation, values)
            else:
                self._op(operation, values, segment)
        return []

    def _call(self, operation: ir.Operation, values: dict[ir.Value, Value]) -> None:
        name = ir.FlatSymbolRefAttr(operation.attributes["callee"]).value
        block = self.functions[name].regions[0].blocks[0]
        inner = {argument: values[operand] for argument, operand in zip(block.arguments, operation.operands)}
        self.graph.segments.append(name)
        yielded = self._block(block, inner, len(self.graph.segments) - 1)
        values.update(zip(operation.results, yielded))

    def _op(self, operation: ir.Operation, values: dict[ir.Value, Value], segment: int) -> None:
        dialect, _, op = operation.name.partition(".")
        if op in ("const", "const_shape"):
            values[operation.results[0]] = self._constant(operation)
            return
        if dialect != "tosa" or op not in SUPPORTED:
            self.unknown.setdefault(operation.name, []).append(operation.location)
            values.update((result, _value(result)) for result in operation.results)
            return
        if op in CONTROL:
            read = self._branch if op == "cond_if" else self._loop
            read(operation, values, segment)
            return
        inputs, attributes = self._operands(op, operation, values)
        if (
            (fold := _FOLDS.get(op))
            and inputs[0].array is not None
            and all(v.array is not None for v in inputs)
        ):
            self._fold(fold, operation, values, inputs, attributes)
            return
        node = Node(op, len(self.graph.nodes), inputs, (), attributes, operation, segment)
        self._append(node, operation.results, values)

    def _append(self, node: Node, results: Sequence[ir.Value], values: dict[ir.Value, Value]) -> None:
        node.outputs = tuple(_value(result, node) for result in results)
        for value in dict.fromkeys(node.inputs):
            value.users.append(node)
        self.graph.nodes.append(node)
        values.update(zip(results, node.outputs))

    def _branch(self, operation: ir.Operation, values: dict[ir.Value, Value], segment: int) -> None:
        condition, *passed = (values[operand] for operand in operation.operands)
        inputs = (condition, *_unknown(passed))
        regions = tuple(self._region(region.blocks[0], passed, [], values) for region in operation.regions)
        if operation.results:
            node = Node("cond_if", len(self.graph.nodes), inputs, (), {}, operation, segment, regions)
            self._append(node, operation.results, values)

    def _loop(self, operation: ir.Operation, values: dict[ir.Value, Value], segment: int) -> None:
        """What a loop hands on unchanged is no state of it: it is read where it is, inside and behind the loop."""
        passed = [values[operand] for operand in operation.operands]
        states = _states(operation.regions[1].blocks[0])
        others = [value for i, value in enumerate(passed) if i not in states]
        inputs = (*(passed[i] for i in states), *_unknown(others))
        test, body = (self._region(region.blocks[0], passed, states, values) for region in operation.regions)
        body.outputs = [body.outputs[i] for i in states]
        values.update(zip(operation.results, passed))
        if states:
            trips = _trips(operation, test, body, inputs)
            exact = trips > 0 and is_counted(test) and trips == most_trips(test, body, inputs)
            attributes = {"most_trips": trips, "exact": exact}
            node = Node(
                "while_loop", len(self.graph.nodes), inputs, (), attributes, operation, segment, (test, body)
            )
            self._append(node, [operation.results[i] for i in states], values)

    def _region(
        self,
        block: ir.Block,
        passed: Sequence[Value],
        states: Sequence[int],
        around: Mapping[ir.Value, Value],
    ) -> Graph:
        """A region as a graph: its inputs are the states, then the other arguments that are no constants."""
        arguments = [
            _value(argument) if i in states or value.array is None else value
            for i, (argument, value) in enumerate(zip(block.arguments, passed, strict=True))
        ]
        constants = {key: value for key, value in around.items() if value.array is not None}
        reader = _Reader(self.weights, self.functions)
        reader.unknown = self.unknown
        results = reader._block(block, {**constants, **dict(zip(block.arguments, arguments))}, segment=0)
        order = [*states, *(i for i in range(len(arguments)) if i not in states)]
        reader.graph.inputs = _unnamed(_unknown([arguments[i] for i in order]))
        reader.graph.outputs = _unnamed(results)
        return reader.graph

    def _fold(
        self, fold: Callable, operation: ir.Operation, values: dict, inputs: tuple, attributes: dict
    ) -> None:
        array = fold([value.array for value in inputs], attributes)
        value = Value(inputs[0].element, tuple(array.shape), array)
        values[operation.results[0]] = value
        self.graph.folded.append(Folded(inputs, value, operation))

    def _constant(self, operation: ir.Operation) -> Value:
        array = self.weights.array(operation.attributes["values"])
        if operation.name == "tosa.const_shape":
            return Value("index", array.shape, array)
        element = _element(ir.RankedTensorType(operation.results[0].type))
        return Value(
            element, tuple(array.shape), array.astype(np.int8) if array.dtype == ml_dtypes.int4 else array
        )

    def _operands(
        self, op: str, operation: ir.Operation, values: Mapping[ir.Value, Value]
    ) -> tuple[tuple[Value, ...], dict[str, Any]]:
        attributes = {
            name: _python(attribute)
            for name, attribute in operation.attributes.items()
            if not name.startswith("ic.")
        }
        operands = [values[operand] for operand in operation.operands]
        if op not in _OPERANDS:
            return tuple(operands), attributes
        tensors = []
        for name, value in zip(_OPERANDS[op], operands, strict=True):
            if name in _TENSORS or (op, name) == ("rescale", "shift"):
                tensors.append(value)
            else:
                attributes[name] = _known(name, value, operation)
        return tuple(tensors), attributes


def multiply_adds(node: Node) -> int:
    """Multiply-adds of one op, the unit in which its cost is compared; 0 for ops that are not products.

    Of a branch, those of the arm with more; of a loop, those of as many trips as it has at most.
    """
    if node.regions:
        first, second = (sum(map(multiply_adds, graph.nodes)) for graph in node.regions)
        trips = node.attributes.get("most_trips")
        return max(first, second) if trips is None else first * (trips + 1) + second * trips
    if node.op in ("conv2d", "conv3d"):
        return node.output.size * math.prod(node.inputs[1].shape[1:])
    if node.op == "depthwise_conv2d":
        return node.output.size * math.prod(node.inputs[1].shape[:2])
    if node.op == "transpose_conv2d":
        return node.inputs[0].size * math.prod(node.inputs[1].shape[:3])
    if node.op in ("matmul", "matmul_t"):
        return node.output.size * node.inputs[0].shape[2]
    return 0


# Regions


def _unknown(values: Sequence[Value]) -> list[Value]:
    """Those that are no constants."""
    return [value for value in values if value.array is None]


def _unnamed(values: Sequence[Value]) -> list[Border]:
    return [Border("", _BORDER_DTYPES[value.element], value.shape, value) for value in values]


def _states(body: ir.Block) -> list[int]:
    """The positions of what the body of a loop changes."""
    terminator = body.operations[len(body.operations) - 1].operation
    handed_on = zip(body.arguments, terminator.operands, strict=True)
    return [i for i, (argument, result) in enumerate(handed_on) if argument != result]


def _trips(operation: ir.Operation, test: Graph, body: Graph, starts: Sequence[Value]) -> int:
    """A bound on the trips of a loop, as it counts or as it says itself."""
    bounds = [most_trips(test, body, starts)]
    if MOST_TRIPS in operation.attributes:
        bounds.append(ir.IntegerAttr(operation.attributes[MOST_TRIPS]).value)
    if bounds == [None]:
        raise TosaicError(
            f"the trips of the {operation.name} at {operation.location} depend on data without a bound that can be "
            "proved, so nobody knows what it costs",
            "let it also stop when a counter reaches a constant (the trip count M of an ONNX Loop), or set "
            f"'{MOST_TRIPS}' on it",
        )
    return min(bound for bound in bounds if bound is not None)


# MLIR as Python values


def _symbol(op: ir.OpView) -> str:
    return ir.StringAttr(op.operation.attributes["sym_name"]).value


def _value(value: ir.Value, producer: Node | None = None) -> Value:
    tensor = ir.RankedTensorType(value.type)
    if not tensor.has_static_shape:
        raise TosaicError(
            f"a tensor has the dynamic shape {tensor}", "bind its dimensions with --input-shape or --dim"
        )
    element = _element(tensor)
    if producer is not None and producer.op in ("cast", "rescale") and str(tensor.element_type) == "i4":
        raise TosaicError(f"tosa.{producer.op} to i4 has no kernel", "keep the values in i8")
    return Value(element, tuple(tensor.shape), producer=producer)


def _element(tensor: ir.RankedTensorType) -> str:
    """The element type in memory: an i4 is a byte that holds a number of 4 bits, as TOSA only moves it and reads it."""
    name = str(tensor.element_type)
    if name not in ELEMENT_BYTES and name not in ("i4", "index"):
        raise TosaicError(f"elements of type {name} have no kernel")
    return "i8" if name == "i4" else name


def _python(attribute: ir.Attribute) -> Any:
    match attribute:
        case ir.BoolAttr() | ir.StringAttr() | ir.IntegerAttr() | ir.FloatAttr():
            return attribute.value
        case ir.DenseI64ArrayAttr() | ir.DenseI32ArrayAttr():
            return tuple(attribute)
        case ir.TypeAttr():
            return str(attribute.value)
    text = str(attribute)
    return text[text.index("<") + 1 : -1] if text.startswith("#tosa.") else text


def _known(name: str, value: Value, operation: ir.Operation) -> Any:
    """A constant operand: a number or a tuple of ints."""
    if value.array is None:
        raise TosaicError(f"operand '{name}' of {operation.name} at {operation.location} is not a constant")
    if name in _SCALARS or name == "shift":
        return scalar(value.array)
    return tuple(int(item) for item in value.array.reshape(-1))


_BORDER_DTYPES = {
    "i1": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i48": "int64", "i64": "int64", "f16": "float16",
    "bf16": "bfloat16", "f32": "float32", "f8E4M3FN": "float8_e4m3fn", "f8E5M2": "float8_e5m2",
}  # fmt: skip


def _border(function: ir.OpView, key: str, values: Sequence[Value], kind: str) -> list[Border]:
    attributes = function.operation.attributes
    listed = (
        [ir.DictAttr(a) for a in ir.ArrayAttr(attributes[key])] if key in attributes else [None] * len(values)
    )
    found = []
    for i, (value, dictionary) in enumerate(zip(values, listed, strict=True)):
        given = {} if dictionary is None else entries(dictionary)
        name = ir.StringAttr(given[NAME]).value if NAME in given else f"{kind}_{i}"
        dtype = ir.StringAttr(given[DTYPE]).value if DTYPE in given else _BORDER_DTYPES[value.element]
        found.append(Border(name, dtype, seen_shape(given, value.shape), value))
    return found


def _empty_border(empty: EmptyResult) -> Border:
    name, dtype = (ir.StringAttr(empty.seen[key]).value for key in (NAME, DTYPE))
    value = Value(str(empty.type.element_type), tuple(empty.type.shape))
    return Border(name, dtype, seen_shape(empty.seen, value.shape), value)


# Ops on constants that only move data


def _slice(arrays: list[np.ndarray], attributes: Mapping) -> np.ndarray:
    return arrays[0][tuple(slice(b, b + n) for b, n in zip(attributes["start"], attributes["size"]))]


_FOLDS: Mapping[str, Callable[[list[np.ndarray], Mapping], np.ndarray]] = {
    "identity": lambda arrays, _: arrays[0],
    "reshape": lambda arrays, attributes: arrays[0].reshape(attributes["shape"]),
    "transpose": lambda arrays, attributes: arrays[0].transpose(attributes["perms"]),
    "reverse": lambda arrays, attributes: np.flip(arrays[0], attributes["axis"]),
    "tile": lambda arrays, attributes: np.tile(arrays[0], attributes["multiples"]),
    "slice": _slice,
    "concat": lambda arrays, attributes: np.concatenate(arrays, attributes["axis"]),
}
