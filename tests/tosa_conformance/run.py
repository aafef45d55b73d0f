"""Arm's conformance cases for TOSA, operator by operator: `make conformance`.

Prints a line for each operator and writes `refused.txt` beside this file: the reasons of refusals, each with the
number of its cases and one of them. Fails if a case is wrong, crashes, or is refused for a reason that is not there.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
REFUSED = HERE / "refused.txt"

_BATCH = 250
"""Cases that one process judges, one after the other."""
BEYOND = r"dim|.*_shape|.*_block_scaled.*"
"""Operators on shapes and on MX blocks, whose extensions the compiler does not take."""

HEADER = (
    "# MLIR's tosa-validate rejects pairs of float types that TOSA 1.1.draft has and 1.0 has not; a row_gather of one",
    "# row is such a case because MLIR rewrites it to a gather with indices that it then rejects.",
    "# cases  one of them\treason",
)
OPTIONS = {
    r"r?fft2d": "--tensor-dim-range 16,128 --max-batch-size 4",  # smaller ones are no test for the generator
    r".*": "--tensor-dim-range 1,16",
}
"""Options of the generator: those of the first name that matches."""


def operators() -> list[str]:
    """The operators that the generator knows, without those that are out of reach."""
    import generator.tosa_utils as names
    from generator.tosa_test_gen import TosaTestGen

    found = {names.opStr(entry["op"]).lower() for entry in TosaTestGen.TOSA_OP_LIST.values()}
    return sorted(name for name in found if not re.fullmatch(BEYOND, name))


def outcomes(arguments: argparse.Namespace) -> Iterator[tuple[str, list[dict]]]:
    """The operators and what became of their cases; so many are under way at a time as there are jobs."""
    names = list(filter(re.compile(arguments.operators).fullmatch, operators()))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        yield from zip(names, pool.map(lambda name: list(verdicts(name, arguments)), names))


def generated(folder: Path, operator: str, arguments: argparse.Namespace) -> list[Path]:
    """The cases of an operator in a folder, written by a process of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    numbers = (str(arguments.seed), str(arguments.cases))
    options = arguments.options or next(
        text for name, text in OPTIONS.items() if re.fullmatch(name, operator)
    )
    command = [sys.executable, str(HERE / "generate.py"), str(folder), *numbers, operator, *options.split()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return sorted(path.parent for path in folder.glob("*/*/desc.json"))


def verdicts(operator: str, arguments: argparse.Namespace) -> Iterator[dict]:
    """What became of the cases of an operator; with --resume those that an earlier run has judged stand."""
    folder = arguments.folder / operator
    record = folder / "verdicts.jsonl"
    if not (arguments.resume and record.exists()):
        cases = generated(folder, operator, arguments)
        record.write_text("")
    else:
        cases = sorted(path.parent for path in folder.glob("*/*/desc.json"))
    known = [json.loads(line) for line in record.read_text().splitlines()]
    yield from known
    names = {verdict["case"] for verdict in known}
    with record.open("a") as file:
        for verdict in judged([case for case in cases if case.name not in names]):
            file.write(json.dumps(verdict) + "\n")
            file.flush()
            yield verdict


def judged(cases: Sequence[Path]) -> Iterator[dict]:
    """The verdicts as they come, from processes of their own: if one dies, the case that it was at has crashed."""
    waiting = list(cases)
    while waiting:
        batch = waiting[:_BATCH]
        command = [sys.executable, str(HERE / "judge.py"), *map(str, batch)]
        count = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as judge:
            for line in judge.stdout or ():
                count += 1
                yield json.loads(line)
        if count < len(batch):
            reason = f"the process ended with {judge.returncode}"
            yield {"case": batch[count].name, "verdict": "crashed", "reason": reason}
            count += 1
        waiting = waiting[count:]


def reason_class(reason: str) -> str:
    """A reason without the places, types and numbers that differ from case to case."""
    first = re.sub(r"line \d+, column \d+: ", "", reason).splitlines()[0].partition(", got (")[0]
    return re.sub(r"\b\d+(x\d+)*\b", "N", first)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200, help="cases an operator at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operators", default=".*", help="a regular expression")
    parser.add_argument("--options", help="options of the generator, instead of our own")
    parser.add_argument("--folder", type=Path, default=Path("build/conformance"))
    parser.add_argument("--jobs", type=int, default=1, help="operators at a time")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier run stopped")
    parser.add_argument("--accept", action="store_true", help="write refused.txt from this run")
    arguments = parser.parse_args(words)
    refusals: dict[str, list[str]] = defaultdict(list)
    bad = []
    for operator, found in outcomes(arguments):
        for verdict in found:
            if verdict["verdict"] == "refused":
                refusals[reason_class(verdict["reason"])].append(verdict["case"])
            elif verdict["verdict"] != "held":
                bad.append(verdict)
                print(f"  {verdict['verdict']}: {verdict['case']}: {verdict['reason']}")
        counts = sorted(Counter(verdict["verdict"] for verdict in found).items())
        print(f"{operator:24}", ", ".join(f"{name} {count}" for name, count in counts), flush=True)
    if arguments.accept:
        _write(refusals)
    surprising = sorted(set(refusals) - set(known_refusals()))
    for reason in surprising:
        print(f"  refused for a new reason ({len(refusals[reason])}): {refusals[reason][0]}: {reason}")
    return bool(bad or surprising)


def _write(refusals: dict[str, list[str]]) -> None:
    lines = [f"{len(cases):5}  {cases[0]}\t{reason}" for reason, cases in sorted(refusals.items())]
    REFUSED.write_text("\n".join([*HEADER, *lines]) + "\n")


def known_refusals() -> Iterable[str]:
    lines = REFUSED.read_text().splitlines() if REFUSED.exists() else []
    return [line.partition("\t")[2] for line in lines if not line.startswith("#")]


if __name__ == "__main__":
    sys.exit(main())
