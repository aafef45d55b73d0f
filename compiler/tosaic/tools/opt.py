"""`tosaic-opt`: run any mix of native and tosaic passes over MLIR or ONNX."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch_mlir import ir

from tosaic.artifact.modules import BYTECODE_SUFFIX, new_context, parse_module, to_bytecode
from tosaic.errors import TosaicError
from tosaic.files import write_file
from tosaic.tools import diagnostics
from tosaic.tools.arguments import whole
from tosaic.tools.exits import Exit, run_command, version_text
from tosaic.tools.sources import STDIN, Source, read_source
from tosaic_passes import PASSES, PRESETS, pass_class
from tosaic_passes.diagnostics import Diagnostic, from_mlir
from tosaic_passes.pipeline import (
    INJECTED,
    Element,
    PipelineError,
    option_types,
    parse_pipeline,
    pipeline_text,
    run_pipeline,
)
from tosaic_passes.program import Program

if TYPE_CHECKING:
    from torch_mlir.passmanager import PassManager

    from tosaic_passes.cost_model import CostModel

_EPILOG = """\
PIPELINE is that of mlir-opt, passes of tosaic and of MLIR mixed, with builtin.module(...) around it or not:

  -p "lower-onnx-to-tosa,func.func(canonicalize,cse),split-execution{limit-instructions=5000000}"

Exit codes: 0 done, 1 the module is refused, 2 usage, 3 a bug of tosaic.
"""

SPLIT_MARK = "// -----\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        names = ",".join(word.lstrip("-") for word in unknown)
        parser.error(f"unknown arguments: {' '.join(unknown)}; passes are named with -p, as in: -p '{names}'")
    options.emit_bytecode |= options.output.endswith(BYTECODE_SUFFIX)
    sources: list[Source] = []
    return run_command(
        ["tosaic-opt", *(sys.argv[1:] if arguments is None else arguments)],
        lambda: _work(options, sources),
        lambda: "".join(source.content for source in sources if isinstance(source.content, str)),
    )


def _work(options: argparse.Namespace, sources: list[Source]) -> int:
    """What the options ask for. The source that is read is noted in `sources`, for the reproducer of a bug."""
    if options.version:
        print(version_text())
        return Exit.DONE
    if options.list_passes:
        return _list_passes()
    elements = _with_printing(parse_pipeline(options.pipeline, _cost_model), options)
    if options.dump_pass_pipeline:
        print(pipeline_text(elements), file=sys.stderr)
    sources.append(read_source(options.file))
    return _process(sources[0], elements, options)


@dataclass
class Outcome:
    """What became of one source: its printed module, unless something is wrong with it."""

    output: str | bytes = ""
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(d.severity == "error" for d in self.diagnostics)


def _process(source: Source, elements: list[Element], options: argparse.Namespace) -> int:
    pieces = source.split() if options.split_input_file else [source]
    outcomes = [_run(piece, elements, options) for piece in pieces]
    wrong = [d for piece, outcome in zip(pieces, outcomes) for d in _reported(piece, outcome, options)]
    for diagnostic in wrong:
        print(diagnostic.format(source.name), file=sys.stderr)
    if any(d.severity == "error" for d in wrong):
        return Exit.REFUSED
    _write([outcome.output for outcome in outcomes if not outcome.failed], options)
    return Exit.DONE


def _run(source: Source, elements: list[Element], options: argparse.Namespace) -> Outcome:
    outcome = Outcome()
    try:
        program = source.load()
        handler = program.context.attach_diagnostic_handler(lambda d: _keep(d, outcome.diagnostics))
        try:
            run_pipeline(program, elements, configure=lambda manager: _configure(manager, options))
        finally:
            handler.detach()
        if options.verify_roundtrip:
            _verify_roundtrip(program.module)
        outcome.output = (
            to_bytecode(program.module) if options.emit_bytecode else _text(program.module, options)
        )
    except PipelineError:
        raise
    except (TosaicError, ir.MLIRError) as error:
        outcome.diagnostics += diagnostics.from_exception(error)
    return outcome


def _keep(diagnostic: ir.Diagnostic, kept: list[Diagnostic]) -> bool:
    kept += from_mlir(diagnostic)
    return True


def _reported(source: Source, outcome: Outcome, options: argparse.Namespace) -> list[Diagnostic]:
    if not options.verify_diagnostics:
        return outcome.diagnostics
    text = source.content if isinstance(source.content, str) else ""
    return diagnostics.mismatches(diagnostics.expectations(text), outcome.diagnostics)


def _verify_roundtrip(module: ir.Module) -> None:
    """The module must come back the same from its text and from its bytecode."""
    printed = module.operation.get_asm(enable_debug_info=True)
    for form, content in (("text", printed), ("bytecode", to_bytecode(module))):
        again = parse_module(content, new_context()).module.operation.get_asm(enable_debug_info=True)
        if again != printed:
            raise TosaicError(f"the module changed on its way through {form}")


def _text(module: ir.Module, options: argparse.Namespace) -> str:
    return module.operation.get_asm(**_print_flags(options)).rstrip("\n") + "\n"


def _print_flags(options: argparse.Namespace) -> dict[str, int | bool | None]:
    return {
        "enable_debug_info": options.mlir_print_debuginfo,
        "print_generic_op_form": options.mlir_print_op_generic,
        "large_elements_limit": options.mlir_elide_elementsattrs_if_larger,
        "large_resource_limit": options.mlir_elide_resource_strings_if_larger,
    }


def _configure(manager: PassManager, options: argparse.Namespace) -> None:
    manager.enable_verifier(options.verify_each)
    if options.mlir_timing:
        manager.enable_timing()
    before, after = options.mlir_print_ir_before_all, options.mlir_print_ir_after_all
    if before or after or options.mlir_print_ir_after_failure:
        manager.enable_ir_printing(
            print_before_all=before,
            print_after_all=after,
            print_after_failure=options.mlir_print_ir_after_failure,
            **_print_flags(options),
        )


@dataclass(frozen=True)
class _PrintIr:
    """Prints the module to stderr where `--mlir-print-ir-before=NAME` or `-after=NAME` asks for it."""

    name: ClassVar[str] = "print-ir"
    title: str
    options: argparse.Namespace = field(metadata=INJECTED)

    def run(self, program: Program) -> None:
        text = _text(program.module, self.options)
        print(
            f"// -----// IR Dump {self.title.replace('-', ' ', 1).capitalize()} //----- //\n{text}",
            file=sys.stderr,
            flush=True,
        )


def _with_printing(elements: list[Element], options: argparse.Namespace) -> list[Element]:
    names = {element.name for element in elements}
    for name in (*options.mlir_print_ir_before, *options.mlir_print_ir_after):
        if name not in names:
            have = ", ".join(sorted(names)) or "none"
            raise PipelineError(f"there is no pass '{name}' to print around", f"the pipeline has: {have}")
    printed: list[Element] = []
    for element in elements:
        if element.name in options.mlir_print_ir_before:
            printed.append(_PrintIr(f"before-{element.name}", options))
        printed.append(element)
        if element.name in options.mlir_print_ir_after:
            printed.append(_PrintIr(f"after-{element.name}", options))
    return printed


def _write(outputs: list[str | bytes], options: argparse.Namespace) -> None:
    if options.emit_bytecode:
        if len(outputs) > 1:
            raise TosaicError("bytecode holds one module", "leave out --split-input-file or --emit-bytecode")
        content: str | bytes = b"".join(o for o in outputs if isinstance(o, bytes))
    else:
        content = SPLIT_MARK.join(o for o in outputs if isinstance(o, str))
    if options.output == STDIN and sys.stdout is None:
        raise TosaicError("the standard output is closed", "name a file with -o")
    if options.output != STDIN:
        write_file(Path(options.output), content)
    elif isinstance(content, str):
        sys.stdout.write(content)
    elif sys.stdout.isatty():
        raise TosaicError("bytecode is not written to a terminal", "name a file with -o")
    else:
        sys.stdout.buffer.write(content)


def _list_passes() -> int:
    """Our passes with their options, and the presets. Native passes are known to MLIR alone."""
    print(
        "Passes of tosaic, their options, and after them the names of pipelines; every pass of MLIR besides.\n"
    )
    for name in sorted(PASSES):
        kind = pass_class(name)
        print(f"{name:24} {(kind.__doc__ or '').strip().splitlines()[0]}")
        for option, type in option_types(kind).items():
            print(f"{'':24}   {option.replace('_', '-')}={type.__name__}")
    for name, elements in sorted(PRESETS.items()):
        print(f"{name:24} = {','.join(elements)}")
    return Exit.DONE


def _cost_model() -> CostModel:
    from tosaic.driver import Backend  # the whole backend: imported only when a pass counts

    return Backend().cost_model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tosaic-opt",
        description=__doc__.partition(": ")[2],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", nargs="?", default=STDIN, help="MLIR (text, bytecode) or ONNX (.onnx, .onnxtxt); - is stdin")
    add("-o", dest="output", default=STDIN, metavar="FILE", help=f"output; {BYTECODE_SUFFIX} means bytecode")
    add(
        "-p",
        "--pass-pipeline",
        dest="pipeline",
        default="",
        metavar="PIPELINE",
        help="passes in order: a,b{option=1},func.func(c)",
    )
    add("--split-input-file", action="store_true", help="work on each piece between `// -----` lines")
    add("--verify-diagnostics", action="store_true", help="check errors against expected-error comments")
    add("--verify-roundtrip", action="store_true", help="check that text and bytecode read back the same")
    add("--no-verify", dest="verify_each", action="store_false", help="do not verify after each pass")
    add("--emit-bytecode", action="store_true", help="write bytecode")
    add("--list-passes", action="store_true", help="list the passes of tosaic and their options")
    add("--dump-pass-pipeline", action="store_true", help="print the pipeline to stderr")
    printed: dict[str, Any] = {"action": "append", "default": [], "metavar": "PASS"}
    add("--mlir-print-ir-before", **printed, help="print the module to stderr before this pass")
    add("--mlir-print-ir-after", **printed, help="print it after this pass")
    add("--mlir-print-ir-before-all", action="store_true", help="print it before each pass")
    add("--mlir-print-ir-after-all", action="store_true", help="print it after each pass")
    add("--mlir-print-ir-after-failure", action="store_true", help="print what a failing pass leaves")
    add("--mlir-print-op-generic", action="store_true", help="print every op in the generic form")
    add("--mlir-print-debuginfo", action="store_true", help="print locations")
    elided: dict[str, Any] = {"type": whole, "metavar": "N"}
    add("--mlir-elide-elementsattrs-if-larger", **elided, help="print `...` for constants of more elements")
    add("--mlir-elide-resource-strings-if-larger", **elided, help="print no resources of more characters")
    add("--mlir-timing", action="store_true", help="print the time that each pass took to stderr")
    add("--version", action="store_true", help="print the versions of tosaic and torch-mlir")
    return parser


if __name__ == "__main__":
    sys.exit(main())
