"""What the cost model asks about the canister around a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tosaic.canister.assemble import Canister, assemble
from tosaic.canister.limits import canister_usage
from tosaic.canister.overhead import closing_message, message_overhead, transfer_messages
from tosaic.policy import DEFAULT_POLICY, Policy
from tosaic.prices import PriceList
from tosaic.wasm.program import WasmProgram
from tosaic_passes.cost_model import Charge
from tosaic_passes.limit_usage import LimitUsage


@dataclass
class CanisterCosts:
    """Implements `tosaic.wasm.cost_model.MessageCosts`. `info` gives what the canister's method `info` replies."""

    prices: PriceList
    info: Callable[[WasmProgram], str]
    policy: Policy = DEFAULT_POLICY
    _built: tuple[WasmProgram, Canister] | None = field(default=None, init=False)

    def overhead(self, program: WasmProgram, index: int, last: bool) -> Charge:
        """What the message that runs the segment `index` pays besides kernels."""
        return message_overhead(program, self.prices, index, last, self.policy)

    def closing(self, program: WasmProgram, segments: int) -> Charge | None:
        """What the message pays that only replies, after so many segments; None where there is none."""
        return closing_message(program, self.prices, segments, self.policy)

    def transfers(self, program: WasmProgram) -> list[tuple[str, Charge]]:
        """The messages that bring parts of the inputs, each with its method."""
        return transfer_messages(program, self.prices, self.policy)

    def limit_usage(self, program: WasmProgram, limit_instructions: int) -> list[LimitUsage]:
        """What the program's canister uses of the network's limits."""
        return canister_usage(self.canister(program), limit_instructions, self.prices)

    def canister(self, program: WasmProgram) -> Canister:
        """The canister of a program; that of the last one asked for is kept."""
        if self._built is None or self._built[0] is not program:
            self._built = (program, assemble(program, self.prices, self.info(program), self.policy))
        return self._built[1]
