"""Reading on a SQLite connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from headgate.core.records import (
    AttemptIntent,
    AttemptOutcome,
    CallRow,
    FeedbackRecord,
    HomeRow,
    LearnedRow,
    MixRow,
    RequestRecord,
    UsageRow,
)
from headgate.stores import asking
from headgate.stores.rows import REQUEST_COLUMNS, entry_of, request_of
from headgate.stores.sqlite.books import ATTEMPTS

SQLITE = asking.Dialect(
    mark=lambda n: "?",
    tags_of=", json_each(u.tags) AS t",
    has_tag=lambda column, mark: f"EXISTS (SELECT 1 FROM json_each({column}) WHERE value = {mark})",  # noqa: S608
    like="LIKE",
    row_day="strftime('%Y-%m-%d', admitted, 'unixepoch')",
    request_day="strftime('%Y-%m-%d', r.at, 'unixepoch')",
)
_REQUEST = f"SELECT {', '.join(REQUEST_COLUMNS)} FROM requests WHERE trace = ? AND (? IS NULL OR key_id = ?)"  # noqa: S608


def usage(
    connection: sqlite3.Connection, since: float, until: float, by: Sequence[str], where: Mapping[str, str]
) -> list[UsageRow]:
    (kept,) = connection.execute("SELECT value FROM facts WHERE name = 'rows_from_day'").fetchone()
    asked = asking.usage(SQLITE, since, until, kept * asking.DAY, by, where)
    if asked is None:
        return []
    return [asking.usage_row_of(row, len(by)) for row in connection.execute(*asked) if row[len(by)]]


def requests(
    connection: sqlite3.Connection, limit: int, before: float | None, where: Mapping[str, str]
) -> list[RequestRecord]:
    return [request_of(row) for row in connection.execute(*asking.requests(SQLITE, limit, before, where))]


def request(connection: sqlite3.Connection, trace: str, key_id: str | None) -> RequestRecord | None:
    row = connection.execute(_REQUEST, (trace, key_id, key_id)).fetchone()
    return None if row is None else request_of(row)


def attempts(connection: sqlite3.Connection, trace: str) -> list[tuple[AttemptIntent, AttemptOutcome | None]]:
    rows = connection.execute(f"{ATTEMPTS} WHERE trace = ? ORDER BY at, id", (trace,))
    return [(entry.intent, entry.outcome) for entry in map(entry_of, rows)]


def mix(
    connection: sqlite3.Connection, since: float, until: float, by: Sequence[str], where: Mapping[str, str]
) -> list[MixRow]:
    rows = connection.execute(*asking.mix(SQLITE, since, until, by, where))
    return [asking.mix_row_of(row, len(by)) for row in rows if row[len(by)]]


def calls(connection: sqlite3.Connection, since: float, until: float, where: Mapping[str, str]) -> list[CallRow]:
    return [asking.call_row_of(row) for row in connection.execute(*asking.calls(SQLITE, since, until, where))]


def feedback(connection: sqlite3.Connection, limit: int, since: float) -> list[FeedbackRecord]:
    rows = connection.execute("SELECT body FROM feedback WHERE at >= ? ORDER BY at DESC LIMIT ?", (since, limit))
    return [msgspec.json.decode(body, type=FeedbackRecord) for (body,) in rows]


def homes(connection: sqlite3.Connection, object_ids: Sequence[str], key_id: str | None) -> list[HomeRow]:
    rows = connection.execute(
        "SELECT key_id, object_id, model, provider, deployment, expires FROM homes"
        " WHERE object_id IN (SELECT value FROM json_each(?)) AND (?2 IS NULL OR key_id = ?2)",
        (msgspec.json.encode(object_ids).decode(), key_id),
    )
    return [HomeRow(**dict(zip(HomeRow.__struct_fields__, row, strict=True))) for row in rows]


def learned(connection: sqlite3.Connection) -> list[LearnedRow]:
    rows = connection.execute("SELECT entry, holder, at, body FROM learned ORDER BY entry, holder")
    return [LearnedRow(entry=entry, holder=holder, at=at, body=body) for entry, holder, at, body in rows]
