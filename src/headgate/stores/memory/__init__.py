"""The store that lives and dies with the process."""

from headgate.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
