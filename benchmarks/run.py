"""What models cost as canisters: exact instruction counts, sizes, the overhead of cutting, and onnxruntime-web beside.

    python benchmarks/run.py [--models DIR] [--prices FILE.json] [--only a,b] [--limits N,N] [--no-web] [--write]

Without --models the networks of networks.py are measured; DIR holds other models as NAME.onnx with NAME.inputs.npz.
Every model is compiled and run in the replica, so every count is metered; the run fails where a prediction differs.
onnxruntime-web runs under the same meter. --prices counts with another price list, of which the file needs to hold no
more than what differs (third_party/ic/older_prices.json is one); --write puts the tables into
benchmarks/README.md. What was measured is kept in build/bench as long as nothing changes that it depends on, so a
run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import figures
import onnxruntime_web
from figures import NO_LIMIT, Failed, Figures, Kept
from sources import Source, given_models, own_networks
from tables import Cut, Row, cost_table, cut_table

from tosaic.prices import OVERRIDE, PriceList

ROOT = Path(__file__).parent
README = ROOT / "README.md"
KEPT = ROOT.parent / "build" / "bench"
LIMITS = (40_000_000_000, 5_000_000_000, 1_000_000_000)
FURTHER_LIMITS = {
    "dnsmos_sig_bak_ovr": [(40_000_000_000, 4)],
    "resnet18": [(50_000_000, 1)],
    "whisper_tiny_encoder": [(40_000_000_000, 1)],
}
"""Model -> limits with the size of the batch: several times what a message may take, as much as one, and a limit below
what single operators take."""


def cost_row(kept: Kept, source: Source, prices: PriceList, web: bool, notes: list[str]) -> Row:
    """Measure a model; why onnxruntime-web does not run it goes to the notes."""
    ours = figures.measured(kept, source, prices)
    if not web:
        return Row(source.name, ours)
    theirs = figures.measured_web(kept, source, prices)
    if isinstance(theirs, str):
        notes.append(f"{source.name}: onnxruntime-web does not run it: {theirs}")
        return Row(source.name, ours)
    return Row(source.name, ours, theirs)


def cuts(
    kept: Kept, source: Source, prices: PriceList, ours: Figures, limits: Sequence[int]
) -> Iterator[Cut]:
    """The model under each limit that cuts it, and under those that FURTHER_LIMITS names for it."""
    cases = [(source, limit) for limit in limits if limit < ours.predicted]
    for limit, batch in FURTHER_LIMITS.get(source.name, ()) if limits else ():
        cases.append((source.batched(batch) if batch > 1 else source, limit))
    for model, limit in cases:
        uncut = figures.measured_cut(kept, model, prices, NO_LIMIT)
        yield Cut(model.name, limit, figures.measured_cut(kept, model, prices, limit), uncut)


def report(rows: Sequence[Row], found_cuts: Sequence[Cut], notes: Sequence[str]) -> str:
    parts = [cost_table(rows)]
    if found_cuts:
        parts.append(cut_table(found_cuts))
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def write(text: str, section: str, command: str) -> None:
    """Put the text between the marks of its section of the README."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    before, rest = README.read_text().split(begin)
    after = rest.split(end)[1]
    README.write_text(f"{before}{begin}\n\n`{command}`\n\n{text}\n\n{end}{after}")


def written_prices(changes: Path) -> Path:
    """The price list that ships with the changes laid over it, section by section, as a file."""
    document = dict(PriceList.load().document)
    for section, content in json.loads(changes.read_text()).items():
        document[section] = {**document.get(section, {}), **content}
    prices = PriceList(document)
    path = KEPT / f"prices.{prices.digest[:16]}.json"
    KEPT.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="folder of models instead of the built-in networks")
    parser.add_argument("--prices", type=Path, help="another price list")
    parser.add_argument("--only", default="", help="names of models, comma-separated")
    parser.add_argument("--limits", default=",".join(map(str, LIMITS)), help="limits to cut under")
    parser.add_argument("--no-web", action="store_true", help="leave onnxruntime-web out")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.prices:
        os.environ[OVERRIDE] = str(written_prices(given.prices))
    if not given.no_web:
        onnxruntime_web.install()
    prices, kept = PriceList.load(), Kept(KEPT)
    limits = [int(limit) for limit in filter(None, given.limits.split(","))]
    chosen = set(filter(None, given.only.split(",")))
    rows: list[Row] = []
    found_cuts: list[Cut] = []
    notes: list[str] = []
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for source in (
            given_models(given.models, chosen) if given.models else own_networks(Path(folder), chosen)
        ):
            try:
                rows.append(cost_row(kept, source, prices, not given.no_web, notes))
                found_cuts += cuts(kept, source, prices, rows[-1].figures, limits)
            except Failed as error:
                notes.append(f"{source.name}: {error}")
                failed = True
            print(source.name, flush=True, file=sys.stderr)
    text = report(rows, found_cuts, notes)
    print(text)
    if given.write:
        command = "make bench MODELS=DIR" if given.models else "make bench"
        write(text, "public models" if given.models else "built-in networks", command)
    sys.exit(failed)


if __name__ == "__main__":
    main()
