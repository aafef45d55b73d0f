"""What must be uploaded again: the chunks of a module that the module of a related model does not have.

    python benchmarks/reuse.py [--only a,b] [--write]

Each classifier of networks.py is compiled as it is, with a new head (other numbers, for as many classes and for a
tenth of them), and under a limit of a third of what it takes. It fails where a new head needs more chunks than the
head fills, those of code and two more, or where another limit needs a chunk that holds weights alone. --write puts the
table into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import copy
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import networks
import numpy as np
import onnx
from onnx import numpy_helper
from run import write
from tables import table

import tosaic
from tosaic import driver
from tosaic.options import CompileOptions
from tosaic.plan import Upload, plan_uploads

MIB = 2**20
CLASSIFIERS = ("mobilenet_v2", "efficientnet_lite0", "resnet18", "vit_tiny", "keyword_spotting")
"""Networks whose last layer is one of float32."""
HEADERS = (
    "model", "module chunks", "weights MiB", "of it gaps", "changed", "head bytes", "chunks to upload", "bytes",
    "chunks of weights alone", "M cycles",
)  # fmt: skip


def with_new_head(model: onnx.ModelProto, old: int, new: int) -> tuple[onnx.ModelProto, int]:
    """The same network for `new` instead of `old` classes, other numbers in its last layer; and the bytes of these.

    The last layer is where the number of classes occurs.
    """
    changed = copy.deepcopy(model)
    random = np.random.default_rng(1)
    size = 0
    for tensor in changed.graph.initializer:
        if old not in tensor.dims:
            continue
        shape = [new if dim == old else dim for dim in tensor.dims]
        values = random.standard_normal(shape).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        size += values.nbytes
    del changed.graph.value_info[:]
    changed.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(changed), size


def rows(name: str, folder: Path) -> Iterator[Sequence[str]]:
    model = networks.NETWORKS[name]()
    classes = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    compilation = driver.compile_to_canister(model, CompileOptions())
    module = compilation.canister.module
    gaps = 1 - sum(len(segment.data) for segment in module.weights) / module.weight_bytes
    before = driver.write_artifact(compilation, folder / "before.tosaic").manifest
    have = {entry["sha256"] for entry in before["chunks"]}
    more = sum("code" in entry["holds"] for entry in before["chunks"]) + 2
    start = [name, str(len(before["chunks"])), f"{module.weight_bytes / MIB:.2f}", f"{gaps:.1%}"]
    yield [*start, "nothing is there", "", *_cells(plan_uploads(before).missing)]
    for count in (classes, max(classes // 10, 2)):
        changed, size = with_new_head(model, classes, count)
        after = tosaic.compile_model(changed, folder / "after.tosaic").manifest
        missing = plan_uploads(after, have).missing
        _check(len(missing) <= math.ceil(size / MIB) + more, f"{name}: a new head needs too much")
        yield [*[""] * 4, f"a new head of {count} classes", f"{size:,}", *_cells(missing)]
    limit = before["total_predicted"] // 3
    after = tosaic.compile_model(model, folder / "after.tosaic", limit_instructions=limit).manifest
    missing = plan_uploads(after, have).missing
    _check(all("code" in upload.holds for upload in missing), f"{name}: weights depend on the limit")
    yield [*[""] * 4, f"a limit that makes {len(after['segments'])} segments", "", *_cells(missing)]


def _cells(uploads: Sequence[Upload]) -> list[str]:
    weights = sum(upload.holds == "weights" for upload in uploads)
    return [
        str(len(uploads)),
        f"{sum(upload.bytes for upload in uploads):,}",
        str(weights),
        f"{sum(upload.cycles for upload in uploads) / 1e6:,.0f}",
    ]


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(otherwise)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of networks, comma-separated")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    given = parser.parse_args()
    chosen = list(filter(None, given.only.split(","))) or CLASSIFIERS
    found: list[Sequence[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            found += rows(name, Path(folder))
    text = table(HEADERS, found)
    print(text)
    if given.write:
        write(text, "uploads", "python benchmarks/reuse.py --write")


if __name__ == "__main__":
    main()
