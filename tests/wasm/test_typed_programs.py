"""Random programs over all element types: Arm's reference model gives the same bits, whatever is done to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import reference_model
from tosaic.artifact.modules import parse_module
from tosaic.driver import compile_to_canister
from tosaic.options import CompileOptions
from tosaic.prices import PriceList
from tosaic.wasm.cost_model import WasmCostModel
from tosaic.wasm.program import KernelStore, compile
from tosaic_passes.cost_model import Charge, message_instructions
from tosaic_passes.errors import LimitTooSmallError
from tosaic_passes.pipeline import run_pipeline
from tosaic_passes.tile_operators import TileOperatorsPass
from wasm.program_runner import run_program
from wasm.typed_programs import random_program
from wasm.typed_programs.program import TypedProgram

STORE = KernelStore(PriceList.load())


def expected(case: TypedProgram) -> list[np.ndarray]:
    try:
        return reference_model.run(parse_module(case.text()), case.arrays)
    except RuntimeError as error:
        assume("UNPREDICTABLE" not in str(error))
        raise


def check(found: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> None:
    for index, (output, reference) in enumerate(zip(found, references, strict=True)):
        np.testing.assert_array_equal(output, reference, err_msg=f"result {index}")


@given(st.integers(0, 1 << 30))
def test_the_same_bits_as_the_reference_model(seed: int) -> None:
    case = random_program(seed)
    check(run_program(compile(parse_module(case.text()), kernels=STORE), case.arrays), expected(case))


@given(st.integers(0, 1 << 30))
def test_the_same_bits_after_cleaning_up(seed: int) -> None:
    case = random_program(seed)
    compiled = compile_to_canister(parse_module(case.text()), CompileOptions()).wasm_program
    check(run_program(compiled, case.arrays), expected(case))


class FreeMessages:
    """Messages cost nothing but what runs in them."""

    def overhead(self, program, index, last):
        return Charge()

    def closing(self, program, segments):
        return None


def without_pages() -> PriceList:
    document = PriceList.load().document
    free = dict.fromkeys(["per_64KiB_first_read", "per_64KiB_first_write_after_read"], 0)
    return PriceList({**document, "page_touch": {**document["page_touch"], **free}})


FREE_PAGES = KernelStore(without_pages())


@given(st.integers(0, 1 << 30))
def test_the_same_bits_in_parts(seed: int) -> None:
    """Under a limit that holds half of the dearest kernel; pages are free, as a part touches no fewer."""
    case = random_program(seed)
    program = parse_module(case.text())
    whole = run_program(compile(program, kernels=FREE_PAGES), case.arrays)
    model = WasmCostModel(FREE_PAGES, FreeMessages(), control_bytes=64)
    limit = (
        max((message_instructions(model, kernel.charge) for kernel in model.kernels(program)), default=0) // 2
    )
    try:
        run_pipeline(program, [TileOperatorsPass(limit, model)])
    except LimitTooSmallError:
        return  # one element, or what cannot be cut, is more than that
    check(run_program(compile(program, kernels=FREE_PAGES), case.arrays), whole)
