# ruff: noqa: F821  (lit defines `config`)
"""lit suite of the tools and passes: `lit lit_tests`."""

import os
import sys
import tempfile
from pathlib import Path

import lit.formats

root = Path(__file__).resolve().parent.parent

config.name = "tosaic"
config.test_format = lit.formats.ShTest()
config.suffixes = [".mlir", ".onnxtxt", ".test"]
config.excludes = ["Inputs"]
config.test_source_root = str(root / "lit_tests")
config.test_exec_root = os.environ.get(
    "LIT_EXEC_ROOT", os.path.join(tempfile.gettempdir(), f"lit-{root.name}-{os.getuid()}")
)

config.environment["PYTHONPATH"] = os.pathsep.join([str(root / "compiler"), str(root / "passes")])
# Native tools (torch-mlir-opt, tosa-opt, iree-opt) of the environment that runs the suite.
config.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
config.environment["PYTHONWARNINGS"] = "error"

python = f"'{sys.executable}'"
config.substitutions += [
    # The tools of this interpreter and these sources, whatever is installed.
    (r"\btosaic-opt\b", f"{python} -m tosaic.tools.opt"),
    (r"\btosaic\b(?=\s+(compile|run|inspect))", f"{python} -m tosaic.tools.tosaic"),
    (r"\bfilecheck\b", f"{python} -m filecheck"),
    (r"%python", python),
]
