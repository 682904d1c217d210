"""A task's rules: which models, under which conditions, with which text and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from headgate.core.strategy import Run
from headgate.strategies.route.choose import Limits, Weights
from headgate.strategies.touch import Touch

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Hours(msgspec.Struct, frozen=True):
    """Minutes of the day in UTC; `end` before `start` goes over midnight. No days: every day; a night belongs to the day
    that it begins on."""

    start: int = 0
    end: int = 24 * 60
    days: frozenset[str] = frozenset()

    def holds(self, at: float) -> bool:
        now = datetime.fromtimestamp(at, UTC)
        minute, day = now.hour * 60 + now.minute, now.weekday()
        over = self.end <= self.start
        inside = minute >= self.start or minute < self.end if over else self.start <= minute < self.end
        if over and minute < self.end:
            day = (day - 1) % 7
        return inside and (not self.days or DAYS[day] in self.days)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """`downgrade`: models that stand in where none of `models` fits what the request may spend; none without it."""

    models: tuple[str, ...]
    weights: Weights = Weights()
    touch: Touch = Touch()
    capabilities: frozenset[str] = frozenset()
    zone: str | None = None
    max_latency: float | None = None
    tags: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    hours: Hours | None = None
    downgrade: tuple[str, ...] = ()

    def holds(self, run: Run) -> bool:
        """Its conditions on who asks, how and when. Conditions on the models are `limits`."""
        if not self.tags <= set(run.trace.tags):
            return False
        if self.keys and not self.keys & {run.principal.key_id, run.principal.name}:
            return False
        return self.hours is None or self.hours.holds(run.clock.time())

    def limits(self, room: int | None) -> Limits:
        return Limits(capabilities=self.capabilities, zone=self.zone, max_latency=self.max_latency, room=room)


def rule_for(rules: Sequence[Rule], run: Run) -> Rule | None:
    """The first whose conditions hold."""
    return next((rule for rule in rules if rule.holds(run)), None)
