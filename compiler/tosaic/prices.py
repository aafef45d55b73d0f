"""The network's price list: what each WebAssembly operator, system call and touched page costs, and the limits.

The figures are data (`third_party/ic/price_list.json`, with their sources); no other module knows a price.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PAGE_BYTES = 65536
"""A WebAssembly page: the grain at which the network charges for touched memory."""


OVERRIDE = "TOSAIC_PRICE_LIST"
"""Environment variable that names another price list."""


def _default_path() -> Path:
    if chosen := os.environ.get(OVERRIDE):
        return Path(chosen)
    packaged = Path(__file__).parent / "third_party" / "ic" / "price_list.json"
    return (
        packaged
        if packaged.exists()
        else Path(__file__).parents[2] / "third_party" / "ic" / "price_list.json"
    )


@dataclass(frozen=True, eq=False)
class PriceList:
    """Prices in instructions (the network's weighted unit)."""

    document: Mapping

    @classmethod
    def load(cls, path: str | Path | None = None) -> PriceList:
        """The price list in a JSON file, by default what TOSAIC_PRICE_LIST names or what ships."""
        return cls(json.loads(Path(path or _default_path()).read_text()))

    @cached_property
    def operators(self) -> Mapping[str, int]:
        """Operator name -> static price; bulk operations also cost 1 per byte or element."""
        return self.document["opcodes"]

    @cached_property
    def complexity(self) -> Mapping[str, int]:
        """Operator name -> what it adds to the complexity of its function."""
        rule = self.document["complexity"]
        return {name: rule["operators"].get(name, rule["unlisted"]) for name in self.operators}

    @cached_property
    def refused_operators(self) -> frozenset[str]:
        """Operators that the network takes no module with."""
        return frozenset(self.document["complexity"]["refused"])

    @cached_property
    def function_entry(self) -> int:
        return self.document["rules"]["function_entry"]

    @cached_property
    def page_access(self) -> int:
        """First access of a 64 KiB page in a message."""
        return self.document["page_touch"]["per_64KiB_first_read"]

    @cached_property
    def page_write(self) -> int:
        """First write of a page in a message, on top of its access."""
        return self.document["page_touch"]["per_64KiB_first_write_after_read"]

    @cached_property
    def compile_per_operator(self) -> int:
        """Charged at install for every operator of the module."""
        return self.document["module"]["compile_cost_per_wasm_instruction"]

    @cached_property
    def upload_chunk(self) -> int:
        """Charged for every chunk that is uploaded to a canister's chunk store, even if it is there already."""
        return self.document["module"]["upload_chunk_instructions"]

    @cached_property
    def digest(self) -> str:
        """The sha256 of the document: which prices a prediction was made with."""
        return hashlib.sha256(json.dumps(self.document, sort_keys=True).encode()).hexdigest()

    @cached_property
    def limits(self) -> Mapping[str, int]:
        return self.document["limits"]

    @cached_property
    def cycles(self) -> Mapping[str, int]:
        """What the network charges in cycles: per instruction, message, call and byte that arrives."""
        return self.document["cycles"]

    def rounds(self, instructions: int) -> int:
        """The rounds that an update message of so many instructions runs in: one for each slice it starts."""
        return max(1, -(-instructions // self.limits["slice_instructions"]))

    @cached_property
    def round_seconds(self) -> float:
        """How long a round of the network takes, about."""
        return self.document["rounds"]["seconds"]

    def system_call(self, name: str, size: int = 0) -> int:
        """Price of a call of `ic0.<name>` that moves `size` bytes, without the WebAssembly `call` itself."""
        price = self.document["system_api"][name]
        return price["fixed"] + price.get("per_byte", 0) * size
