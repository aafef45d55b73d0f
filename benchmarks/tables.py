"""The tables of benchmarks/README.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from figures import CutFigures, Figures
from onnxruntime_web import WebFigures

MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One model; `web` is None where onnxruntime-web does not run it."""

    name: str
    figures: Figures
    web: WebFigures | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the instructions of tosaic onnxruntime-web needs."""
        return self.web.instructions / self.figures.instructions if self.web else None


@dataclass(frozen=True)
class Cut:
    """A model under a limit, and without any."""

    name: str
    limit: int
    figures: CutFigures
    uncut: CutFigures

    @property
    def overhead(self) -> float:
        """The sum over all messages against that without a limit."""
        return self.figures.predicted / self.uncut.predicted - 1

    @property
    def least(self) -> int:
        """Into fewer segments no cut without overhead could fit."""
        return math.ceil(self.uncut.segment_instructions / self.limit)


def _per(count: float, macs: int) -> str:
    return f"{count / macs:.2f}" if macs else ""


def _predicted(figures: Figures) -> str:
    """Exact, or how far the bound lies above what was metered."""
    return "exact" if figures.exact else f"<= (+{figures.predicted / figures.metered - 1:.1%})"


COST_COLUMNS: dict[str, Callable[[Row], str]] = {
    "model": lambda row: row.name,
    "M multiply-adds": lambda row: f"{row.figures.macs / 1e6:,.1f}",
    "M instructions": lambda row: f"{row.figures.instructions / 1e6:,.1f}",
    "per multiply-add": lambda row: _per(row.figures.instructions, row.figures.macs),
    "M page touches": lambda row: f"{row.figures.page_touch / 1e6:,.1f}",
    "predicted": lambda row: _predicted(row.figures),
    "messages": lambda row: str(row.figures.messages),
    "module MiB": lambda row: f"{row.figures.module_bytes / MIB:.2f}",
    "uploads MiB": lambda row: f"{row.figures.upload_bytes / MIB:.0f}" if row.figures.upload_bytes else "",
    "arena MiB": lambda row: f"{row.figures.arena_bytes / MIB:.2f}",
    "arena / live": lambda row: f"{row.figures.arena_bytes / row.figures.live_bytes:.2f}",
    "compile s": lambda row: f"{row.figures.compile_seconds:.1f}",
    "compile MB": lambda row: f"{row.figures.compile_megabytes:,}",
    "ort-web M instructions": lambda row: f"{row.web.instructions / 1e6:,.1f}" if row.web else "",
    "per multiply-add ": lambda row: _per(row.web.instructions, row.figures.macs) if row.web else "",
    "heap MiB": lambda row: f"{row.web.memory_bytes / MIB:.0f}" if row.web else "",
    "ratio": lambda row: f"{row.ratio:.2f}" if row.ratio else "",
}
CUT_COLUMNS: dict[str, Callable[[Cut], str]] = {
    "model": lambda cut: cut.name,
    "limit": lambda cut: f"{cut.limit:,}",
    "segments": lambda cut: str(cut.figures.segments),
    "at least": lambda cut: str(cut.least),
    "messages": lambda cut: str(cut.figures.messages),
    "M instructions with page touches": lambda cut: f"{cut.figures.predicted / 1e6:,.1f}",
    "metered": lambda cut: f"{cut.figures.metered / 1e6:,.1f}" if cut.figures.metered else "",
    "uncut": lambda cut: f"{cut.uncut.predicted / 1e6:,.1f}",
    "overhead": lambda cut: f"{cut.overhead:+.2%}",
}


def cost_table(rows: Sequence[Row]) -> str:
    cells = [[column(row) for column in COST_COLUMNS.values()] for row in rows]
    return "\n".join([table(list(COST_COLUMNS), cells), "", *_summary(rows)])


def cut_table(cuts: Sequence[Cut]) -> str:
    return table(list(CUT_COLUMNS), [[column(cut) for column in CUT_COLUMNS.values()] for cut in cuts])


def _summary(rows: Sequence[Row]) -> Iterator[str]:
    ratios = [row.ratio for row in rows if row.ratio]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        yield f"Geometric mean of the ratio over {len(ratios)} models: {mean:.2f}; lowest {min(ratios):.2f}."
    equal = sum(row.figures.exact for row in rows)
    yield f"Every message of {equal} models took exactly what was predicted." + (
        f" The other {len(rows) - equal} have bounds, which no message exceeded." if equal < len(rows) else ""
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---", *["--:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
