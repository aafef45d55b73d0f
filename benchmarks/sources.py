"""The models that are measured: the networks of networks.py, or those of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import networks
import numpy as np
import onnx
from onnx import helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

MOST_INDEX = 100
"""Random integer inputs are below this, so that they are indices of every table."""


@dataclass(frozen=True)
class Source:
    """A model file and the values of its inputs (name -> array), which are so often there as `batch` says."""

    path: Path
    inputs: dict[str, np.ndarray]
    batch: int = 1

    @property
    def name(self) -> str:
        return self.path.stem if self.batch == 1 else f"{self.path.stem} -b {self.batch}"

    def batched(self, batch: int) -> Source:
        """The model with so many times its inputs, one behind the other in the first dimension."""
        inputs = {name: np.concatenate([array] * batch) for name, array in self.inputs.items()}
        return replace(self, inputs=inputs, batch=batch)

    @property
    def digest(self) -> str:
        """The sha256 of the model with its external data and of its inputs, values, dtypes and shapes."""
        found = hashlib.sha256(self.path.read_bytes())
        for file in external_files(self.path):
            found.update(file.read_bytes())
        for name, array in self.inputs.items():
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def own_networks(folder: Path, chosen: Collection[str] = ()) -> Iterator[Source]:
    """The networks of networks.py, or those chosen, written to the folder one by one, with random inputs."""
    for name in filter(lambda name: not chosen or name in chosen, networks.NETWORKS):
        model = networks.NETWORKS[name]()
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        random = np.random.default_rng(0)
        yield Source(path, {entry.name: _random_values(entry, random) for entry in model.graph.input})


def given_models(folder: Path, chosen: Collection[str] = ()) -> Iterator[Source]:
    """NAME.onnx with NAME.inputs.npz, all or those chosen, by name."""
    for path in sorted(folder.glob("*.onnx")):
        if chosen and path.stem not in chosen:
            continue
        with np.load(path.with_suffix(".inputs.npz")) as stored:
            yield Source(path, {name: stored[name] for name in stored.files})


def external_files(model: Path) -> list[Path]:
    """The files beside the model that hold weights."""
    tensors = onnx.load(model, load_external_data=False).graph.initializer
    names = {ExternalDataInfo(tensor).location for tensor in tensors if uses_external_data(tensor)}
    return [model.parent / name for name in sorted(names)]


def _random_values(entry: onnx.ValueInfoProto, random: np.random.Generator) -> np.ndarray:
    shape = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    if dtype.kind in "iu":
        return random.integers(0, MOST_INDEX, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)
