"""A task's rules: which models, under which conditions, with which text and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from headgate.core.chat import Message, Text
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.route.choose import Limits, Weights

_PARAMETERS = ("temperature", "top_p", "max_tokens")
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
    system: str | None = None
    system_always: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
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

    def apply(self, request: Request, run: Run) -> Request:
        """Its system text and parameters, only where the client has set none (or the rule says always)."""
        content = request.content()
        fields: dict[str, Any] = {
            name: value
            for name in _PARAMETERS
            if (value := getattr(self, name)) is not None and getattr(content, name) is None
        }
        if "temperature" in fields and content.reasoning is not None:
            del fields["temperature"]  # thinking models take only their own
            run.decide("parameter", None, over=["temperature"], because="the request asks for reasoning: left out")
        has_system = any(message.role in ("system", "developer") for message in content.messages)
        if self.system is not None and (self.system_always or not has_system):
            system = Message(role="system", content=[Text(text=self.system)])
            fields["messages"] = [system, *content.messages]
        return request.edited(**fields) if fields else request


def rule_for(rules: Sequence[Rule], run: Run) -> Rule | None:
    """The first whose conditions hold."""
    return next((rule for rule in rules if rule.holds(run)), None)
