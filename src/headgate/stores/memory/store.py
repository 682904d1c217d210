"""The ports' Store in dictionaries: for the library without a database, and for tests. Several replicas of one process
may share it. It grows until it is pruned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from itertools import product
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
from headgate.stores.asking import ANSWERING
from headgate.stores.booking import EMPTY_KEPT, LARGEST, USAGE_KEY, USAGE_SUMS, Booking, Entry, day_of, granted_of
from headgate.stores.rows import DIMENSIONS, MIX_DIMENSIONS, REQUEST_FILTERS, check_names, matches

AUDITS = 10_000
Cell = tuple[str, ...]


class _Slice(msgspec.Struct):
    """A lease of one holder. `charged`: the holder is gone and its journal may have been lost. `turned`: what was granted
    in the last `turn`. `beyond`: what was booked of it beyond the lease since it was asked."""

    amount: int = 0
    expires: float = 0.0
    charged: bool = False
    turn: int = 0
    turned: int = 0
    beyond: int = 0


class MemoryStore:
    def __init__(self) -> None:
        self._attempts: dict[str, Entry] = {}
        self._requests: dict[str, RequestRecord] = {}
        self._spent: Counter[tuple[str, str]] = Counter()
        self._leases: dict[tuple[str, str], dict[str, _Slice]] = {}
        self._usage: dict[Cell, list[int]] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._teams: dict[str, TeamRecord] = {}
        self._audits: list[AuditRecord] = []
        self._feedback: dict[str, FeedbackRecord] = {}
        self._learned: dict[tuple[str, str], LearnedRow] = {}
        self._homes: dict[tuple[str, str], HomeRow] = {}
        self._version = 0
        self._kept = ""
        """The first day whose rows are kept."""

    # -- ledger --------------------------------------------------------------------------------------------------------
    async def apply(self, entries: Sequence[JournalEntry], *, holder: str) -> None:
        booking = Booking(self._attempts)
        booking.book(entries, holder)
        self._write(booking)

    async def sweep(self, now: float, *, holder: str | None, charge: bool) -> int:
        stale = [
            entry
            for entry in self._attempts.values()
            if entry.outcome is None and (entry.intent.expires < now if holder is None else entry.holder == holder)
        ]
        if holder is None:
            for slices in self._leases.values():
                for name, one in list(slices.items()):
                    one.charged = one.charged or (one.expires < now and one.amount > 0)
                    if not one.amount and one.expires < now - EMPTY_KEPT:
                        del slices[name]
        booking = Booking(self._attempts)
        booking.sweep(stale, now, charge=charge)
        self._write(booking)
        return len(stale)

    def _write(self, booking: Booking) -> None:
        for id, entry in booking.attempts.items():
            if entry.is_new:
                entry.intent = msgspec.structs.replace(entry.intent, tags=tuple(dict.fromkeys(entry.intent.tags)))
                entry.is_new = False
            if entry.outcome is not None and entry.outcome.cost is not None and entry.outcome.cost > LARGEST:
                entry.outcome = msgspec.structs.replace(entry.outcome, cost=LARGEST)
            self._attempts[id] = entry
        for trace, record in booking.requests.items():
            self._requests.setdefault(trace, record)
        self._spent.update(booking.spent())
        held = {(holder, scope) for (scope, _), slices in self._leases.items() for holder in slices}
        for amount, holder, scope, day in booking.leases(held):
            for (leased, since), slices in self._leases.items():
                if leased == scope and since <= day and holder in slices:
                    mine = slices[holder]
                    mine.beyond += max(amount - mine.amount, 0)
                    mine.amount = max(mine.amount - amount, 0)
        for cell, sums in _cells(booking):
            self._usage[cell] = [a + b for a, b in zip(self._usage.get(cell, [0] * len(sums)), sums, strict=True)]

    # -- leases ----------------------------------------------------------------------------------------------------------
    async def lease(self, scope: str, since: str, **terms: Unpack[LeaseTerms]) -> Lease:
        turn = terms.get("turn", 0)
        slices = self._leases.setdefault((scope, since), {})
        mine = slices.get(terms["holder"]) or _Slice()
        mine.charged = False  # an overdue holder that asks again is alive
        mine.expires = terms["expires"]
        spent = sum(amount for (counted, day), amount in self._spent.items() if counted == scope and day >= since)
        spent += sum(one.amount for one in slices.values() if one.charged)
        leased = sum(one.amount for one in slices.values() if not one.charged)
        if turn and mine.turn == turn:
            return Lease(granted=mine.turned, spent=spent, leased=leased)
        room, want, owed = terms["limit"] - spent - leased, terms["want"], terms.get("owed", 0)
        held, granted, mine.beyond = granted_of(room, want, owed, mine.beyond)
        mine.amount += held
        if turn or held:
            slices[terms["holder"]] = mine
        if turn:
            mine.turn, mine.turned = turn, granted
        return Lease(granted=granted, spent=spent, leased=leased + held)

    async def release(self, scope: str, since: str, *, holder: str, amount: int, turn: int = 0) -> None:
        mine = self._leases.get((scope, since), {}).get(holder)
        if mine is not None and not (turn and mine.turn >= turn):
            mine.amount = max(mine.amount - amount, 0)
            mine.turn = max(mine.turn, turn)

    async def end_holder(self, holder: str, *, charge: bool) -> int:
        total = 0
        for slices in self._leases.values():
            mine = slices.get(holder)
            if mine is None or mine.charged:
                continue
            if charge:
                mine.charged = True
                total += mine.amount
            else:
                del slices[holder]
        return total

    # -- keys ------------------------------------------------------------------------------------------------------------
    async def keys(self) -> Sequence[KeyRecord]:
        return [self._keys[id] for id in sorted(self._keys)]

    async def put_key(self, *keys: KeyRecord, note: AuditRecord | None = None) -> None:
        self._keys |= {key.id: key for key in keys}
        self._version += 1
        if note is not None:
            await self.audit(note)

    async def swap_key(self, old: KeyRecord, *keys: KeyRecord, note: AuditRecord | None = None) -> bool:
        if self._keys.get(old.id) != old:
            return False
        await self.put_key(*keys, note=note)
        return True

    async def put_first_key(self, key: KeyRecord, *, note: AuditRecord | None = None) -> bool:
        if self._keys:
            return self._keys.get(key.id) == key
        await self.put_key(key, note=note)
        return True

    async def teams(self) -> Sequence[TeamRecord]:
        return [self._teams[id] for id in sorted(self._teams)]

    async def put_team(self, team: TeamRecord, *, note: AuditRecord | None = None) -> None:
        self._teams[team.id] = team
        self._version += 1
        if note is not None:
            await self.audit(note)

    async def version(self) -> int:
        return self._version

    async def audit(self, record: AuditRecord) -> None:
        self._audits.append(record)
        del self._audits[:-AUDITS]

    async def audits(self, limit: int) -> Sequence[AuditRecord]:
        return self._audits[::-1][:limit]

    # -- asking ----------------------------------------------------------------------------------------------------------
    async def usage(
        self, *, since: float, until: float, by: Sequence[str], where: dict[str, str]
    ) -> Sequence[UsageRow]:
        check_names(by, DIMENSIONS, "dimension")
        check_names(list(where), DIMENSIONS, "dimension")
        until = min(until, 253_370_764_800.0)
        found: dict[Cell, list[int]] = {}
        for cell, sums in self._cells(max(since, 0.0), until):
            values: dict[str, str] = dict(zip(USAGE_KEY, cell, strict=True))
            tags = msgspec.json.decode(values["tags"], type=list[str])
            if any(
                value not in tags if name == "tag" else values[DIMENSIONS[name]] != value
                for name, value in where.items()
            ):
                continue
            for group in product(*(tags if name == "tag" else [values[DIMENSIONS[name]]] for name in by)):
                old = found.get(group, [0] * len(sums))
                found[group] = [a + b for a, b in zip(old, sums, strict=True)]
        return [
            UsageRow(group=group, **dict(zip(USAGE_SUMS, sums, strict=True)))
            for group, sums in sorted(found.items())
            if sums[0]
        ]

    def _cells(self, since: float, until: float) -> list[tuple[Cell, list[int]]]:
        """Rows while they are kept, else the sums of their whole days."""
        out: list[tuple[Cell, list[int]]] = []
        if since >= until:
            return out
        first, last = day_of(since), day_of(until - 1e-6)
        out += [(cell, sums) for cell, sums in self._usage.items() if first <= cell[0] <= last and cell[0] < self._kept]
        counting = Booking({})
        for entry in self._attempts.values():
            at = entry.intent.admitted or entry.intent.at
            if entry.outcome is not None and since <= at < until and entry.day >= self._kept:
                counting.count(entry.day, entry.intent, entry.outcome, entry.charged, 1)
        return out + _cells(counting)

    async def mix(self, *, since: float, until: float, by: Sequence[str], where: dict[str, str]) -> Sequence[MixRow]:
        check_names(by, MIX_DIMENSIONS, "dimension")
        check_names(list(where), MIX_DIMENSIONS, "dimension")
        found: dict[tuple[str, ...], MixRow] = {}
        for record in self._requests.values():
            if since <= record.at < until and all(_of(record, name) == value for name, value in where.items()):
                group = tuple(_of(record, name) for name in by)
                said = self._feedback.get(record.trace)
                found[group] = _added(found.get(group, MixRow(group=group)), record, said)
        return [found[group] for group in sorted(found)]

    async def calls(self, *, since: float, until: float, where: dict[str, str]) -> Sequence[CallRow]:
        check_names(list(where), MIX_DIMENSIONS, "dimension")
        found: dict[tuple[str, str], CallRow] = {}
        for entry in self._attempts.values():
            record, outcome = self._requests.get(entry.intent.trace), entry.outcome
            if record is None or outcome is None or not since <= record.at < until:
                continue
            if outcome.outcome not in ("ok", "failed", "truncated"):
                continue
            if entry.intent.role is not None and entry.intent.role not in ANSWERING:
                continue
            values = {name: _of(record, name) for name in where} | {"model": entry.intent.model}
            if any(values[name] != value for name, value in where.items()):
                continue
            group = (record.task or "", entry.intent.model)
            row = found.get(group, CallRow(group=group))
            failed = row.failed + (outcome.outcome in ("failed", "truncated"))
            found[group] = CallRow(group=group, calls=row.calls + 1, failed=failed)
        return [found[group] for group in sorted(found)]

    # -- learning --------------------------------------------------------------------------------------------------------
    async def put_feedback(self, record: FeedbackRecord, *, replace: bool = True) -> bool:
        if not replace and record.trace in self._feedback:
            return False
        self._feedback[record.trace] = record
        return True

    async def feedback(self, *, limit: int, since: float = 0.0) -> Sequence[FeedbackRecord]:
        rows = [record for record in self._feedback.values() if record.at >= since]
        return sorted(rows, key=lambda record: -record.at)[:limit]

    async def learned(self, *, settled: bool = False) -> Sequence[LearnedRow]:
        return [self._learned[key] for key in sorted(self._learned)]

    async def swap_learned(self, row: LearnedRow, *, over: Sequence[str]) -> bool:
        keys = {(row.entry, holder) for holder in over}
        if not keys <= self._learned.keys():
            return False
        for key in keys:
            del self._learned[key]
        self._learned[row.entry, row.holder] = row
        return True

    async def put_homes(self, rows: Sequence[HomeRow]) -> None:
        self._homes |= {(row.key_id, row.object_id): row for row in rows}

    async def homes(self, object_ids: Sequence[str], *, key_id: str | None) -> Sequence[HomeRow]:
        if key_id is None:
            return [row for (_, id), row in self._homes.items() if id in object_ids]
        return [row for id in object_ids if (row := self._homes.get((key_id, id))) is not None]

    async def requests(
        self, *, limit: int, before: float | None = None, where: dict[str, str] | None = None
    ) -> Sequence[RequestRecord]:
        where = where or {}
        check_names(list(where), REQUEST_FILTERS, "filter")
        rows = [
            record
            for record in self._requests.values()
            if (before is None or record.at < before) and matches(record, where)
        ]
        return sorted(rows, key=lambda record: (record.at, record.trace), reverse=True)[:limit]

    async def request(self, trace: str, *, key_id: str | None) -> RequestRecord | None:
        found = self._requests.get(trace)
        return found if found is not None and key_id in (None, found.key_id) else None

    async def attempts(self, trace: str) -> Sequence[tuple[AttemptIntent, AttemptOutcome | None]]:
        rows = [entry for entry in self._attempts.values() if entry.intent.trace == trace]
        return [(e.intent, e.outcome) for e in sorted(rows, key=lambda e: (e.intent.at, e.intent.id))]

    async def prune(self, before: float) -> int:
        self._homes = {name: row for name, row in self._homes.items() if row.expires >= before}
        start = day_of(before)
        days = [e.day for e in self._attempts.values()] + [day_of(r.at) for r in self._requests.values()]
        first = min(days, default=start)
        if first >= start:
            return 0
        self._kept = max(self._kept, start)
        self._attempts = {id: e for id, e in self._attempts.items() if e.day >= start or e.outcome is None}
        self._requests = {trace: r for trace, r in self._requests.items() if day_of(r.at) >= start}
        self._feedback = {trace: f for trace, f in self._feedback.items() if day_of(f.at) >= start}
        return _number(start) - _number(first)

    async def aclose(self) -> None:
        return None


def _cells(booking: Booking) -> list[tuple[Cell, list[int]]]:
    width = len(USAGE_KEY)
    return [(row[:width], list(row[width:])) for row in booking.usage()]


def _number(day: str) -> int:
    return date.fromisoformat(day).toordinal()


def _of(record: RequestRecord, dimension: str) -> str:
    return day_of(record.at) if dimension == "day" else getattr(record, MIX_DIMENSIONS[dimension]) or ""


def _added(row: MixRow, record: RequestRecord, said: FeedbackRecord | None) -> MixRow:
    usage = record.usage
    return MixRow(
        group=row.group,
        requests=row.requests + 1,
        failed=row.failed + (record.status >= 400),
        cost=row.cost + (record.cost or 0),
        unknown_cost=row.unknown_cost + (record.cost is None),
        saved=row.saved + (record.saved or 0),
        latency=row.latency + record.latency,
        input=row.input + (usage.input if usage else 0),
        output=row.output + (usage.output if usage else 0),
        scored=row.scored + (said is not None),
        score=row.score + (said.score if said else 0.0),
    )
