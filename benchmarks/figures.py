"""What a compiled model takes, metered in the replica; each measurement in a process of its own, and kept."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import memory
import onnxruntime_web
from onnxruntime_web import WebFigures
from sources import Source

import tosaic
import tosaic_passes
from tosaic import Artifact
from tosaic.errors import TosaicError
from tosaic.model import RunResult
from tosaic.prices import PriceList
from tosaic.replica import function_meter, instrumentation, meter, metered_operators

T = TypeVar("T")
NO_LIMIT = 10**15
"""Instructions that no model takes: nothing is cut."""


def compiler_sources() -> Iterator[Path]:
    yield from (Path(__file__), Path(memory.__file__))
    for package in (tosaic, tosaic_passes):
        yield from sorted(Path(package.__path__[0]).rglob("*.py"))


def web_sources() -> Iterator[Path]:
    yield from (Path(onnxruntime_web.__file__), onnxruntime_web.SESSION)
    yield from (
        Path(module.__file__) for module in (meter, function_meter, instrumentation, metered_operators)
    )


class Failed(Exception):
    """A model that is refused, or whose measurement did not come to its end."""


@dataclass(frozen=True)
class Figures:
    """One compiled model; `instructions` without page touches, `predicted` and `metered` with them.

    `exact` is false where some message has a bound instead of a prediction. `upload_bytes` are weights that the module
    does not hold. `live_bytes` are the most bytes that are in use at any one step: no memory plan can go below.
    `compile_seconds` are those of the processor.
    """

    macs: int
    instructions: int
    page_touch: int
    predicted: int
    metered: int
    exact: bool
    messages: int
    module_bytes: int
    upload_bytes: int
    arena_bytes: int
    live_bytes: int
    compile_seconds: float
    compile_megabytes: int


@dataclass(frozen=True)
class CutFigures:
    """A model under a limit, page touches included; `metered` is None where it was not run.

    Each segment runs in a message; `segment_instructions` are those of these messages, so without those that only carry
    tensors or reply.
    """

    segments: int
    segment_instructions: int
    messages: int
    predicted: int
    metered: int | None


@dataclass(frozen=True)
class Kept:
    """Measurements in a folder, each under the digest of everything it depends on, so that a run can be resumed."""

    folder: Path

    def measured(self, kind: str, source: Source, key: list[str], measure: Callable[[], dict]) -> dict:
        digest = hashlib.sha256(json.dumps([source.digest, *key]).encode()).hexdigest()
        file = self.folder / f"{source.name.replace(' ', '')}.{kind}.{digest[:16]}.json"
        if not file.exists():
            found = json.dumps(measure())
            self.folder.mkdir(parents=True, exist_ok=True)
            file.write_text(found)
        return json.loads(file.read_text())


def measured(kept: Kept, source: Source, prices: PriceList) -> Figures:
    """The figures of a model under the limit of the price list.

    Raises:
        Failed: the model is refused, a message does not cost what was predicted, or the process died.
    """
    return Figures(**kept.measured("tosaic", source, _key(prices), lambda: asdict(_apart(measure, source))))


def measured_cut(kept: Kept, source: Source, prices: PriceList, limit: int) -> CutFigures:
    """The figures of a model under another limit. Raises Failed as `measured` does."""
    key = [*_key(prices), str(limit)]
    return CutFigures(**kept.measured("cut", source, key, lambda: asdict(_apart(measure_cut, source, limit))))


def measured_web(kept: Kept, source: Source, prices: PriceList) -> WebFigures | str:
    """The figures of onnxruntime-web, or why it does not run the model."""

    def measure() -> dict[str, Any]:
        try:
            return asdict(onnxruntime_web.measure(source.path, source.inputs, prices)[0])
        except onnxruntime_web.NotComparable as error:
            return {"reason": str(error)}

    operator_prices = json.dumps([prices.document["rules"], prices.document["opcodes"]], sort_keys=True)
    key = [operator_prices, onnxruntime_web.version(), _digest(web_sources)]
    found = kept.measured("onnxruntime-web", source, key, measure)
    return found["reason"] if "reason" in found else WebFigures(**found)


def measure(source: Source) -> Figures:
    """Compile a model, run it, and see that every message costs what was predicted, or at most that."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model.tosaic"
        start = time.process_time()
        artifact = _compile(source, folder, None)
        seconds = time.process_time() - start
        megabytes = memory.peak_megabytes()
        result = _run(artifact, source)
        manifest = json.loads((folder / "manifest.json").read_text())
        return Figures(
            macs=manifest["multiply_adds"],
            instructions=result.total_metered - result.page_touch,
            page_touch=result.page_touch,
            predicted=result.total_predicted,
            metered=result.total_metered,
            exact=all(message.exact for message in result.messages),
            messages=len(result.messages),
            module_bytes=(folder / "canister.wasm").stat().st_size,
            upload_bytes=sum(chunk["bytes"] for chunk in manifest["uploads"]),
            arena_bytes=manifest["arena_bytes"],
            live_bytes=manifest["largest_live_bytes"],
            compile_seconds=seconds,
            compile_megabytes=megabytes,
        )


def measure_cut(source: Source, limit: int) -> CutFigures:
    """Compile a model under a limit, and run it; only compile what is not cut, or uploads its weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model.tosaic"
        artifact = _compile(source, folder, limit)
        manifest = json.loads((folder / "manifest.json").read_text())
        run = limit < NO_LIMIT and not manifest["uploads"]
        metered = _run(artifact, source).total_metered if run else None
        return CutFigures(
            segments=len(manifest["segments"]),
            segment_instructions=sum(segment["message_instructions"] for segment in manifest["segments"]),
            messages=len(manifest["messages"]),
            predicted=manifest["total_predicted"],
            metered=metered,
        )


def _compile(source: Source, folder: Path, limit: int | None) -> Artifact:
    shapes = {name: list(array.shape) for name, array in source.inputs.items()}
    return tosaic.compile_model(source.path, folder, input_shapes=shapes, limit_instructions=limit)


def _run(artifact: Artifact, source: Source) -> RunResult:
    """Run it; raises Failed for a message that does not cost what was predicted, or more than its bound."""
    result = tosaic.load(artifact).run(source.inputs)
    for message in result.messages:
        if message.metered > message.predicted or (message.exact and message.metered < message.predicted):
            raise Failed(f"{message.name}: {message.predicted:,} predicted, {message.metered:,} metered")
    return result


def _key(prices: PriceList) -> list[str]:
    return [prices.digest, _digest(compiler_sources), metadata.version("torch-mlir")]


def _apart(action: Callable[..., T], *arguments: Any) -> T:
    """Run it in a fresh process: its peak memory is then its own, and it may die."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_told, action, *arguments).result()
        except BrokenProcessPool as error:
            raise Failed("the process died") from error


def _told(action: Callable[..., T], *arguments: Any) -> T:
    """Run it; a refusal becomes its text, which can pass between processes."""
    try:
        return action(*arguments)
    except TosaicError as error:
        raise Failed(" ".join(str(error).split())) from None


@cache
def _digest(files: Callable[[], Iterator[Path]]) -> str:
    found = hashlib.sha256()
    for file in files():
        found.update(file.read_bytes())
    return found.hexdigest()
