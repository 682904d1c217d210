"""The embedded store: one file, one process, one writer."""

from headgate.stores.sqlite.store import SqliteReader, SqliteStore

__all__ = ["SqliteReader", "SqliteStore"]
