"""Run models whose cost depends on data on many random inputs: no message may take more than was predicted.

    python benchmarks/verify_bounds.py DIR [--only a,b] [-n 100]

DIR holds NAME.onnx with NAME.inputs.npz, whose shapes the models are compiled for. Models whose cost does not depend on
data are passed over. For each other one: how many of its messages are bounds, and the largest share of a bound that a
run has taken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

import tosaic


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="names of models, by commas")
    parser.add_argument("-n", type=int, default=100, help="inputs for each model (100)")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else []
    failed = False
    for path in sorted(options.folder.glob("*.onnx")):
        if not wanted or path.stem in wanted:
            failed |= not _holds(path, options.n)
    return int(failed)


def _holds(path: Path, count: int) -> bool:
    """Whether all runs keep to the bounds; says what was found."""
    shapes = {name: list(array.shape) for name, array in np.load(path.with_suffix(".inputs.npz")).items()}
    with tempfile.TemporaryDirectory() as folder:
        model = tosaic.load(tosaic.compile_model(path, f"{folder}/artifact", input_shapes=shapes))
        bounds = [message["name"] for message in model.manifest["messages"] if not message["exact"]]
        if not bounds:
            return True
        messages = [m for seed in range(count) for m in model.run(model.random_inputs(seed)).messages]
    shares = [m.metered / m.predicted for m in messages if not m.exact]
    too_dear = [m for m in messages if m.metered > m.predicted or (m.exact and m.metered < m.predicted)]
    print(
        f"{path.stem}: {len(bounds)} bounds, {count} inputs took {min(shares):.2%} to {max(shares):.2%} of them, "
        f"{len(too_dear)} messages were predicted wrongly",
        flush=True,
    )
    return not too_dear


if __name__ == "__main__":
    sys.exit(main())
