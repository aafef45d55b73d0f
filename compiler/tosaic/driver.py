"""The stages of a compilation in order; nothing else knows the order.

ONNX  ->  onnx.* ops  ->  TOSA  ->  TOSA in segments  ->  WebAssembly  ->  canister  ->  artifact
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Unpack

from tosaic.artifact import contents, folder
from tosaic.artifact.folder import Artifact
from tosaic.artifact.modules import (
    BYTECODE_MAGIC,
    BYTECODE_SUFFIX,
    TEXT_SUFFIX,
    new_context,
    read_module,
    to_text,
)
from tosaic.border import complete_border, refuse_flat_results, refuse_open_border
from tosaic.errors import LimitTooSmallError, TosaicError, UnsupportedNode, UnsupportedNodesError
from tosaic.files import check_place, replacing, write_file
from tosaic.mlir_inputs import bind_inputs, infer_shapes
from tosaic.options import CompileOptions, Options
from tosaic.policy import DEFAULT_POLICY, Policy
from tosaic.prices import PriceList
from tosaic_passes.convert_foreign_to_tosa import ConvertForeignToTosaPass, has_float64
from tosaic_passes.convert_onnx_to_tosa import ConvertOnnxToTosaPass
from tosaic_passes.functions import entry_function, find_function
from tosaic_passes.limit_usage import refuse_excesses
from tosaic_passes.onnx_to_tosa.target import assume_target
from tosaic_passes.pipeline import Element, parse_pipeline, run_pipeline
from tosaic_passes.program import Program
from tosaic_passes.smallest_limit import smallest_limit

if TYPE_CHECKING:
    import onnx

    from tosaic.artifact.contents import Compilation
    from tosaic.canister import Canister
    from tosaic.wasm.program import WasmProgram

    Model = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | onnx.ModelProto | Program

_log = logging.getLogger(__name__)


class Emit(StrEnum):
    """Where a compilation stops."""

    ONNX = "onnx"
    TOSA = "tosa"
    SEGMENTS = "segments"
    ARTIFACT = "artifact"


def compile_model(model: Model, output: str | Path, **options: Unpack[Options]) -> Artifact:
    """Compile a model to an artifact: portable TOSA, its weights, and a canister whose cost is known.

    Args:
        model: a path: ONNX (`.onnx`, `.onnxtxt`) or TOSA (`.mlir`, `.mlirbc`); ONNX or MLIR bytecode as bytes or as a
            file that is open for reading bytes; a ModelProto; or a Program, which is changed.
        output: the folder to write; an artifact that is there is replaced whole or not at all.
        options: the fields of `tosaic.options.CompileOptions`.

    Raises:
        TosaicError: the model or an option is refused; nothing was written.
    """
    folder.check_target(Path(output))
    return write_artifact(compile_to_canister(model, CompileOptions(**options)), output)


def lower_to_tosa(model: Model, **options: Unpack[Options]) -> Program:
    """The model as one function `@main` of TOSA, valid for the target that the module names.

    `.module` is the MLIR module. Arguments and errors are those of `compile_model`; a result of rank above 6 is
    refused, which an artifact may have: its canister gives it the shape that TOSA cannot.
    """
    chosen = CompileOptions(**options)
    program = _to_tosa(_to_mlir(model, chosen), chosen)
    refuse_flat_results(program)
    return program


@dataclass(frozen=True)
class Survey:
    """What is in a model: its operators with their numbers, and the nodes that cannot be lowered, with reasons.

    `operators` counts what is left after folding; it is empty when nodes keep the model from becoming static.
    """

    operators: Mapping[str, int]
    unsupported: tuple[UnsupportedNode, ...]


def survey(model: Model, **options: Unpack[Options]) -> Survey:
    """Look through a model without compiling it. Raises TosaicError only for what cannot be read."""
    chosen = CompileOptions(**options)
    try:
        program = _to_mlir(model, chosen)
    except UnsupportedNodesError as error:
        return Survey({}, tuple(error.nodes))
    block = find_function(program.module, "main").entry_block
    names = [op.operation.name.removeprefix("onnx.") for op in block.operations]
    operators = Counter(name for name in names if name not in ("Constant", "NoValue", "func.return"))
    try:
        _to_tosa(program, chosen)
    except UnsupportedNodesError as error:
        return Survey(dict(sorted(operators.items())), tuple(error.nodes))
    return Survey(dict(sorted(operators.items())), ())


def emit_module(model: Model, stage: Emit, output: Path, options: CompileOptions) -> None:
    """Write the module that a stage before the canister gives: `.mlir` as text, `.mlirbc` as bytecode."""
    if output.suffix not in (TEXT_SUFFIX, BYTECODE_SUFFIX):
        raise TosaicError(
            f"'{output}' is neither {TEXT_SUFFIX} nor {BYTECODE_SUFFIX}", "name such a file with -o"
        )
    check_place(output)
    program = _to_mlir(model, options)
    if stage is Emit.ONNX and not _is_onnx(program):
        raise TosaicError("the model is TOSA, which has no ONNX stage", "give --emit=tosa")
    if stage is not Emit.ONNX:
        _to_tosa(program, options)
        refuse_flat_results(program)
    if stage is Emit.SEGMENTS:
        _to_segments(program, Backend(options.policy), options)
    if output.suffix == TEXT_SUFFIX:
        write_file(output, to_text(program.module))
        return
    with replacing(output) as temporary, temporary.open("wb") as file:
        # By the name of the file a full disk would abort the process; so, one weight at a time is copied.
        program.module.operation.write_bytecode(file)


def compile_to_canister(model: Model, options: CompileOptions) -> Compilation:
    """Everything that goes into an artifact, in memory."""
    from tosaic.canister.limits import canister_usage

    backend = Backend(options.policy)
    program = _to_tosa(_to_mlir(model, options), options)
    limit = _to_segments(program, backend, options)
    _log.info("emitting WebAssembly")
    wasm_program, assembled = backend.build(program)
    compilation = contents.Compilation(program, wasm_program, assembled, limit, backend.prices, options)
    compilation = contents.with_public_manifest(compilation)
    usage = canister_usage(compilation.canister, limit, backend.prices)
    refuse_excesses(usage, "canister")
    return replace(compilation, limit_usage=tuple(usage))


def write_artifact(compilation: Compilation, output: str | Path) -> Artifact:
    """Put a compilation on disk, whole or not at all."""
    return folder.write(Path(output), contents.files(compilation), contents.manifest(compilation))


class Backend:
    """The WebAssembly backend; kernels that the cost model built are found again when the program is emitted."""

    def __init__(self, policy: Policy = DEFAULT_POLICY) -> None:
        from tosaic.canister import CanisterCosts
        from tosaic.wasm.cost_model import WasmCostModel
        from tosaic.wasm.program import CONTROL_BYTES, KernelStore

        self.prices = PriceList.load()
        self._canisters = CanisterCosts(self.prices, contents.public_info, policy)
        self.cost_model = WasmCostModel(KernelStore(self.prices), self._canisters, CONTROL_BYTES)

    def build(self, program: Program) -> tuple[WasmProgram, Canister]:
        """The program as WebAssembly, and the canister around it.

        Raises:
            TosaicError: an op has no kernel, or Candid cannot carry an input or output.
        """
        wasm_program = self.cost_model.compiled(program)
        return wasm_program, self._canisters.canister(wasm_program)


def _to_mlir(model: Model, options: CompileOptions) -> Program:
    """ONNX as `onnx.*` ops, or the TOSA that was given."""
    opened = _opened(model)
    if isinstance(opened, Program):
        return _given_module(opened, options)
    from tosaic import frontend
    from tosaic_passes.onnx_to_tosa.registry import is_lowered

    _log.info("reading %s", opened if isinstance(opened, Path) else "the model")
    return frontend.load(
        opened,
        input_shapes=options.input_shapes,
        dims=options.dims,
        batch_size=options.batch_size,
        constants=options.constants,
        context=new_context(),
        is_lowered=is_lowered,
    )


def _opened(model: Model) -> Program | Path | bytes | bytearray | memoryview | onnx.ModelProto:
    """A program where the model is MLIR, else what the frontend reads. Raises TypeError for what is no model."""
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        return read_module(path) if path.suffix in (TEXT_SUFFIX, BYTECODE_SUFFIX) else path
    content = model.read() if hasattr(model, "read") else model
    if isinstance(content, bytes | bytearray | memoryview):
        is_bytecode = bytes(content[: len(BYTECODE_MAGIC)]) == BYTECODE_MAGIC
        return read_module(bytes(content)) if is_bytecode else content
    if isinstance(content, Program) or hasattr(content, "SerializeToString"):
        return content
    raise TypeError(
        f"a model is a path, bytes, a file that gives bytes, a ModelProto or a Program, not {type(model).__name__}"
    )


def _given_module(program: Program, options: CompileOptions) -> Program:
    if _is_onnx(program):
        if options.binds_inputs:
            raise TosaicError(
                "the shapes of ONNX in MLIR are fixed", "give input shapes with the ONNX model itself"
            )
        complete_border(program)
        refuse_open_border(program)
        return program
    run_pipeline(program, _elements("adopt-tosa", options))
    if has_float64(program.module):
        _log.info("computing in float32 what the module computes in float64")
        run_pipeline(program, parse_pipeline("narrow-f64"))
    complete_border(program)
    bind_inputs(program, options)
    infer_shapes(program, _elements("infer-shapes", options))
    refuse_open_border(program)
    assume_target(program.module)
    return program


def _to_tosa(program: Program, options: CompileOptions) -> Program:
    _log.info("lowering to TOSA")
    run_pipeline(program, _elements("lower-onnx-to-tosa" if _is_onnx(program) else "clean-tosa", options))
    return program


def _elements(preset: str, options: CompileOptions) -> list[Element]:
    return [_with_options(element, options) for element in parse_pipeline(preset)]


def _with_options(element: Element, options: CompileOptions) -> Element:
    if isinstance(element, ConvertOnnxToTosaPass | ConvertForeignToTosaPass):
        return replace(element, float64_as_float32=options.float64_as_float32)
    return element


def _is_onnx(program: Program) -> bool:
    """Whether the module holds `onnx.*` ops and says of which opset they are."""
    if "onnx.opset" not in program.module.operation.attributes:
        return False
    block = entry_function(program.module).entry_block
    return any(op.operation.name.startswith("onnx.") for op in block.operations)


def _to_segments(program: Program, backend: Backend, options: CompileOptions) -> int:
    """Count and cut; returns the limit that holds."""
    limit = options.limit_instructions or backend.prices.limits["update_instructions"]
    _log.info("counting instructions, cutting at %d", limit)
    run_pipeline(program, parse_pipeline("convert-fft-to-matmul,outline-weights"))
    whole = program.copy()
    under = f"{{limit-instructions={limit}}}"
    passes = f"tile-chains{under},tile-operators{under},count-instructions,split-execution{under}"
    try:
        run_pipeline(program, parse_pipeline(passes, lambda: backend.cost_model))
    except LimitTooSmallError as error:
        _log.info("looking for the smallest limit")
        raise smallest_limit(whole, error, backend.cost_model) from None
    return limit
