"""Tensors at the canister's border: arguments copied from the call, results appended to the reply.

The border keeps the ONNX dtypes. Where the kernels work on another element type a loop converts the tensor in place:
from the front where elements get narrower, from the back where they get wider. An integer argument that does not fit
refuses the call; float64 is rounded to float32.
"""

from __future__ import annotations

from tosaic.canister.entry import Entry, Place
from tosaic.errors import TosaicError
from tosaic.wasm.program import BorderTensor

_SAME = {
    ("float32", "f32"), ("float16", "f16"), ("bfloat16", "bf16"), ("float8_e4m3fn", "f8E4M3FN"),
    ("float8_e5m2", "f8E5M2"), ("int8", "i8"), ("uint8", "i8"), ("int16", "i16"), ("uint16", "i16"),
    ("int32", "i32"), ("uint32", "i32"), ("int64", "i64"), ("uint64", "i64"), ("bool", "i1"), ("bool", "i8"),
}  # fmt: skip
_LOAD = {
    "int8": "i64.load8_s", "int16": "i64.load16_s", "int32": "i64.load32_s", "int64": "i64.load",
    "uint8": "i64.load8_u", "uint16": "i64.load16_u", "uint32": "i64.load32_u", "uint64": "i64.load",
    "bool": "i64.load8_u", "i1": "i64.load8_u", "i8": "i64.load8_s", "i16": "i64.load16_s",
    "i32": "i64.load32_s", "i64": "i64.load",
}  # fmt: skip
_STORE = {1: "i64.store8", 2: "i64.store16", 4: "i64.store32", 8: "i64.store"}
_EXTEND = {"i8": "i64.extend8_s", "i16": "i64.extend16_s", "i32": "i64.extend32_s"}


def border_place(tensor: BorderTensor) -> Place:
    """The bytes of the tensor as callers see it."""
    return Place(tensor.address, tensor.border_bytes)


def memory_place(tensor: BorderTensor) -> Place:
    """The bytes of the tensor as the kernels see it."""
    return Place(tensor.address, tensor.memory_bytes)


def read_argument(entry: Entry, tensor: BorderTensor, offset: int, misfit: Place) -> None:
    """Copy the tensor that begins at this offset of the argument to its place and convert it.

    `misfit` is the text that refuses a value that does not fit.
    """
    if not tensor.size:
        return
    place = border_place(tensor)
    entry.system("msg_arg_data_copy", place.address, offset, place.size, size=place.size, writes=[place])
    if tensor.dtype == "bool":
        _refuse_other_bools(entry, tensor, misfit)
    if (tensor.dtype, tensor.element) not in _SAME:
        _convert(entry, tensor, tensor.dtype, tensor.element, misfit)


def write_result(entry: Entry, tensor: BorderTensor) -> None:
    """Convert the tensor in its place to what callers see, and append it to the reply."""
    if not tensor.size:
        return
    if (tensor.dtype, tensor.element) not in _SAME:
        _convert(entry, tensor, tensor.element, tensor.dtype, None)
    entry.append(border_place(tensor))


def _refuse_other_bools(entry: Entry, tensor: BorderTensor, misfit: Place) -> None:
    f = entry.function
    bits = f.local("i32")
    f.i32(0)
    f.set(bits)
    with f.counted(tensor.size) as index:
        f.get(bits)
        f.get(index)
        f.memory("i32.load8_u", tensor.address)
        f.op("i32.or")
        f.set(bits)
    f.get(bits)
    f.i32(1)
    f.op("i32.gt_u")
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


def _convert_integer(
    entry: Entry, tensor: BorderTensor, source: str, target: str, value: int, misfits: int | None
) -> None:
    """Collects in `misfits` the bits that the narrower element loses."""
    if source not in _LOAD or target not in _LOAD:
        raise TosaicError(
            f"tensor '{tensor.name}' is {tensor.dtype} at the border and {tensor.element} inside, between which there "
            "is no conversion",
            "cast it in the model",
        )
    f = entry.function
    f.memory(_LOAD[source], tensor.address)
    f.set(value)
    if misfits is not None:
        f.get(misfits)
        f.get(value)
        f.get(value)
        if target in _EXTEND:
            f.op(_EXTEND[target])
        f.op("i64.xor")
        f.op("i64.or")
        f.set(misfits)
    f.get(value)
    width = tensor.border_bytes if misfits is None else tensor.memory_bytes
    f.memory(_STORE[width // tensor.size], tensor.address)
