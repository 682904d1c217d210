"""Booking on a PostgreSQL connection: each function runs inside one transaction of the caller.

Rows that several processes add to are always touched in the same order, so that no two wait for each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headgate.core import failpoints
from headgate.core.records import AttemptIntent, AttemptOutcome, HomeRow, JournalEntry, LearnedRow, Lease
from headgate.stores.booking import EMPTY_KEPT, MOST_BEYOND, USAGE_KEY, USAGE_SUMS, Booking, day_of, granted_of
from headgate.stores.rows import (
    ATTEMPT_COLUMNS,
    CLOSING_COLUMNS,
    REQUEST_COLUMNS,
    attempt_row,
    closing_row,
    entry_of,
    request_row,
)

SWEPT_AT_ONCE = 1000
PARTITIONING = 0x48644732


def _marks(count: int, first: int = 1) -> str:
    return ", ".join(f"${n}" for n in range(first, first + count))


# The names below come from the tuples of this package; every value is a bound parameter.
ATTEMPTS = f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts"  # noqa: S608
_KNOWN = f"{ATTEMPTS} WHERE id = ANY($1) AND day = ANY($2) FOR UPDATE"
_KNOWN_ANY_DAY = f"{ATTEMPTS} WHERE id = ANY($1) FOR UPDATE"
_CLOSE_ATTEMPT = (
    f"UPDATE attempts SET {', '.join(f'{name} = ${n}' for n, name in enumerate(CLOSING_COLUMNS, 3))}"  # noqa: S608
    " WHERE id = $1 AND day = $2"
)
_INSERT_REQUEST = (
    f"INSERT INTO requests ({', '.join(REQUEST_COLUMNS)}, day)"  # noqa: S608
    f" VALUES ({_marks(len(REQUEST_COLUMNS) + 1)}) ON CONFLICT DO NOTHING"
)
_ADD_USAGE = (
    f"INSERT INTO usage_days AS u ({', '.join((*USAGE_KEY, *USAGE_SUMS))}) VALUES ({_marks(17)})"  # noqa: S608
    " ON CONFLICT (day, key_id, user_name, team, model, provider, deployment, role, tags, error)"
    f" DO UPDATE SET {', '.join(f'{name} = u.{name} + excluded.{name}' for name in USAGE_SUMS)}"
)
_ADD_SPENT = (
    "INSERT INTO spent AS s (scope, day, amount) VALUES ($1, $2, $3)"
    " ON CONFLICT (scope, day) DO UPDATE SET amount = s.amount + excluded.amount"
)
_TAKE_OFF = (
    "UPDATE leases SET amount = greatest(amount - $1, 0),"  # noqa: S608
    f" beyond = least(beyond + greatest($1 - amount, 0), {MOST_BEYOND}) WHERE holder = $2 AND scope = $3 AND since <= $4"
)
_HELD = "SELECT DISTINCT holder, scope FROM leases WHERE amount > 0 OR turn > 0"  # without a turn it was only looked at


def clean(value: Any) -> Any:
    """PostgreSQL's text holds no NUL."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) and "\x00" in value else value


def clean_tags(text: str) -> str:
    if "\\u0000" not in text:
        return text
    return msgspec.json.encode([clean(tag) for tag in msgspec.json.decode(text, type=list[str])]).decode()


def _clean_row(row: tuple[Any, ...], tags: int) -> list[Any]:
    out = [clean(value) for value in row]
    out[tags] = clean_tags(out[tags])
    return out


def days_of(entries: Iterable[JournalEntry]) -> set[str]:
    """The partitions that new rows of a batch lie in."""
    return {
        day_of((entry.admitted or entry.at) if isinstance(entry, AttemptIntent) else entry.at)
        for entry in entries
        if not isinstance(entry, AttemptOutcome)
    }


async def make_partitions(connection: Any, days: Iterable[str]) -> None:
    """One process at a time; the others find them made."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", PARTITIONING)
    for day in sorted(days):
        name = day.replace("-", "")
        if not name.isdigit():
            raise ValueError(f"not a day: {day!r}")
        for table in ("attempts", "requests"):
            exists = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{table}_{name}")
            if not exists:
                await connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table}_{name} PARTITION OF {table}"
                    f" FOR VALUES FROM ('{day}') TO ('{day}~')"  # what sorts between a day and the next
                )


async def apply(connection: Any, entries: Sequence[JournalEntry], holder: str) -> int:
    """Returns how many outcomes had no intent."""
    booking = Booking({row[0]: entry_of(row) for row in await _known(connection, entries)})
    booking.book(entries, holder)
    await _write(connection, booking)
    failpoints.reached("store.booked")
    return booking.orphans


async def _known(connection: Any, entries: Sequence[JournalEntry]) -> list[Any]:
    """By the days on which they probably were admitted first, then by id alone: only the late ones are looked for
    everywhere."""
    made = {clean(e.id): day_of(e.admitted or e.at) for e in entries if isinstance(e, AttemptIntent)}
    ended = {clean(e.id): e.at for e in entries if isinstance(e, AttemptOutcome) and clean(e.id) not in made}
    days = {*made.values(), *map(day_of, ended.values()), *(day_of(at - 86400) for at in ended.values())}
    ids = sorted({*made, *ended})
    if not ids:
        return []
    rows = await connection.fetch(_KNOWN, ids, sorted(days))
    late = sorted(set(ended) - {row[0] for row in rows})
    return rows + (await connection.fetch(_KNOWN_ANY_DAY, late) if late else [])


async def _write(connection: Any, booking: Booking) -> None:
    tags = ATTEMPT_COLUMNS.index("tags")
    new, closed = [], []
    for entry in booking.attempts.values():
        if entry.is_new:
            new.append([*_clean_row(attempt_row(entry), tags), entry.day])
        else:
            closed.append([clean(entry.intent.id), entry.day, *map(clean, closing_row(entry))])
    if new:
        await connection.copy_records_to_table("attempts", records=new, columns=[*ATTEMPT_COLUMNS, "day"])
    if closed:
        await connection.executemany(_CLOSE_ATTEMPT, sorted(closed, key=lambda row: row[0]))
    if booking.requests:
        place = REQUEST_COLUMNS.index("tags")
        rows = [[*_clean_row(request_row(record), place), day_of(record.at)] for record in booking.requests.values()]
        await connection.executemany(_INSERT_REQUEST, sorted(rows, key=lambda row: row[0]))
    if usage := booking.usage():
        place = USAGE_KEY.index("tags")
        rows = [_clean_row(row, place) for row in usage]
        await connection.executemany(_ADD_USAGE, sorted(rows, key=lambda row: row[: len(USAGE_KEY)]))
    if spent := booking.spent():
        rows = [[clean(scope), day, amount] for (scope, day), amount in spent.items()]
        await connection.executemany(_ADD_SPENT, sorted(rows, key=lambda row: row[:2]))
        held = await connection.fetch(_HELD)
        if held and (taken := booking.leases({(row[0], row[1]) for row in held})):
            await connection.executemany(_TAKE_OFF, sorted(taken, key=lambda row: row[1:]))


async def sweep(connection: Any, now: float, holder: str | None, charge: bool) -> int:
    """At most SWEPT_AT_ONCE: call it until it returns less. Rows that another process sweeps meanwhile are left to it."""
    if holder is None:
        rows = await connection.fetch(
            f"{ATTEMPTS} WHERE state = 'intent' AND expires < $1 LIMIT {SWEPT_AT_ONCE:d} FOR UPDATE SKIP LOCKED", now
        )
        await connection.execute(
            "UPDATE leases SET charged = true WHERE expires < $1 AND NOT charged AND amount > 0", now
        )
        await connection.execute("DELETE FROM leases WHERE amount = 0 AND expires < $1", now - EMPTY_KEPT)
    else:
        rows = await connection.fetch(
            f"{ATTEMPTS} WHERE state = 'intent' AND holder = $1 LIMIT {SWEPT_AT_ONCE:d} FOR UPDATE", holder
        )
    booking = Booking({})
    booking.sweep([entry_of(row) for row in rows], now, charge=charge)
    await _write(connection, booking)
    return len(rows)


# -- leases ----------------------------------------------------------------------------------------------------------------
_STANDING = """
SELECT coalesce((SELECT sum(amount) FROM spent WHERE scope = $1 AND day >= $2), 0)::bigint AS spent,
  coalesce(sum(amount) FILTER (WHERE charged AND holder <> $3), 0)::bigint AS charged,
  coalesce(sum(amount) FILTER (WHERE NOT charged OR holder = $3), 0)::bigint AS leased,
  coalesce(max(turn) FILTER (WHERE holder = $3), 0) AS turn, coalesce(max(turned) FILTER (WHERE holder = $3), 0) AS turned,
  coalesce(max(beyond) FILTER (WHERE holder = $3), 0) AS beyond
FROM leases WHERE scope = $1 AND since = $2
"""
_GRANT = (
    "INSERT INTO leases AS l (scope, since, holder, amount, expires, turn, turned, beyond)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    " ON CONFLICT (scope, since, holder)"
    " DO UPDATE SET amount = l.amount + excluded.amount, expires = excluded.expires, charged = false,"
    " turn = excluded.turn, turned = excluded.turned, beyond = excluded.beyond"
)

_LOOKED = "UPDATE leases SET expires = $4, charged = false, beyond = $5 WHERE scope = $1 AND since = $2 AND holder = $3"


async def lease(
    connection: Any,
    scope: str,
    since: str,
    *,
    limit: int,
    want: int,
    holder: str,
    expires: float,
    turn: int = 0,
    owed: int = 0,
) -> Lease:
    """Grants of one window come one after the other, also after one whose client is gone; batches that are booked meanwhile
    only move lease into spending, and the sums are read in one statement, that is of one moment."""
    scope = clean(scope)
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{since} {scope}")
    row = await connection.fetchrow(_STANDING, scope, since, holder)
    spent, leased = row["spent"] + row["charged"], row["leased"]
    held, granted, beyond = 0, row["turned"], row["beyond"]
    if not turn or row["turn"] != turn:
        held, granted, beyond = granted_of(limit - spent - leased, want, owed, beyond)
    if turn or held:
        told = (turn, granted) if turn else (row["turn"], row["turned"])
        await connection.execute(_GRANT, scope, since, holder, held, expires, *told, beyond)
    else:  # only looked at: no row is made for that
        await connection.execute(_LOOKED, scope, since, holder, expires, beyond)
    return Lease(granted=granted, spent=spent, leased=leased + held)


async def release(connection: Any, scope: str, since: str, holder: str, amount: int, turn: int) -> None:
    """A row that is gone was given back to the last."""
    where = (clean(scope), since, holder)
    await connection.execute(
        "UPDATE leases SET amount = greatest(amount - $4, 0), turn = greatest(turn, $5)"
        " WHERE scope = $1 AND since = $2 AND holder = $3 AND ($5 = 0 OR turn < $5)",
        *where,
        min(amount, 2**62),
        turn,
    )
    await connection.execute(
        "DELETE FROM leases WHERE scope = $1 AND since = $2 AND holder = $3 AND amount = 0", *where
    )


async def end_holder(connection: Any, holder: str, charge: bool) -> int:
    if not charge:
        await connection.execute("DELETE FROM leases WHERE holder = $1 AND NOT charged", holder)
        return 0
    amount = await connection.fetchval(
        "SELECT coalesce(sum(amount), 0)::bigint FROM leases WHERE holder = $1 AND NOT charged", holder
    )
    await connection.execute("UPDATE leases SET charged = true WHERE holder = $1", holder)
    return amount


# -- retention -------------------------------------------------------------------------------------------------------------
_PARTITIONS = (
    "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = to_regclass($1) ORDER BY 1"
)


async def old_partitions(connection: Any, before: str) -> list[str]:
    """Names of partitions of days before `before`."""
    limit = before.replace("-", "")
    out: list[str] = []
    for table in ("attempts", "requests"):
        names = [row[0] for row in await connection.fetch(_PARTITIONS, table)]
        out += [name for name in names if name.rpartition("_")[2] < limit]
    return out


async def drop_partition(connection: Any, name: str, before: float) -> bool:
    """Whole, in a moment. One that still holds open attempts stays until they are closed."""
    table, _, day = name.rpartition("_")
    if table not in ("attempts", "requests") or not day.isdigit():
        raise ValueError(f"not a partition: {name!r}")
    if table == "attempts" and await connection.fetchval(
        f"SELECT EXISTS (SELECT 1 FROM {name} WHERE state = 'intent')"  # noqa: S608
    ):
        return False
    await connection.execute("SET LOCAL lock_timeout = '2s'")
    await connection.execute("DELETE FROM feedback WHERE at < $1", before)
    await connection.execute(f"DROP TABLE IF EXISTS {name}")
    await connection.execute(
        "UPDATE facts SET value = greatest(value, $1) WHERE name = 'rows_from_day'", int(before // 86400)
    )
    return True


# -- objects that providers keep -------------------------------------------------------------------------------------------
async def put_homes(connection: Any, rows: Sequence[HomeRow]) -> None:
    await connection.executemany(
        "INSERT INTO homes (key_id, object_id, model, provider, deployment, expires) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (key_id, object_id) DO UPDATE SET model = excluded.model, provider = excluded.provider,"
        " deployment = excluded.deployment, expires = excluded.expires",
        # in one order, so that two processes never wait for each other
        sorted([clean(value) for value in msgspec.structs.astuple(row)] for row in rows),
    )


async def drop_homes(connection: Any, before: float) -> bool:
    """Whether there may be more."""
    gone = await connection.execute(
        "DELETE FROM homes WHERE ctid = ANY(ARRAY(SELECT ctid FROM homes WHERE expires < $1 LIMIT 5000))", before
    )
    return gone != "DELETE 0"


# -- learning --------------------------------------------------------------------------------------------------------------
async def learned(connection: Any) -> list[Any]:
    return await connection.fetch("SELECT * FROM learned ORDER BY entry, holder")


async def learned_settled(connection: Any) -> list[Any]:
    """A transaction keeps its lock on the table until it has ended, whatever its client knows of it."""
    await connection.execute("LOCK TABLE learned IN SHARE MODE")  # no writers; any readers
    return await learned(connection)


async def swap_learned(connection: Any, row: LearnedRow, over: Sequence[str]) -> bool:
    holders = sorted(set(over))
    found = await connection.fetch(
        "SELECT holder FROM learned WHERE entry = $1 AND holder = ANY($2) ORDER BY holder FOR UPDATE",
        row.entry,
        holders,
    )
    if len(found) < len(holders):
        return False
    await connection.execute("DELETE FROM learned WHERE entry = $1 AND holder = ANY($2)", row.entry, holders)
    await connection.execute("INSERT INTO learned VALUES ($1, $2, $3, $4)", row.entry, row.holder, row.at, row.body)
    return True
