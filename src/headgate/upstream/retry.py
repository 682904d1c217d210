"""How often and how fast one deployment may be asked again."""

from __future__ import annotations

import random

from headgate.core.clock import Clock
from headgate.core.errors import UpstreamFault

SHARE = 0.2
FLOOR_PER_SECOND = 1.0
TTL = 10.0
BASE_DELAY = 0.25
LONGEST_DELAY = 8.0
# Worth asking the same deployment again; silence (timeout) is not: it would only be silent again.
RETRY_SAME = frozenset({"connect", "unavailable", "overloaded", "invalid_answer", "rate_limit"})


class RetryBudget:
    """Finagle's: each first try earns 0.2 of a retry, a floor of one a second comes for free, unspent ones last 10 s.

    Retries on a deployment draw on its budget; a move to a healthy deployment does not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens = FLOOR_PER_SECOND * TTL
        self._at = clock.monotonic()

    def earn(self) -> None:
        self._refill()
        self._tokens = min(self._tokens + SHARE, self._cap())

    def spend(self) -> bool:
        self._refill()
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _cap(self) -> float:
        return 100.0

    def _refill(self) -> None:
        now = self._clock.monotonic()
        floor = FLOOR_PER_SECOND * TTL
        if self._tokens < floor:
            self._tokens = min(floor, self._tokens + (now - self._at) * FLOOR_PER_SECOND)
        self._at = now


class HedgeBudget:
    """Every call earns its share of a hedge; what is unspent adds up to a few, so that hedges are never more than the
    share of the calls, and an outage does not spend what a quiet week has saved."""

    MOST = 5.0

    def __init__(self) -> None:
        self._tokens = 0.0

    def earn(self, share: float) -> None:
        self._tokens = min(self._tokens + share, self.MOST)

    def spend(self) -> bool:
        if self._tokens < 1.0 - 1e-9:
            return False
        self._tokens -= 1.0
        return True


def delay(fault: UpstreamFault, retry: int, rng: random.Random) -> float:
    """Seconds to wait before retry number `retry` (from 0): the provider's own word, else full jitter (AWS)."""
    if fault.retry_after is not None:
        return fault.retry_after
    return rng.uniform(0.0, min(LONGEST_DELAY, BASE_DELAY * 2**retry))
