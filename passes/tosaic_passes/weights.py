"""Constants of a program: MLIR attributes on one side, numpy arrays on the other.

The MLIR bindings cannot read a `dense_resource` back, so every module travels with the table that
maps its resource names to arrays. Arrays are not copied: the table may hold memory-mapped files.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Set

import ml_dtypes
import numpy as np
from torch_mlir import ir

from tosaic_passes.errors import TosaicError

INLINE_BYTES = 64
"""Up to this size a constant is written into the IR text, where a reader can see its values."""

_FLOATS = {
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "bf16": ml_dtypes.bfloat16,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn,
    "f8E5M2": ml_dtypes.float8_e5m2,
    "f8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "f8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "f8E8M0FNU": ml_dtypes.float8_e8m0fnu,
    "f4E2M1FN": ml_dtypes.float4_e2m1fn,
}
_DTYPES: dict[str, np.dtype] = {
    "i1": np.dtype(np.bool_),
    "i4": np.dtype(ml_dtypes.int4),
    "i2": np.dtype(ml_dtypes.int2),
    "ui4": np.dtype(ml_dtypes.uint4),
    "ui2": np.dtype(ml_dtypes.uint2),
    "i48": np.dtype(np.int64),
    "index": np.dtype(np.int64),
    **{name: np.dtype(kind) for name, kind in _FLOATS.items()},
    **{f"{sign}i{bits}": np.dtype(f"int{bits}") for sign in ("", "s") for bits in (8, 16, 32, 64)},
    **{f"ui{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
_ELEMENT_NAMES = {
    **{dtype: name for name, dtype in _DTYPES.items() if not name.startswith(("si", "i48", "index"))},
    np.dtype(np.complex64): "complex<f32>",
    np.dtype(np.complex128): "complex<f64>",
}
_RESOURCE = re.compile(r'^dense_resource<("(?:[^"\\]|\\.)*"|[^>]*)>')
_PRINTED_RESOURCE = re.compile(r'^ *("(?:[^"\\]|\\.)*"|[^\s:"]+): "0x([0-9A-Fa-f]+)"', re.MULTILINE)
_ALIGNMENT_DIGITS = 8
"""A printed blob starts with its alignment, a little-endian u32."""


def numpy_dtype(element_type: ir.Type) -> np.dtype:
    """The numpy dtype that holds one element of an MLIR type (i48 sits in int64)."""
    return _DTYPES[str(element_type)]


def element_type(dtype: np.dtype) -> ir.Type:
    """The MLIR type of one element; signed integers are signless, unsigned ones keep their sign (`ui8`)."""
    return ir.Type.parse(_ELEMENT_NAMES[np.dtype(dtype)])


def resource_name(attribute: ir.Attribute) -> str | None:
    """The key of a `dense_resource` attribute, None for any other attribute."""
    match = _RESOURCE.match(str(attribute)[:4096])
    return match[1].strip('"') if match else None


class WeightTable(Mapping[str, np.ndarray]):
    """Resource name -> array, each content stored once."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._by_content: dict[tuple, ir.Attribute] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def attribute(self, array: np.ndarray, hint: str = "weight", type: ir.Type | None = None) -> ir.Attribute:
        """An elements attribute with these values, for `tosa.const` or `onnx.Constant`.

        `type` is the element type where it differs from the array's own (signless for an unsigned
        array of the same width, say). Small arrays and splats become `dense<...>`, all others a
        resource named after `hint`; the same content gives the same attribute.
        Must be called with an MLIR context and location entered.
        """
        array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        element = type or element_type(array.dtype)
        if numpy_dtype_size(element) != array.dtype.itemsize:
            raise ValueError(f"{array.dtype} does not fit element type {element}")
        tensor = ir.RankedTensorType.get(array.shape, element)
        if stays_inline(array):
            return _inline(array, tensor)
        key = (str(tensor), hashlib.sha256(array.reshape(-1).view(np.uint8).data).digest())
        if key not in self._by_content:
            self._by_content[key] = self.resource(hint, array, tensor)
        return self._by_content[key]

    @classmethod
    def from_module(cls, module: ir.Module) -> WeightTable:
        """The table of a module that was read from text or bytecode and carries its resources with it.

        The bindings hand out no resource, but the printer does. A resource that was elided when the
        module was written is left out; asking for its values then raises TosaicError.
        """
        table = cls()
        attributes = _resource_attributes(module)
        contents = dict(_printed_resources(module)) if attributes else {}
        for attribute in attributes:
            name = resource_name(attribute)
            if name in contents:
                table._bind(name, contents[name], attribute)
        return table

    def array(self, attribute: ir.Attribute) -> np.ndarray:
        """The values of an elements attribute, inline or resource; not to be written to."""
        name = resource_name(attribute)
        if name is None:
            return _read_inline(attribute)
        if name not in self._arrays:
            raise TosaicError(
                f"the values of the constant '{name}' are not in the module",
                "write the module without eliding its resources",
            )
        array, tensor = self._arrays[name], ir.RankedTensorType(attribute.type)
        dtype = numpy_dtype(tensor.element_type)
        same = array.shape == tuple(tensor.shape) and array.dtype.itemsize == dtype.itemsize
        return array if same else array.reshape(-1).view(dtype).reshape(tensor.shape)

    def resource(self, name: str, array: np.ndarray, tensor: ir.Type) -> ir.Attribute:
        """A new `dense_resource` of this name; MLIR puts a number behind a name that the context has already."""
        raw = array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")
        attribute = ir.DenseResourceElementsAttr.get_from_buffer(raw, name, tensor)
        self._arrays[resource_name(attribute) or name] = array
        return attribute

    def retain(self, names: Set[str]) -> None:
        """Forget every array but those."""
        self._arrays = {name: array for name, array in self._arrays.items() if name in names}
        self._by_content = {
            key: attribute for key, attribute in self._by_content.items() if resource_name(attribute) in names
        }

    def add(self, name: str, array: np.ndarray) -> None:
        """Bind the array of a resource that the module names already."""
        self._arrays[name] = array

    def _bind(self, name: str, raw: bytes, attribute: ir.Attribute) -> None:
        tensor = ir.RankedTensorType(attribute.type)
        dtype = numpy_dtype(tensor.element_type)
        size = math.prod(tensor.shape) * dtype.itemsize
        if len(raw) != size:
            raise TosaicError(
                f"the constant '{name}' of type {tensor} has {len(raw)} bytes instead of {size}"
            )
        self._arrays[name] = np.frombuffer(raw, dtype).reshape(tensor.shape)
        self._by_content.setdefault((str(tensor), hashlib.sha256(raw).digest()), attribute)


def stays_inline(array: np.ndarray) -> bool:
    """Whether a constant is written into the IR text: it is small, or one value repeated."""
    return array.nbytes <= INLINE_BYTES or _is_splat(array)


def numpy_dtype_size(element: ir.Type) -> int:
    """Bytes of one element as numpy and `dense_resource` store it (i1 and i4 take a byte)."""
    return np.dtype(_DTYPES.get(str(element), np.dtype(np.uint8))).itemsize


def _resource_attributes(module: ir.Module) -> list[ir.Attribute]:
    """Every `dense_resource` that an op of the module carries."""
    attributes: list[ir.Attribute] = []

    def visit(operation: ir.Operation) -> ir.WalkResult:
        attributes.extend(attribute for _, attribute in operation.attributes.items())
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    elements = [a for a in attributes if not isinstance(a, ir.DenseElementsAttr)]
    return [attribute for attribute in elements if resource_name(attribute) is not None]


def _printed_resources(module: ir.Module) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every resource in the section that the printer puts behind the module."""
    text = module.operation.get_asm(
        assume_verified=True, large_elements_limit=0, large_resource_limit=1 << 62
    )
    for match in _PRINTED_RESOURCE.finditer(text, text.rfind("{-#")):
        yield match[1].strip('"'), bytes.fromhex(match[2][_ALIGNMENT_DIGITS:])


def _is_splat(array: np.ndarray) -> bool:
    if array.size == 0:
        return False
    raw = array.reshape(-1)
    raw = raw if array.dtype.isbuiltin == 1 else raw.view(f"u{array.dtype.itemsize}")
    raw = raw.view(f"u{raw.dtype.itemsize}") if raw.dtype.kind == "f" else raw  # -0.0 and NaN by their bits
    return bool(raw[0] == raw[-1]) and bool((raw == raw[0]).all())


def _inline(array: np.ndarray, tensor: ir.RankedTensorType) -> ir.Attribute:
    flat = array.reshape(-1)[:1] if _is_splat(array) else array.reshape(-1)
    if flat.size == 0:
        return ir.Attribute.parse(f"dense<> : {tensor}")
    if flat.dtype == np.bool_:
        words = ["true" if value else "false" for value in flat]
        text = words[0] if len(words) == 1 else str(array.tolist()).lower()
        return ir.Attribute.parse(f"dense<{text}> : {tensor}")
    return ir.Attribute.parse(f'dense<"0x{_dense_bytes(flat, tensor).hex()}"> : {tensor}')


def _dense_bytes(flat: np.ndarray, tensor: ir.RankedTensorType) -> bytes:
    """The elements as `dense` stores them: whole bytes, as many as the type needs (6 for i48)."""
    if str(tensor.element_type) == "i48":
        return flat.reshape(-1, 1).view(np.uint8)[:, :6].tobytes()
    return flat.tobytes()


def _read_inline(attribute: ir.Attribute) -> np.ndarray:
    tensor = ir.RankedTensorType(attribute.type)
    dtype = numpy_dtype(tensor.element_type)
    dense = ir.DenseElementsAttr(attribute)
    if dense.is_splat:
        return np.broadcast_to(_scalar(dense.get_splat_value(), dtype), tensor.shape)
    if 0 in tensor.shape:
        return np.empty(tensor.shape, dtype)
    if dtype.isbuiltin == 1 and str(tensor.element_type) != "i48":
        return np.array(dense).astype(dtype, copy=False).reshape(tensor.shape)
    text = str(attribute)
    values = _read_hex if text.startswith('dense<"0x') else _read_text
    return values(text[: text.rindex(" : ")], dtype).reshape(tensor.shape)


def _read_text(text: str, dtype: np.dtype) -> np.ndarray:
    """Values of a printed `dense<[...]>` that the bindings do not hand out; hex words are bit patterns."""
    words = re.findall(r"0x[0-9A-Fa-f]+|-?[0-9.]+(?:e[-+][0-9]+)?", text)
    bits = np.dtype(f"u{dtype.itemsize}")
    values = [
        np.array(int(w, 16), bits).view(dtype) if w[:2] == "0x" else np.array(float(w)).astype(dtype)
        for w in words
    ]
    return np.array(values, dtype)


def _read_hex(text: str, dtype: np.dtype) -> np.ndarray:
    """Values of a printed `dense<"0x...">`: the bytes of all elements, those of an i48 in threes of 16 bits."""
    raw = np.frombuffer(bytes.fromhex(text[len('dense<"0x') : text.rindex('"')]), np.uint8)
    if dtype != np.int64:
        return raw.view(dtype)
    words = raw.view("<u2").reshape(-1, 3).astype(np.int64)
    return words[:, 0] | words[:, 1] << 16 | words[:, 2].astype(np.int16).astype(np.int64) << 32


def _scalar(value: ir.Attribute, dtype: np.dtype) -> np.ndarray:
    return np.array(value.value, dtype)
