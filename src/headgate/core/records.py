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
    admitted: float = 0.0
    """When its request was admitted: the budget window that it counts in."""


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
    """None where the price is unknown. In state `unknown`: what policy charges."""
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


# -- keys, limits, budgets -----------------------------------------------------------------------------------------------
Period = Literal["daily", "weekly", "monthly", "total"]
"""Windows in UTC: a day, a week from Monday, a calendar month, for ever."""


class LimitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """None: no limit of this kind."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


class BudgetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`limit` in nano-US$. hard: 402 when it would be passed; else only an event."""

    limit: int
    period: Period = "monthly"
    hard: bool = True


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual key. `hash` is SHA-256 (hex) of the whole secret, which is stored nowhere; `hint` its last four letters."""

    id: str
    hash: str
    hint: str
    name: str
    created: float
    user: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    models: tuple[str, ...] | None = None
    doors: tuple[str, ...] | None = None
    zone: str | None = None
    priority: int = 0
    expires: float | None = None
    revoked: float | None = None
    """When it stops (a rotated key: after its overlap)."""
    ended: bool = False
    """It was revoked: it has stopped, whatever a clock says that is behind, or was set back, of `revoked`."""
    rotated_to: str | None = None
    line: str | None = None
    """Id of the first key of its line of rotations: limits, budgets, usage and traces go by it. None: its own id."""
    limits: LimitSpec = LimitSpec()
    budgets: tuple[BudgetSpec, ...] = ()


class TeamRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all keys of a team together. `models` None = all allowed."""

    id: str
    name: str
    created: float
    models: tuple[str, ...] | None = None
    limits: LimitSpec = LimitSpec()
    budgets: tuple[BudgetSpec, ...] = ()


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One change by an operator; never holds a secret."""

    at: float
    actor: str
    action: str
    """`key.create`, `key.revoke`, `config.reload`, ..."""
    target: str
    detail: str = ""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A slice of a budget, held by one process. `granted` is what this call added, in nano-US$ (0: nothing is left)."""

    granted: int
    spent: int
    """What the store has booked in this window."""
    leased: int
    """What all holders together still hold."""


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over one value of each dimension asked for."""

    group: tuple[str, ...]
    attempts: int = 0
    failed: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    cost: int = 0
    unknown_cost: int = 0
    """Attempts without a known price."""


# -- what answers were worth, and what was learned of it -----------------------------------------------------------------
class FeedbackRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said of an answer. One per trace: the last word counts. `score` is 0 to 1."""

    trace: str
    at: float
    score: float
    key_id: str
    task: str | None = None
    model: str | None = None
    comment: str = ""


class LearnedRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one process (`holder`) has learned for one entry. `at` 0: its process has ended in good order."""

    entry: str
    holder: str
    at: float
    body: bytes


class HomeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A provider keeps this object (a response, a file, a batch) for this key. `deployment`: a hash of its fingerprint;
    `expires`: when the provider has dropped it."""

    key_id: str
    object_id: str
    model: str
    provider: str
    deployment: str
    expires: float


class MixRow(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the requests of one value of each dimension asked for. Money in nano-US$, times in seconds."""

    group: tuple[str, ...]
    requests: int = 0
    failed: int = 0
    cost: int = 0
    unknown_cost: int = 0
    saved: int = 0
    latency: float = 0.0
    input: int = 0
    output: int = 0
    scored: int = 0
    """Requests that somebody gave a score."""
    score: float = 0.0


class CallRow(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of models that were to answer, over one (task of the request, model)."""

    group: tuple[str, ...]
    calls: int = 0
    failed: int = 0


JournalEntry = AttemptIntent | AttemptOutcome | RequestRecord
