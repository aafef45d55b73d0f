"""Runs a `WasmProgram` under the replica's meter, segment by segment, and checks what it predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tosaic.prices import PriceList
from tosaic.replica.instance import Instance, Usage, compile_metered
from tosaic.wasm.module import Module
from tosaic.wasm.program import SegmentCode, WasmProgram
from wasm.harness import DTYPES

_PRICES = PriceList.load()


@dataclass(frozen=True)
class SegmentRun:
    """A segment, and what a call of it used."""

    segment: SegmentCode
    usage: Usage


def run_program(program: WasmProgram, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs; every segment must cost exactly what it says and touch exactly the pages it names."""
    return run_segments(program, arrays, _check)


def run_segments(
    program: WasmProgram, arrays: Sequence[np.ndarray], check: Callable[[SegmentRun], None], times: int = 1
) -> list[np.ndarray]:
    """The outputs of so many inferences after one another; `check` sees every segment's run."""
    exports = {segment.name: segment.function for segment in program.segments}
    binary = Module(program.memory_pages, exports, data=program.data).encode()
    instance = Instance(compile_metered(binary, _PRICES))
    memory = instance.bytes()
    memory[: program.data[0].address if program.data else program.memory_bytes] = 0xA5
    for _ in range(times):
        for tensor, array in zip(program.inputs, arrays, strict=True):
            raw = np.ascontiguousarray(array, DTYPES[tensor.element]).tobytes()
            memory[tensor.address : tensor.address + len(raw)] = np.frombuffer(raw, np.uint8)
        for segment in program.segments:
            check(SegmentRun(segment, instance.call(segment.name)))
    return [
        memory[t.address : t.address + t.memory_bytes].view(DTYPES[t.element]).reshape(t.shape).copy()
        for t in program.outputs
    ]


def _check(run: SegmentRun) -> None:
    segment, usage = run.segment, run.usage
    written = sum(1 << page for page in usage.pages_written)
    touched = written | sum(1 << page for page in usage.pages_read)
    if segment.exact:
        assert usage.instructions == segment.function.cost
        assert touched == segment.reads | segment.writes
        assert written == segment.writes
    else:
        assert usage.instructions <= segment.function.cost
        assert _page_price(touched, written) <= _page_price(segment.reads | segment.writes, segment.writes)


def _page_price(touched: int, written: int) -> int:
    return touched.bit_count() * _PRICES.page_access + written.bit_count() * _PRICES.page_write
