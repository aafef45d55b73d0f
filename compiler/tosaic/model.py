"""A compiled model that runs here: its canister in the local replica, under the network's prices and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tosaic.artifact import folder
from tosaic.artifact.contents import CANISTER, upload_file
from tosaic.artifact.folder import Artifact, Content
from tosaic.canister import client
from tosaic.canister.parts import GET
from tosaic.errors import TosaicError
from tosaic.policy import Access
from tosaic.prices import PriceList
from tosaic.principals import ANONYMOUS
from tosaic.replica import InstalledCanister, Replica
from tosaic.replica.message import Message
from tosaic.replica.pocket_ic import PocketIcCanister
from tosaic.replica.system import QUERY
from tosaic.tensors.candid import TensorType
from tosaic.tensors.dtypes import dtype_of

WIRES = ("candid", "cbor")
"""How tensors travel to the canister and back."""

REPLICAS = ("local", "pocket-ic")
"""Where a canister runs."""


@dataclass(frozen=True)
class ExecutedMessage:
    """One message of a run: what it was predicted to take, what it took, and what it may take (instructions).

    `exact` is False where the prediction is an upper bound. `performance_counter` is what the canister itself read of
    the network's counter at the message's end; it keeps no readings of queries, and those of the first messages only.
    What page touches have cost, part of what was metered, is not known of a PocketIC server.
    """

    name: str
    predicted: int
    metered: int
    limit: int
    page_touch: int | None
    exact: bool = True
    performance_counter: int | None = None


@dataclass(frozen=True, eq=False)
class RunResult:
    """The outputs by their ONNX names, and what they cost.

    `total_performance_counter` is what the canister's own readings of the network's counter add up to. A PocketIC
    server charges cycles: `charged_cycles`, fees included.
    """

    outputs: Mapping[str, np.ndarray]
    messages: Sequence[ExecutedMessage]
    memory_bytes: int
    total_performance_counter: int
    charged_cycles: int | None = None

    @property
    def total_predicted(self) -> int:
        return sum(message.predicted for message in self.messages)

    @property
    def total_metered(self) -> int:
        return sum(message.metered for message in self.messages)

    @property
    def page_touch(self) -> int:
        """The instructions paid for touched pages, part of what was metered, as far as they are known."""
        return sum(message.page_touch or 0 for message in self.messages)


class Model:
    """A canister installed in a replica of its own. Runs follow each other on the same canister.

    `read` gives the files of the artifact that are uploaded after the installation; the first run does that. On the
    replica `pocket-ic` the canister runs on the server that POCKET_IC_BIN names.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        wasm: bytes,
        read: Callable[[str], Content],
        replica: str = "local",
    ) -> None:
        self.manifest = manifest
        self._read = read
        self._is_complete = not manifest["uploads"]
        self.inputs = [_tensor_type(entry) for entry in manifest["inputs"]]
        self.outputs = [_tensor_type(entry) for entry in manifest["outputs"]]
        self._prices = PriceList.load()
        self._canister: InstalledCanister | PocketIcCanister
        if replica not in REPLICAS:
            raise TosaicError(f"there is no replica '{replica}'", f"use one of {', '.join(REPLICAS)}")
        if replica == "pocket-ic":
            self._canister = PocketIcCanister(wasm, self._prices, manifest["memory_bytes"])
        else:
            self._canister = Replica(self._prices, update_limit=manifest["limit_instructions"]).install(wasm)
        self._caller = _caller(Access.parse(manifest["access"]))

    def run(self, inputs: Mapping[str, np.ndarray], wire: str = "candid") -> RunResult:
        """Call the canister with these inputs (ONNX name -> array of the ONNX dtype and shape).

        The call is `infer`, or with the wire `cbor` it is `infer_cbor`. Raises TosaicError for a wrong name, dtype or
        shape, for a canister without `infer_cbor`, and for a call that the canister rejects.
        """
        arrays = self._checked(inputs)
        predicted = self._predicted(wire)
        if not self._is_complete:
            self.upload_weights()
        before = self._charged_since(0)
        inference = self._infer(wire, arrays)
        counted = client.last_cost(self._canister, self._caller)
        return RunResult(
            outputs={output.name: value for output, value in zip(self.outputs, inference.outputs)},
            messages=self._executed(predicted, inference.messages, counted),
            memory_bytes=self._canister.memory_bytes,
            total_performance_counter=counted.instructions,
            charged_cycles=self._charged_since(before),
        )

    def upload_weights(self) -> Sequence[ExecutedMessage]:
        """Upload the chunks of the weights that the canister lacks.

        Raises TosaicError naming a chunk that was changed, or when the canister refuses one.
        """
        entries = self.manifest["uploads"]
        missing = client.missing_chunks(self._canister) if entries else []
        messages: list[Message] = []
        for number in missing:
            messages += client.put_chunk(
                self._canister, number, self._read(upload_file(entries[number]["sha256"]))
            )
        self._is_complete = True
        return [
            ExecutedMessage(e.name, entries[number]["predicted"], e.metered, e.limit, e.page_touch)
            for number, e in zip(missing, messages)
        ]

    def random_inputs(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Inputs of the right dtypes and shapes: normally distributed floats, whole numbers from 0 to 9, any bool."""
        generator = np.random.default_rng(seed)
        return {tensor.name: _random(generator, tensor) for tensor in self.inputs}

    def _charged_since(self, cycles: int | None) -> int | None:
        """What the canister has been charged after so many cycles, where somebody charges."""
        if cycles is None or isinstance(self._canister, InstalledCanister):
            return None
        return self._canister.charged_cycles - cycles

    def _checked(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        names = [tensor.name for tensor in self.inputs]
        for name in inputs:
            if name not in names:
                raise TosaicError(f"the model has no input '{name}'", f"its inputs are: {', '.join(names)}")
        missing = [name for name in names if name not in inputs]
        if missing:
            raise TosaicError(f"the input '{missing[0]}' is missing")
        return [_checked_tensor(tensor, np.asarray(inputs[tensor.name])) for tensor in self.inputs]

    def _predicted(self, wire: str) -> Sequence[Mapping[str, Any]]:
        """What the manifest says of the messages of a run."""
        if wire not in WIRES:
            raise TosaicError(f"there is no wire '{wire}'", f"use one of {', '.join(WIRES)}")
        if wire == "candid":
            return self.manifest["messages"]
        if self.manifest["cbor"] is None:
            raise TosaicError(
                "this canister has no infer_cbor: no message carries its tensors, or one would exceed the limit",
                "call it with the wire candid",
            )
        return self.manifest["cbor"]

    def _executed(
        self, predicted: Sequence[Mapping[str, Any]], executed: Sequence[Message], counted: client.Cost
    ) -> list[ExecutedMessage]:
        """What each message took; on PocketIC what the canister has read of the network's counter."""
        if isinstance(self._canister, InstalledCanister):
            return _compared(predicted, executed, counted.messages)
        return _counted(predicted, counted, self.manifest["limit_instructions"])

    def _infer(self, wire: str, arrays: Sequence[np.ndarray]) -> client.Inference:
        ends = self._canister, self.inputs, self.outputs, arrays
        if wire == "cbor":
            return client.infer_cbor(*ends, self._caller)
        return client.infer(*ends, self._prices, self._caller)


def _compared(
    predicted: Sequence[Mapping[str, Any]], executed: Sequence[Message], readings: Sequence[int]
) -> list[ExecutedMessage]:
    if len(predicted) != len(executed):
        raise RuntimeError(f"{len(predicted)} messages were predicted, {len(executed)} were executed")
    left = iter(readings)
    return [
        ExecutedMessage(
            p["name"],
            p["predicted"],
            e.metered,
            e.limit,
            e.page_touch,
            p["exact"],
            None if e.kind == QUERY else next(left, None),
        )
        for p, e in zip(predicted, executed)
    ]


def _counted(
    predicted: Sequence[Mapping[str, Any]], counted: client.Cost, limit: int
) -> list[ExecutedMessage]:
    """The update messages of an inference by their readings; those that the canister tells only in sum are one."""
    updates = [entry for entry in predicted if entry["name"] != GET]
    readings, entries = list(counted.messages), updates
    if rest := updates[len(readings) :]:
        total, exact = sum(entry["predicted"] for entry in rest), all(entry["exact"] for entry in rest)
        further = {"name": "further messages", "predicted": total, "exact": exact}
        entries = [*updates[: len(readings)], further]
        readings.append(counted.instructions - sum(readings))
    return [
        ExecutedMessage(entry["name"], entry["predicted"], reading, limit, None, entry["exact"], reading)
        for entry, reading in zip(entries, readings)
    ]


def load(artifact: str | Path | Artifact, replica: str = "local") -> Model:
    """The model in an artifact, every file checked. Raises TosaicError naming what was changed."""
    opened = folder.read(artifact.path if isinstance(artifact, Artifact) else artifact).of_kind(folder.MODEL)
    return Model(opened.manifest, opened.read_bytes(CANISTER), opened.read_bytes, replica)


def _caller(access: Access) -> bytes:
    """Someone who may infer; whoever runs a model here controls its canister."""
    return ANONYMOUS if access.everyone or access.controllers else access.principals[0]


def _tensor_type(entry: Mapping[str, Any]) -> TensorType:
    return TensorType(entry["dtype"], tuple(entry["shape"]), entry["name"])


def _checked_tensor(tensor: TensorType, array: np.ndarray) -> np.ndarray:
    if array.dtype.name != tensor.dtype:
        raise TosaicError(
            f"the input '{tensor.name}' has dtype {array.dtype.name}, the model takes {tensor.dtype}",
            f"convert it: array.astype('{tensor.dtype}')",
        )
    if array.shape != tensor.shape:
        raise TosaicError(
            f"the input '{tensor.name}' has shape {list(array.shape)}, the model takes {list(tensor.shape)}"
        )
    return array


def _random(generator: np.random.Generator, tensor: TensorType) -> np.ndarray:
    dtype = dtype_of(tensor.dtype)
    if dtype == np.bool_:
        return generator.integers(0, 2, tensor.shape).astype(dtype)
    if dtype.kind in "iu":
        return generator.integers(0, 10, tensor.shape).astype(dtype)
    return generator.standard_normal(tensor.shape).astype(dtype)
