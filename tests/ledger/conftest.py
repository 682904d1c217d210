from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from headgate.core import failpoints
from headgate.ledger.journal import Journal
from headgate.ledger.tail import Tail, TailOptions
from headgate.stores.sqlite import SqliteStore


class Ledger:
    """A journal, its tail and a store, as a process has them. `crash` forgets them as a kill would."""

    def __init__(self, directory: Path, *, retention: float | None = None, **options: object) -> None:
        self.directory = directory
        self.store = SqliteStore(directory / "headgate.db")
        self.journal = Journal(directory / "journal", **options)  # type: ignore[arg-type]
        self.events: list[tuple[str, dict[str, object]]] = []
        self.tail = Tail(
            self.journal,
            self.store,
            TailOptions(every=0.005, retention=retention),
            on_event=lambda kind, facts: self.events.append((kind, facts)),
        )

    async def stop(self) -> None:
        await self.tail.stop()
        await self.store.aclose()


@pytest.fixture(autouse=True)
def disarmed() -> AsyncIterator[None]:
    yield
    failpoints.arm("")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Ledger]:
    return lambda **options: Ledger(tmp_path, **options)
