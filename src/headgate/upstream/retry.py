"""How often and how fast one deployment may be asked again."""

from __future__ import annotations

import random

from headgate.core.clock import Clock
from headgate.core.errors import UpstreamFault

SHARE = 0.2
FLOOR_PER_SECOND = 1.0
SLOTS = 10
BASE_DELAY = 0.25
LONGEST_DELAY = 8.0
LONGEST_NAMED_WAIT = 5.0
"""Seconds that a request waits itself where a provider says when to come back; who is told more than that is told so."""
EARLY = 0.002
"""Seconds by which a loop's timer may be early (uvloop counts in milliseconds): a named wait is kept to all the same."""
# Worth asking the same deployment again; silence (timeout) is not: it would only be silent again.
RETRY_SAME = frozenset({"connect", "unavailable", "overloaded", "invalid_answer", "rate_limit"})


class RetryBudget:
    """Finagle's: of the last ten seconds' first tries a fifth may be tried again, and one a second on top.

    Retries on a deployment draw on its budget; a move to a healthy deployment does not. Counted in slots of a second."""

    __slots__ = ("_clock", "_now", "_retries", "_tries")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now = int(clock.monotonic())
        self._tries = [0] * SLOTS
        self._retries = [0] * SLOTS

    def earn(self) -> None:
        """A first try."""
        self._tries[self._slot()] += 1

    def spend(self) -> bool:
        """True where one more retry is within the budget; it is then counted."""
        slot = self._slot()
        if sum(self._retries) + 1 > SHARE * sum(self._tries) + FLOOR_PER_SECOND * SLOTS:
            return False
        self._retries[slot] += 1
        return True

    def _slot(self) -> int:
        now = int(self._clock.monotonic())
        if now == self._now:
            return now % SLOTS
        for second in range(max(self._now + 1, now - SLOTS + 1), now + 1):
            self._tries[second % SLOTS] = self._retries[second % SLOTS] = 0
        self._now = now
        return now % SLOTS


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
    """Seconds to wait before retry number `retry` (from 0): full jitter (AWS), and no less than the provider has named,
    who may name 0, or a time that is over."""
    jitter = rng.uniform(0.0, min(LONGEST_DELAY, BASE_DELAY * 2**retry))
    return jitter if fault.retry_after is None else max(fault.retry_after + EARLY, jitter)
