"""The ports' Store on SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import msgspec

from headgate.core.ports import LeaseTerms
from headgate.core.records import (
    AttemptIntent,
    AttemptOutcome,
    AuditRecord,
    CallRow,
    FeedbackRecord,
    HomeRow,
    JournalEntry,
    KeyRecord,
    LearnedRow,
    Lease,
    MixRow,
    RequestRecord,
    TeamRecord,
    UsageRow,
)
from headgate.stores.rows import audit_of, key_of, teams_of
from headgate.stores.sqlite import books, queries
from headgate.stores.sqlite.files import FileLock, open_writer, version_warning
from headgate.stores.sqlite.threads import Readers, Writer


class SqliteReader:
    """What can be asked of a store's file without owning it: also while a gateway runs on it."""

    def __init__(self, path: Path) -> None:
        self._readers = Readers(path)

    async def keys(self) -> Sequence[KeyRecord]:
        rows = await self._readers.do(
            lambda c: c.execute("SELECT id, CAST(body AS BLOB) FROM virtual_keys ORDER BY id").fetchall()
        )
        return [key_of(id, body) for id, body in rows]

    async def teams(self) -> Sequence[TeamRecord]:
        rows = await self._readers.do(
            lambda c: c.execute("SELECT CAST(body AS BLOB) FROM teams ORDER BY id").fetchall()
        )
        return teams_of(body for (body,) in rows)

    async def version(self) -> int:
        sql = "SELECT value FROM facts WHERE name = 'version'"
        return await self._readers.do(lambda c: c.execute(sql).fetchone()[0])

    async def audits(self, limit: int) -> Sequence[AuditRecord]:
        sql = "SELECT at, CAST(body AS BLOB) FROM audits ORDER BY number DESC LIMIT ?"
        rows = await self._readers.do(lambda c: c.execute(sql, (limit,)).fetchall())
        return [audit_of(at, body) for at, body in rows]

    async def mix(self, *, since: float, until: float, by: Sequence[str], where: dict[str, str]) -> Sequence[MixRow]:
        return await self._readers.do(lambda c: queries.mix(c, since, until, by, where))

    async def calls(self, *, since: float, until: float, where: dict[str, str]) -> Sequence[CallRow]:
        return await self._readers.do(lambda c: queries.calls(c, since, until, where))

    async def feedback(self, *, limit: int, since: float = 0.0) -> Sequence[FeedbackRecord]:
        return await self._readers.do(lambda c: queries.feedback(c, limit, since))

    async def learned(self) -> Sequence[LearnedRow]:
        return await self._readers.do(queries.learned)

    async def homes(self, object_ids: Sequence[str], *, key_id: str | None) -> Sequence[HomeRow]:
        return await self._readers.do(lambda c: queries.homes(c, object_ids, key_id))

    async def usage(
        self, *, since: float, until: float, by: Sequence[str], where: dict[str, str]
    ) -> Sequence[UsageRow]:
        return await self._readers.do(lambda c: queries.usage(c, since, until, by, where))

    async def requests(
        self, *, limit: int, before: float | None = None, where: dict[str, str] | None = None
    ) -> Sequence[RequestRecord]:
        return await self._readers.do(lambda c: queries.requests(c, limit, before, where or {}))

    async def request(self, trace: str, *, key_id: str | None) -> RequestRecord | None:
        return await self._readers.do(lambda c: queries.request(c, trace, key_id))

    async def attempts(self, trace: str) -> Sequence[tuple[AttemptIntent, AttemptOutcome | None]]:
        return await self._readers.do(lambda c: queries.attempts(c, trace))

    async def aclose(self) -> None:
        await asyncio.to_thread(self._readers.close)


class SqliteStore(SqliteReader):
    """Owns the file: made by one process at a time.

    Making it raises StorageUnavailable with a message for the operator where the file is in use, read-only, damaged,
    foreign or of a newer release; nothing is ever re-created in silence."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._lock.take()
        try:
            self._writer = Writer(open_writer(path))
        except BaseException:
            self._lock.free()
            raise
        super().__init__(path)
        warning = version_warning()
        self.warnings: tuple[str, ...] = (warning,) if warning else ()
        self.orphans = 0
        """Outcomes whose intent was never seen: only a journal that lost its beginning has any."""

    # -- ledger --------------------------------------------------------------------------------------------------------
    async def apply(self, entries: Sequence[JournalEntry], *, holder: str) -> None:
        self.orphans += await self._writer.do(lambda c: books.apply(c, entries, holder))

    async def sweep(self, now: float, *, holder: str | None, charge: bool) -> int:
        total = 0
        while (found := await self._writer.do(lambda c: books.sweep(c, now, holder, charge))) == books.SWEPT_AT_ONCE:
            total += found
        return total + found

    async def lease(self, scope: str, since: str, **terms: Unpack[LeaseTerms]) -> Lease:
        return await self._writer.do(lambda c: books.lease(c, scope, since, **terms))

    async def release(self, scope: str, since: str, *, holder: str, amount: int, turn: int = 0) -> None:
        await self._writer.do(lambda c: books.release(c, scope, since, holder=holder, amount=amount, turn=turn))

    async def end_holder(self, holder: str, *, charge: bool) -> int:
        return await self._writer.do(lambda c: books.end_holder(c, holder, charge))

    async def prune(self, before: float) -> int:
        before = before // 86400 * 86400
        first = await self._readers.do(books.oldest)
        if first is None or first >= before:
            return 0
        await self._writer.do(lambda c: books.note_pruned(c, before))
        while await self._writer.do(lambda c: books.prune_some(c, before)):
            pass  # a small transaction each: batches of the journal go in between
        return int((before - first // 86400 * 86400) // 86400)

    # -- keys ----------------------------------------------------------------------------------------------------------
    async def put_key(self, *keys: KeyRecord, note: AuditRecord | None = None) -> None:
        await self._writer.do(lambda c: _put_keys(c, keys, note))

    async def swap_key(self, old: KeyRecord, *keys: KeyRecord, note: AuditRecord | None = None) -> bool:
        def write(connection: sqlite3.Connection) -> bool:
            row = connection.execute("SELECT CAST(body AS BLOB) FROM virtual_keys WHERE id = ?", (old.id,)).fetchone()
            if row is None or key_of(old.id, row[0]) != old:
                return False
            _put_keys(connection, keys, note)
            return True

        return await self._writer.do(write)

    async def put_first_key(self, key: KeyRecord, *, note: AuditRecord | None = None) -> bool:
        row = (key.id, key.hash, msgspec.json.encode(key).decode())

        def write(connection: sqlite3.Connection) -> bool:
            sql = "INSERT INTO virtual_keys SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM virtual_keys)"
            if not connection.execute(sql, row).rowcount:
                found = connection.execute("SELECT 1 FROM virtual_keys WHERE (id, hash, body) = (?, ?, ?)", row)
                return found.fetchone() is not None
            _new_version(connection, note)
            return True

        return await self._writer.do(write)

    async def put_team(self, team: TeamRecord, *, note: AuditRecord | None = None) -> None:
        body = msgspec.json.encode(team).decode()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO teams VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body", (team.id, body)
            )
            _new_version(connection, note)

        await self._writer.do(write)

    async def put_feedback(self, record: FeedbackRecord, *, replace: bool = True) -> bool:
        return await self._writer.do(lambda c: books.put_feedback(c, record, replace=replace))

    async def learned(self, *, settled: bool = False) -> Sequence[LearnedRow]:
        return await (self._writer.do(queries.learned) if settled else super().learned())

    async def swap_learned(self, row: LearnedRow, *, over: Sequence[str]) -> bool:
        return await self._writer.do(lambda c: books.swap_learned(c, row, over))

    async def put_homes(self, rows: Sequence[HomeRow]) -> None:
        await self._writer.do(lambda c: books.put_homes(c, rows))

    async def audit(self, record: AuditRecord) -> None:
        await self._writer.do(lambda c: _write_down(c, record))

    async def aclose(self) -> None:
        await super().aclose()
        await asyncio.to_thread(self._writer.close)
        self._lock.free()


def _put_keys(connection: sqlite3.Connection, keys: Sequence[KeyRecord], note: AuditRecord | None) -> None:
    connection.executemany(
        "INSERT INTO virtual_keys VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET hash = excluded.hash, body = excluded.body",
        [(key.id, key.hash, msgspec.json.encode(key).decode()) for key in keys],
    )
    _new_version(connection, note)


def _new_version(connection: sqlite3.Connection, note: AuditRecord | None) -> None:
    connection.execute("UPDATE facts SET value = value + 1 WHERE name = 'version'")
    if note is not None:
        _write_down(connection, note)


def _write_down(connection: sqlite3.Connection, record: AuditRecord) -> None:
    row = (record.at, msgspec.json.encode(record).decode())
    connection.execute("INSERT INTO audits (at, body) VALUES (?, ?)", row)
