"""The way to the server: a thread with an event loop of its own, a pool, and what its errors mean.

Whoever calls may live on any loop. Nothing connects before it is asked; a server that is away is asked again next time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from headgate.core.background import give_way
from headgate.core.errors import InternalError, StorageUnavailable, StorageUnsure
from headgate.stores.migrations import Step, steps

T = TypeVar("T")
Connection = Any
"""asyncpg's connection, or the pool's stand-in for it."""
MIGRATING = 0x48644731
CONNECT_S = 5.0
MOST_CONNECTIONS = 4
TRIES = 4
SETTINGS = {
    "application_name": "headgate",
    "statement_timeout": "10000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "15000",
    "timezone": "UTC",
}
AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.UniqueViolationError)
"""Two processes wrote the same at once: the transaction is made anew, and sees what the other one did."""
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
OF_THE_CALL = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.SyntaxOrAccessError,
)
"""What trying again would not change."""
OF_THE_DATABASE = (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)
"""Tables or rights are away: a restore is under way, say. No entry is to blame, and all is well when they are back."""


class Link:
    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncpg.Pool | None = None
        self._opening: asyncio.Lock | None = None
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="store-postgres", daemon=True)
        self._thread.start()

    async def write(self, job: Callable[[Connection], Awaitable[T]]) -> T:
        """One transaction. Raises StorageUnavailable; then nothing of it has happened, but where it is StorageUnsure."""
        return await self._call(lambda: self._transact(job))

    async def read(self, job: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._call(lambda: self._plain(job))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._end(), self._loop))
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    def _run(self) -> None:
        give_way()
        self._loop.run_forever()

    # -- on the thread's own loop --------------------------------------------------------------------------------------
    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        if self._closed:
            raise StorageUnavailable("the store is closed")

        async def told() -> T:
            try:
                return await work()
            except OF_THE_DATABASE as error:
                said = "the database lacks tables, or rights on them"
                raise StorageUnavailable(said, detail=repr(error)) from error
            except OF_THE_CALL as error:
                raise InternalError("the store refused an entry", detail=repr(error)) from error
            except LOST as error:
                raise StorageUnavailable(_message(error), detail=repr(error)) from error

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(told(), self._loop))

    async def _transact(self, job: Callable[[Connection], Awaitable[T]]) -> T:
        for left in reversed(range(TRIES)):
            done = False
            try:
                async with (await self._open()).acquire(timeout=CONNECT_S) as connection, connection.transaction():
                    found = await job(connection)
                    done = True
            except AGAIN:
                if not left:
                    raise
            except LOST as error:
                if not done:
                    raise
                raise StorageUnsure("PostgreSQL was lost in a commit", detail=repr(error)) from error
            else:
                return found
        raise AssertionError("unreachable")

    async def _plain(self, job: Callable[[Connection], Awaitable[T]]) -> T:
        async with (await self._open()).acquire(timeout=CONNECT_S) as connection:
            return await job(connection)

    async def _open(self) -> asyncpg.Pool:
        if self._pool is not None:
            return self._pool
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._pool is None:
                pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=MOST_CONNECTIONS,
                    timeout=CONNECT_S,
                    command_timeout=15.0,
                    max_inactive_connection_lifetime=60.0,
                    server_settings=SETTINGS,
                )
                try:
                    async with pool.acquire(timeout=CONNECT_S) as connection:
                        await migrate(connection, steps("postgres"))
                except BaseException:
                    pool.terminate()
                    raise
                self._pool = pool
        return self._pool

    async def _end(self) -> None:
        if self._pool is not None:
            try:
                async with asyncio.timeout(5.0):
                    await self._pool.close()
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._pool.terminate()


async def migrate(connection: Connection, path: tuple[Step, ...]) -> None:
    """Brings the schema to the newest step; of many processes that start at once, one does it. A schema that is newer than
    ours is used while it still keeps what we know (`oldest`)."""
    await connection.execute("SELECT pg_advisory_lock($1)", MIGRATING)
    try:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS headgate_schema (version integer PRIMARY KEY, name text NOT NULL,"
            " oldest integer NOT NULL, at timestamptz NOT NULL DEFAULT now())"
        )
        row = await connection.fetchrow("SELECT max(version) AS version, max(oldest) AS oldest FROM headgate_schema")
        version, newest = row["version"] or 0, path[-1].version
        if version > newest and row["oldest"] > newest:
            raise StorageUnavailable(
                f"the database has schema {version}, this Headgate knows up to {newest}: use the newer release"
            )
        for step in path[version:]:
            async with connection.transaction():
                for statement in step.statements:
                    await connection.execute(statement)
                await connection.execute(
                    "INSERT INTO headgate_schema (version, name, oldest) VALUES ($1, $2, $3)",
                    step.version,
                    step.name,
                    step.oldest,
                )
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", MIGRATING)


def _message(error: BaseException) -> str:
    if isinstance(error, asyncpg.QueryCanceledError):
        return "the query took too long: ask for less"
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return "PostgreSQL refuses the user or password of store.url"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return "the database of store.url does not exist"
    return "PostgreSQL does not answer"
