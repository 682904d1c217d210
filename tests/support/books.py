"""Attempts and requests for tests of stores and ledgers."""

from __future__ import annotations

from typing import Any

from headgate.core.records import AttemptIntent, AttemptOutcome, RequestRecord
from headgate.core.usage import Usage

NOON = 1_795_521_600.0
"""2026-11-24 12:00 UTC, a Tuesday."""


def intent(id: str = "at_1", **more: Any) -> AttemptIntent:
    given: dict[str, Any] = {
        "request_id": "req_1",
        "trace": "tr_1",
        "at": NOON,
        "model": "claude",
        "provider": "anthropic",
        "deployment": "claude@anthropic",
        "upstream": "claude-4",
        "key_id": "k1",
        "reserved": 1000,
        "price_version": "config",
        "expires": NOON + 600,
        "admitted": NOON,
    }
    return AttemptIntent(id=id, **(given | more))


def outcome(id: str = "at_1", cost: int | None = 300, **more: Any) -> AttemptOutcome:
    given: dict[str, Any] = {
        "at": NOON + 1,
        "state": "settled",
        "outcome": "ok",
        "usage": Usage(input=10, output=5, cached_input=4),
        "ttft": 0.1,
        "latency": 0.5,
    }
    return AttemptOutcome(id=id, cost=cost, **(given | more))


def record(trace: str = "tr_1", **more: Any) -> RequestRecord:
    given: dict[str, Any] = {
        "id": f"req_{trace}",
        "at": NOON,
        "door": "chat",
        "requested": "auto",
        "strategy": "route",
        "model": "claude",
        "provider": "anthropic",
        "key_id": "k1",
        "attempts": 1,
        "usage": Usage(input=10, output=5),
        "cost": 300,
        "latency": 0.5,
        "overhead": 0.001,
    }
    return RequestRecord(trace=trace, **(given | more))
