"""One thread that writes, two that read: the serving loop never waits for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from headgate.core.background import give_way
from headgate.core.errors import InternalError, StorageUnavailable
from headgate.stores.sqlite.files import open_reader

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
OF_THE_ENTRY = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
)
"""What trying again would not change."""
READERS = 2
STEPS = 20_000
"""Steps of SQLite's machine between two looks at the clock."""


class Writer:
    """Runs jobs in order, each in one transaction. Usable from every event loop."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._jobs: queue.SimpleQueue[tuple[Job, Future] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def do(self, job: Job[T]) -> T:
        """Raises StorageUnavailable; then nothing of the job has happened."""
        if self._closed:
            raise StorageUnavailable("the store is closed")
        done: Future[T] = Future()
        self._jobs.put((job, done))
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Finishes what was given, checkpoints, closes."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join()

    def _run(self) -> None:
        give_way()
        while (given := self._jobs.get()) is not None:
            job, done = given
            if not done.set_running_or_notify_cancel():
                continue
            try:
                result = self._transact(job)
            except OF_THE_ENTRY as error:
                done.set_exception(InternalError("the store refused an entry", detail=repr(error)))
            except sqlite3.Error as error:
                done.set_exception(StorageUnavailable("the store cannot be written", detail=repr(error)))
            except Exception as error:  # noqa: BLE001 - the root of this thread: whoever waits is told
                done.set_exception(error)
            else:
                done.set_result(result)
        with contextlib.suppress(sqlite3.Error):  # a full disk: the WAL stays, and is read at the next start
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _transact(self, job: Job[T]) -> T:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = job(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result


class Readers:
    """A few read-only connections, one per thread, with a time limit per query."""

    def __init__(self, path: Path, limit: float = 10.0) -> None:
        self._path = path
        self._limit = limit
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader", initializer=give_way)

    async def do(self, job: Job[T]) -> T:
        """Raises StorageUnavailable where the file cannot be read or the query takes too long."""
        try:
            done = self._pool.submit(self._read, job)
        except RuntimeError as error:
            raise StorageUnavailable("the store is closed") from error
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for connection in self._open:
            connection.close()

    def _read(self, job: Job[T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader(self._path)
            self._open.append(connection)
        until = time.monotonic() + self._limit
        connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
        try:
            return job(connection)
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise StorageUnavailable("the query took too long: ask for less", detail=repr(error)) from error
            raise StorageUnavailable("the store cannot be read", detail=repr(error)) from error
        except sqlite3.Error as error:
            raise StorageUnavailable("the store cannot be read", detail=repr(error)) from error
