"""`tosaic`: compile a model to an artifact, run it here, look into it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tosaic.files import check_place
from tosaic.tensors.formats import format_named, suffixes
from tosaic.tools import arguments, store, tensor
from tosaic.tools.combinations import refuse_senseless
from tosaic.tools.exits import run_command, version_text

if TYPE_CHECKING:
    from tosaic.model import ExecutedMessage


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    options = _parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr, format="%(message)s", level=logging.INFO if options.verbose else logging.WARNING
    )
    command: Callable[[argparse.Namespace], None] = options.command

    def work() -> None:
        refuse_senseless(options)
        command(options)

    return run_command(["tosaic", *(sys.argv[1:] if argv is None else argv)], work)


def _compile(options: argparse.Namespace) -> None:
    from tosaic import driver
    from tosaic.artifact import folder

    compile_options = arguments.compile_options(options)
    stage = driver.Emit(options.emit)
    if stage is not driver.Emit.ARTIFACT:
        driver.emit_module(options.model, stage, Path(options.output), compile_options)
        return
    folder.check_target(Path(options.output))
    if options.report:
        check_place(Path(options.report))
    compilation = driver.compile_to_canister(options.model, compile_options)
    if options.check:
        _check(options, compilation)
    artifact = driver.write_artifact(compilation, options.output)
    if options.report:
        _write_page(Path(options.report), artifact)
    if options.json:
        _print_json({"artifact": options.output, **artifact.manifest})
        return
    from tosaic.report.tables import summary

    print(f"{options.output}: {summary(artifact.manifest)}")


def _check(options: argparse.Namespace, compilation: Any) -> None:
    from tosaic.artifact import contents
    from tosaic.check import check_against_onnx
    from tosaic.model import Model

    uploads = contents.upload_files(compilation)
    model = Model(contents.manifest(compilation), compilation.canister.wasm, uploads.__getitem__)
    check_against_onnx(model, Path(options.model), options.check)


def _run(options: argparse.Namespace) -> None:
    from tosaic.model import load
    from tosaic.report import messages_table

    output = arguments.output_folder(options.output)
    model = load(options.artifact, options.replica)
    given = arguments.read_inputs(model, dict(options.input), options.inputs)
    missing = [tensor.name for tensor in model.inputs if tensor.name not in given]
    if missing:
        names = ", ".join(f"'{name}'" for name in missing)
        print(f"no --input for {names}: random values of seed {options.seed}", file=sys.stderr)
    result = model.run({**model.random_inputs(options.seed), **given}, options.wire)
    written = arguments.write_outputs(result.outputs, output, options.format or format_named("npy"))
    if not options.json:
        print(messages_table(result.messages))
        for name, file in written.items():
            print(f"{name}: {file}")
        return
    _print_json(
        {
            "messages": [_message_entry(message) for message in result.messages],
            "total_predicted": result.total_predicted,
            "total_metered": result.total_metered,
            "total_performance_counter": result.total_performance_counter,
            "page_touch": result.page_touch,
            "charged_cycles": result.charged_cycles,
            "outputs": written,
            "memory_bytes": result.memory_bytes,
        }
    )


def _message_entry(message: ExecutedMessage) -> dict[str, Any]:
    keys = ("name", "predicted", "metered", "performance_counter", "limit")
    return {key: getattr(message, key) for key in keys}


def _inspect(options: argparse.Namespace) -> None:
    from tosaic.artifact import folder
    from tosaic.report import limits_table, segments_table, tensors_table
    from tosaic.report.tables import store_summary, summary

    artifact = folder.read(options.artifact)
    if options.html:
        _write_page(Path(options.html), artifact.of_kind(folder.MODEL))
    if options.json:
        _print_json(dict(artifact.manifest))
        return
    if artifact.manifest["kind"] == folder.STORE:
        print(store_summary(artifact.manifest))
        return
    print(
        summary(artifact.manifest),
        tensors_table(artifact.manifest),
        segments_table(artifact.manifest),
        limits_table(artifact.manifest),
        sep="\n\n",
    )


def _plan(options: argparse.Namespace) -> None:
    from tosaic.artifact import folder
    from tosaic.plan import plan_uploads, read_have
    from tosaic.prices import PriceList
    from tosaic.report import uploads_table
    from tosaic.upload_script import write_script

    artifact, prices = folder.read(options.artifact).of_kind(folder.MODEL), PriceList.load()
    have = frozenset[str]().union(*(read_have(file) for file in options.have))
    plan = plan_uploads(artifact.manifest, have, prices)
    if options.script:
        write_script(options.script, artifact.path, plan, prices.limits["chunk_bytes"])
    if options.json:
        _print_json(plan.document())
        return
    print(uploads_table(plan))


def _verify(options: argparse.Namespace) -> None:
    from tosaic.verification import verify

    done = verify(options.artifact, options.model, arguments.read_constants(options.constant))
    if options.json:
        _print_json({"artifact": options.artifact, "verified": done})
        return
    print(*done, sep="\n")


def _write_page(path: Path, artifact: Any) -> None:
    from torch_mlir import ir

    from tosaic.artifact.contents import PROGRAM
    from tosaic.artifact.modules import new_context
    from tosaic.files import write_file
    from tosaic.report.html import page

    module = ir.Module.parse(artifact.read_bytes(PROGRAM), new_context())
    write_file(path, page(artifact.path.name, artifact.manifest, module))


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tosaic", description=__doc__)
    parser.add_argument("--version", action="version", version=version_text())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_compile(_command(commands, "compile", _compile, "compile ONNX or TOSA to an artifact"))
    _add_run(_command(commands, "run", _run, "run an artifact in the local replica"))
    _add_inspect(_command(commands, "inspect", _inspect, "say what is in an artifact and what it costs"))
    _add_plan(_command(commands, "plan", _plan, "say what must be uploaded, and what that costs"))
    _add_verify(_command(commands, "verify", _verify, "check an artifact, and that a model compiles to it"))
    store.add_arguments(
        _command(commands, "store", store.run, "make a canister that keeps weights for others")
    )
    tensor.add_commands(_commands(commands, "tensor", "look into files of tensors and convert them"))
    return parser


def _add_compile(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    many: Any = {"action": "append", "default": []}
    shape, size, file = arguments.named_shape, arguments.named_size, arguments.named_file
    add("model", metavar="MODEL", help="ONNX (.onnx, .onnxtxt) or TOSA (.mlir, .mlirbc)")
    add(
        "-o", dest="output", required=True, metavar="OUT", help="the artifact's folder, or a file with --emit"
    )
    add("--emit", choices=["artifact", "onnx", "tosa", "segments"], default="artifact", help="where to stop")
    add("--input-shape", type=shape, **many, metavar="NAME:1,3,224,224", help="the shape of an input")
    add("--dim", type=size, **many, metavar="NAME=SIZE", help="the size of a symbolic dimension")
    add(
        "-b",
        "--batch-size",
        type=arguments.positive,
        metavar="N",
        help="size of each input's first unknown dimension",
    )
    add("--constant", type=file, **many, metavar="NAME=FILE", help="bind an input to a value")
    add("--limit", type=arguments.positive, metavar="N", help="instructions that one message may take")
    add("--float64-as-float32", action="store_true", help="accept float64 inputs, computed with in float32")
    add(
        "--access",
        default="public",
        metavar="public|controllers|PRINCIPAL,...",
        help="who may call the model; uploads and upgrades are always the controllers'",
    )
    add(
        "--weights",
        choices=["module", "uploaded"],
        help="in the module, or brought after its installation: uploaded, or fetched from a store (module if they fit)",
    )
    add(
        "--weights-private",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="give uploaded weights to nobody; else to canisters that may call the model (--weights-private)",
    )
    add(
        "--check",
        type=arguments.positive,
        nargs="?",
        const=1,
        metavar="N",
        help="compare N runs with an ONNX runtime",
    )
    add("--report", metavar="FILE.html", help="write a page about the result")
    add("--json", action="store_true", help="print the manifest")


def _add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    file = arguments.named_file
    add("artifact", metavar="ARTIFACT")
    add(
        "--input",
        type=file,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help=f"a tensor ({suffixes()}); random when not given",
    )
    add("--inputs", type=Path, metavar="FILE", help="several tensors with the names of inputs (.npz, .cbor)")
    add("--output", metavar="DIR", help="write the outputs there")
    add(
        "--format",
        type=arguments.format_name,
        metavar="FORMAT",
        help=f"of the outputs: {suffixes()} (.npy)",
    )
    add(
        "--wire",
        choices=["candid", "cbor"],
        default="candid",
        help="call infer with vectors of Candid, or infer_cbor (candid)",
    )
    add(
        "--replica",
        choices=["local", "pocket-ic"],
        default="local",
        help="run it here, or on the PocketIC server that POCKET_IC_BIN names (local)",
    )
    add("--seed", type=arguments.whole, default=0, metavar="N", help="of random inputs (0)")
    add("--json", action="store_true", help="print messages, costs and files")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT")
    parser.add_argument("--html", metavar="FILE.html", help="write a page")
    parser.add_argument("--json", action="store_true", help="print the manifest")


def _commands(commands: Any, name: str, help: str) -> Any:
    parser = commands.add_parser(name, help=help, description=help)
    return parser.add_subparsers(required=True, metavar="COMMAND")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("artifact", metavar="ARTIFACT")
    add(
        "--have",
        type=Path,
        action="append",
        default=[],
        metavar="CHUNKS.json",
        help="chunks that are there: what stored_chunks replies, or another artifact",
    )
    add("--script", type=Path, metavar="FILE", help="write the calls as a shell script for dfx")
    add("--json", action="store_true", help="print the plan")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("artifact", metavar="ARTIFACT")
    add("--model", metavar="MODEL", help="compile it with the artifact's options and compare")
    add(
        "--constant",
        type=arguments.named_file,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a constant that the artifact was compiled with",
    )
    add("--json", action="store_true", help="print what was checked")


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], None], help: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(command=function, command_name=name, default_of=parser.get_default)
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is being done, on stderr")
    return parser


if __name__ == "__main__":
    sys.exit(main())
