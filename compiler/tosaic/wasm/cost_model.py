"""The exact costs that the counting passes ask for, from the code that would be emitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tosaic.wasm.calls import calls_of
from tosaic.wasm.function import Function
from tosaic.wasm.grouping import operations_of
from tosaic.wasm.layout import Work
from tosaic.wasm.program import KernelStore, Plan, WasmProgram, assemble, plan
from tosaic.wasm.shares import shares
from tosaic.wasm.task_lists import TaskEmitter, tasks_of
from tosaic_passes.cost_model import Charge, KernelCost, Trips
from tosaic_passes.limit_usage import LimitUsage
from tosaic_passes.program import Program


class MessageCosts(Protocol):
    """What messages pay besides kernels; the canister knows."""

    def overhead(self, program: WasmProgram, index: int, last: bool) -> Charge:
        """The message of a segment."""
        ...

    def closing(self, program: WasmProgram, segments: int) -> Charge | None:
        """The message that only replies, after so many segments; None where there is none."""
        ...

    def transfers(self, program: WasmProgram) -> list[tuple[str, Charge]]:
        """The messages that bring parts of the inputs, each with its method."""
        ...

    def limit_usage(self, program: WasmProgram, limit_instructions: int) -> list[LimitUsage]:
        """What the program's canister uses of the network's limits."""
        ...


class WasmCostModel:
    """`tosaic_passes.cost_model.CostModel` over the WebAssembly backend.

    A kernel is a cluster of ops with the calls that it makes: its instructions are those of the calls and of the
    kernels called, its pages follow from the memory plan of the whole program. `store` keeps the kernels, so
    compiling the same program afterwards builds none of them again.
    """

    def __init__(self, store: KernelStore, messages: MessageCosts, control_bytes: int) -> None:
        self.store = store
        self.messages = messages
        self.control_bytes = control_bytes
        self.page_access = store.prices.page_access
        self.page_write = store.prices.page_write
        self._planned: tuple[Program, WasmProgram] | None = None

    def kernels(self, program: Program) -> list[KernelCost]:
        """The kernels of the program in the order of execution. Sets `ic.kernel` on its ops."""
        planned = self._plan(program)
        works = planned.layout.works
        operations = operations_of(planned.graph, [work.cluster for work in works if work.cluster])
        return [
            self._cost(planned, work, ops)
            for work, ops in zip(works, [*operations, *([[]] * (len(works) - len(operations)))])
        ]

    def overhead(self, program: Program, index: int, last: bool) -> Charge:
        """What the message that runs segment `index` pays besides its kernels."""
        return self.messages.overhead(self._assembled(program), index, last)

    def closing(self, program: Program, segments: int) -> Charge | None:
        """What the message pays that only replies, after so many segments."""
        return self.messages.closing(self._assembled(program), segments)

    def transfers(self, program: Program) -> list[tuple[str, Charge]]:
        """The messages that bring parts of the inputs, each with its method."""
        return self.messages.transfers(self._assembled(program))

    def limit_usage(self, program: Program, limit_instructions: int) -> list[LimitUsage]:
        """What the program's canister uses of the network's limits."""
        return self.messages.limit_usage(self.compiled(program), limit_instructions)

    def compiled(self, program: Program) -> WasmProgram:
        """The program as it is now in WebAssembly. Raises TosaicError for an op that has no kernel."""
        self._plan(program)
        return self._assembled(program)

    def _assembled(self, program: Program) -> WasmProgram:
        if self._planned is None or self._planned[0] is not program:
            self._plan(program)
        assert self._planned is not None
        return self._planned[1]

    def _plan(self, program: Program) -> Plan:
        planned = plan(program, self.store, self.control_bytes)
        self._planned = (program, assemble(planned, self.store.prices))
        return planned

    def _cost(self, planned: Plan, work: Work, operations: Sequence) -> KernelCost:
        function = Function("", self.store.prices)
        TaskEmitter(planned.step_of, self.store.prices, work.segment).emit(function, tasks_of([work]))
        instructions = function.cost - self.store.prices.function_entry
        steps = [planned.step_of[call] for call in calls_of(work.tasks)]
        charge = Charge(instructions, *planned.pages.of(work.tasks))
        requests = [call.request for call in calls_of(work.calls)]
        own = shares(instructions, work.cluster, requests, self.store.prices) if work.cluster else []
        folded = [0] * (len(operations) - len(own))
        exact = function.exact and all(step.exact for step in steps)
        return KernelCost(tuple(operations), (*folded, *own), charge, exact, _trips(work))


def _trips(work: Work) -> Trips | None:
    """Those of a loop."""
    if work.cluster is None or work.cluster.root.op != "while_loop":
        return None
    attributes = work.cluster.root.attributes
    return Trips(attributes["most_trips"], attributes["exact"])
