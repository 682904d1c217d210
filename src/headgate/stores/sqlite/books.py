"""Booking on a SQLite connection: each function is one job of the writer, inside its transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any

import msgspec

from headgate.core import failpoints
from headgate.core.records import (
    AttemptIntent,
    AttemptOutcome,
    FeedbackRecord,
    HomeRow,
    JournalEntry,
    LearnedRow,
    Lease,
)
from headgate.stores.booking import EMPTY_KEPT, MOST_BEYOND, USAGE_KEY, USAGE_SUMS, Booking, granted_of
from headgate.stores.rows import (
    ATTEMPT_COLUMNS,
    CLOSING_COLUMNS,
    REQUEST_COLUMNS,
    attempt_row,
    closing_row,
    entry_of,
    request_row,
)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


# The names below come from the tuples of this package; every value is a bound parameter.
ATTEMPTS = f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts"  # noqa: S608
_INSERT_ATTEMPT = f"INSERT INTO attempts ({', '.join(ATTEMPT_COLUMNS)}) VALUES "  # noqa: S608
_CLOSE_ATTEMPT = f"UPDATE attempts SET {', '.join(f'{name} = ?' for name in CLOSING_COLUMNS)} WHERE id = ?"  # noqa: S608
_INSERT_REQUEST = f"INSERT OR IGNORE INTO requests ({', '.join(REQUEST_COLUMNS)}) VALUES "  # noqa: S608
ROWS_AT_ONCE = 25
"""Rows per statement: each statement gives the interpreter to the serving thread once, and takes it back."""
_ADD_USAGE = (
    f"INSERT INTO usage_days ({', '.join((*USAGE_KEY, *USAGE_SUMS))}) VALUES ({_marks(17)})"  # noqa: S608
    f" ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in USAGE_SUMS)}"
)
_ADD_SPENT = (
    "INSERT INTO spent (scope, day, amount) VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET amount = amount + excluded.amount"
)
_TAKE_OFF = (
    f"UPDATE leases SET amount = max(amount - ?1, 0), beyond = min(beyond + max(?1 - amount, 0), {MOST_BEYOND})"  # noqa: S608
    " WHERE holder = ?2 AND scope = ?3 AND since <= ?4"
)
_HELD = "SELECT DISTINCT holder, scope FROM leases WHERE amount > 0 OR turn > 0"  # without a turn it was only looked at
_KNOWN = f"{ATTEMPTS} WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
SWEPT_AT_ONCE = 1000


def apply(connection: sqlite3.Connection, entries: Sequence[JournalEntry], holder: str) -> int:
    """Returns how many outcomes had no intent. What comes for the first time, as nearly all does, is not looked for: a row
    that is there already tells, and then all are."""
    intents = {entry.id for entry in entries if type(entry) is AttemptIntent}
    ended = {entry.id for entry in entries if type(entry) is AttemptOutcome}
    try:
        booking = _booked(connection, entries, holder, ended - intents)
    except sqlite3.IntegrityError:
        connection.execute("ROLLBACK")  # nothing else is in this transaction
        connection.execute("BEGIN IMMEDIATE")
        booking = _booked(connection, entries, holder, ended | intents)
    failpoints.reached("store.booked")
    return booking.orphans


def _booked(
    connection: sqlite3.Connection, entries: Sequence[JournalEntry], holder: str, ids: Collection[str]
) -> Booking:
    """`ids`: of the attempts that the store may know. Raises IntegrityError where it knows others."""
    rows = connection.execute(_KNOWN, (msgspec.json.encode(list(ids)).decode(),)).fetchall() if ids else []
    booking = Booking({row[0]: entry_of(row) for row in rows})
    booking.book(entries, holder)
    _write(connection, booking)
    return booking


def sweep(connection: sqlite3.Connection, now: float, holder: str | None, charge: bool) -> int:
    """At most SWEPT_AT_ONCE: call it until it returns less."""
    if holder is None:
        rows = connection.execute(
            f"{ATTEMPTS} WHERE state = 'intent' AND expires < ? LIMIT ?", (now, SWEPT_AT_ONCE)
        ).fetchall()
        connection.execute("UPDATE leases SET charged = 1 WHERE expires < ? AND charged = 0 AND amount > 0", (now,))
        connection.execute("DELETE FROM leases WHERE amount = 0 AND expires < ?", (now - EMPTY_KEPT,))
    else:
        rows = connection.execute(
            f"{ATTEMPTS} WHERE state = 'intent' AND holder = ? LIMIT ?", (holder, SWEPT_AT_ONCE)
        ).fetchall()
    booking = Booking({})
    booking.sweep([entry_of(row) for row in rows], now, charge=charge)
    _write(connection, booking)
    return len(rows)


def _write(connection: sqlite3.Connection, booking: Booking) -> None:
    new, closed = [], []
    for entry in booking.attempts.values():
        if entry.is_new:
            new.append(attempt_row(entry))
        else:
            closed.append((*closing_row(entry), entry.intent.id))
    if new:
        _insert(connection, _INSERT_ATTEMPT, new)
    if closed:
        connection.executemany(_CLOSE_ATTEMPT, closed)
    if booking.requests:
        _insert(connection, _INSERT_REQUEST, [request_row(record) for record in booking.requests.values()])
    if spent := booking.spent():
        connection.executemany(_ADD_SPENT, [(*key, amount) for key, amount in spent.items()])
    leased = connection.execute(_HELD).fetchall()
    if leased and (taken := booking.leases(set(leased))):
        connection.executemany(_TAKE_OFF, taken)
    if usage := booking.usage():
        connection.executemany(_ADD_USAGE, usage)


def _insert(connection: sqlite3.Connection, sql: str, rows: list[tuple[Any, ...]]) -> None:
    one = f"({_marks(len(rows[0]))})"
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        connection.execute(sql + ", ".join([one] * len(some)), list(chain.from_iterable(some)))


# -- leases ----------------------------------------------------------------------------------------------------------------
def lease(
    connection: sqlite3.Connection,
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
    (spent,) = connection.execute(
        "SELECT coalesce(sum(amount), 0) FROM spent WHERE scope = ? AND day >= ?", (scope, since)
    ).fetchone()
    charged, leased = connection.execute(
        "SELECT coalesce(sum(iif(charged, amount, 0)), 0), coalesce(sum(iif(charged, 0, amount)), 0) FROM leases"
        " WHERE scope = ? AND since = ? AND NOT (holder = ? AND charged)",
        (scope, since, holder),
    ).fetchone()
    back, before, turned, beyond = connection.execute(
        "SELECT iif(charged, amount, 0), turn, turned, beyond FROM leases WHERE scope = ? AND since = ? AND holder = ?",
        (scope, since, holder),
    ).fetchone() or (0, 0, 0, 0)
    leased += back  # an overdue holder that asks again is alive: its lease is one once more
    is_again = turn != 0 and before == turn
    held, granted = 0, turned
    if not is_again:
        held, granted, beyond = granted_of(limit - spent - charged - leased, want, owed, beyond)
    if turn:
        before, turned = turn, granted
    elif not held:  # only looked at: no row is made for that
        connection.execute(
            "UPDATE leases SET expires = ?, charged = 0, beyond = ? WHERE scope = ? AND since = ? AND holder = ?",
            (expires, beyond, scope, since, holder),
        )
        return Lease(granted=granted, spent=spent + charged, leased=leased)
    connection.execute(
        "INSERT INTO leases (scope, since, holder, amount, expires, turn, turned, beyond) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET amount = amount + excluded.amount, expires = excluded.expires, charged = 0,"
        " turn = excluded.turn, turned = excluded.turned, beyond = excluded.beyond",
        (scope, since, holder, held, expires, before, turned, beyond),
    )
    return Lease(granted=granted, spent=spent + charged, leased=leased + held)


def release(connection: sqlite3.Connection, scope: str, since: str, *, holder: str, amount: int, turn: int) -> None:
    where = (scope, since, holder)
    connection.execute(
        "UPDATE leases SET amount = max(amount - ?, 0), turn = max(turn, ?)"
        " WHERE scope = ? AND since = ? AND holder = ? AND (? = 0 OR turn < ?)",
        (amount, turn, *where, turn, turn),
    )
    connection.execute("DELETE FROM leases WHERE scope = ? AND since = ? AND holder = ? AND amount = 0", where)


def end_holder(connection: sqlite3.Connection, holder: str, charge: bool) -> int:
    if not charge:
        connection.execute("DELETE FROM leases WHERE holder = ? AND charged = 0", (holder,))
        return 0
    (amount,) = connection.execute(
        "SELECT coalesce(sum(amount), 0) FROM leases WHERE holder = ? AND charged = 0", (holder,)
    ).fetchone()
    connection.execute("UPDATE leases SET charged = 1 WHERE holder = ?", (holder,))
    return amount


def put_homes(connection: sqlite3.Connection, rows: Sequence[HomeRow]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO homes (key_id, object_id, model, provider, deployment, expires) VALUES (?, ?, ?, ?, ?, ?)",
        [msgspec.structs.astuple(row) for row in rows],
    )


# -- retention -------------------------------------------------------------------------------------------------------------
PRUNED_AT_ONCE = 500


def prune_some(connection: sqlite3.Connection, before: float) -> int:
    """Deletes a few old rows. Open attempts stay until they are closed. Returns how many went."""
    gone = connection.execute(
        "DELETE FROM attempts WHERE rowid IN"
        " (SELECT rowid FROM attempts WHERE admitted < ? AND state <> 'intent' LIMIT ?)",
        (before, PRUNED_AT_ONCE),
    ).rowcount
    gone += connection.execute(
        "DELETE FROM requests WHERE rowid IN (SELECT rowid FROM requests WHERE at < ? LIMIT ?)",
        (before, PRUNED_AT_ONCE),
    ).rowcount
    gone += connection.execute(
        "DELETE FROM homes WHERE rowid IN (SELECT rowid FROM homes WHERE expires < ? LIMIT ?)", (before, PRUNED_AT_ONCE)
    ).rowcount
    connection.execute("DELETE FROM feedback WHERE at < ?", (before,))
    return gone


def oldest(connection: sqlite3.Connection) -> float | None:
    """When the oldest row's request was admitted."""
    (found,) = connection.execute(
        "SELECT min(at) FROM (SELECT min(admitted) AS at FROM attempts UNION ALL SELECT min(at) FROM requests)"
    ).fetchone()
    return found


def note_pruned(connection: sqlite3.Connection, before: float) -> None:
    connection.execute("UPDATE facts SET value = max(value, ?) WHERE name = 'rows_from_day'", (int(before // 86400),))


# -- learning --------------------------------------------------------------------------------------------------------------
def put_feedback(connection: sqlite3.Connection, record: FeedbackRecord, *, replace: bool) -> bool:
    row = (record.trace, record.at, record.score, msgspec.json.encode(record).decode())
    done = connection.execute(_REPLACE_FEEDBACK if replace else _FIRST_FEEDBACK, row)
    return done.rowcount > 0


_REPLACE_FEEDBACK = "INSERT OR REPLACE INTO feedback (trace, at, score, body) VALUES (?, ?, ?, ?)"
_FIRST_FEEDBACK = "INSERT OR IGNORE INTO feedback (trace, at, score, body) VALUES (?, ?, ?, ?)"


def swap_learned(connection: sqlite3.Connection, row: LearnedRow, over: Sequence[str]) -> bool:
    holders = sorted(set(over))
    for holder in holders:
        where = (row.entry, holder)
        if not connection.execute("SELECT 1 FROM learned WHERE entry = ? AND holder = ?", where).fetchone():
            return False
    for holder in holders:
        connection.execute("DELETE FROM learned WHERE entry = ? AND holder = ?", (row.entry, holder))
    connection.execute("INSERT INTO learned VALUES (?, ?, ?, ?)", (row.entry, row.holder, row.at, row.body))
    return True
