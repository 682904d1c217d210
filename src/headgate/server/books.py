"""The store and the journal of a serving process: chosen by `store.url`, opened before serving, closed after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from headgate.config.model import Store as StoreSettings
from headgate.core.errors import StorageUnavailable
from headgate.core.ports import Store
from headgate.ledger.journal import Journal
from headgate.ledger.tail import Tail, TailOptions
from headgate.stores.sqlite import SqliteReader, SqliteStore

RECOVERY = 20.0
"""Seconds that the start waits for the journals of dead processes; a store that is down does not hold it up."""


def sqlite_path(url: str, data_dir: Path) -> Path:
    """`sqlite:///FILE`: relative to the data directory; `sqlite:////FILE` is absolute."""
    return data_dir / url.removeprefix("sqlite:///")


def open_store(settings: StoreSettings, data_dir: Path) -> Store:
    """Raises StorageUnavailable with a message for the operator."""
    if settings.url.startswith("sqlite:///"):
        return SqliteStore(sqlite_path(settings.url, data_dir))
    try:
        from headgate.stores.postgres import PostgresStore
    except ImportError as error:
        raise StorageUnavailable("a store on PostgreSQL needs the extra: pip install 'headgate[postgres]'") from error
    return PostgresStore(settings.url)


def open_reader(settings: StoreSettings, data_dir: Path) -> SqliteReader | Store:
    """For commands beside a running gateway, or after it. Raises StorageUnavailable."""
    if settings.url.startswith("sqlite:///"):
        return SqliteReader(sqlite_path(settings.url, data_dir))
    return open_store(settings, data_dir)


class Books:
    """`store` and `journal` are for the whole process; `start` and `close` are called from the serving loop."""

    def __init__(
        self, settings: StoreSettings, data_dir: Path, on_event: Callable[[str, dict[str, object]], None]
    ) -> None:
        """Raises StorageUnavailable."""
        self.store = open_store(settings, data_dir)
        self.journal = Journal(data_dir / "journal", durability=settings.durability, backlog=settings.journal)
        options = TailOptions(charge_unknown=settings.unknown == "reserved", retention=settings.retention)
        self.tail = Tail(self.journal, self.store, options, on_event=on_event)
        self.warnings: tuple[str, ...] = getattr(self.store, "warnings", ())

    async def start(self) -> None:
        """Returns once what dead processes left has been booked."""
        self.tail.start()
        await asyncio.to_thread(self.tail.recovered.wait, RECOVERY)

    async def close(self) -> None:
        """The last rows go to the store, or stay in the journal for the next start."""
        await self.tail.stop()
        await self.store.aclose()

    def gauges(self) -> dict[str, float]:
        """For metrics."""
        return {
            "backlog_bytes": self.journal.behind,
            "unsynced_bytes": max(0, self.journal.written - self.journal.sync.synced),
            "shed": self.journal.shed,
            "dropped": self.journal.dropped,
            "quarantined": self.tail.quarantined,
            "failed": float(self.journal.failed is not None),
            "store_down": float(self.tail.store_error is not None),
        }
