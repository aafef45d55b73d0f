"""`tosaic store --script`: the uploads of weights to a store as a shell script for `dfx`.

The script asks the store what is there before it sends anything, so it can be run again after an interruption, and by
two people at once. It calls the store by the names and types of its Candid interface.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tosaic.artifact import folder
from tosaic.artifact.contents import upload_file
from tosaic.canister.store.declare import DECLARE, HAVE
from tosaic.canister.store.readers import ALLOW
from tosaic.canister.store.transfer import PUT_CHUNK
from tosaic.errors import TosaicError
from tosaic.files import write_file
from tosaic.upload_script import COMMON_FUNCTIONS, blob_text, filled

_HEAD = """\
#!/usr/bin/env bash
# Uploads what a store lacks of the weights of compiled models. After an interruption run it again.
#
#   STORE=...     the canister with the store; you control it
#   READERS=...   canisters that may fetch weights from it from now on, separated by blanks (none by default)
#   NETWORK=...   a network of dfx (ic by default)
set -euo pipefail
store=${STORE:?name the canister with the store}
readers=${READERS:-}
network=${NETWORK:-ic}
"""

_FUNCTIONS = """\

put() { # number, file
  if [ "${present:$((2 * $1)):2}" = 01 ]; then return; fi
  {
    printf '('
    blob <"$here/$2"
    printf ')'
  } >"$argument"
  call "$store" @PUT_CHUNK@ --argument-file "$argument" >/dev/null
  echo "chunk $1 is in the store"
}

ask_present() { # a byte for each digest at the end of the reply
  printf '(%s)' "$digests" >"$argument"
  present=$(call "$store" @HAVE@ --argument-file "$argument" --query --output raw)
  present=${present: -2 * @COUNT@}
}

is_missing() {
  [[ $present == *00* ]]
}
"""

_DECLARE = """\

ask_present
if is_missing; then
  printf '(%s)' "$digests" >"$argument"
  call "$store" @DECLARE@ --argument-file "$argument" >/dev/null
fi
"""

_END = """\
ask_present
if is_missing; then fail "chunks are missing still: run the script again"; fi
for reader in $readers; do
  call "$store" @ALLOW@ "(principal \\"$reader\\")" >/dev/null
done
echo "$store has the weights"
"""


def store_script(path: Path, artifacts: Sequence[str | Path]) -> str:
    """The script that stands at this path; from there it finds the artifacts' folders.

    Raises:
        TosaicError: an artifact is refused or has no weights to upload.
    """
    files: dict[str, str] = {}
    for artifact in artifacts:
        files |= _upload_files(Path(artifact), path.absolute().parent)
    return "".join(_lines(files))


def write_script(path: Path, text: str) -> None:
    """Write a script that can be executed. Raises TosaicError where it cannot be written."""
    write_file(path, text.encode())
    path.chmod(path.stat().st_mode | 0o100)


def _upload_files(artifact: Path, start: Path) -> dict[str, str]:
    """The sha256 of each chunk of an artifact's weights, with its file as it is found from a folder."""
    opened = folder.read(artifact).of_kind(folder.MODEL)
    entries = opened.manifest["uploads"]
    if not entries:
        raise TosaicError(
            f"the module of '{artifact}' holds the weights", "compile the model with --weights=uploaded"
        )
    files = (artifact.absolute() / upload_file(entry["sha256"]) for entry in entries)
    return {file.name: os.path.relpath(file, start) for file in files}


def _lines(files: Mapping[str, str]) -> Iterator[str]:
    digests = sorted(files)
    names = {
        "COUNT": str(len(digests)),
        "PUT_CHUNK": PUT_CHUNK,
        "HAVE": HAVE,
        "DECLARE": DECLARE,
        "ALLOW": ALLOW,
    }
    yield _HEAD
    yield 'here=$(dirname "${BASH_SOURCE[0]}")\n'
    yield f"digests='{blob_text(''.join(digests))}'\n"
    yield COMMON_FUNCTIONS
    yield filled(_FUNCTIONS + _DECLARE, **names)
    for number, digest in enumerate(digests):
        yield f"put {number} {shlex.quote(files[digest])}\n"
    yield filled(_END, **names)
