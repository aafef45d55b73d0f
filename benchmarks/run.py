"""What models cost as canisters: exact instruction counts, sizes, and the overhead of cutting.

    python benchmarks/run.py [--models DIR] [--prices FILE.json] [--only a,b] [--write]

Without --models the networks of networks.py are measured; DIR holds other models as NAME.onnx with NAME.inputs.npz.
Every model is compiled and run in the replica, so every count is metered; the run fails where a prediction differs.
--prices counts with another price list; --write puts the tables into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import networks
import numpy as np
import onnx

from tosaic.prices import OVERRIDE

README = Path(__file__).with_name("README.md")
MARKS = ("<!-- tables -->", "<!-- end of tables -->")
SPLIT_LIMITS = (5_000_000_000, 1_000_000_000)


@dataclass(frozen=True)
class Source:
    """A model file and the shapes and values of its inputs (name -> array)."""

    path: Path
    inputs: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class Figures:
    """What one compiled model takes; instructions without page touches."""

    macs: int
    instructions: int
    page_touch: int
    messages: int
    module_bytes: int
    arena_bytes: int
    compile_seconds: float
    compile_megabytes: int


def own_networks(folder: Path) -> Iterator[Source]:
    random = np.random.default_rng(0)
    for name, build in networks.NETWORKS.items():
        model = build()
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        yield Source(path, {model.graph.input[0].name: random.standard_normal(shape).astype(np.float32)})


def given_models(folder: Path) -> Iterator[Source]:
    for path in sorted(folder.glob("*.onnx")):
        with np.load(path.with_suffix(".inputs.npz")) as stored:
            yield Source(path, {name: stored[name] for name in stored.files})


def measure(source: Source, limit: int | None = None) -> Figures:
    """Compile and run one model; raises where a message does not cost what was predicted."""
    import tosaic

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        shapes = {name: list(array.shape) for name, array in source.inputs.items()}
        artifact = tosaic.compile_model(
            source.path, Path(folder) / "model.tosaic", input_shapes=shapes, limit_instructions=limit
        )
        seconds = time.perf_counter() - start
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        result = tosaic.load(artifact).run(source.inputs)
        for message in result.messages:
            if message.exact and message.predicted != message.metered:
                raise AssertionError(
                    f"{message.name}: {message.predicted:,} predicted, {message.metered:,} metered"
                )
        manifest = json.loads((Path(folder) / "model.tosaic" / "manifest.json").read_text())
        return Figures(
            macs=manifest["multiply_adds"],
            instructions=result.total_metered - result.page_touch,
            page_touch=result.page_touch,
            messages=len(result.messages),
            module_bytes=(Path(folder) / "model.tosaic" / "canister.wasm").stat().st_size,
            arena_bytes=manifest["arena_bytes"],
            compile_seconds=seconds,
            compile_megabytes=megabytes,
        )


def measured_apart(source: Source, limit: int | None = None) -> Figures:
    """`measure` in a process of its own, so that its peak memory is that of one compilation."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, source, limit).result()


def cost_row(name: str, f: Figures) -> list[str]:
    per_mac = f"{f.instructions / f.macs:.2f}" if f.macs else "-"
    return [name, f"{f.macs / 1e6:,.1f}", f"{f.instructions / 1e6:,.1f}", per_mac, f"{f.page_touch / 1e6:,.1f}",
            str(f.messages), f"{f.module_bytes / 2**20:.2f}", f"{f.arena_bytes / 2**20:.2f}",
            f"{f.compile_seconds:.1f}", str(f.compile_megabytes)]  # fmt: skip


COST_TITLES = ["model", "M multiply-adds", "M instructions", "per multiply-add", "M page touches", "messages",
               "module MiB", "arena MiB", "compile s", "compile MB"]  # fmt: skip
SPLIT_TITLES = ["model", "limit", "messages", "overhead"]


def split_rows(source: Source, whole: Figures) -> Iterator[list[str]]:
    """The price of cutting: the sum over all messages against one message, page touches included."""
    total = whole.instructions + whole.page_touch
    for limit in SPLIT_LIMITS:
        if limit < total:
            cut = measured_apart(source, limit)
            overhead = (cut.instructions + cut.page_touch) / total - 1
            yield [source.name, f"{limit:,}", str(cut.messages), f"{overhead:+.2%}"]


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---", *["--:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="folder of models instead of the built-in networks")
    parser.add_argument("--prices", type=Path, help="another price list")
    parser.add_argument("--only", default="", help="names of models, comma-separated")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    arguments = parser.parse_args()
    if arguments.prices:
        os.environ[OVERRIDE] = str(arguments.prices)
    chosen = set(filter(None, arguments.only.split(",")))
    costs: list[list[str]] = []
    splits: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        sources = given_models(arguments.models) if arguments.models else own_networks(Path(folder))
        for source in sources:
            if chosen and source.name not in chosen:
                continue
            figures = measured_apart(source)
            costs.append(cost_row(source.name, figures))
            splits += split_rows(source, figures)
            print(", ".join(f"{title} {cell}" for title, cell in zip(COST_TITLES, costs[-1])), flush=True)
    tables = f"{table(COST_TITLES, costs)}\n\n{table(SPLIT_TITLES, splits)}"
    print(f"\n{tables}")
    if arguments.write:
        before, rest = README.read_text().split(MARKS[0])
        command = " ".join(["python benchmarks/run.py", *(a for a in sys.argv[1:])])
        after = rest.split(MARKS[1])[1]
        README.write_text(f"{before}{MARKS[0]}\n\n`{command}`\n\n{tables}\n\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
