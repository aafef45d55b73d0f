"""`verify-canister-limits`: would the network take the canister that this program becomes, and run its messages?

Input: a program, cut or whole. Output: the same, or an error that names every limit that is broken, by how much, and
which option helps. It runs last, before anything is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from tosaic_passes.cost_model import CostModel
from tosaic_passes.limit_usage import refuse_excesses
from tosaic_passes.pipeline import INJECTED
from tosaic_passes.program import Program


@dataclass(frozen=True)
class VerifyCanisterLimitsPass:
    """Refuse a program whose canister breaks a limit of the network, or of `limit-instructions` a message."""

    name: ClassVar[str] = "verify-canister-limits"
    limit_instructions: int
    cost_model: CostModel = field(metadata=INJECTED)

    def run(self, program: Program) -> None:
        refuse_excesses(self.cost_model.limit_usage(program, self.limit_instructions), "canister")
