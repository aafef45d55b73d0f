"""Types of the results of operators for which the onnx package has no inference rule.

Most of them are onnxruntime's own: a standard operator with scales and zero points among its operands, so their
shapes are that operator's. The table says which, and where its operands stand. Source of the signatures:
onnxruntime's docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from tosaic.frontend.node_evaluation import Opsets, infer_types
from tosaic.frontend.static_graph import TensorType, Value

_STANDARD = Opsets({"": 21}, ir_version=10)
"""The opset whose operators the table refers to."""

_FLOAT = np.dtype(np.float32)
_BOOL = np.dtype(np.bool_)

Types = list[onnx.TypeProto | None]


@dataclass(frozen=True)
class _Like:
    """Result shapes are those of the standard `op` on the operands at `places`.

    The results have this dtype, or that of the operand at this place (float32 where it is absent).
    """

    op: str
    places: tuple[int, ...] | slice = (0,)
    dtype: int | np.dtype = 0


_TABLE = {
    "BiasGelu": _Like("Identity"),
    "DequantizeLinear": _Like("Identity", dtype=1),
    "DynamicQuantizeLSTM": _Like("LSTM", (0, 1, 2)),
    "DynamicQuantizeMatMul": _Like("MatMul", (0, 1)),
    "FastGelu": _Like("Identity"),
    "FusedConv": _Like("Conv", (0, 1, 2)),
    "FusedGemm": _Like("Gemm", (0, 1, 2)),
    "Gelu": _Like("Identity"),
    "GreaterOrEqual": _Like("Greater", (0, 1), _BOOL),
    "GroupNormalization": _Like("Identity"),
    "LessOrEqual": _Like("Less", (0, 1), _BOOL),
    "MatMulIntegerToFloat": _Like("MatMul", (0, 1), _FLOAT),
    "MeanVarianceNormalization": _Like("Identity"),
    "QGemm": _Like("Gemm", (0, 3), 8),
    "QLinearAdd": _Like("Add", (0, 3)),
    "QLinearAveragePool": _Like("AveragePool"),
    "QLinearConcat": _Like("Concat", slice(2, None, 3), 2),
    "QLinearConv": _Like("Conv", (0, 3), 7),
    "QLinearGlobalAveragePool": _Like("GlobalAveragePool"),
    "QLinearLeakyRelu": _Like("Identity"),
    "QLinearMul": _Like("Mul", (0, 3)),
    "QLinearSigmoid": _Like("Identity"),
    "QLinearSoftmax": _Like("Identity"),
    "QuantizeLinear": _Like("Identity", dtype=2),
    "QuickGelu": _Like("Identity"),
    "RotaryEmbedding": _Like("Identity"),
    "SimplifiedLayerNormalization": _Like("Identity"),
}


def infer_types_by_rule(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types | None:
    """The types of the results, None for an operator (or a variant of it) that is not known here."""
    if _flag(node, "channels_last"):
        return None
    rule = _RULES.get(node.op_type)
    if rule is not None:
        return rule(node, operands)
    like = _TABLE.get(node.op_type)
    return None if like is None else _infer_like(node, operands, like)


def infer_types_by_value(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types | None:
    """The types of results whose shape follows from constants that ONNX's own inference does not look at."""
    rule = None if node.domain else {"Compress": _compress, "Range": _range}.get(node.op_type)
    return None if rule is None else rule(node, operands)


def _range(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types | None:
    """Vectors of one element may stand for the scalars, as in the body that ONNX gives AffineGrid."""
    arrays = [operand.array for operand in operands if operand is not None and operand.array is not None]
    if len(arrays) < 3 or any(array.size != 1 for array in arrays) or not any(a.ndim for a in arrays):
        return None
    start, limit, delta = (array.reshape(()) for array in arrays)
    count = max(0, math.ceil(float(limit - start) / float(delta))) if delta else 0
    return [Value("result", TensorType(arrays[0].dtype, (count,))).type_proto]


def _compress(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types | None:
    data, condition = operands
    assert data is not None
    assert condition is not None
    if condition.array is None:
        return None
    axes = [a.i for a in node.attribute if a.name == "axis"]
    axis = axes[0] % len(data.shape) if axes else 0
    shape = list(data.shape) if axes else [int(np.prod(data.shape))]
    shape[axis] = int(np.count_nonzero(condition.array[: shape[axis]]))
    return [Value("result", TensorType(data.dtype, tuple(shape))).type_proto]


def is_stray(op_type: str) -> bool:
    """Whether an operator of the default domain is one of onnxruntime's own, which its optimizer writes there."""
    return not onnx.defs.has(op_type) and (op_type in _TABLE or op_type in _RULES)


def has_rule(domain: str, op_type: str) -> bool:
    """Whether this module knows the operator; some of onnxruntime's carry ONNX's default domain."""
    return domain in ("", "com.microsoft") and (op_type in _TABLE or op_type in _RULES)


def _infer_like(node: onnx.NodeProto, operands: Sequence[Value | None], like: _Like) -> Types:
    places = range(len(operands))[like.places] if isinstance(like.places, slice) else like.places
    taken = [operands[place] for place in places if place < len(operands)]
    return _infer_standard(like.op, node, taken, _result_dtype(operands, like.dtype))


def _result_dtype(operands: Sequence[Value | None], dtype: int | np.dtype) -> np.dtype:
    if isinstance(dtype, np.dtype):
        return dtype
    operand = operands[dtype] if dtype < len(operands) else None
    return _FLOAT if operand is None else operand.dtype


def _infer_standard(
    op: str, node: onnx.NodeProto, operands: Sequence[Value | None], dtype: np.dtype
) -> Types:
    """What ONNX infers for `op` with the attributes of `node` that `op` has; the results get `dtype`.

    The operands are shown as float32, which every operator takes.
    """
    schema = _STANDARD.schema("", op)
    assert schema is not None
    names = [f"operand{index}" if operand else "" for index, operand in enumerate(operands)]
    results = [name if index < len(schema.outputs) else "" for index, name in enumerate(node.output)]
    standard = onnx.helper.make_node(op, names, results)
    standard.attribute.extend(a for a in node.attribute if a.name in schema.attributes)
    floats = [o and Value(o.name, TensorType(_FLOAT, o.shape)) for o in operands]
    types = infer_types(standard, floats, schema, _STANDARD)
    for type_proto in types:
        if type_proto is not None:
            type_proto.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return types


def _fused_matmul(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types | None:
    if _flag(node, "transBatchA") or _flag(node, "transBatchB"):
        return None
    left, right = operands[:2]
    assert left is not None
    assert right is not None
    sides = [
        _transposed(left) if _flag(node, "transA") else left,
        _transposed(right) if _flag(node, "transB") else right,
    ]
    return _infer_standard("MatMul", node, sides, left.dtype)


def _packed_matmul(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types | None:
    """[..., K] times packed weights with N rows, [..., N]."""
    data = operands[0]
    assert data is not None
    columns = next((attribute.i for attribute in node.attribute if attribute.name == "N"), 0)
    return [Value("result", TensorType(data.dtype, (*data.shape[:-1], columns))).type_proto]


def _transposed(value: Value) -> Value:
    *batch, rows, columns = value.shape
    return Value(value.name, TensorType(value.dtype, (*batch, columns, rows)))


def _skip_normalization(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types | None:
    """Results: the normalised sum, mean and deviation (for training), the sum itself."""
    data = operands[0]
    assert data is not None
    statistics = Value("statistics", TensorType(data.dtype, (*data.shape[:-1], 1)))
    results = [data.type_proto, statistics.type_proto, statistics.type_proto, data.type_proto]
    return list(results[: len(node.output)])


def _attention(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types | None:
    """Packed self-attention, [batch, sequence, input] to [batch, sequence, a third of the weights' columns]."""
    data, weights = operands[:2]
    assert data is not None
    assert weights is not None
    if len(node.output) > 1 or any(attribute.name == "qkv_hidden_sizes" for attribute in node.attribute):
        return None
    return [Value("result", TensorType(data.dtype, (*data.shape[:2], weights.shape[1] // 3))).type_proto]


def _multi_head_attention(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types | None:
    """[batch, sequence, width] of the values, and the keys and values of past and present in heads."""
    query, key, value, *_ = operands
    if query is None or key is None or value is None or len(query.shape) != 3:
        return None
    past = operands[6] if len(operands) > 6 else None
    heads = max(1, next((attribute.i for attribute in node.attribute if attribute.name == "num_heads"), 1))
    (batch, length, _), before = query.shape, past.shape[2] if past else 0
    sizes = [x.shape[3] if len(x.shape) == 4 else x.shape[2] // heads for x in (key, value)]
    total = before + (key.shape[2] if len(key.shape) == 4 else key.shape[1])
    shapes = [(batch, length, heads * sizes[1]), *((batch, heads, total, size) for size in sizes)]
    results = [Value("result", TensorType(query.dtype, shape)).type_proto for shape in shapes]
    return list(results[: len(node.output)])


def _group_query_attention(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types | None:
    """[batch, length, width] of the queries, and the caches, which hold the whole length or as much as the past."""
    query, key, _, past, _, _, total = (*operands, *[None] * 7)[:7]
    counts = {a.name: a.i for a in node.attribute}
    heads, of_keys = counts.get("num_heads", 1), counts.get("kv_num_heads", 1)
    if query is None or total is None or total.array is None or total.array.size != 1:
        return None
    (batch, length, width), packed = query.shape, 0 if key else 2 * of_keys
    size = width // max(heads + packed, 1)
    rows = max(int(total.array.reshape(())), past.shape[2] if past else 0)
    shapes = [(batch, length, heads * size), *[(batch, of_keys, rows, size)] * 2]
    results = [Value("result", TensorType(query.dtype, shape)).type_proto for shape in shapes]
    return list(results[: len(node.output)])


def _embed_layer_normalization(node: onnx.NodeProto, operands: Sequence[Value | None]) -> Types:
    """Results: the normalised sum, the length of each row, the sum itself."""
    ids, _, words, *_ = operands
    assert ids is not None
    assert words is not None
    rows = Value("rows", TensorType(words.dtype, (*ids.shape, words.shape[1]))).type_proto
    lengths = Value("lengths", TensorType(np.dtype(np.int32), ids.shape[:1])).type_proto
    results: Types = [rows, lengths, rows]
    return results[: len(node.output)]


_RULES: dict[str, Callable[[onnx.NodeProto, Sequence[Value | None]], Types | None]] = {
    "Attention": _attention,
    "EmbedLayerNormalization": _embed_layer_normalization,
    "FusedMatMul": _fused_matmul,
    "GroupQueryAttention": _group_query_attention,
    "MatMulNBits": _packed_matmul,
    "MultiHeadAttention": _multi_head_attention,
    "SkipLayerNormalization": _skip_normalization,
    "SkipSimplifiedLayerNormalization": _skip_normalization,
    "TransposeMatMul": _fused_matmul,
}


def _flag(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)
