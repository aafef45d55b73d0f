"""The limits that the network sets for a module: how much of each the module uses, and what helps against an excess.

The figures allowed are data of the price list. The compiler asks before anything is written, the replica when a module
is installed, both here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tosaic.errors import TosaicError
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.wasm.decode import CODE, GLOBAL, MEMORY, BinaryModule, Reader
from tosaic_passes.limit_usage import LimitUsage, refuse_excesses

_METHOD = re.compile(r"canister_(update|query|composite_query) (?P<name>.+)")
_SECTION = re.compile(r"icp:(public|private) (?P<name>.*)")
_ENTRY_POINTS = frozenset(
    "canister_init canister_pre_upgrade canister_post_upgrade canister_inspect_message canister_heartbeat "
    "canister_global_timer canister_on_low_wasm_memory".split()
)
COMPILATION = "instructions to compile the module"
HEAP = "heap bytes"
LESS_CODE = (
    "give a larger --limit, which cuts fewer operators into parts, or a smaller input (-b, --input-shape)"
)
LESS_MEMORY = "give a smaller input (-b, --input-shape), or quantise the weights"
LESS_INTERFACE = "give the inputs and outputs of the model shorter names"


@dataclass(frozen=True)
class FunctionSize:
    """What the network measures of a function: its operators, and the sum of their complexities."""

    operators: int
    complexity: int


def module_usage(
    wasm: bytes, module: BinaryModule, functions: Sequence[FunctionSize], prices: PriceList
) -> list[LimitUsage]:
    """What a module uses of each limit that holds for modules. `functions` are those that it defines."""
    methods, sections = _methods(module), _sections(module)
    operators = [function.operators for function in functions]
    measured = [
        ("module bytes", len(wasm), "module_bytes", LESS_MEMORY),
        ("code section bytes", len(module.sections.get(CODE, b"")), "code_section_bytes", LESS_CODE),
        ("functions", len(functions), "functions", LESS_CODE),
        ("operators of a function", max(operators, default=0), "operators_per_function", LESS_CODE),
        (
            "complexity of a function",
            max((function.complexity for function in functions), default=0),
            "complexity_per_function",
            LESS_CODE,
        ),
        (
            COMPILATION,
            sum(operators) * prices.compile_per_operator,
            "install_instructions",
            LESS_CODE,
        ),
        ("globals", module.count(GLOBAL), "globals", "use fewer globals"),
        ("exported methods", len(methods), "exported_methods", "export fewer methods"),
        (
            "bytes of the methods' names",
            sum(len(name.encode()) for name in methods),
            "method_name_bytes",
            "give the methods shorter names",
        ),
        ("icp: custom sections", len(sections), "custom_sections", "put fewer of them into the module"),
        (
            "bytes of icp: custom sections",
            sum(len(name.encode()) + size for name, size in sections),
            "custom_section_bytes",
            LESS_INTERFACE,
        ),
        (HEAP, heap_bytes(module), "heap_bytes", LESS_MEMORY),
    ]
    return [LimitUsage(what, used, prices.limits[key], remedy) for what, used, key, remedy in measured]


def check_module(
    wasm: bytes, module: BinaryModule, functions: Sequence[FunctionSize], prices: PriceList
) -> None:
    """Raise TosaicError when the network would not install the module."""
    found = [*_wrong_exports(module), *_wrong_sections(module)]
    if found:
        raise TosaicError("the network would refuse this module: " + "; ".join(found))
    refuse_excesses(module_usage(wasm, module, functions, prices), "module")


def heap_bytes(module: BinaryModule) -> int:
    """The memory with which a module begins."""
    if not module.count(MEMORY):
        return 0
    reader = Reader(module.sections[MEMORY])
    reader.unsigned()
    reader.unsigned()
    return reader.unsigned() * PAGE_BYTES


def heap_setting(heap_bytes: int, prices: PriceList) -> int | None:
    """The `wasm_memory_limit` that a canister needs for a heap; None where that of a new canister will do."""
    return prices.limits["heap_bytes"] if heap_bytes > prices.limits["default_heap_bytes"] else None


def _methods(module: BinaryModule) -> list[str]:
    found = [_METHOD.fullmatch(entry.name) for entry in module.exports() if entry.kind == "function"]
    return [match["name"] for match in found if match]


def _sections(module: BinaryModule) -> list[tuple[str, int]]:
    """The custom sections that the network keeps: the name after the visibility, and the bytes."""
    found = [(_SECTION.fullmatch(name), data) for name, data in module.custom]
    return [(match["name"], len(data)) for match, data in found if match]


def _wrong_exports(module: BinaryModule) -> Iterator[str]:
    methods = _methods(module)
    for name in sorted({name for name in methods if methods.count(name) > 1}):
        yield f"method '{name}' is exported twice"
    for entry in module.exports():
        known = entry.name in _ENTRY_POINTS or _METHOD.fullmatch(entry.name)
        if entry.name.startswith("canister_") and not (known and entry.kind == "function"):
            yield f"the export '{entry.name}' is reserved"


def _wrong_sections(module: BinaryModule) -> Iterator[str]:
    names = [name for name, _ in _sections(module)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"the custom section '{name}' is there twice"
    for name, _ in module.custom:
        if name.startswith("icp:") and not _SECTION.fullmatch(name):
            yield f"the custom section '{name}' is neither 'icp:public NAME' nor 'icp:private NAME'"
