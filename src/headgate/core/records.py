"""What stores keep. Plain rows: no behaviour. Times are Unix seconds, money nano-US$."""

from __future__ import annotations

from typing import Literal

import msgspec

from headgate.core.usage import Usage

AttemptState = Literal["intent", "settled", "released", "unknown"]


class AttemptIntent(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded before the first byte goes upstream."""

    id: str
    """`at_...`: ours, unique; the provider's ids are attributes."""
    request_id: str
    trace: str
    at: float
    model: str
    provider: str
    deployment: str
    upstream: str
    key_id: str
    user: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    role: str | None = None
    reserved: int | None = None
    """Worst case; None where the price is unknown."""
    price_version: str | None = None
    expires: float = 0.0
    """When the attempt's deadline has surely passed: a stale intent after this becomes `unknown`."""


class AttemptOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """settled: usage is known. released: nothing was sent. unknown: sent, but no usage was seen."""

    id: str
    at: float
    state: Literal["settled", "released", "unknown"]
    outcome: str
    """ok | failed | cancelled | truncated"""
    error: str | None = None
    usage: Usage | None = None
    cost: int | None = None
    """None where the price is unknown, or the state is `unknown` (then charged by policy)."""
    ttft: float | None = None
    latency: float | None = None
    upstream_id: str | None = None
    status: int | None = None


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One request, when it is over."""

    id: str
    trace: str
    at: float
    door: str
    requested: str
    strategy: str
    model: str | None
    provider: str | None
    key_id: str
    user: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    task: str | None = None
    stream: bool = False
    status: int = 200
    error: str | None = None
    attempts: int = 0
    usage: Usage | None = None
    cost: int | None = None
    saved: int | None = None
    ttft: float | None = None
    latency: float = 0.0
    overhead: float = 0.0
    trace_json: bytes | None = None
    """The whole trace as JSON, for `GET /v1/traces/{id}` and the console."""
