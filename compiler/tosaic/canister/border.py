"""Tensors at the canister's border: arguments copied from the call, results appended to the reply.

The border keeps the ONNX dtypes. Where the kernels work on another element type a loop converts the tensor in place:
from the front where elements get narrower, from the back where they get wider. An integer argument that does not fit
refuses the call; uint64 is held as uint32; float64 is rounded to float32.
"""

from __future__ import annotations

from tosaic.canister.entry import Entry, Place
from tosaic.canister.narrow_floats import NARROW_FLOATS, POWERS_OF_TWO, narrow, widen
from tosaic.errors import TosaicError
from tosaic.wasm.function import Function
from tosaic.wasm.program import BorderTensor

_SAME = {
    ("float32", "f32"), ("float16", "f16"), ("bfloat16", "bf16"), ("float8_e4m3fn", "f8E4M3FN"),
    ("float8_e5m2", "f8E5M2"), ("int8", "i8"), ("uint8", "i8"), ("int16", "i16"), ("uint16", "i16"),
    ("int32", "i32"), ("uint32", "i32"), ("int64", "i64"), ("uint64", "i64"), ("bool", "i1"), ("bool", "i8"),
    ("int4", "i8"), ("uint4", "i8"), ("int2", "i8"), ("uint2", "i8"), ("int64", "i48"),
}  # fmt: skip
"""Pairs of border dtype and element type that are the same bytes."""

_SMALL = {
    "bool": (0, 1), "int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3), "float4_e2m1fn": (0, 15),
}  # fmt: skip
"""The least and the largest value of dtypes that are narrower than the byte that carries them."""

# Integers of any width pass through an i64: (bytes, is it signed?) of what is loaded and stored.
_INTEGERS = {
    "bool": (1, False), "int8": (1, True), "int16": (2, True), "int32": (4, True), "int64": (8, True),
    "uint8": (1, False), "uint16": (2, False), "uint32": (4, False), "uint64": (8, False),
    "i1": (1, False), "i8": (1, True), "i16": (2, True), "i32": (4, True), "i64": (8, True),
}  # fmt: skip


def border_place(tensor: BorderTensor) -> Place:
    """The bytes of the tensor as callers see it."""
    return Place(tensor.address, tensor.border_bytes)


def memory_place(tensor: BorderTensor) -> Place:
    """The bytes of the tensor as the kernels see it."""
    return Place(tensor.address, tensor.memory_bytes)


def copy_argument(entry: Entry, tensor: BorderTensor, offset: int) -> None:
    """Copy the tensor that begins at this offset of the argument to its place."""
    place = border_place(tensor)
    entry.system("msg_arg_data_copy", place.address, offset, place.size, size=place.size, writes=[place])


def convert_argument(entry: Entry, tensor: BorderTensor, misfit: Place) -> None:
    """Convert a tensor that lies there as callers see it; `misfit` is the text that refuses a value."""
    if not tensor.size:
        return
    if tensor.dtype in _SMALL:
        _refuse_out_of_range(entry, tensor, misfit)
    if tensor.element == "i48":
        _refuse_beyond_48_bits(entry, tensor, misfit)
    if (tensor.dtype, tensor.element) not in _SAME:
        _convert(entry, tensor, tensor.dtype, tensor.element, misfit)


def convert_result(entry: Entry, tensor: BorderTensor) -> None:
    """Convert the tensor in its place to what callers see."""
    if tensor.size and (tensor.dtype, tensor.element) not in _SAME:
        _convert(entry, tensor, tensor.element, tensor.dtype, None)


def _refuse_out_of_range(entry: Entry, tensor: BorderTensor, misfit: Place) -> None:
    """A value is in range if (value - least) has no bits above those of the range, whose size is a power of 2."""
    least, largest = _SMALL[tensor.dtype]
    f = entry.function
    bits = f.local("i32")
    f.i32(0)
    f.set(bits)
    with f.counted(tensor.size) as index:
        f.get(index)
        f.memory("i32.load8_s" if least < 0 else "i32.load8_u", tensor.address)
        f.i32(least)
        f.op("i32.sub")
        f.get(bits)
        f.op("i32.or")
        f.set(bits)
    f.get(bits)
    f.i32(~(largest - least))
    f.op("i32.and")
    f.release(bits)
    entry.reads |= border_place(tensor).pages
    entry.refuse_if(misfit)


def _refuse_beyond_48_bits(entry: Entry, tensor: BorderTensor, misfit: Place) -> None:
    """An i48 lies sign-extended in 8 bytes: (value + 2**47) has no bits above the lower 48."""
    f = entry.function
    bits = f.local("i64")
    f.i64(0)
    f.set(bits)
    with f.counted(tensor.size) as index:
        f.get(index)
        f.i32(8)
        f.op("i32.mul")
        f.memory("i64.load", tensor.address)
        f.i64(1 << 47)
        f.op("i64.add")
        f.get(bits)
        f.op("i64.or")
        f.set(bits)
    f.get(bits)
    f.i64(48)
    f.op("i64.shr_u")
    f.i64(0)
    f.op("i64.ne")
    f.release(bits)
    entry.reads |= border_place(tensor).pages
    entry.refuse_if(misfit)


def _convert(entry: Entry, tensor: BorderTensor, source: str, target: str, misfit: Place | None) -> None:
    """A loop over all elements, from the back when they get wider."""
    f = entry.function
    places = [border_place(tensor), memory_place(tensor)]
    from_place, to_place = places if misfit else reversed(places)
    from_bytes, to_bytes = from_place.size // tensor.size, to_place.size // tensor.size
    value, misfits = f.local("i64"), f.local("i64")
    f.i64(0)
    f.set(misfits)
    with f.counted(tensor.size) as index:
        for width in (to_bytes, from_bytes):
            _push_position(entry, index, tensor.size, backwards=to_bytes > from_bytes)
            f.i32(width)
            f.op("i32.mul")
        if {source, target} == {"float64", "f32"}:
            _convert_float(entry, tensor.address, source)
        elif tensor.dtype in (*NARROW_FLOATS, POWERS_OF_TWO) and tensor.element == "f32":
            _convert_narrow_float(entry, tensor, source)
        else:
            _convert_integer(entry, tensor, source, target, value, misfits if misfit else None)
    entry.reads |= from_place.pages
    entry.writes |= to_place.pages
    if misfit:
        f.get(misfits)
        f.i64(0)
        f.op("i64.ne")
        entry.refuse_if(misfit)
    f.release(value, misfits)


def _push_position(entry: Entry, index: int, size: int, backwards: bool) -> None:
    f = entry.function
    if backwards:
        f.i32(size - 1)
    f.get(index)
    if backwards:
        f.op("i32.sub")


def _convert_float(entry: Entry, address: int, source: str) -> None:
    load, convert, store = (
        ("f64.load", "f32.demote_f64", "f32.store")
        if source == "float64"
        else ("f32.load", "f64.promote_f32", "f64.store")
    )
    entry.function.memory(load, address)
    entry.function.op(convert)
    entry.function.memory(store, address)


def _convert_narrow_float(entry: Entry, tensor: BorderTensor, source: str) -> None:
    f = entry.function
    if source == tensor.dtype:
        f.memory("i32.load8_u", tensor.address)
        widen(f, tensor.dtype)
        f.memory("f32.store", tensor.address)
    else:
        f.memory("f32.load", tensor.address)
        narrow(f, tensor.dtype)
        f.memory("i32.store8", tensor.address)


def _convert_integer(
    entry: Entry, tensor: BorderTensor, source: str, target: str, value: int, misfits: int | None
) -> None:
    """Collects in `misfits` the bits that the narrower element loses."""
    from_bytes, from_signed = _integer(tensor, source)
    to_bytes, to_signed = _integer(tensor, target)
    f = entry.function
    f.memory(_load(from_bytes, from_signed), tensor.address)
    f.set(value)
    if misfits is not None and to_bytes < from_bytes:
        f.get(misfits)
        f.get(value)
        f.get(value)
        _truncate(f, to_bytes, to_signed)
        f.op("i64.xor")
        f.op("i64.or")
        f.set(misfits)
    f.get(value)
    f.memory("i64.store" if to_bytes == 8 else f"i64.store{8 * to_bytes}", tensor.address)


def _integer(tensor: BorderTensor, kind: str) -> tuple[int, bool]:
    """Bytes and signedness of a dtype or element type; the elements of an unsigned tensor are unsigned."""
    if kind not in _INTEGERS:
        raise TosaicError(
            f"tensor '{tensor.name}' is {tensor.dtype} at the border and {tensor.element} inside, between which there "
            "is no conversion",
            "cast it in the model",
        )
    size, signed = _INTEGERS[kind]
    return size, signed and not tensor.dtype.startswith("uint")


def _load(size: int, signed: bool) -> str:
    return "i64.load" if size == 8 else f"i64.load{8 * size}_{'s' if signed else 'u'}"


def _truncate(function: Function, size: int, signed: bool) -> None:
    """The i64 on the stack becomes what is left of it in `size` bytes."""
    if signed:
        function.op(f"i64.extend{8 * size}_s")
    else:
        function.i64((1 << 8 * size) - 1)
        function.op("i64.and")
