"""What a batch of journal entries does to a ledger: pure arithmetic, the same for every database.

Budget counters and sums are nothing but the rows added up: they change only here, together with the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from time import gmtime, strftime

import msgspec

from headgate.core.records import AttemptIntent, AttemptOutcome, JournalEntry, RequestRecord

LOST = "lost"
"""The error of an attempt whose process died before it could say how it ended."""
LARGEST = 2**62
"""Amounts and counts are cut to what every database can add up."""


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return strftime("%Y-%m-%d", gmtime(number * 86400))


def day_of(at: float) -> str:
    """The UTC day of a Unix time: `2026-11-24`."""
    return _day(int(at // 86400))


def scopes_of(intent: AttemptIntent) -> tuple[str, ...]:
    """Everything that this attempt's cost counts in, each once."""
    out = ["all", f"key:{intent.key_id}", f"model:{intent.model}"]
    if intent.user:
        out.append(f"user:{intent.user}")
    if intent.team:
        out.append(f"team:{intent.team}")
    if intent.tags:
        out += dict.fromkeys(f"tag:{tag}" for tag in intent.tags)
    return tuple(out)


class Entry:
    """One attempt as the store has it, or is about to. `charged` is what the budgets have counted for it."""

    __slots__ = ("charged", "holder", "intent", "is_new", "outcome", "swept")

    def __init__(
        self,
        intent: AttemptIntent,
        holder: str,
        *,
        outcome: AttemptOutcome | None = None,
        charged: int = 0,
        swept: bool = False,
        is_new: bool = False,
    ) -> None:
        self.intent = intent
        self.holder = holder
        self.outcome = outcome
        self.charged = charged
        self.swept = swept
        self.is_new = is_new

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
        self.spent: Counter[tuple[str, str]] = Counter()
        """(scope, day) -> what is added."""
        self.leases: Counter[tuple[str, str, str]] = Counter()
        """(holder, scope, day) -> what is taken off the holder's leases of windows that hold the day."""
        self.usage: dict[tuple[str, ...], list[int]] = {}
        """USAGE_KEY values -> USAGE_SUMS that are added."""
        self.orphans = 0
        """Outcomes without an intent: only a journal that lost its beginning can hold one."""

    def book(self, entries: Iterable[JournalEntry], holder: str) -> None:
        for entry in entries:
            if isinstance(entry, AttemptIntent):
                if entry.id not in self._known:
                    self._known[entry.id] = self.attempts[entry.id] = Entry(entry, holder, is_new=True)
            elif isinstance(entry, AttemptOutcome):
                found = self._known.get(entry.id)
                if found is None:
                    self.orphans += 1
                elif found.outcome is None or found.swept:
                    self._close(found, entry, min(max(entry.cost or 0, 0), LARGEST), swept=False)
            else:
                self.requests.setdefault(entry.trace, entry)

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
        if found.outcome is not None:
            self._count(found, found.outcome, -1)
        added = charged - found.charged
        if added:
            day = found.day
            for scope in scopes_of(found.intent):
                self.spent[scope, day] += added
                if added > 0:
                    self.leases[found.holder, scope, day] += added
        found.outcome, found.charged, found.swept = outcome, charged, swept
        self._count(found, outcome, 1)
        self.attempts[found.intent.id] = found

    def _count(self, found: Entry, outcome: AttemptOutcome, sign: int) -> None:
        intent, usage = found.intent, outcome.usage
        key = (
            found.day,
            intent.key_id,
            intent.user or "",
            intent.team or "",
            intent.model,
            intent.provider,
            intent.deployment,
            intent.role or "",
            tags_text(intent.tags),
            outcome.error or "",
        )
        sums = self.usage.get(key)
        if sums is None:
            sums = self.usage[key] = [0] * len(USAGE_SUMS)
        sums[0] += sign
        sums[1] += sign * (outcome.outcome in FAILED)
        if usage is not None:
            sums[2] += sign * min(usage.input, LARGEST)
            sums[3] += sign * min(usage.output, LARGEST)
            sums[4] += sign * min(usage.cached_input, LARGEST)
        sums[5] += sign * found.charged
        sums[6] += sign * (outcome.cost is None)


FAILED = frozenset({"failed", "truncated"})
USAGE_KEY = ("day", "key_id", "user_name", "team", "model", "provider", "deployment", "role", "tags", "error")
USAGE_SUMS = ("attempts", "failed", "input", "output", "cached", "cost", "unknown_cost")


@lru_cache(maxsize=1024)
def tags_text(tags: tuple[str, ...]) -> str:
    """Tags as a JSON list, each once, in their own order: a column of rows and a dimension of sums."""
    return msgspec.json.encode(list(dict.fromkeys(tags))).decode()
