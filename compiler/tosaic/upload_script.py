"""`tosaic plan --script`: the uploads and the installation as a shell script for `dfx`.

The script asks the network what is there before it sends anything, so it can be run again after an interruption, and
by two people at once. It calls the management canister by the names and types of its Candid interface (Internet
Computer interface specification, "The IC management canister"): `stored_chunks`, `upload_chunk`,
`install_chunked_code`, and `update_settings` where the heap is larger than that of a new canister may be. `dfx` sends
these to the subnet of the canister that the argument names; other tools that call `aaaaa-aa` by name do not.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from tosaic.artifact.contents import CANISTER, upload_file
from tosaic.canister.chunks import CHUNKS, PUT_CHUNK
from tosaic.canister.fetch import FETCH_CHUNKS
from tosaic.files import write_file
from tosaic.plan import INSTALL, UPLOAD_CHUNK, Upload, UploadPlan

_HEAD = """\
#!/usr/bin/env bash
# Uploads what the network lacks of a compiled model and installs it. After an interruption run it again.
#
#   CANISTER=...  the canister that becomes the model; you control it
#   STORE=...     a canister of the same subnet, also yours, in whose chunk store the module's chunks are kept
#                 (CANISTER itself by default); canisters that share it share what is uploaded
#   MODE=...      install (the default), upgrade or reinstall
#   WEIGHTS=...   a canister that has the weights which the module does not hold (tosaic store) and gives them to
#                 CANISTER; without it they are uploaded
#   NETWORK=...   a network of dfx (ic by default)
set -euo pipefail
canister=${CANISTER:?name the canister that becomes the model}
store=${STORE:-$canister}
mode=${MODE:-install}
weights=${WEIGHTS:-}
network=${NETWORK:-ic}
"""

COMMON_FUNCTIONS = """\
argument=$(mktemp)
trap 'rm -f "$argument"' EXIT

call() {
  dfx canister call --network "$network" "$@"
}

blob() { # stdin as Candid text
  printf 'blob "%s"' "$(od -An -v -tx1 | tr -d ' \\n' | sed 's/../\\\\&/g')"
}

fail() {
  echo "$1" >&2
  exit 1
}
"""

_FUNCTIONS = """\

upload() { # number, sha256
  case $stored in *"$2"*) return ;; esac
  {
    printf '(record { canister_id = principal "%s"; chunk = ' "$store"
    dd if="$module" bs="$chunk_bytes" skip="$1" count=1 2>/dev/null | blob
    printf ' })'
  } >"$argument"
  answer=$(call aaaaa-aa @UPLOAD_CHUNK@ --argument-file "$argument" --output raw)
  case $answer in *"$2"*) ;; *) fail "chunk $1 arrived as another one: is $module the file that was planned?" ;; esac
  stored=$stored$2
  echo "chunk $1 is uploaded"
}
"""

_PUT = """\

put() { # number, sha256
  if [ "${present:$((2 * $1)):2}" = 01 ]; then return; fi
  {
    printf '(%s : nat32, ' "$1"
    blob <"$artifact/@UPLOADS@$2"
    printf ')'
  } >"$argument"
  call "$canister" @PUT_CHUNK@ --argument-file "$argument" >/dev/null
  echo "chunk $1 of the weights is uploaded"
}

fetch() {
  call "$canister" @FETCH_CHUNKS@ "(principal \\"$weights\\")" >/dev/null
  echo "the weights are fetched from $weights"
}

ask_present() { # a byte for each chunk of the weights at the end of the reply
  present=$(call "$canister" @CHUNKS@ '()' --query --output raw)
  present=${present: -2 * @COUNT@}
}
"""

_STORED = """\

stored=$(call aaaaa-aa stored_chunks "(record { canister_id = principal \\"$store\\" })" --output raw)
"""

_HEAP = """
cat >"$argument" <<END
(record {
  canister_id = principal "$canister";
  settings = record { wasm_memory_limit = opt (@HEAP@ : nat) };
})
END
call aaaaa-aa update_settings --argument-file "$argument"
"""

_INSTALL = """\

case $(dfx canister info --network "$network" "$canister") in
*"0x$module_hash"*) echo "the module is installed already" ;;
*)
  cat >"$argument" <<END
(record {
  mode = variant { $mode };
  target_canister = principal "$canister";
  store_canister = opt principal "$store";
  chunk_hashes_list = vec {
@HASHES@
  };
  wasm_module_hash = @MODULE_HASH@;
  arg = blob "DIDL\\00\\00";
})
END
  call aaaaa-aa @INSTALL@ --argument-file "$argument"
  echo "the module is installed"
  ;;
esac
"""


def write_script(path: Path, artifact: Path, plan: UploadPlan, chunk_bytes: int) -> None:
    """Write the script; it finds the artifact from where it stands. Raises TosaicError where it cannot be written."""
    target = os.path.relpath(artifact.absolute(), path.absolute().parent)
    write_file(path, "".join(_lines(target, plan, chunk_bytes)).encode())
    path.chmod(path.stat().st_mode | 0o100)


def _lines(artifact: str, plan: UploadPlan, chunk_bytes: int) -> Iterator[str]:
    chunks = [upload for upload in plan.uploads if upload.method == UPLOAD_CHUNK]
    weights = [upload for upload in plan.uploads if upload.method == PUT_CHUNK]
    yield _HEAD
    yield f'artifact=$(dirname "${{BASH_SOURCE[0]}}")/{shlex.quote(artifact)}\n'
    yield f"module=$artifact/{CANISTER}\nmodule_hash={plan.module_sha256}\nchunk_bytes={chunk_bytes}\n"
    yield COMMON_FUNCTIONS
    yield filled(_FUNCTIONS, UPLOAD_CHUNK=UPLOAD_CHUNK)
    if weights:
        names = {
            "UPLOADS": upload_file(""),
            "PUT_CHUNK": PUT_CHUNK,
            "CHUNKS": CHUNKS,
            "FETCH_CHUNKS": FETCH_CHUNKS,
            "COUNT": str(len(weights)),
        }
        yield filled(_PUT, **names)
    yield _STORED
    yield from _calls("upload", chunks)
    if plan.heap_setting:
        yield filled(_HEAP, HEAP=str(plan.heap_setting))
    hashes = ";\n".join(f"    record {{ hash = {blob_text(chunk.sha256)} }}" for chunk in chunks)
    yield filled(_INSTALL, HASHES=hashes, MODULE_HASH=blob_text(plan.module_sha256), INSTALL=INSTALL)
    if weights:
        yield "\nask_present\n"
        yield 'if [ -n "$weights" ] && [[ $present == *00* ]]; then fetch; ask_present; fi\n'
        yield from _calls("put", weights)
        yield "ask_present\n"
        yield 'case $present in *00*) fail "weights are missing still: run the script again" ;; esac\n'
    yield 'echo "$canister is ready"\n'


def _calls(function: str, uploads: Sequence[Upload]) -> Iterator[str]:
    for upload in uploads:
        yield f"{function} {upload.number} {upload.sha256}\n"


def blob_text(digits: str) -> str:
    """Bytes in hexadecimal as Candid text."""
    return 'blob "' + "".join(f"\\{digits[i : i + 2]}" for i in range(0, len(digits), 2)) + '"'


def filled(template: str, **values: str) -> str:
    """A template with its names in capitals replaced."""
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template
