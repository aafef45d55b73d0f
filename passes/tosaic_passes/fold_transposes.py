"""`fold-transposes`: layout transposes between ops that do not need them disappear.

Input: a TOSA module whose convolutions and poolings stand between transposes to and from NHWC, as lowering
from ONNX (NCHW) writes them. Output: the same function, where runs of elementwise ops, concats, slices, pads,
reductions and reshapes compute in the layout that costs the fewest transposed bytes. Constants are laid out
anew in the weight table. The transposed bytes never grow.

    %1 = tosa.conv2d ...                      %1 = tosa.conv2d ...
    %2 = tosa.transpose %1 {0, 3, 1, 2}       %2 = tosa.clamp %1
    %3 = tosa.clamp %2                   ->   %3 = tosa.conv2d %2 ...
    %4 = tosa.transpose %3 {0, 2, 3, 1}
    %5 = tosa.conv2d %4 ...

Every run of ops that shares a layout becomes one group, and `layouts.LayoutProblem` picks the layouts;
the time is linear in the ops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch_mlir import ir

from tosaic_passes.functions import nested_operations
from tosaic_passes.layouts import (
    DropAxis,
    Fixed,
    Group,
    Layout,
    LayoutProblem,
    Reshape,
    Value,
    compose,
    identity,
    inverse,
    permuted,
    same_memory,
)
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable, numpy_dtype_size, resource_name

_UNARY = (
    "abs bitwise_not cast ceil clamp clz cos erf exp floor identity log logical_not negate reciprocal "
    "rescale rsqrt sigmoid sin table tanh"
)
_BINARY = (
    "add arithmetic_right_shift bitwise_and bitwise_or bitwise_xor equal greater greater_equal intdiv "
    "logical_and logical_left_shift logical_or logical_right_shift logical_xor maximum minimum mul pow sub"
)
_REDUCTIONS = "reduce_all reduce_any reduce_max reduce_min reduce_product reduce_sum"
_AXIS_OPS = frozenset(f"tosa.{name}" for name in [*_REDUCTIONS.split(), "reverse", "concat"])
_SHAPED_OPS = {"tosa.pad": 1, "tosa.slice": 2, "tosa.tile": 1}
"""Ops with operands of one entry (or pair) an axis right behind the data operand, and how many of them."""
_DATA_OPERANDS = {
    **{
        f"tosa.{name}": 1
        for name in [*_UNARY.split(), *_REDUCTIONS.split(), "reverse", "pad", "slice", "tile"]
    },
    **{f"tosa.{name}": 2 for name in _BINARY.split()},
    "tosa.select": 3,
}
"""How many leading operands of a movable op carry the layout; all of them for concat."""


@dataclass(frozen=True)
class FoldTransposesPass:
    """Choose layouts so that few bytes are transposed."""

    name: ClassVar[str] = "fold-transposes"

    def run(self, program: Program) -> None:
        with program.context, ir.Location.unknown():
            for function in program.module.body.operations:
                if function.operation.name == "func.func" and function.regions[0].blocks:
                    _fold_function(function.operation, program.weights)


def _fold_function(function: ir.Operation, weights: WeightTable) -> None:
    ops = list(nested_operations(function.regions[0].blocks[0].operations))
    if not any(op.name == "tosa.transpose" for op in ops):
        return
    graph = _Graph(ops)
    _Rewriter(graph, graph.problem.solve(), weights).rewrite()


def _data_operands(op: ir.Operation) -> int:
    """How many leading operands are read in the op's layout; 0 for an op that is not movable."""
    if op.name == "tosa.concat":
        return len(op.operands)
    if op.name == "tosa.rescale" and ir.BoolAttr(op.attributes["per_channel"]).value:
        return 0
    return _DATA_OPERANDS.get(op.name, 0)


def _shape(value: ir.Value) -> list[int]:
    return ir.RankedTensorType(value.type).shape


def _is_tensor(value: ir.Value) -> bool:
    return isinstance(value.type, ir.RankedTensorType)


def _perms(op: ir.Operation) -> Layout:
    return tuple(ir.DenseI32ArrayAttr(op.attributes["perms"]))


class _Graph:
    """The ops of a function, the group of each, and which root every transposed value stands for."""

    def __init__(self, ops: list[ir.Operation]) -> None:
        self.ops = ops
        self.roots: dict[ir.Value, tuple[ir.Value, Layout]] = {}
        self.groups: dict[ir.Operation, Group] = {}
        self._makers: dict[ir.Value, ir.Operation] = {}
        self._parents: dict[Group, Group] = {}
        self._fixed = Fixed()
        for op in self.ops:
            self._visit(op)
        self.problem = self._state_problem()

    def group(self, op: ir.Operation) -> Group:
        return self._find(self.groups[op])

    def source(self, value: ir.Value) -> tuple[ir.Value, Layout]:
        """The value that `value` is a transpose of, and the permutation; most are no transpose."""
        return self.roots.get(value) or (value, identity(len(_shape(value))))

    def maker(self, value: ir.Value) -> ir.Operation | None:
        """The op that computes a value, None for a block argument."""
        return self._makers.get(value)

    def _visit(self, op: ir.Operation) -> None:
        for result in op.results:
            self._makers[result] = op
        if op.name == "tosa.transpose":
            root, perm = self.source(op.operands[0])
            self.roots[op.results[0]] = root, compose(perm, _perms(op))
            return
        self.groups[op] = group = self._new_group(op)
        for operand in list(op.operands)[: _data_operands(op)]:
            root, perm = self.source(operand)
            maker = self.maker(root)
            if maker and _data_operands(maker) and perm == identity(len(perm)):
                self._parents[self._find(group)] = self._find(self.groups[maker])

    def _new_group(self, op: ir.Operation) -> Group:
        if _data_operands(op):
            return Group()
        if op.name == "tosa.reshape":
            return Reshape(tuple(_shape(op.operands[0])), tuple(_shape(op.results[0])))
        if op.name == "tosa.argmax":
            return DropAxis(ir.IntegerAttr(op.attributes["axis"]).value)
        return self._fixed

    def _find(self, group: Group) -> Group:
        path = []
        while (parent := self._parents.get(group, group)) is not group:
            path.append(group)
            group = parent
        for passed in path:
            self._parents[passed] = group
        return group

    def _state_problem(self) -> LayoutProblem:
        problem = LayoutProblem()
        values: dict[ir.Value, Value] = {}
        for op in self.groups:
            group = self.group(op)
            for operand in self.read_in_layout(op):
                problem.add_group(group, len(_shape(operand)))
                root, perm = self.source(operand)
                maker = self.maker(root)
                if maker is not None and maker.name == "tosa.const":
                    continue
                if root not in values:
                    producer = self.group(maker) if maker is not None else self._fixed
                    values[root] = Value(producer, _shape(root), _nbytes(root))
                values[root].readers[group, perm] = None
        for value in values.values():
            problem.add_value(value)
        return problem

    def read_in_layout(self, op: ir.Operation) -> list[ir.Value]:
        """The operands that are read in the layout of the op's group (its plain one, for a fixed op)."""
        if count := _data_operands(op):
            return list(op.operands)[:count]
        return [operand for operand in op.operands if _is_tensor(operand)]


def _nbytes(value: ir.Value) -> int:
    tensor = ir.RankedTensorType(value.type)
    return math.prod(tensor.shape) * numpy_dtype_size(tensor.element_type)


class _Rewriter:
    """Rebuilds the ops whose layout changes, in place and in order, then drops what nothing reads."""

    def __init__(self, graph: _Graph, layouts: dict[Group, Layout], weights: WeightTable) -> None:
        self._graph = graph
        self._layouts = layouts
        self._weights = weights
        self._stored: dict[ir.Value, tuple[ir.Value, Layout]] = {}
        self._converted: dict[tuple[ir.Value, Layout], ir.Value] = {}
        self._constants = [op for op in graph.ops if op.name in ("tosa.const", "tosa.const_shape")]

    def rewrite(self) -> None:
        replaced = []
        for op in self._graph.ops:
            if op.name == "tosa.transpose" or self._rewrite(op):
                replaced.append(op)
        for op in reversed(replaced):
            op.erase()
        self._erase_dead_constants()

    def _erase_dead_constants(self) -> None:
        for op in self._constants:
            if not any(True for _ in op.results[0].uses):
                op.erase()

    def _rewrite(self, op: ir.Operation) -> bool:
        """Bring one op into its layout; True if a new op took its place."""
        group = self._graph.group(op)
        tensors = self._graph.read_in_layout(op)
        if group.fixed:
            for index, operand in enumerate(op.operands):
                if _is_tensor(operand):
                    self._set_operand(op, index, self._read(operand, identity(len(_shape(operand)))))
            return False
        layout = self._layouts[group]
        result_layout = group.result_layout(layout)
        assert result_layout is not None
        operands = [self._read(operand, layout) for operand in tensors]
        if layout == identity(len(layout)) and result_layout == identity(len(result_layout)):
            for index, operand in enumerate(operands):
                self._set_operand(op, index, operand)
            return False
        new = self._rebuild(op, operands, layout, result_layout)
        self._stored[op.results[0]] = new.results[0], result_layout
        return True

    @staticmethod
    def _set_operand(op: ir.Operation, index: int, value: ir.Value) -> None:
        if op.operands[index] != value:
            op.operands[index] = value

    def _rebuild(
        self, op: ir.Operation, operands: list[ir.Value], layout: Layout, result_layout: Layout
    ) -> ir.Operation:
        old = ir.RankedTensorType(op.results[0].type)
        shape = permuted(old.shape, result_layout)
        attributes = {name: op.attributes[name] for name in op.attributes}
        rest = list(op.operands)[len(operands) :]
        with ir.InsertionPoint(op), op.location:
            if op.name == "tosa.reshape":
                rest = [_const_shape(shape)]
            elif op.name in _SHAPED_OPS:
                count = _SHAPED_OPS[op.name]
                rest = [self._permuted_shape(value, layout) for value in rest[:count]] + rest[count:]
            elif op.name in _AXIS_OPS or op.name == "tosa.argmax":
                axis = ir.IntegerAttr(attributes["axis"])
                attributes["axis"] = ir.IntegerAttr.get(axis.type, layout.index(axis.value))
            return ir.Operation.create(
                op.name, [ir.RankedTensorType.get(shape, old.element_type)], [*operands, *rest], attributes
            )

    def _permuted_shape(self, value: ir.Value, layout: Layout) -> ir.Value:
        """A `const_shape` operand with an entry (slice, tile) or pair (pad) an axis, in layout order."""
        maker = self._graph.maker(value)
        assert maker is not None, "TOSA 1.0 shapes are constants"
        entries = np.asarray(self._weights.array(maker.attributes["values"])).reshape(len(layout), -1)
        return _const_shape(entries[list(layout)].reshape(-1).tolist())

    def _read(self, value: ir.Value, layout: Layout) -> ir.Value:
        """`value` in `layout`: as it is stored, or converted once, right behind the op that computes it."""
        root, perm = self._graph.source(value)
        wanted = compose(perm, layout)
        stored, stored_layout = self._stored.get(root) or (root, identity(len(wanted)))
        if stored_layout == wanted:
            return stored
        if (root, wanted) not in self._converted:
            self._converted[root, wanted] = self._convert(root, stored, stored_layout, wanted)
        return self._converted[root, wanted]

    def _convert(self, root: ir.Value, stored: ir.Value, stored_layout: Layout, wanted: Layout) -> ir.Value:
        perm = compose(inverse(stored_layout), wanted)
        shape = permuted(_shape(root), wanted)
        maker = self._graph.maker(root)
        if maker is not None and maker.name == "tosa.const":
            return self._convert_constant(maker, perm, shape)
        result = ir.RankedTensorType.get(shape, ir.RankedTensorType(root.type).element_type)
        owner = stored.owner
        point = (
            ir.InsertionPoint.at_block_begin(owner)
            if isinstance(owner, ir.Block)
            else ir.InsertionPoint.after(owner.operation)
        )
        with point, stored.location:
            if same_memory(_shape(root), stored_layout, wanted):
                return ir.Operation.create("tosa.reshape", [result], [stored, _const_shape(shape)]).results[0]
            perms = {"perms": ir.DenseI32ArrayAttr.get(perm)}
            return ir.Operation.create("tosa.transpose", [result], [stored], perms).results[0]

    def _convert_constant(self, constant: ir.Operation, perm: Layout, shape: list[int]) -> ir.Value:
        attribute = constant.attributes["values"]
        element = ir.RankedTensorType(constant.results[0].type).element_type
        tensor = ir.RankedTensorType.get(shape, element)
        name = resource_name(attribute)
        if name is None and ir.DenseElementsAttr(attribute).is_splat:
            values = ir.DenseElementsAttr.get_splat(tensor, ir.DenseElementsAttr(attribute).get_splat_value())
        else:
            array = np.transpose(self._weights.array(attribute), perm)
            values = self._weights.attribute(array, name or "constant", element)
        with ir.InsertionPoint(constant), constant.location:
            return ir.Operation.create("tosa.const", [tensor], [], {"values": values}).results[0]


def _const_shape(sizes: list[int]) -> ir.Value:
    values = ir.DenseElementsAttr.get(np.array(sizes, np.int64), type=ir.IndexType.get())
    result = ir.Type.parse(f"!tosa.shape<{len(sizes)}>")
    return ir.Operation.create("tosa.const_shape", [result], [], {"values": values}).results[0]
