"""What lives and dies with the process."""

from headgate.stores.memory.answers import MemoryAnswers
from headgate.stores.memory.store import MemoryStore

__all__ = ["MemoryAnswers", "MemoryStore"]
