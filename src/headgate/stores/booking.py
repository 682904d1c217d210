"""What a batch of journal entries does to a ledger: pure arithmetic, the same for every database.

Budget counters and sums are nothing but the rows added up: they change only here, together with the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from functools import lru_cache
from time import gmtime, strftime
from typing import Any

import msgspec

from headgate.core.records import AttemptIntent, AttemptOutcome, JournalEntry, RequestRecord

LOST = "lost"
"""The error of an attempt whose process died before it could say how it ended."""
UNKNOWN = "(unknown)"
"""Stands for the models of a provider that clients have named and that nothing is known of."""
LARGEST = 2**62
"""Amounts and counts are cut to what every database can add up."""
MOST_BEYOND = 2**61
"""With one more amount on top it still fits."""
EMPTY_KEPT = 7200.0
"""Seconds for which an empty lease outlives its end: its holder has forgotten it by then (governance/budgets.py). One is
left by each window that is spent to the last, each day."""


def granted_of(room: int, want: int, owed: int, beyond: int) -> tuple[int, int, int]:
    """Of a question for a lease: (what is held of it from now on, what is granted, what is `beyond` the lease after it).
    What the holder owes and has been booked is off `room` already: it is granted, and held by nobody."""
    eased = min(want, owed, beyond)
    held = max(0, min(want - eased, room))
    return held, held + eased, beyond - eased if owed else 0


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return strftime("%Y-%m-%d", gmtime(number * 86400))


def day_of(at: float) -> str:
    """The UTC day of a Unix time: `2026-11-24`."""
    return _day(int(at // 86400))


def scopes_of(intent: AttemptIntent) -> tuple[str, ...]:
    """Everything that this attempt's cost counts in, each once."""
    return _scopes(intent.key_id, intent.model, intent.user, intent.team, intent.tags)


@lru_cache(maxsize=10_000)
def _scopes(key_id: str, model: str, user: str | None, team: str | None, tags: tuple[str, ...]) -> tuple[str, ...]:
    out = ["all", f"key:{key_id}", f"model:{model}"]
    if user:
        out.append(f"user:{user}")
    if team:
        out.append(f"team:{team}")
    if tags:
        out += dict.fromkeys(f"tag:{tag}" for tag in tags)
    return tuple(out)


class Entry(msgspec.Struct, eq=False):
    """One attempt as the store has it, or is about to. `charged` is what the budgets have counted for it."""

    intent: AttemptIntent
    holder: str
    outcome: AttemptOutcome | None = None
    charged: int = 0
    swept: bool = False
    is_new: bool = False

    @property
    def day(self) -> str:
        return day_of(self.intent.admitted or self.intent.at)


class Booking:
    """The changes of one transaction. Give it what the store knows already of the entries' ids."""

    def __init__(self, known: dict[str, Entry]) -> None:
        self._known = known
        self.attempts: dict[str, Entry] = {}
        """New or changed rows."""
        self.requests: dict[str, RequestRecord] = {}
        self.orphans = 0
        """Outcomes without an intent: only a journal that lost its beginning can hold one."""
        self._sums: dict[tuple[Any, ...], list[int]] = {}
        self._added: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
        """(day, holder, scopes) -> what is added to the scopes, and what comes off the holder's leases."""

    def book(self, entries: Iterable[JournalEntry], holder: str) -> None:
        known, attempts, requests = self._known, self.attempts, self.requests
        for entry in entries:
            if isinstance(entry, AttemptIntent):
                if entry.id not in known:
                    known[entry.id] = attempts[entry.id] = Entry(entry, holder, is_new=True)
            elif isinstance(entry, AttemptOutcome):
                found = known.get(entry.id)
                if found is None:
                    self.orphans += 1
                elif found.outcome is None or found.swept:
                    self._close(found, entry, min(max(entry.cost or 0, 0), LARGEST), swept=False)
            else:
                requests.setdefault(entry.trace, entry)

    def sweep(self, stale: Sequence[Entry], now: float, *, charge: bool) -> None:
        """Attempts that nobody will close any more."""
        for found in stale:
            charged = min(found.intent.reserved or 0, LARGEST) if charge else 0
            cost = None if found.intent.reserved is None else charged
            outcome = AttemptOutcome(
                id=found.intent.id, at=now, state="unknown", outcome="failed", error=LOST, cost=cost
            )
            self._close(found, outcome, charged, swept=True)

    def _close(self, found: Entry, outcome: AttemptOutcome, charged: int, *, swept: bool) -> None:
        intent, day = found.intent, found.day
        scopes = scopes_of(intent)
        if found.outcome is not None:
            self.count(day, intent, found.outcome, found.charged, -1)
        added = charged - found.charged
        if added:
            group = (day, found.holder, scopes)
            sums = self._added.get(group)
            if sums is None:
                sums = self._added[group] = [0, 0]
            sums[0] += added
            sums[1] += max(added, 0)
        if not swept:
            found.intent = intent = _booked_as(intent, outcome, charged)
        found.outcome, found.charged, found.swept = outcome, charged, swept
        self.count(day, intent, outcome, charged, 1)
        self.attempts[intent.id] = found

    def count(self, day: str, intent: AttemptIntent, outcome: AttemptOutcome, charged: int, sign: int) -> None:
        key = (
            day,
            intent.key_id,
            intent.user,
            intent.team,
            intent.model,
            intent.provider,
            intent.deployment,
            intent.role,
            intent.tags,
            outcome.error,
        )
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0] * len(USAGE_SUMS)
        sums[0] += sign
        if outcome.outcome in FAILED:
            sums[1] += sign
        usage = outcome.usage
        if usage is not None:
            sums[2] += sign * min(usage.input, LARGEST)
            sums[3] += sign * min(usage.output, LARGEST)
            sums[4] += sign * min(usage.cached_input, LARGEST)
        sums[5] += sign * charged
        if outcome.cost is None:
            sums[6] += sign

    # -- the sums, once all is booked ------------------------------------------------------------------------------------
    def spent(self) -> dict[tuple[str, str], int]:
        """(scope, day) -> what is added."""
        out: dict[tuple[str, str], int] = {}
        for (day, _, scopes), (added, _) in self._added.items():
            if added:
                for scope in scopes:
                    out[scope, day] = out.get((scope, day), 0) + added
        return out

    def leases(self, held: Set[tuple[str, str]]) -> list[tuple[int, str, str, str]]:
        """(amount, holder, scope, day): taken off the holder's leases on the scope of windows that hold the day. `held`:
        the (holder, scope) that have any."""
        out: dict[tuple[str, str, str], int] = {}
        for (day, holder, scopes), (_, taken) in self._added.items():
            for scope in scopes:
                if taken and (holder, scope) in held:
                    key = (holder, scope, day)
                    out[key] = min(out.get(key, 0) + taken, LARGEST)
        return [(amount, *key) for key, amount in out.items()]

    def usage(self) -> list[tuple[Any, ...]]:
        """USAGE_KEY values and USAGE_SUMS that are added."""
        return [
            (
                day,
                key,
                user or "",
                team or "",
                model,
                provider,
                deployment,
                role or "",
                tags_text(tags),
                error or "",
                *sums,
            )
            for (day, key, user, team, model, provider, deployment, role, tags, error), sums in self._sums.items()
            if any(sums)
        ]


def _booked_as(intent: AttemptIntent, outcome: AttemptOutcome, charged: int) -> AttemptIntent:
    """Clients may invent direct names (`provider/upstream`), as many as they like: those that nothing came of, and that
    the provider or the catalogue does not know, are one model per provider in rows and sums. `upstream` keeps the name."""
    if outcome.outcome == "ok" or outcome.usage is not None or charged:
        return intent
    if intent.model != f"{intent.provider}/{intent.upstream}" or intent.model != intent.deployment:
        return intent
    if outcome.error != "not_found" and intent.price_version is not None:
        return intent
    name = f"{intent.provider}/{UNKNOWN}"
    return msgspec.structs.replace(intent, model=name, deployment=name)


FAILED = frozenset({"failed", "truncated"})
USAGE_KEY = ("day", "key_id", "user_name", "team", "model", "provider", "deployment", "role", "tags", "error")
USAGE_SUMS = ("attempts", "failed", "input", "output", "cached", "cost", "unknown_cost")


@lru_cache(maxsize=1024)
def tags_text(tags: tuple[str, ...]) -> str:
    """Tags as a JSON list, each once, in their own order: a column of rows and a dimension of sums."""
    return msgspec.json.encode(list(dict.fromkeys(tags))).decode()
