"""Reading: usage, requests, attempts. Columns come from closed tables; every value is a bound parameter."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from headgate.core.records import AttemptIntent, AttemptOutcome, RequestRecord, UsageRow
from headgate.stores.booking import USAGE_SUMS, day_of
from headgate.stores.rows import (
    DIMENSIONS,
    REQUEST_COLUMNS,
    REQUEST_FILTERS,
    check_names,
    entry_of,
    request_of,
)
from headgate.stores.sqlite.books import ATTEMPTS

DAY = 86400.0
YEAR_9999 = 253_370_764_800.0
_REQUESTS = f"SELECT {', '.join(REQUEST_COLUMNS)} FROM requests"  # noqa: S608
_SUMS = ", ".join(f"sum({name})" for name in USAGE_SUMS)
_FROM_DAYS = (
    "SELECT day, key_id, user_name, team, model, provider, deployment, role, tags, error,"
    " attempts, failed, input, output, cached, cost, unknown_cost FROM usage_days WHERE day >= ? AND day < ?"
)
_FROM_ROWS = (
    "SELECT strftime('%Y-%m-%d', admitted, 'unixepoch') AS day, key_id, coalesce(user_name, '') AS user_name,"
    " coalesce(team, '') AS team, model, provider, deployment, coalesce(role, '') AS role, tags,"
    " coalesce(error, '') AS error, 1 AS attempts, outcome IN ('failed', 'truncated') AS failed,"
    " coalesce(input, 0) AS input, coalesce(output, 0) AS output, coalesce(cached_input, 0) AS cached,"
    " charged AS cost, cost IS NULL AS unknown_cost"
    " FROM attempts WHERE state <> 'intent' AND admitted >= ? AND admitted < ?"
)


def usage(
    connection: sqlite3.Connection, since: float, until: float, by: Sequence[str], where: Mapping[str, str]
) -> list[UsageRow]:
    """Whole days from the sums, the hours at both ends from the rows while they are kept, else their whole day."""
    check_names(by, DIMENSIONS, "dimension")
    check_names(list(where), DIMENSIONS, "dimension")
    (kept,) = connection.execute("SELECT value FROM facts WHERE name = 'rows_from_day'").fetchone()
    parts, values = _sources(since, until, kept * DAY)
    if not parts:
        return []
    tagged = "tag" in by
    tables = f"({' UNION ALL '.join(parts)}) AS u"
    if tagged:
        tables += ", json_each(u.tags) AS t"
    columns = ["t.value" if name == "tag" else f"u.{DIMENSIONS[name]}" for name in by]
    tests: list[str] = []
    for name, value in where.items():
        if name == "tag":
            tests.append("EXISTS (SELECT 1 FROM json_each(u.tags) WHERE value = ?)")
        else:
            tests.append(f"u.{DIMENSIONS[name]} = ?")
        values.append(value)
    group = ", ".join(columns)
    sql = (
        f"SELECT {group + ', ' if group else ''}{_SUMS} FROM {tables}"  # noqa: S608
        f"{' WHERE ' + ' AND '.join(tests) if tests else ''}"
        f"{f' GROUP BY {group} ORDER BY {group}' if group else ''}"
    )
    return [usage_row_of(row, len(by)) for row in connection.execute(sql, values) if row[len(by)]]


def usage_row_of(row: Sequence[Any], dimensions: int) -> UsageRow:
    """From the dimensions asked for, then USAGE_SUMS."""
    sums = [int(value) for value in row[dimensions:]]
    return UsageRow(
        group=tuple(row[:dimensions]),
        attempts=sums[0],
        failed=sums[1],
        input=sums[2],
        output=sums[3],
        cached=sums[4],
        cost=sums[5],
        unknown_cost=sums[6],
    )


def _sources(since: float, until: float, kept: float) -> tuple[list[str], list[Any]]:
    """The parts of `[since, until)` and where each is read from."""
    since, until = max(since, 0.0), min(until, YEAR_9999)
    first, last = -(-since // DAY) * DAY, until // DAY * DAY  # the whole days are [first, last)
    edges = [(since, min(first, until)), (max(last, since, first), until)]
    if first > last:  # within one day
        edges = [(since, until)]
    whole = [(first, last)]
    for start, end in edges:
        if start < end and start < kept:
            whole.append((start // DAY * DAY, start // DAY * DAY + DAY))
    parts, values = [], []
    for start, end in whole:
        if start < end:
            parts.append(_FROM_DAYS)
            values += [day_of(start), day_of(end)]
    for start, end in edges:
        if start < end and start >= kept:
            parts.append(_FROM_ROWS)
            values += [start, end]
    return parts, values


def requests(
    connection: sqlite3.Connection, limit: int, before: float | None, where: Mapping[str, str]
) -> list[RequestRecord]:
    check_names(list(where), REQUEST_FILTERS, "filter")
    tests: list[str] = []
    values: list[Any] = []
    if before is not None:
        tests.append("at < ?")
        values.append(before)
    for name, value in where.items():
        if name == "tag":
            tests.append("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)")
            values.append(value)
        elif name == "name":
            tests.append("(requested = ? OR model = ?)")
            values += [value, value]
        elif name == "failed":
            tests.append("status >= 400")
        elif name == "search":
            fields = ("requested", "model", "error", "trace", "id")
            tests.append("(" + " OR ".join(f"{field} LIKE ? ESCAPE '\\'" for field in fields) + ")")
            values += [f"%{escape_like(value)}%"] * len(fields)
        else:
            tests.append(f"{REQUEST_FILTERS[name]} = ?")
            values.append(int(value) if name == "status" and value.isdecimal() else value)
    sql = f"{_REQUESTS}{' WHERE ' + ' AND '.join(tests) if tests else ''} ORDER BY at DESC, trace DESC LIMIT ?"
    return [request_of(row) for row in connection.execute(sql, (*values, limit))]


def escape_like(text: str) -> str:
    """So that `%` and `_` are looked for as they are."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def request(connection: sqlite3.Connection, trace: str, key_id: str | None) -> RequestRecord | None:
    row = connection.execute(
        f"{_REQUESTS} WHERE trace = ? AND (? IS NULL OR key_id = ?)", (trace, key_id, key_id)
    ).fetchone()
    return None if row is None else request_of(row)


def attempts(connection: sqlite3.Connection, trace: str) -> list[tuple[AttemptIntent, AttemptOutcome | None]]:
    rows = connection.execute(f"{ATTEMPTS} WHERE trace = ? ORDER BY at, id", (trace,))
    return [(entry.intent, entry.outcome) for entry in map(entry_of, rows)]
