"""The store: a canister that keeps chunks by their sha256 and hands them to the canisters that may have them.

A controller declares which chunks are to come. `put_chunk` takes them in any order, finds out itself which one it has
got, and refuses what was not declared; what is there is never changed, so a store that is complete is read-only.
Sealed, it stays so: nothing can be declared any more.
"""

from tosaic.canister.store.assemble import Store, assemble_store
from tosaic.canister.store.readers import principal_argument

__all__ = ["Store", "assemble_store", "principal_argument"]
