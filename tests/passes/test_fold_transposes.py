"""Transposes fold, numbers stay: every program is interpreted by numpy before and after."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_mlir import ir
from torch_mlir.dialects import func

from tosaic_passes.fold_transposes import FoldTransposesPass
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable


class Builder:
    """A function of f32 TOSA ops, built op by op."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.context = ir.Context()
        self.context.allow_unregistered_dialects = True
        self.weights = WeightTable()
        with self.context, ir.Location.unknown():
            self.f32 = ir.F32Type.get()
            self.module = ir.Module.create()
            kind = ir.FunctionType.get([self.tensor(shape) for shape in shapes], [])
            with ir.InsertionPoint(self.module.body):
                self.function = func.FuncOp("main", kind)
                self.block = self.function.add_entry_block()
        self.args = list(self.block.arguments)

    def tensor(self, shape) -> ir.Type:
        return ir.RankedTensorType.get(list(shape), self.f32)

    def op(self, name, operands, shape, **attributes) -> ir.Value:
        with self.context, ir.Location.unknown(), ir.InsertionPoint(self.block):
            result = self.tensor(shape) if not isinstance(shape, ir.Type) else shape
            return ir.Operation.create(f"tosa.{name}", [result], operands, attributes).results[0]

    def shape(self, value) -> list[int]:
        return ir.RankedTensorType(value.type).shape

    def sizes(self, values) -> ir.Value:
        with self.context, ir.Location.unknown():
            array = ir.DenseElementsAttr.get(np.array(values, np.int64), type=ir.IndexType.get())
            return self.op("const_shape", [], ir.Type.parse(f"!tosa.shape<{len(values)}>"), values=array)

    def i32(self, value) -> ir.Attribute:
        with self.context:
            return ir.IntegerAttr.get(ir.IntegerType.get_signless(32), value)

    def constant(self, array) -> ir.Value:
        with self.context, ir.Location.unknown():
            return self.op("const", [], array.shape, values=self.weights.attribute(array))

    def transpose(self, value, perm) -> ir.Value:
        shape = self.shape(value)
        with self.context:
            perms = ir.DenseI32ArrayAttr.get(perm)
        return self.op("transpose", [value], [shape[axis] for axis in perm], perms=perms)

    def reshape(self, value, shape) -> ir.Value:
        return self.op("reshape", [value, self.sizes(shape)], shape)

    def exp(self, value) -> ir.Value:
        return self.op("exp", [value], self.shape(value))

    def add(self, a, b) -> ir.Value:
        return self.op("add", [a, b], np.broadcast_shapes(tuple(self.shape(a)), tuple(self.shape(b))))

    def concat(self, values, axis) -> ir.Value:
        shape = list(self.shape(values[0]))
        shape[axis] = sum(self.shape(value)[axis] for value in values)
        return self.op("concat", values, shape, axis=self.i32(axis))

    def reduce_sum(self, value, axis) -> ir.Value:
        shape = list(self.shape(value))
        shape[axis] = 1
        return self.op("reduce_sum", [value], shape, axis=self.i32(axis))

    def reverse(self, value, axis) -> ir.Value:
        return self.op("reverse", [value], self.shape(value), axis=self.i32(axis))

    def pad(self, value, pairs) -> ir.Value:
        shape = [size + low + high for size, (low, high) in zip(self.shape(value), pairs, strict=True)]
        flat = [n for pair in pairs for n in pair]
        return self.op("pad", [value, self.sizes(flat), self.constant(np.full(1, 0.5, np.float32))], shape)

    def slice(self, value, start, size) -> ir.Value:
        return self.op("slice", [value, self.sizes(start), self.sizes(size)], size)

    def fixed(self, value) -> ir.Value:
        """An op that wants NHWC: it stands for a convolution."""
        with self.context:
            attributes = {
                name: ir.DenseI64ArrayAttr.get(values)
                for name, values in {"kernel": [1, 1], "stride": [1, 1], "pad": [0, 0, 0, 0]}.items()
            }
        return self.op("max_pool2d", [value], self.shape(value), **attributes)

    def finish(self, *values) -> Program:
        with self.context, ir.Location.unknown(), ir.InsertionPoint(self.block):
            ir.Operation.create("func.return", [], list(values))
            kind = ir.FunctionType.get([a.type for a in self.args], [value.type for value in values])
            self.function.attributes["function_type"] = ir.TypeAttr.get(kind)
        assert self.module.operation.verify()
        return Program(self.module, self.weights)


def evaluate(program: Program, inputs: list[np.ndarray]) -> list[np.ndarray]:
    block = program.module.body.operations[0].regions[0].blocks[0]
    env = dict(zip(block.arguments, inputs, strict=True))
    for view in block.operations:
        op = view.operation
        operands = [env[value] for value in op.operands]
        if op.name == "func.return":
            return operands
        env[op.results[0]] = result = _step(program, op, operands)
        if isinstance(op.results[0].type, ir.RankedTensorType):
            assert list(result.shape) == ir.RankedTensorType(op.results[0].type).shape
    raise AssertionError("no return")


def _step(program: Program, op: ir.Operation, operands: list[np.ndarray]) -> np.ndarray:
    axis = ir.IntegerAttr(op.attributes["axis"]).value if "axis" in op.attributes else 0
    match op.name.removeprefix("tosa."):
        case "const" | "const_shape":
            return np.asarray(program.weights.array(op.attributes["values"]))
        case "transpose":
            return operands[0].transpose(list(ir.DenseI32ArrayAttr(op.attributes["perms"])))
        case "reshape":
            return operands[0].reshape(operands[1])
        case "exp":
            return np.tanh(operands[0])
        case "max_pool2d":
            weights = np.arange(operands[0].size, dtype=np.float32).reshape(operands[0].shape)
            return np.sin(operands[0] + weights)
        case "add":
            return operands[0] + 2 * operands[1]
        case "concat":
            return np.concatenate(operands, axis)
        case "reduce_sum":
            return operands[0].sum(axis, keepdims=True)
        case "argmax":
            return operands[0].argmax(axis).astype(np.int32)
        case "reverse":
            return np.flip(operands[0], axis)
        case "pad":
            return np.pad(operands[0], operands[1].reshape(-1, 2), constant_values=operands[2].item())
        case "slice":
            return operands[0][tuple(slice(s, s + n) for s, n in zip(operands[1], operands[2], strict=True))]
    raise AssertionError(op.name)


def transposes(program: Program) -> list[int]:
    """Elements moved by each transpose."""
    ops = [view.operation for view in program.module.body.operations[0].regions[0].blocks[0].operations]
    return [
        int(np.prod(ir.RankedTensorType(op.results[0].type).shape))
        for op in ops
        if op.name == "tosa.transpose"
    ]


def fold(program: Program, count: int) -> None:
    """Fold; check that `count` transposes are left (-1: any), nothing grew, the numbers are the same."""
    arguments = program.module.body.operations[0].regions[0].blocks[0].arguments
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=ir.RankedTensorType(a.type).shape).astype(np.float32) for a in arguments]
    expected = evaluate(program, inputs)
    before = sum(transposes(program))
    FoldTransposesPass().run(program)
    assert program.module.operation.verify()
    for got, want in zip(evaluate(program, inputs), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert sum(transposes(program)) <= before
    assert count < 0 or len(transposes(program)) == count


NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def conv(b: Builder, value):
    return b.transpose(b.fixed(b.transpose(value, NHWC)), NCHW)


def test_chain_with_residual_keeps_the_two_at_the_border():
    b = Builder((1, 4, 6, 5))
    x = y = conv(b, b.args[0])
    for _ in range(3):
        y = b.add(conv(b, b.exp(y)), x)
        y = b.add(y, b.constant(np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)))
    fold(b.finish(y), 2)


def test_concat_pad_slice_reduce_reverse_change_their_axes():
    b = Builder((2, 4, 6, 5))
    y = conv(b, b.args[0])
    y = b.concat([y, b.exp(y)], 1)
    y = b.pad(y, [(0, 0), (1, 2), (3, 0), (0, 1)])
    y = b.slice(y, [0, 2, 1, 0], [2, 7, 5, 3])
    y = b.reverse(y, 2)
    y = b.add(y, b.reduce_sum(y, 1))
    fold(b.finish(conv(b, y)), 2)


def test_squeeze_excite_with_global_pooling_and_reshape():
    b = Builder((2, 4, 6, 5))
    x = conv(b, b.args[0])
    s = b.reduce_sum(b.reduce_sum(x, 2), 3)
    s = b.reshape(b.exp(b.reshape(s, [2, 4])), [2, 4, 1, 1])
    fold(b.finish(conv(b, b.add(x, s))), 2)


def test_channel_shuffle_keeps_only_itself():
    b = Builder((1, 6, 4, 5))
    y = b.reshape(conv(b, b.args[0]), [1, 2, 3, 4, 5])
    y = b.reshape(b.transpose(y, (0, 2, 1, 3, 4)), [1, 6, 4, 5])
    fold(b.finish(conv(b, y)), 3)


def test_flatten_after_global_pooling_needs_one():
    b = Builder((2, 4, 6, 5))
    y = b.reduce_sum(b.reduce_sum(conv(b, b.args[0]), 2), 3)
    fold(b.finish(b.reshape(y, [2, 4])), 1)


def test_argmax_over_channels():
    b = Builder((2, 4, 6, 5))
    x = conv(b, b.args[0])
    with b.context, ir.Location.unknown():
        kind = ir.RankedTensorType.get([2, 6, 5], ir.IntegerType.get_signless(32))
    fold(b.finish(b.op("argmax", [x], kind, axis=b.i32(1))), 1)


def test_a_layout_of_unit_dims_is_a_reshape():
    b = Builder((1, 1, 6, 5))
    fold(b.finish(conv(b, b.args[0])), 0)


def test_constants_are_laid_out_anew():
    b = Builder((1, 4, 6, 5))
    constant = b.constant(np.random.default_rng(1).normal(size=(1, 6, 5, 4)).astype(np.float32))
    fold(b.finish(conv(b, b.add(b.transpose(constant, NCHW), conv(b, b.args[0])))), 2)


def test_where_both_layouts_are_needed_the_cheaper_edge_is_transposed():
    b = Builder((1, 4, 6, 5))
    x = b.exp(conv(b, b.args[0]))
    flat = b.reshape(b.slice(x, [0, 0, 0, 0], [1, 3, 2, 2]), [1, 3, 2, 2, 1])
    flat = b.reshape(flat, [12])
    fold(b.finish(conv(b, b.exp(x)), flat), 3)


PERMS = [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (1, 0, 2, 3)]
STEPS = ["conv", "exp", "add", "concat", "reverse", "slice", "transpose", "reduce", "reshape", "constant"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=14)
)
def test_any_program_keeps_its_numbers(steps):
    b = Builder((1, 2, 3, 4))
    values = [b.args[0]]
    for step, axis, pick in steps:
        x = values[-1 - pick % min(3, len(values))]
        shape = b.shape(x)
        match step:
            case "conv":
                y = conv(b, x)
            case "exp":
                y = b.exp(x)
            case "add":
                y = b.add(x, b.exp(x))
            case "concat":
                y = b.concat([x, b.exp(x)], axis) if shape[axis] < 9 else b.exp(x)
            case "reverse":
                y = b.reverse(x, axis)
            case "slice":
                y = b.slice(x, [0] * 4, [max(1, n - (i == axis)) for i, n in enumerate(shape)])
            case "transpose":
                y = b.transpose(x, PERMS[axis])
            case "reduce":
                y = b.add(x, b.reduce_sum(x, axis))
            case "reshape":
                merged = b.exp(b.reshape(x, [shape[0], shape[1], shape[2] * shape[3]]))
                y = b.reshape(merged, shape)
            case _:
                count = int(np.prod(shape))
                y = b.add(x, b.constant(np.arange(count, dtype=np.float32).reshape(shape)))
        values.append(y)
    fold(b.finish(values[-1], values[len(values) // 2]), -1)


def test_five_thousand_nodes_take_no_time():
    nodes = 5000
    b = Builder((1, 4, 6, 5))
    y = b.args[0]
    for step in range(nodes // 4):
        y = b.add(b.exp(conv(b, y)), y) if step % 2 else b.exp(conv(b, y))
    program = b.finish(y)
    start = time.process_time()
    FoldTransposesPass().run(program)
    assert time.process_time() - start < 3, "it takes 0.3 s on an idle core"
    assert len(transposes(program)) <= 2
