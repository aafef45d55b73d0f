"""Lower a model within a build: portable TOSA bytecode beside the model, with its report of operators."""

import sys
from pathlib import Path

import tosaic

model = Path(sys.argv[1])
print(dict(tosaic.survey(model, batch_size=1).operators))
program = tosaic.lower_to_tosa(model, batch_size=1)
program.module.operation.write_bytecode(str(model.with_suffix(".tosa.mlirbc")))
