"""What lower rooms give to higher ones, as protocols.

Only engine/gateway.py and server/app.py choose implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headgate.core.principal import Principal
from headgate.core.records import AttemptIntent, AttemptOutcome, RequestRecord


class Ledger(Protocol):
    """Append-only truth about money. `intend` returns only once the intent survives a kill of the process."""

    def intend(self, intent: AttemptIntent) -> None:
        """Before the first byte goes upstream. Raises StorageUnavailable where it cannot be recorded."""
        ...

    def settle(self, outcome: AttemptOutcome) -> None:
        """Once per attempt; a second call for the same id changes nothing."""
        ...

    def record(self, record: RequestRecord) -> None:
        """One row per request, when it is over."""
        ...

    async def durable(self) -> None:
        """Returns when all that was recorded so far is as durable as `store.durability` promises."""
        ...


class Grant(Protocol):
    """An admitted request's hold on limits and budgets."""

    headers: Sequence[tuple[str, str]]
    """`x-ratelimit-*` of the answer."""

    def settle(self, *, cost: int, tokens: int) -> None:
        """Corrects the estimates by what was used (nano-US$, tokens) and frees the concurrency slot. Idempotent."""
        ...


class Governor(Protocol):
    """Keys, limits, budgets. In memory on the hot path; the store is reached in the background."""

    open: bool
    """True while no virtual key exists: whatever key is sent is let in (loopback only)."""

    def authenticate(self, credentials: Sequence[str]) -> Principal:
        """All keys presented by one request (headers, query). Raises AuthenticationFailed."""
        ...

    async def admit(
        self,
        principal: Principal,
        *,
        model: str,
        door: str,
        tags: Sequence[str],
        input_tokens: int,
        output_tokens: int,
        worst_case: int | None,
    ) -> Grant:
        """Takes from limits and reserves `worst_case` (nano-US$) in all budgets that apply, all or nothing.
        Returns without awaiting unless a budget lease has to be fetched. Raises PermissionDenied, RateLimited,
        BudgetExceeded, StorageUnavailable."""
        ...
