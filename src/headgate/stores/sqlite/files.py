"""The database file: who may open it, whether it is sound, which schema it has. Every refusal says what to do."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO

from headgate.core.errors import StorageUnavailable
from headgate.stores.migrations import Step, steps

APPLICATION_ID = 0x48644731
"""`HdG1` in the file's header: a file of another program is never touched."""
BUSY_MS = 5000
CHECKED_WHOLE = 64_000_000
"""Bytes up to which a file that was not closed cleanly is checked page by page at start."""


def version_warning(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str | None:
    """SQLite 3.7.0 to 3.51.2 can corrupt a WAL when two connections write or checkpoint at once. We have one writer;
    a second program that writes to the file would bring the danger back."""
    if (3, 7, 0) <= version <= (3, 51, 2):
        shown = ".".join(map(str, version))
        return (
            f"SQLite {shown} has the WAL-reset bug (3.7.0 to 3.51.2): Headgate writes through one connection, which is "
            "safe; do not write to the database with another program while it runs"
        )
    return None


class FileLock:
    """One process per database. The lock dies with the process, whatever kills it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Raises StorageUnavailable where another process holds it, or the directory cannot be written."""
        try:
            file = open(self._path, "a+", encoding="ascii")  # noqa: SIM115 - held for the process's life
        except OSError as error:
            raise _refused(f"the directory of the database cannot be written: {error.strerror}", error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            file.close()
            raise _refused(
                f"the database is in use by process {holder}: SQLite serves one Headgate process; stop the other one, "
                "give this one its own --data-dir, or use PostgreSQL for several",
                error,
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def free(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that commits and checkpoints, with the schema up to date. Raises StorageUnavailable; a file
    that is damaged or foreign is left as it is."""
    wal = path.with_name(path.name + "-wal")
    unclean = wal.exists() and wal.stat().st_size > 0
    if unclean and not path.exists():
        raise _refused(f"{path.name} is missing but {wal.name} is there: restore it, or move the WAL away as well")
    # It is there, with the mode that its owner gave it, or SQLite says why it cannot be. Its WAL takes the same mode.
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000, cached_statements=256
        )
    except sqlite3.Error as error:
        raise _refused(f"the database {path.name} cannot be opened: {error}", error) from error
    try:
        _check(connection, path, unclean)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        migrate(connection, steps("sqlite"))
    except sqlite3.Error as error:
        connection.close()
        raise _refused(_explain(path, error), error) from error
    except StorageUnavailable:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Reads only; nothing that it does can change the file. Raises StorageUnavailable."""
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=2.0
        )
        connection.execute("PRAGMA query_only = ON")
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.Error as error:
        raise _refused(_explain(path, error), error) from error
    if owner != APPLICATION_ID:
        connection.close()
        raise _refused(f"{path.name} is not a database of Headgate")
    return connection


def migrate(connection: sqlite3.Connection, path: tuple[Step, ...]) -> None:
    """Brings the schema to the newest step, each in one transaction: a crash leaves a whole step or none."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    newest = path[-1].version
    if version > newest:
        raise _refused(f"the database has schema {version}, this Headgate knows up to {newest}: use the newer release")
    for step in path[version:]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in step.statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {step.version:d}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _check(connection: sqlite3.Connection, path: Path, unclean: bool) -> None:
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner != APPLICATION_ID and (tables or owner):
        raise _refused(f"{path.name} is a database of another program: give store.url another file")
    if unclean and path.stat().st_size <= CHECKED_WHOLE:
        found = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        if found != ["ok"]:
            raise sqlite3.DatabaseError("; ".join(found)[:300])


def _explain(path: Path, error: sqlite3.Error) -> str:
    text = str(error)
    if "readonly" in text or "read-only" in text:
        return f"the database {path.name} is read-only: make the file and its directory writable"
    if "locked" in text or "busy" in text:
        return f"the database {path.name} is locked by another program"
    if "full" in text:
        return f"there is no room to write the database {path.name}"
    if isinstance(error, sqlite3.OperationalError) and "unable to open" in text:
        return f"the database {path.name} cannot be opened: is it there, and may this user read it?"
    return (
        f"the database {path.name} is damaged ({text[:200]}): it was left untouched; restore a copy, or move it away to "
        "start an empty one"
    )


def _refused(message: str, cause: BaseException | None = None) -> StorageUnavailable:
    return StorageUnavailable(message, detail="" if cause is None else repr(cause))
