"""Questions as SQL, for every database: columns come from closed tables, every value is a bound parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headgate.core.records import CallRow, MixRow, UsageRow
from headgate.stores.booking import USAGE_SUMS, day_of
from headgate.stores.rows import DIMENSIONS, MIX_DIMENSIONS, REQUEST_COLUMNS, REQUEST_FILTERS, check_names

DAY = 86400.0
YEAR_9999 = 253_370_764_800.0


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How one database writes what all of them can."""

    mark: Callable[[int], str]
    """The nth parameter, from 1."""
    tags_of: str
    """Joins a row of `u` with its tags as `t.value`."""
    has_tag: Callable[[str, str], str]
    """(column, parameter) -> whether the tag is among them."""
    like: str
    row_day: str
    """The day of an attempt's admission."""
    request_day: str
    """The day of a request `r`."""


class Question:
    """SQL and its values, grown together."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.values: list[Any] = []

    def bind(self, value: Any) -> str:
        self.values.append(value)
        return self._dialect.mark(len(self.values))


_FROM_DAYS = (
    "SELECT day, key_id, user_name, team, model, provider, deployment, role, tags, error,"
    " attempts, failed, input, output, cached, cost, unknown_cost FROM usage_days"
)
_SUMS = ", ".join(f"sum({name})" for name in USAGE_SUMS)


def _from_rows(dialect: Dialect) -> str:
    return (
        f"SELECT {dialect.row_day} AS day, key_id, coalesce(user_name, '') AS user_name,"  # noqa: S608
        " coalesce(team, '') AS team, model, provider, deployment, coalesce(role, '') AS role, tags,"
        " coalesce(error, '') AS error, 1 AS attempts,"
        " CASE WHEN outcome IN ('failed', 'truncated') THEN 1 ELSE 0 END AS failed,"
        " coalesce(input, 0) AS input, coalesce(output, 0) AS output, coalesce(cached_input, 0) AS cached,"
        " charged AS cost, CASE WHEN cost IS NULL THEN 1 ELSE 0 END AS unknown_cost"
        " FROM attempts WHERE state <> 'intent'"
    )


def usage(
    dialect: Dialect, since: float, until: float, kept: float, by: Sequence[str], where: Mapping[str, str]
) -> tuple[str, list[Any]] | None:
    """Whole days from the sums, the hours at both ends from the rows while they are kept (from `kept` on), else their
    whole day. Rows are the dimensions, then USAGE_SUMS. None where there is nothing to ask. Raises ValueError."""
    check_names(by, DIMENSIONS, "dimension")
    check_names(list(where), DIMENSIONS, "dimension")
    question = Question(dialect)
    days, hours = stretches(since, until, kept)
    parts = [
        f"{_FROM_DAYS} WHERE day >= {question.bind(day_of(start))} AND day < {question.bind(day_of(end))}"
        for start, end in days
    ]
    rows = _from_rows(dialect)
    for start, end in hours:
        part = f"{rows} AND admitted >= {question.bind(start)} AND admitted < {question.bind(end)}"
        parts.append(part)
    if not parts:
        return None
    tables = f"({' UNION ALL '.join(parts)}) AS u"
    if "tag" in by:
        tables += dialect.tags_of
    tests = [
        dialect.has_tag("u.tags", question.bind(value))
        if name == "tag"
        else f"u.{DIMENSIONS[name]} = {question.bind(value)}"
        for name, value in where.items()
    ]
    group = ", ".join("t.value" if name == "tag" else f"u.{DIMENSIONS[name]}" for name in by)
    sql = (
        f"SELECT {group + ', ' if group else ''}{_SUMS} FROM {tables}"  # noqa: S608
        f"{' WHERE ' + ' AND '.join(tests) if tests else ''}"
        f"{f' GROUP BY {group} ORDER BY {group}' if group else ''}"
    )
    return sql, question.values


MIX_SUMS = (
    "count(*), sum(CASE WHEN status >= 400 THEN 1 ELSE 0 END), sum(coalesce(cost, 0)),"
    " sum(CASE WHEN cost IS NULL THEN 1 ELSE 0 END), sum(coalesce(saved, 0)), sum(latency), sum(coalesce(input, 0)),"
    " sum(coalesce(output, 0)), count(f.score), coalesce(sum(f.score), 0)"
)


def mix(
    dialect: Dialect, since: float, until: float, by: Sequence[str], where: Mapping[str, str]
) -> tuple[str, list[Any]]:
    """Rows are the dimensions, then MIX_SUMS. Raises ValueError."""
    check_names(by, MIX_DIMENSIONS, "dimension")
    check_names(list(where), MIX_DIMENSIONS, "dimension")
    question = Question(dialect)
    columns = {name: _mix_column(dialect, name) for name in (*by, *where)}
    tests = [f"r.at >= {question.bind(max(since, 0.0))}", f"r.at < {question.bind(min(until, YEAR_9999))}"]
    tests += [f"{columns[name]} = {question.bind(value)}" for name, value in where.items()]
    group = ", ".join(columns[name] for name in by)
    sql = (
        f"SELECT {group + ', ' if group else ''}{MIX_SUMS} FROM requests r"  # noqa: S608
        f" LEFT JOIN feedback f ON f.trace = r.trace WHERE {' AND '.join(tests)}"
        f"{f' GROUP BY {group} ORDER BY {group}' if group else ''}"
    )
    return sql, question.values


ANSWERING = ("hedge", "rescue", "try")
"""Roles of attempts whose answer might have been served, besides those without a role."""


def calls(dialect: Dialect, since: float, until: float, where: Mapping[str, str]) -> tuple[str, list[Any]]:
    """Rows are task, model, calls, failed. Raises ValueError."""
    check_names(list(where), MIX_DIMENSIONS, "dimension")
    question = Question(dialect)
    tests = [f"r.at >= {question.bind(max(since, 0.0))}", f"r.at < {question.bind(min(until, YEAR_9999))}"]
    for name, value in where.items():
        column = "a.model" if name == "model" else _mix_column(dialect, name)
        tests.append(f"{column} = {question.bind(value)}")
    roles = ", ".join(question.bind(role) for role in ANSWERING)
    sql = (
        "SELECT coalesce(r.task, ''), a.model, count(*),"  # noqa: S608
        " sum(CASE WHEN a.outcome IN ('failed', 'truncated') THEN 1 ELSE 0 END)"
        " FROM requests r JOIN attempts a ON a.trace = r.trace"
        f" WHERE {' AND '.join(tests)} AND a.outcome IN ('ok', 'failed', 'truncated')"
        f" AND (a.role IS NULL OR a.role IN ({roles}))"
        " GROUP BY coalesce(r.task, ''), a.model ORDER BY coalesce(r.task, ''), a.model"
    )
    return sql, question.values


def call_row_of(row: Sequence[Any]) -> CallRow:
    return CallRow(group=(row[0], row[1]), calls=int(row[2]), failed=int(row[3]))


def _mix_column(dialect: Dialect, name: str) -> str:
    return dialect.request_day if name == "day" else f"coalesce(r.{MIX_DIMENSIONS[name]}, '')"


def mix_row_of(row: Sequence[Any], dimensions: int) -> MixRow:
    """From the dimensions asked for, then MIX_SUMS."""
    requests, failed, cost, unknown, saved, latency, read, written, scored, score = row[dimensions:]
    return MixRow(
        group=tuple(row[:dimensions]),
        requests=int(requests),
        failed=int(failed or 0),
        cost=int(cost or 0),
        unknown_cost=int(unknown or 0),
        saved=int(saved or 0),
        latency=float(latency or 0.0),
        input=int(read or 0),
        output=int(written or 0),
        scored=int(scored),
        score=float(score or 0.0),
    )


def stretches(since: float, until: float, kept: float) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """`[since, until)` as whole days and as stretches of hours."""
    since, until = max(since, 0.0), min(until, YEAR_9999)
    first, last = -(-since // DAY) * DAY, until // DAY * DAY
    edges = [(since, until)] if first > last else [(since, first), (last, until)]
    days = [(first, last)]
    days += [(start // DAY * DAY, start // DAY * DAY + DAY) for start, end in edges if start < end and start < kept]
    return [d for d in days if d[0] < d[1]], [e for e in edges if e[0] < e[1] and e[0] >= kept]


def requests(dialect: Dialect, limit: int, before: float | None, where: Mapping[str, str]) -> tuple[str, list[Any]]:
    """Rows are REQUEST_COLUMNS, the newest first. Raises ValueError."""
    check_names(list(where), REQUEST_FILTERS, "filter")
    question = Question(dialect)
    tests = [] if before is None else [f"at < {question.bind(before)}"]
    tests += [_test(question, dialect, name, value) for name, value in where.items()]
    sql = (
        f"SELECT {', '.join(REQUEST_COLUMNS)} FROM requests"  # noqa: S608
        f"{' WHERE ' + ' AND '.join(tests) if tests else ''} ORDER BY at DESC, trace DESC LIMIT {question.bind(limit)}"
    )
    return sql, question.values


def _test(question: Question, dialect: Dialect, name: str, value: str) -> str:
    match name:
        case "tag":
            return dialect.has_tag("tags", question.bind(value))
        case "name":
            return f"(requested = {question.bind(value)} OR model = {question.bind(value)})"
        case "failed":
            return "status >= 400"
        case "search":
            pattern = f"%{escape_like(value)}%"
            fields = ("requested", "model", "error", "trace", "id")
            tests = [f"{field} {dialect.like} {question.bind(pattern)} ESCAPE '\\'" for field in fields]
            return f"({' OR '.join(tests)})"
        case "status":
            return f"status = {question.bind(int(value) if value.isdecimal() and len(value) < 5 else -1)}"
        case _:
            return f"{REQUEST_FILTERS[name]} = {question.bind(value)}"


def escape_like(text: str) -> str:
    """So that `%` and `_` are looked for as they are."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


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
