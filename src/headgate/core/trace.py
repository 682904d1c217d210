"""What happened to one request, decision by decision. Headers, details, explain, console, spans and logs read it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec

from headgate.core.money import dollars
from headgate.core.usage import Usage


class Decision(msgspec.Struct, omit_defaults=True):
    """`at` is seconds since the request began."""

    kind: str
    chosen: Any
    because: str
    at: float = 0.0
    over: list[Any] = []
    numbers: dict[str, Any] = {}


class AttemptView(msgspec.Struct, omit_defaults=True):
    """One upstream call as clients may see it. Times in milliseconds; cost in nano-US$, None where unknown."""

    model: str
    deployment: str
    provider: str
    outcome: str = "open"
    """ok | failed | cancelled | unknown | skipped"""
    error: str | None = None
    ttft_ms: float | None = None
    latency_ms: float | None = None
    cost: int | None = None
    usage: Usage | None = None
    id: str = ""
    role: str | None = None
    """What the call was for where it was not the answer itself: judge, member, planner, hedge, rescue, ..."""
    status: int | None = None
    at_ms: float = 0.0
    """When it began, in milliseconds since the request did."""


_outcome_of = attrgetter("outcome")


class Trace(msgspec.Struct, eq=False):
    """Grows while the request lives. `facts` holds the strategy's own parts of the `headgate` object (task, ensemble,
    agent); `lossy` the things a target could not express."""

    id: str
    requested: str
    started: float
    started_at: float
    request_id: str = ""
    key_id: str = ""
    parent: str = ""
    """The caller's own `traceparent`, as it came."""
    strategy: str = ""
    decisions: list[Decision] = []
    attempts: list[AttemptView] = []
    chosen: dict[str, Any] | None = None
    alternatives: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    lossy: list[str] = []
    tags: tuple[str, ...] = ()
    booked: tuple[str, ...] | None = None
    """The tags of its rows, where they are not these."""
    cost_unknown: bool = False
    unheard: bool = False
    """Some attempt was sent and never said what it used."""

    def decide(
        self, kind: str, chosen: Any, *, over: Sequence[Any] = (), because: str, at: float = 0.0, **numbers: Any
    ) -> None:
        """The only way a choice is made visible. A strategy that chooses without deciding is a bug."""
        self.decisions.append(Decision(kind, chosen, because, at, list(over), numbers))

    def lose(self, *features: str) -> None:
        for feature in features:
            if feature not in self.lossy:
                self.lossy.append(feature)

    @property
    def cost(self) -> int:
        """Nano-US$ of all attempts with a known cost."""
        attempts = self.attempts
        if len(attempts) == 1:
            return attempts[0].cost or 0
        return sum(attempt.cost or 0 for attempt in attempts)

    def waited_ms(self, now_ms: float) -> float:
        """Milliseconds in which at least one attempt was under way (until `now_ms` for open ones): not our time."""
        if len(self.attempts) == 1 and (latency := self.attempts[0].latency_ms) is not None:
            return latency
        waited = end = 0.0
        for attempt in sorted(self.attempts, key=lambda a: a.at_ms):
            stop = now_ms if attempt.latency_ms is None else attempt.at_ms + attempt.latency_ms
            if stop > end:
                waited += stop - max(end, attempt.at_ms)
                end = stop
        return waited

    @property
    def calls(self) -> int:
        """Attempts that were really made."""
        return len(self.attempts) - [*map(_outcome_of, self.attempts)].count("skipped")

    @property
    def is_open(self) -> bool:
        """Some attempt is under way."""
        return "open" in map(_outcome_of, self.attempts)

    @property
    def usage(self) -> Usage | None:
        """What its attempts have used, as far as they have said."""
        total: Usage | None = None
        for attempt in self.attempts:
            if attempt.usage is not None:
                total = attempt.usage if total is None else total + attempt.usage
        return total

    def details(self, *, overhead_ms: float | None = None) -> dict[str, Any]:
        """The `headgate` object of the contract; only the parts that apply."""
        out: dict[str, Any] = {"requested": self.requested, "strategy": self.strategy, "trace": self.id}
        if self.attempts:
            out["cost_usd"] = None if self.cost_unknown else dollars(self.cost)
        if overhead_ms is not None:
            out["overhead_ms"] = round(overhead_ms, 2)
        out.update(self.facts)
        if self.chosen:
            out["chosen"] = self.chosen
        if self.alternatives:
            out["alternatives"] = self.alternatives
        if self.attempts:
            out["attempts"] = [attempt_details(attempt) for attempt in self.attempts]
        if self.lossy:
            out["lossy"] = list(self.lossy)
        return out


def share_of(trace: str, what: str) -> float:
    """A number in [0, 1) that only the trace and the question decide: who is sampled, the same wherever it is asked."""
    digest = hashlib.blake2b(f"{what} {trace}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def attempt_details(attempt: AttemptView) -> dict[str, Any]:
    out = msgspec.to_builtins(attempt)
    out.pop("cost", None)
    out.setdefault("outcome", "open")
    out["error"] = attempt.error
    out["cost_usd"] = None if attempt.cost is None else dollars(attempt.cost)
    return out
