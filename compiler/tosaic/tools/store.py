"""`tosaic store`: the canister that keeps weights for several model canisters."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tosaic.errors import TosaicError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", dest="output", required=True, metavar="OUT", help="the folder to write")
    add(
        "--access",
        default="controllers",
        metavar="public|controllers|PRINCIPAL,...",
        help="who may read chunks, besides those that a controller allows later (controllers)",
    )
    add(
        "--writers",
        default="controllers",
        metavar="controllers|PRINCIPAL,...",
        help="who may put chunks that a controller declared (controllers)",
    )
    add("artifacts", nargs="*", metavar="ARTIFACT", help="models whose weights the script uploads")
    add("--script", metavar="FILE", help="write the calls that upload weights, for dfx")
    add("--json", action="store_true", help="print the manifest")


def run(options: argparse.Namespace) -> None:
    """Write the store."""
    from tosaic.artifact.store import write_store
    from tosaic.report.tables import store_summary
    from tosaic.store_script import store_script, write_script

    if bool(options.script) != bool(options.artifacts):
        raise TosaicError(
            "a script uploads the weights of models", "give --script FILE and ARTIFACT... together"
        )
    text = store_script(Path(options.script), options.artifacts) if options.script else ""
    artifact = write_store(options.output, options.access, options.writers)
    if options.script:
        write_script(Path(options.script), text)
    if options.json:
        document = {"artifact": options.output, **artifact.manifest}
        print(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False))
    else:
        print(f"{options.output}: {store_summary(artifact.manifest)}")
