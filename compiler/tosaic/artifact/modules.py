"""MLIR modules as files: text and bytecode, read with their weights and written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

from torch_mlir import ir

from tosaic.artifact.trial_read import refuse_deadly_bytecode
from tosaic.errors import TosaicError
from tosaic_passes.diagnostics import place_of
from tosaic_passes.program import Program
from tosaic_passes.weights import WeightTable

BYTECODE_MAGIC = b"ML\xefR"
BYTECODE_SUFFIX = ".mlirbc"
TEXT_SUFFIX = ".mlir"


def new_context() -> ir.Context:
    """A context that takes `onnx.*` ops and runs passes in one thread, so that nothing depends on timing."""
    context = ir.Context()
    context.allow_unregistered_dialects = True
    context.enable_multithreading(False)
    return context


def parse_module(content: str | bytes, context: ir.Context | None = None) -> Program:
    """The program in MLIR text or bytecode, weights included. Raises `ir.MLIRError`, or TosaicError without a place."""
    context = context or new_context()
    with context, ir.Location.unknown():
        try:
            module = ir.Module.parse(content)
        except RuntimeError:  # the bindings cannot make text of a diagnostic that quotes bytes
            raise TosaicError(
                "the module has a name that is not UTF-8", "export or download it again"
            ) from None
        return Program(module, WeightTable.from_module(module))


def read_module(source: Path | bytes) -> Program:
    """The program of an `.mlir` or `.mlirbc` file, or of the bytes of one. Raises TosaicError naming the file."""
    shown = f"'{source}'" if isinstance(source, Path) else "the model"
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
        if not content.startswith(BYTECODE_MAGIC):
            return parse_module(content.decode())
        refuse_deadly_bytecode(content, shown)
        return parse_module(content)
    except OSError as error:
        raise TosaicError(f"cannot read {shown}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TosaicError(f"{shown} is neither MLIR text nor MLIR bytecode") from None
    except ir.MLIRError as error:
        reasons = "; ".join(f"{place_of(d.location)}: {d.message}" for d in error.error_diagnostics)
        raise TosaicError(
            f"{shown} is not a valid MLIR module: {reasons or error.message}",
            "it is read as TOSA 1.0; between versions of MLIR bytecode and the generic form of the text are stable",
        ) from None


def to_bytecode(module: ir.Module, version: int | None = None) -> bytes:
    """The module as MLIR bytecode with its resources; the same module gives the same bytes."""
    buffer = io.BytesIO()
    module.operation.write_bytecode(buffer, desired_version=version)
    return buffer.getvalue()


def to_text(module: ir.Module) -> str:
    """The module as MLIR text with its resources and locations, which hold the names of the ONNX nodes."""
    return module.operation.get_asm(enable_debug_info=True).rstrip("\n") + "\n"
