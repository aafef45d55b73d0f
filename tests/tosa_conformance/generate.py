"""A seeded sample of Arm's conformance cases for TOSA, written as folders: flatbuffer, inputs and description.

    python generate.py OUT SEED CASES_PER_OPERATOR OPERATORS_REGEX [options of tosa_verif_build_tests...]

A process of its own, because the generator draws from generators of random numbers that are global.
"""

from __future__ import annotations

import logging
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from pathlib import Path

PROFILES = ("tosa-pro-int", "tosa-pro-fp")
EXTENSIONS = tuple(
    f"tosa-ext-{name}"
    for name in (
        "bf16", "controlflow", "doubleround", "fft", "fp8e4m3", "fp8e5m2", "inexactround", "int16", "int4", "int64",
        "variable",
    )
)  # fmt: skip
"""What is not here: MX block formats, dynamic operands and arithmetic on shapes, which ONNX has no use for."""


_ROUNDS = 8
"""How often shapes are drawn anew, with the next seed, while an operator has fewer cases than it may have."""


def generate(out: Path, seed: int, per_operator: int, operators: str, options: Iterable[str] = ()) -> None:
    """Write up to `per_operator` positive cases of each operator whose name matches, even over dtypes and ranks."""
    logging.getLogger("tosa_verif_build_tests").setLevel(logging.ERROR)
    _skip_schemas()
    found: dict[str, set[str]] = defaultdict(set)
    for drawn in range(seed, seed + _ROUNDS):
        generator = _generator(out, drawn, options)
        for operator in generator.TOSA_OP_LIST:
            wanted = per_operator - len(found[operator])
            if not wanted or not re.fullmatch(operators, generator.getOperatorNameStr(operator)):
                continue
            new = [case for case in _cases(generator, operator) if str(case) not in found[operator]]
            for case in _sample(new, drawn, wanted):
                generator.serializeTest(case)
                found[operator].add(str(case))


def _skip_schemas() -> None:
    """Hold no description against its JSON schema while it is written: that took nine tenths of the time."""
    from schemavalidation.schemavalidation import TestDescSchemaValidator

    TestDescSchemaValidator.validate_config = lambda *_, **__: None


def _generator(out: Path, seed: int, options: Iterable[str]):
    import tosa_reference_model
    from generator.tosa_test_gen import TosaTestGen
    from generator.tosa_verif_build_tests import _get_tosa_version, parseArgs

    library = Path(tosa_reference_model.__file__).parent / "libtosa_reference_generate_lib.so"
    parsed = parseArgs(["-o", str(out), "--seed", str(seed), "--generate-lib-path", str(library), *options])
    return TosaTestGen(parsed, _get_tosa_version(parsed.tosa_version_str))


def _cases(generator, operator: str) -> Iterator:
    from generator.tosa_test_select import TosaTestSelect

    arguments = generator.genOpTestList(
        operator, shapeFilter=[None], rankFilter=None, dtypeFilter=None, testType="positive"
    )
    cases = {str(case): case for case in map(TosaTestSelect, arguments)}
    yield from (case for case in cases.values() if case.isSupported(list(PROFILES), list(EXTENSIONS)))


def _sample(cases: Iterable, seed: int, count: int) -> list:
    """`count` cases, one after the other from each combination of dtypes and rank."""
    groups = defaultdict(list)
    for case in cases:
        groups[str(case.dtypeList), len(case.shapeList[0])].append(case)
    rng = random.Random(seed)
    for group in groups.values():
        rng.shuffle(group)
    order = list(groups.values())
    rng.shuffle(order)
    return [case for case in chain.from_iterable(zip_longest(*order)) if case is not None][:count]


if __name__ == "__main__":
    folder, seed, count, pattern, *rest = sys.argv[1:]
    generate(Path(folder), int(seed), int(count), pattern, rest)
