"""Ask a canister what kind of file this is.

The model is the one that the PyPI package `magika` ships (Apache-2.0): it reads the first and the last bytes of a
file and knows some 200 kinds. tosaic compiles it to a canister, and the local replica runs that canister under the
network's price list and limits.

    python examples/file_type.py FILE
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np

import tosaic
from tosaic.report import messages_table

OUTPUT = Path("build") / "file_type.tosaic"
MODEL = files("magika") / "models" / "standard_v3_3"


def main() -> None:
    path = Path(sys.argv[1])
    config = json.loads((MODEL / "config.min.json").read_text())
    OUTPUT.parent.mkdir(exist_ok=True)
    artifact = tosaic.compile_model(str(MODEL / "model.onnx"), OUTPUT, batch_size=1)
    result = tosaic.load(artifact).run({"bytes": features(path.read_bytes(), config)})
    scores = result.outputs["target_label"][0]
    best = int(scores.argmax())
    label = describe(config["target_labels_space"][best])
    print(f"{path.name}: {label}, says the canister with {scores[best]:.1%} certainty\n")
    print(messages_table(result.messages))
    print(f"\nThe canister is in {OUTPUT}; it runs on the network as it is.")


def features(content: bytes, config: dict) -> np.ndarray:
    """The first and the last bytes without the white space around them, padded: int32 [1, beg_size + end_size]."""
    padding = [config["padding_token"]]
    first = list(content[: config["block_size"]].lstrip()[: config["beg_size"]])
    last = list(content[-config["block_size"] :].rstrip()[-config["end_size"] :])
    first += padding * (config["beg_size"] - len(first))
    last = padding * (config["end_size"] - len(last)) + last
    return np.array([first + last], dtype=np.int32)


def describe(label: str) -> str:
    """What people call this kind of file."""
    kinds = json.loads((files("magika") / "config" / "content_types_kb.min.json").read_text())
    return kinds[label]["description"] or label


if __name__ == "__main__":
    main()
