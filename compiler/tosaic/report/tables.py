"""Tables for people, as plain text: they read the same on a terminal, in a log and in a README."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tosaic.printable import printable

if TYPE_CHECKING:
    from tosaic.model import ExecutedMessage
    from tosaic.plan import Upload, UploadPlan

WIDTH = 110


def render(table: Table) -> str:
    """The table as text without colours, lines without trailing blanks."""
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH, color_system=None, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")


def messages_table(messages: Sequence[ExecutedMessage]) -> str:
    """Predicted and metered instructions of every message, and their sum."""
    rows = [
        (m.name, _predicted(m.predicted, m.exact), f"{m.metered:,}", _known(m.page_touch), f"{m.limit:,}")
        for m in messages
    ]
    if len(messages) > 1:
        exact = all(m.exact for m in messages)
        total = sum(m.predicted for m in messages)
        touches = [m.page_touch for m in messages if m.page_touch is not None]
        touched = _known(sum(touches) if touches else None)
        rows.append(("total", _predicted(total, exact), f"{sum(m.metered for m in messages):,}", touched, ""))
    return render(_table(["message", "predicted", "metered", "of it page touches", "limit"], rows))


def segments_table(manifest: Mapping[str, Any]) -> str:
    """What each segment of an artifact computes and costs."""
    rows = [
        (
            segment["name"],
            _predicted(segment["instructions"], segment["exact"]),
            _predicted(segment["message_instructions"], segment["exact"]),
            f"{segment['multiply_adds']:,}",
            f"{segment['live_bytes']:,}",
        )
        for segment in manifest["segments"]
    ]
    return render(_table(["segment", "kernels", "whole message", "multiply-adds", "live bytes after"], rows))


def named_tensors_table(tensors: Iterable[Mapping[str, Any]]) -> str:
    """Tensors with their dtypes, shapes and bytes."""
    rows = [(t["name"], t["dtype"], _shape(t["shape"]), f"{t['bytes']:,}") for t in tensors]
    return render(_table(["name", "dtype", "shape", "bytes"], rows, left=3))


def tensors_table(manifest: Mapping[str, Any]) -> str:
    """The inputs and outputs of an artifact."""
    rows = [
        (role, tensor["name"], tensor["dtype"], _shape(tensor["shape"]))
        for role in ("input", "output")
        for tensor in manifest[f"{role}s"]
    ]
    return render(_table(["", "name", "dtype", "shape"], rows, left=4))


def limits_table(manifest: Mapping[str, Any]) -> str:
    """What the canister of an artifact uses of each limit of the network."""
    rows = [
        (entry["what"], f"{entry['used']:,}", f"{entry['limit']:,}", f"{entry['used'] / entry['limit']:.1%}")
        for entry in manifest["limits"]
    ]
    return render(_table(["limit", "used", "allowed", "share"], rows))


def uploads_table(plan: UploadPlan) -> str:
    """What must be uploaded and what is there, consecutive chunks in a row."""
    rows = [_uploads_row(list(group)) for _, group in itertools.groupby(plan.uploads, _upload_kind)]
    rows.append(("install_chunked_code", "", "", "", "", f"{plan.install_cycles:,}"))
    rows.append(("total", "", "", "", f"{plan.bytes:,}", f"{plan.cycles:,}"))
    return render(_table(["method", "chunks", "hold", "", "bytes to upload", "cycles"], rows, left=4))


def summary(manifest: Mapping[str, Any]) -> str:
    """What an inference costs, in one line: instructions, messages, cycles, time and memory."""
    messages = manifest["messages"]
    count = f"{len(messages)} message" + ("s" if len(messages) > 1 else "")
    query = "fits a query" if manifest["query"] else "no query"
    exact = all(message["exact"] for message in messages)
    chunks = len(manifest["uploads"])
    uploads = f" and {chunks} chunk{'s' if chunks > 1 else ''} of weights to upload" if chunks else ""
    return (
        f"{_predicted(manifest['total_predicted'], exact)} instructions in {count} ({query}), "
        f"{_predicted(manifest['cycles'], exact)} cycles, about {manifest['seconds']:.0f} s, "
        f"{manifest['multiply_adds']:,} multiply-adds, {_bytes(manifest['memory_bytes'])} of memory, "
        f"canister.wasm {_bytes(manifest['files']['canister.wasm']['bytes'])}{uploads}"
    )


def store_summary(manifest: Mapping[str, Any]) -> str:
    """What a store keeps, for whom, and what its messages take."""
    messages = ", ".join(f"{m['name']} {m['predicted']:,}" for m in manifest["messages"])
    return (
        f"a store for {manifest['most_chunks']:,} chunks of at most {_bytes(manifest['chunk_bytes'])}, written by "
        f"{manifest['writers']}, read by {manifest['access']} and whom a controller allows; instructions of a message: "
        f"{messages}"
    )


def _upload_kind(upload: Upload) -> tuple[str, str, bool]:
    return upload.method, upload.holds, upload.there


def _uploads_row(group: Sequence[Upload]) -> tuple[str, ...]:
    first, last = group[0], group[-1]
    numbers = str(first.number) if len(group) == 1 else f"{first.number} to {last.number}"
    if first.there:
        return first.method, numbers, first.holds, "there", "", ""
    size, cycles = sum(upload.bytes for upload in group), sum(upload.cycles for upload in group)
    return first.method, numbers, first.holds, "to upload", f"{size:,}", f"{cycles:,}"


def _shape(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes)) or "scalar"


def _bytes(count: int) -> str:
    return f"{count / 2**10:.1f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"


def _predicted(instructions: int, exact: bool) -> str:
    return f"{instructions:,}" if exact else f"<= {instructions:,}"


def _known(instructions: int | None) -> str:
    return "" if instructions is None else f"{instructions:,}"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
    """The first `left` columns hold words and stand left; numbers stand right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell).replace("\n", r"\n")) for cell in row))
    return table
