"""What a client is told where everything that was asked has failed."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.core.errors import (
    AllModelsUnavailable,
    BudgetExceeded,
    DeadlineExceeded,
    HeadgateError,
    InvalidRequest,
    PermissionDenied,
    StorageUnavailable,
    UpstreamFault,
)
from headgate.core.strategy import Run

FINAL = (BudgetExceeded, DeadlineExceeded, PermissionDenied, StorageUnavailable, InvalidRequest)
"""Errors that no other model could change."""


Failure = tuple[str, HeadgateError]
"""(who failed, how)"""


def all_failed(name: str, failures: Sequence[Failure], run: Run, *, said: Sequence[str] = ()) -> HeadgateError:
    """503 with the attempts; 429 with the smallest Retry-After where all were rate limits. `said`: reasons that are no
    errors (an empty answer, say)."""
    waits = [f.retry_after for _, f in failures if f.retry_after is not None]
    limited = all(isinstance(f, UpstreamFault) and f.kind == "rate_limit" for _, f in failures)
    if limited and failures and not said:
        return AllModelsUnavailable(
            f"every model of {name!r} is rate limited by its provider",
            run.trace.attempts,
            code="rate_limit_exceeded",
            retry_after=min(waits, default=1.0),
        )
    reasons = dict.fromkeys([*(_told(who, f.message) for who, f in failures), *said])
    return AllModelsUnavailable(
        f"every model of {name!r} failed: " + "; ".join(reasons)[:600],
        run.trace.attempts,
        should_retry=False if run.trace.calls else None,
        retry_after=min(waits, default=None),
    )


def _told(who: str, message: str) -> str:
    """A provider's words do not say whose they are."""
    return message if message.startswith(who) else f"{who}: {message}"


def all_refused(name: str, run: Run) -> HeadgateError:
    """503 with the attempts: nobody was down, but nobody will answer this. `kind` tells strategies above that it is the
    providers' answer, which is not routed around unasked."""
    return AllModelsUnavailable(
        f"every model of {name!r} refused to answer: content policy",
        run.trace.attempts,
        kind="content_policy",
        should_retry=False,
    )
