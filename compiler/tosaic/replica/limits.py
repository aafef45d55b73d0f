"""The limits that the network sets for a module: what it counts, what it allows, and what to do about an excess."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tosaic.errors import TosaicError
from tosaic.prices import PAGE_BYTES, PriceList
from tosaic.wasm.decode import CODE, GLOBAL, MEMORY, BinaryModule, Reader

_METHOD = re.compile(r"canister_(update|query|composite_query) (?P<name>.+)")
_ENTRY_POINTS = frozenset(
    "canister_init canister_pre_upgrade canister_post_upgrade canister_inspect_message canister_heartbeat "
    "canister_global_timer canister_on_low_wasm_memory".split()
)


@dataclass(frozen=True)
class Excess:
    """A limit that a module breaks: what, how much it is, how much is allowed, what helps."""

    what: str
    value: int
    limit: int
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.value:,} where {self.limit:,} are allowed ({self.remedy})"


def excesses(wasm: bytes, module: BinaryModule, operators: Sequence[int], prices: PriceList) -> list[Excess]:
    """Every limit of the network that the module breaks. `operators` are those of each function."""
    limits = prices.limits
    custom = sum(len(data) for name, data in module.custom if name.startswith("icp:"))
    code = "split the model over several canisters, or lower the code size"
    measured = [
        ("module bytes", len(wasm), "module_bytes", "load the weights after the installation"),
        ("code section bytes", len(module.sections.get(CODE, b"")), "code_section_bytes", code),
        ("functions", len(operators), "functions", code),
        ("operators of the largest function", max(operators, default=0), "operators_per_function", code),
        ("globals", module.count(GLOBAL), "globals", "use fewer globals"),
        ("exported methods", len(_methods(module)), "exported_methods", "export fewer methods"),
        ("bytes of icp: custom sections", custom, "custom_section_bytes", "shorten the interface"),
        ("heap bytes", _heap_bytes(module), "heap_bytes", "split the model over several canisters"),
    ]
    return [Excess(what, n, limits[key], remedy) for what, n, key, remedy in measured if n > limits[key]]


def check_module(wasm: bytes, module: BinaryModule, operators: Sequence[int], prices: PriceList) -> None:
    """Raise TosaicError when the network would not install the module."""
    found = [str(excess) for excess in excesses(wasm, module, operators, prices)]
    found += _wrong_exports(module)
    if found:
        raise TosaicError("the network would refuse this module: " + "; ".join(found))


def _methods(module: BinaryModule) -> list[str]:
    found = [_METHOD.fullmatch(entry.name) for entry in module.exports()]
    return [match["name"] for match in found if match]


def _wrong_exports(module: BinaryModule) -> list[str]:
    methods = _methods(module)
    twice = sorted({name for name in methods if methods.count(name) > 1})
    found = [f"method '{name}' is exported twice" for name in twice]
    for entry in module.exports():
        known = entry.name in _ENTRY_POINTS or _METHOD.fullmatch(entry.name)
        if entry.name.startswith("canister_") and not (known and entry.kind == "function"):
            found.append(f"the export '{entry.name}' is reserved")
    return found


def _heap_bytes(module: BinaryModule) -> int:
    if not module.count(MEMORY):
        return 0
    reader = Reader(module.sections[MEMORY])
    reader.unsigned()
    reader.unsigned()
    return reader.unsigned() * PAGE_BYTES
