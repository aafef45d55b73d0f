"""Operators of ai.onnx.ml that prepare features: scaling, filling in, encoding. Numbers only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tosaic_passes.onnx_to_tosa.class_scores import ML, samples
from tosaic_passes.onnx_to_tosa.context import LoweringContext
from tosaic_passes.onnx_to_tosa.dtypes import FLOAT32, INT32, is_float
from tosaic_passes.onnx_to_tosa.indexing import from_front, take
from tosaic_passes.onnx_to_tosa.registry import lowering
from tosaic_passes.onnx_to_tosa.tensor import Tensor

DENSE_KEYS = 4
"""Integer keys are looked up in a table of all numbers between them if that has at most so many times their number."""


@lowering("Scaler", domain=ML)
def scaler(ctx: LoweringContext, x: Tensor, *, offset: Sequence[float], scale: Sequence[float]) -> Tensor:
    """(x - offset) * scale in float32."""
    centred = ctx.sub(ctx.cast(x, FLOAT32), np.array(offset, np.float32))
    return ctx.mul(centred, np.array(scale, np.float32))


@lowering("Normalizer", domain=ML)
def normalizer(ctx: LoweringContext, x: Tensor, *, norm: str = "MAX") -> Tensor:
    """x divided by the maximum, the sum of sizes or the root of the sum of squares of its row, if that is not 0."""
    values = ctx.cast(x, FLOAT32)
    axis = [x.rank - 1]
    if norm == "MAX":
        size = ctx.reduce("reduce_max", values, axis)
    elif norm == "L1":
        size = ctx.reduce("reduce_sum", ctx.abs(values), axis)
    else:
        size = ctx.sqrt(ctx.reduce("reduce_sum", ctx.mul(values, values), axis))
    return ctx.div(values, ctx.select(ctx.equal(size, 0.0), 1.0, size))


@lowering("Binarizer", domain=ML)
def binarizer(ctx: LoweringContext, x: Tensor, *, threshold: float = 0.0) -> Tensor:
    """1 where x is above the threshold, else 0: `tosa.greater`."""
    return ctx.cast(ctx.greater(ctx.cast(x, FLOAT32), threshold), x.dtype)


@lowering("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(ctx: LoweringContext, x: Tensor, indices: Tensor) -> Tensor:
    """The columns at some indices: `tosa.gather`."""
    rows = ctx.reshape(x, (1, x.size)) if x.rank == 1 else x
    positions = from_front(ctx, ctx.reshape(indices, (indices.size,)), rows.shape[-1])
    return take(ctx, rows, positions, rows.rank - 1)


@lowering("FeatureVectorizer", domain=ML)
def feature_vectorizer(ctx: LoweringContext, *x: Tensor, inputdimensions: Sequence[int] = ()) -> Tensor:
    """The operands side by side in float32, as many columns of each as `inputdimensions` says."""
    rows = [samples(ctx, part) for part in x]
    if any(part.shape[1] != size for part, size in zip(rows, inputdimensions)):
        ctx.fail("operands with other widths than inputdimensions says are not supported")
    return ctx.concat(rows, 1)


@lowering("Imputer", domain=ML)
def imputer(
    ctx: LoweringContext,
    x: Tensor,
    *,
    imputed_value_floats: Sequence[float] = (),
    imputed_value_int64s: Sequence[int] = (),
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Tensor:
    """`tosa.select` of a value for each column where x is the one that stands for nothing (a NaN, say)."""
    if not is_float(x.dtype):
        filled = ctx.constant(np.array(imputed_value_int64s, np.int64))
        return ctx.select(ctx.equal(x, replaced_value_int64), filled, x)
    is_missing = (
        ctx.logical_not(ctx.equal(x, x))
        if np.isnan(replaced_value_float)
        else ctx.equal(x, replaced_value_float)
    )
    return ctx.select(is_missing, ctx.constant(np.array(imputed_value_floats, np.float32)), x)


@lowering("OneHotEncoder", domain=ML)
def one_hot_encoder(ctx: LoweringContext, x: Tensor, *, cats_int64s: Sequence[int], zeros: int = 1) -> Tensor:
    """x compared with each category (`tosa.equal`); one that is none of them gives zeros, with `zeros=0` too."""
    numbers = ctx.reshape(ctx.cast(x, INT32), (*x.shape, 1))
    return ctx.cast(ctx.equal(numbers, ctx.constant(np.array(cats_int64s, np.int64))), FLOAT32)


@lowering("LabelEncoder", domain=ML, since=2)
def label_encoder(
    ctx: LoweringContext,
    x: Tensor,
    *,
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    keys_floats: Sequence[float] = (),
    keys_int64s: Sequence[int] = (),
    values_floats: Sequence[float] = (),
    values_int64s: Sequence[int] = (),
) -> Tensor:
    """Numbers for numbers: a table (`tosa.gather`) where the keys are close integers, else each key compared."""
    keys = _given(ctx, None, (keys_int64s, np.int64), (keys_floats, np.float32))
    values = _given(ctx, None, (values_int64s, np.int64), (values_floats, np.float32))
    default = np.asarray(default_float if is_float(values.dtype) else default_int64, values.dtype)
    return _encoded(ctx, x, keys, values, default)


@lowering("LabelEncoder", domain=ML, since=4)
def label_encoder_of_tensors(
    ctx: LoweringContext,
    x: Tensor,
    *,
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    default_tensor: np.ndarray | None = None,
    keys_floats: Sequence[float] = (),
    keys_int64s: Sequence[int] = (),
    keys_tensor: np.ndarray | None = None,
    values_floats: Sequence[float] = (),
    values_int64s: Sequence[int] = (),
    values_tensor: np.ndarray | None = None,
) -> Tensor:
    """As opset 2, with a key for NaN."""
    keys = _given(ctx, keys_tensor, (keys_int64s, np.int64), (keys_floats, np.float32))
    values = _given(ctx, values_tensor, (values_int64s, np.int64), (values_floats, np.float32))
    default = np.asarray(default_float if is_float(values.dtype) else default_int64, values.dtype)
    if default_tensor is not None:
        default = np.asarray(default_tensor).reshape(())
    return _encoded(ctx, x, keys, values, default, has_nan=bool(np.isnan(keys).any()))


def _encoded(
    ctx: LoweringContext,
    x: Tensor,
    keys: np.ndarray,
    values: np.ndarray,
    default: np.ndarray,
    has_nan: bool = False,
) -> Tensor:
    """The value of the first key that is equal, else the default; with `has_nan` NaN is equal to NaN."""
    if len(keys) != len(values) or is_float(x.dtype) != is_float(keys.dtype):
        ctx.fail(
            f"{len(keys)} keys of {keys.dtype} for {len(values)} values and {x.dtype} operands are not supported"
        )
    unique, first = np.unique(keys, return_index=True)
    if not is_float(x.dtype) and int(unique[-1]) - int(unique[0]) < DENSE_KEYS * len(keys):
        return _from_table(ctx, x, unique, values[first], default)
    column = ctx.reshape(x, (x.size, 1))
    found = ctx.equal(column, ctx.constant(keys.reshape(1, -1)))
    if has_nan:
        is_nan = ctx.logical_not(ctx.equal(column, column))
        found = ctx.logical_or(found, ctx.logical_and(is_nan, ctx.constant(np.isnan(keys).reshape(1, -1))))
    missing = ctx.logical_not(ctx.reduce("reduce_any", found, [1]))
    places = ctx.argmax(ctx.cast(ctx.concat([found, missing], 1), FLOAT32), 1)
    table = ctx.constant(np.append(values, default))
    taken = ctx.gather(ctx.reshape(table, (1, table.size, 1)), ctx.reshape(places, (1, x.size)))
    return ctx.reshape(taken, x.shape)


def _given(
    ctx: LoweringContext, tensor: np.ndarray | None, *lists: tuple[Sequence[float], type]
) -> np.ndarray:
    """The keys or the values, which stand in one of several attributes."""
    if tensor is not None:
        return np.asarray(tensor).reshape(-1)
    for numbers, dtype in lists:
        if len(numbers):
            return np.array(numbers, dtype)
    ctx.fail("keys and values that are no numbers are not supported", "encode strings before the model")


def _from_table(
    ctx: LoweringContext, x: Tensor, keys: np.ndarray, values: np.ndarray, default: np.ndarray
) -> Tensor:
    """The values of all integers from the least to the greatest key, and after them the default."""
    least, greatest = int(keys[0]), int(keys[-1])
    table = np.full(greatest - least + 2, default, values.dtype)
    table[keys.astype(np.int64) - least] = values
    numbers = ctx.reshape(x, (1, x.size))
    is_between = ctx.logical_and(ctx.greater_equal(numbers, least), ctx.greater_equal(greatest, numbers))
    places = ctx.select(is_between, ctx.sub(numbers, least), greatest - least + 1)
    taken = ctx.gather(ctx.reshape(ctx.constant(table), (1, table.size, 1)), ctx.cast(places, INT32))
    return ctx.reshape(taken, x.shape)
