"""The ports' Store on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Unpack

import asyncpg
import msgspec

from headgate.core.errors import StorageUnavailable
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
from headgate.stores import asking
from headgate.stores.booking import day_of
from headgate.stores.postgres import books
from headgate.stores.postgres.link import Link
from headgate.stores.rows import REQUEST_COLUMNS, audit_of, entry_of, key_of, request_of, teams_of

_REPLACE_FEEDBACK = (
    "INSERT INTO feedback VALUES ($1, $2, $3, $4) ON CONFLICT (trace)"
    " DO UPDATE SET at = excluded.at, score = excluded.score, body = excluded.body RETURNING trace"
)
_FIRST_FEEDBACK = "INSERT INTO feedback VALUES ($1, $2, $3, $4) ON CONFLICT (trace) DO NOTHING RETURNING trace"
POSTGRES = asking.Dialect(
    mark=lambda n: f"${n}",
    tags_of=" CROSS JOIN LATERAL json_array_elements_text(u.tags::json) AS t(value)",
    has_tag=lambda column, mark: f"{column}::jsonb ? {mark}::text",
    like="ILIKE",
    row_day="day",
    request_day="r.day",
)
_REQUEST = (
    f"SELECT {', '.join(REQUEST_COLUMNS)} FROM requests"  # noqa: S608
    " WHERE trace = $1 AND ($2::text IS NULL OR key_id = $2)"
)
PARTITIONED = (asyncpg.CheckViolationError, asyncpg.UndefinedTableError)
"""A day's partition is missing: another process has dropped it."""


class PostgresStore:
    """Made without a connection: the first call connects and brings the schema up to date, and any later one connects
    anew where the server was away."""

    def __init__(self, url: str) -> None:
        self._link = Link(url)
        self._days: set[str] = set()
        self.warnings: tuple[str, ...] = ()
        self.orphans = 0
        """Outcomes whose intent was never seen: only a journal that lost its beginning has any."""

    # -- ledger --------------------------------------------------------------------------------------------------------
    async def apply(self, entries: Sequence[JournalEntry], *, holder: str) -> None:
        days = books.days_of(entries)

        async def job(connection: Any) -> int:
            try:
                if not days <= self._days:
                    async with connection.transaction():
                        await books.make_partitions(connection, days - self._days)
                async with connection.transaction():
                    return await books.apply(connection, entries, holder)
            except PARTITIONED:
                await books.make_partitions(connection, days)
                return await books.apply(connection, entries, holder)

        self.orphans += await self._link.write(job)
        self._days |= days

    async def sweep(self, now: float, *, holder: str | None, charge: bool) -> int:
        total = 0
        while True:
            found = await self._link.write(lambda c: books.sweep(c, now, holder, charge))
            total += found
            if found < books.SWEPT_AT_ONCE:
                return total

    async def lease(self, scope: str, since: str, **terms: Unpack[LeaseTerms]) -> Lease:
        return await self._link.write(lambda c: books.lease(c, scope, since, **terms))

    async def release(self, scope: str, since: str, *, holder: str, amount: int, turn: int = 0) -> None:
        await self._link.write(lambda c: books.release(c, scope, since, holder, amount, turn))

    async def end_holder(self, holder: str, *, charge: bool) -> int:
        return await self._link.write(lambda c: books.end_holder(c, holder, charge))

    async def prune(self, before: float) -> int:
        while await self._link.write(lambda c: books.drop_homes(c, before)):
            pass  # a few at a time
        days: set[str] = set()
        for name in await self._link.read(lambda c: books.old_partitions(c, day_of(before))):
            try:
                dropped = await self._link.write(lambda c, name=name: books.drop_partition(c, name, before))
            except StorageUnavailable:
                continue  # in use for longer than we wait: the next time
            if dropped:
                days.add(name.rpartition("_")[2])
        self._days.clear()
        oldest = min(days, default=None)
        return 0 if oldest is None else (date.fromisoformat(day_of(before)) - date.fromisoformat(oldest)).days

    # -- keys ----------------------------------------------------------------------------------------------------------
    async def keys(self) -> Sequence[KeyRecord]:
        rows = await self._link.read(lambda c: c.fetch("SELECT id, body FROM virtual_keys ORDER BY id"))
        return [key_of(row[0], row[1]) for row in rows]

    async def put_key(self, *keys: KeyRecord, note: AuditRecord | None = None) -> None:
        await self._link.write(lambda c: _put_keys(c, keys, note))

    async def swap_key(self, old: KeyRecord, *keys: KeyRecord, note: AuditRecord | None = None) -> bool:
        async def write(connection: Any) -> bool:
            body = await connection.fetchval("SELECT body FROM virtual_keys WHERE id = $1 FOR UPDATE", old.id)
            if body is None or key_of(old.id, body) != old:
                return False
            await _put_keys(connection, keys, note)
            return True

        return await self._link.write(write)

    async def put_first_key(self, key: KeyRecord, *, note: AuditRecord | None = None) -> bool:
        body = msgspec.json.encode(key).decode()

        async def write(connection: Any) -> bool:
            await connection.execute("LOCK TABLE virtual_keys IN SHARE ROW EXCLUSIVE MODE")  # one writer, any readers
            if await connection.fetchval("SELECT 1 FROM virtual_keys LIMIT 1"):
                return await connection.fetchval(
                    "SELECT EXISTS (SELECT 1 FROM virtual_keys WHERE id = $1 AND body = $2)", key.id, body
                )
            await connection.execute("INSERT INTO virtual_keys VALUES ($1, $2, $3)", key.id, key.hash, body)
            await _new_version(connection, note)
            return True

        return await self._link.write(write)

    async def teams(self) -> Sequence[TeamRecord]:
        rows = await self._link.read(lambda c: c.fetch("SELECT body FROM teams ORDER BY id"))
        return teams_of(row[0] for row in rows)

    async def put_team(self, team: TeamRecord, *, note: AuditRecord | None = None) -> None:
        body = msgspec.json.encode(team).decode()

        async def write(connection: Any) -> None:
            await connection.execute(
                "INSERT INTO teams VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body", team.id, body
            )
            await _new_version(connection, note)

        await self._link.write(write)

    async def version(self) -> int:
        return await self._link.read(lambda c: c.fetchval("SELECT value FROM facts WHERE name = 'version'"))

    async def audit(self, record: AuditRecord) -> None:
        await self._link.write(lambda c: _write_down(c, record))

    async def audits(self, limit: int) -> Sequence[AuditRecord]:
        sql = "SELECT at, body FROM audits ORDER BY number DESC LIMIT $1"
        rows = await self._link.read(lambda c: c.fetch(sql, limit))
        return [audit_of(at, body) for at, body in rows]

    # -- asking --------------------------------------------------------------------------------------------------------
    async def usage(
        self, *, since: float, until: float, by: Sequence[str], where: dict[str, str]
    ) -> Sequence[UsageRow]:
        kept = await self._link.read(lambda c: c.fetchval("SELECT value FROM facts WHERE name = 'rows_from_day'"))
        cleaned = {name: books.clean(value) for name, value in where.items()}
        asked = asking.usage(POSTGRES, since, until, kept * asking.DAY, by, cleaned)
        if asked is None:
            return []
        rows = await self._link.read(lambda c: c.fetch(asked[0], *asked[1]))
        return [asking.usage_row_of(row, len(by)) for row in rows if row[len(by)]]

    async def mix(self, *, since: float, until: float, by: Sequence[str], where: dict[str, str]) -> Sequence[MixRow]:
        cleaned = {name: books.clean(value) for name, value in where.items()}
        sql, values = asking.mix(POSTGRES, since, until, by, cleaned)
        rows = await self._link.read(lambda c: c.fetch(sql, *values))
        return [asking.mix_row_of(row, len(by)) for row in rows if row[len(by)]]

    async def calls(self, *, since: float, until: float, where: dict[str, str]) -> Sequence[CallRow]:
        cleaned = {name: books.clean(value) for name, value in where.items()}
        sql, values = asking.calls(POSTGRES, since, until, cleaned)
        return [asking.call_row_of(row) for row in await self._link.read(lambda c: c.fetch(sql, *values))]

    async def requests(
        self, *, limit: int, before: float | None = None, where: dict[str, str] | None = None
    ) -> Sequence[RequestRecord]:
        cleaned = {name: books.clean(value) for name, value in (where or {}).items()}
        sql, values = asking.requests(POSTGRES, limit, before, cleaned)
        return [request_of(row) for row in await self._link.read(lambda c: c.fetch(sql, *values))]

    async def request(self, trace: str, *, key_id: str | None) -> RequestRecord | None:
        row = await self._link.read(lambda c: c.fetchrow(_REQUEST, books.clean(trace), books.clean(key_id)))
        return None if row is None else request_of(row)

    async def attempts(self, trace: str) -> Sequence[tuple[AttemptIntent, AttemptOutcome | None]]:
        sql = f"{books.ATTEMPTS} WHERE trace = $1 ORDER BY at, id"
        entries = [entry_of(row) for row in await self._link.read(lambda c: c.fetch(sql, books.clean(trace)))]
        return [(entry.intent, entry.outcome) for entry in entries]

    # -- learning ------------------------------------------------------------------------------------------------------
    async def put_feedback(self, record: FeedbackRecord, *, replace: bool = True) -> bool:
        row = (books.clean(record.trace), record.at, record.score, msgspec.json.encode(record).decode())
        sql = _REPLACE_FEEDBACK if replace else _FIRST_FEEDBACK
        return await self._link.write(lambda c: c.fetchval(sql, *row)) is not None

    async def feedback(self, *, limit: int, since: float = 0.0) -> Sequence[FeedbackRecord]:
        sql = "SELECT body FROM feedback WHERE at >= $1 ORDER BY at DESC LIMIT $2"
        rows = await self._link.read(lambda c: c.fetch(sql, since, limit))
        return [msgspec.json.decode(row[0], type=FeedbackRecord) for row in rows]

    async def learned(self, *, settled: bool = False) -> Sequence[LearnedRow]:
        rows = await (self._link.write(books.learned_settled) if settled else self._link.read(books.learned))
        return [LearnedRow(entry=r["entry"], holder=r["holder"], at=r["at"], body=r["body"]) for r in rows]

    async def swap_learned(self, row: LearnedRow, *, over: Sequence[str]) -> bool:
        return await self._link.write(lambda c: books.swap_learned(c, row, over))

    # -- objects that providers keep -----------------------------------------------------------------------------------
    async def put_homes(self, rows: Sequence[HomeRow]) -> None:
        await self._link.write(lambda c: books.put_homes(c, rows))

    async def homes(self, object_ids: Sequence[str], *, key_id: str | None) -> Sequence[HomeRow]:
        names = [books.clean(id) for id in object_ids]
        sql = "SELECT * FROM homes WHERE object_id = ANY($1) AND ($2::text IS NULL OR key_id = $2)"
        return [HomeRow(**dict(row)) for row in await self._link.read(lambda c: c.fetch(sql, names, key_id))]

    async def aclose(self) -> None:
        await self._link.close()


async def _put_keys(connection: Any, keys: Sequence[KeyRecord], note: AuditRecord | None) -> None:
    await connection.executemany(
        "INSERT INTO virtual_keys VALUES ($1, $2, $3)"
        " ON CONFLICT (id) DO UPDATE SET hash = excluded.hash, body = excluded.body",
        [(key.id, key.hash, msgspec.json.encode(key).decode()) for key in keys],
    )
    await _new_version(connection, note)


async def _new_version(connection: Any, note: AuditRecord | None) -> None:
    await connection.execute("UPDATE facts SET value = value + 1 WHERE name = 'version'")
    if note is not None:
        await _write_down(connection, note)


async def _write_down(connection: Any, record: AuditRecord) -> None:
    body = msgspec.json.encode(record).decode()
    await connection.execute("INSERT INTO audits (at, body) VALUES ($1, $2)", record.at, body)
