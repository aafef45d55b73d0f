"""How the tensors of an inference are encoded in its argument and its reply: as Candid vectors, or as one blob of CBOR.

Either encoding is canonical, so everything that is not data is a constant: a prefix before each tensor. The argument
is compared with the prefixes, and only then its data are copied straight to the input buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tosaic.canister.blob import BLOB_HEADER
from tosaic.canister.border import border_place, copy_argument
from tosaic.canister.entry import Entry, Place, Region
from tosaic.tensors import candid, cbor
from tosaic.wasm.opcodes import leb128_unsigned
from tosaic.wasm.program import BorderTensor


@dataclass(frozen=True)
class Framing:
    """Tensors in the order in which they travel, and what stands before each; without tensors there is one prefix."""

    tensors: tuple[BorderTensor, ...]
    prefixes: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes of the message."""
        return sum(map(len, self.prefixes)) + sum(tensor.border_bytes for tensor in self.tensors)

    @property
    def offsets(self) -> list[int]:
        """Where in the message each prefix stands."""
        ends = accumulate(
            len(prefix) + tensor.border_bytes for prefix, tensor in zip(self.prefixes, self.tensors)
        )
        return [0, *ends][: len(self.prefixes)]


def candid_framing(tensors: Sequence[BorderTensor]) -> Framing:
    """A vector for each tensor, in the order of the model."""
    header = candid.header([tensor.dtype for tensor in tensors])
    lengths = [leb128_unsigned(tensor.size) for tensor in tensors]
    return Framing(tuple(tensors), (header + lengths[0], *lengths[1:]) if lengths else (header,))


def cbor_framing(tensors: Sequence[BorderTensor]) -> Framing:
    """One blob, which holds a map from the tensors' names to the tensors (`tosaic.tensors.cbor`)."""
    by_name = {tensor.name: tensor for tensor in tensors}
    names, prefixes = cbor.layout({name: (tensor.dtype, tensor.shape) for name, tensor in by_name.items()})
    item = Framing(tuple(by_name[name] for name in names), tuple(prefixes))
    blob = BLOB_HEADER + leb128_unsigned(item.size)
    return Framing(item.tensors, (blob + prefixes[0], *prefixes[1:]))


class Wire:
    """The encoding of the argument and the reply of the method `method`.

    `region` takes the constants of the reply and the scratch room, `cold` the texts that refuse an argument.
    """

    def __init__(
        self, method: str, expected: str, arguments: Framing, results: Framing, region: Region, cold: Region
    ) -> None:
        self.method = method
        self.arguments = arguments
        self.results = results
        self._scratch = region.room(max(map(len, arguments.prefixes)))
        self._replied = [region.constant(prefix) for prefix in results.prefixes]
        expected = f"{method} expects {expected}, encoded in {arguments.size} bytes"
        self._wrong_size = cold.constant(f"the argument has a wrong length: {expected}".encode())
        self._wrong_type = cold.constant(f"the argument has other types or lengths: {expected}".encode())

    @staticmethod
    def room(arguments: Framing, results: Framing) -> int:
        """Bytes of `region` that a wire takes at most."""
        constants = [max(arguments.prefixes, key=len), *results.prefixes]
        return sum(len(constant) + 8 for constant in constants)

    def check(self, entry: Entry) -> None:
        """Refuse an argument of another size, or with another byte where there are no data."""
        entry.system("msg_arg_data_size")
        entry.function.i32(self.arguments.size)
        entry.function.op("i32.ne")
        entry.refuse_if(self._wrong_size)
        for prefix, offset in zip(self.arguments.prefixes, self.arguments.offsets):
            place = Place(self._scratch.address, len(prefix))
            entry.system(
                "msg_arg_data_copy", place.address, offset, place.size, size=place.size, writes=[place]
            )
            entry.differs(place, prefix)
            entry.refuse_if(self._wrong_type)

    def copy(self, entry: Entry) -> None:
        """Copy the data of the argument into the input buffers."""
        framing = self.arguments
        for tensor, prefix, offset in zip(framing.tensors, framing.prefixes, framing.offsets):
            copy_argument(entry, tensor, offset + len(prefix))

    def append(self, entry: Entry) -> None:
        """Append the tensors of the results to the reply."""
        for i, prefix in enumerate(self._replied):
            entry.append(prefix)
            if i < len(self.results.tensors):
                entry.append(border_place(self.results.tensors[i]))


def candid_wire(
    method: str,
    inputs: Sequence[BorderTensor],
    arguments: Framing,
    results: Framing,
    control: Region,
    cold: Region,
) -> Wire:
    """The encoding of `infer`; inputs that come in parts are no arguments."""
    tensors = ", ".join(
        f"{t.name}: {candid.type_name(t.dtype)} of {t.size} ({t.dtype}{list(t.shape)})" for t in inputs
    )
    return Wire(method, f"the arguments ({tensors})", arguments, results, control, cold)


def cbor_wire(method: str, arguments: Framing, results: Framing, control: Region, cold: Region) -> Wire:
    """The encoding of `infer_cbor`.

    Its constants share the control region, whose page is touched anyway, if there is room for them.
    """
    region = control if control.left >= Wire.room(arguments, results) else cold
    tensors = ", ".join(f"{t.name}: {t.dtype}{list(t.shape)}" for t in arguments.tensors)
    expected = f"a blob with the canonical CBOR of a map of tensors ({tensors})"
    return Wire(method, expected, arguments, results, region, cold)
