"""Does this process get to run? A beat four times a second tells how late it came.

A process that was stopped (SIGSTOP, a frozen container, a laptop's lid) or blocked wakes to find every timer due at once.
Those deadlines are kept, by the monotonic clock; but providers are not to blame for the silence, and while the loop lags
new work only makes everybody wait longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

EVERY = 0.25
ASLEEP = 1.0
"""Seconds that a beat is late after which silence is our own doing."""
STRAINED, CHOKED = 0.5, 2.0
"""Smoothed lag in seconds from which on ordinary requests, and all requests, are turned away."""
MOST = 3.0
"""Seconds that one beat counts for at most: a long sleep that is over is no load, and must not turn clients away long."""


class Pulse:
    """Stands still until `start`: nothing is ever late then. One event loop."""

    def __init__(self) -> None:
        self.lag = 0.0
        """Seconds that the last beat came late."""
        self.pressure = 0.0
        """The same, smoothed: half of it is the last beat, a quarter the one before, and so on."""
        self.worst = 0.0
        """The latest beat since `take_worst`."""
        self.on_sleep: list[Callable[[float], None]] = []
        """Called with the seconds when the process finds that it did not run."""
        self._woke = float("-inf")
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def slept_since(self, at: float) -> bool:
        """Was there a time since `at` (the loop's and the clock's monotonic seconds) in which this process did not run?"""
        return self._woke >= at

    def sheds(self, priority: int) -> bool:
        """Is a new request of this priority turned away? Ordinary ones (0 and below) first."""
        return self.pressure >= (STRAINED if priority <= 0 else CHOKED)

    def take_worst(self) -> float:
        worst, self.worst = max(self.worst, self.lag), 0.0
        return worst

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + EVERY
        self._timer = loop.call_at(self._due, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self.lag = max(0.0, now - self._due)
        self.pressure = (self.pressure + min(self.lag, MOST)) / 2
        self.worst = max(self.worst, self.lag)
        self._arm(loop)
        if self.lag >= ASLEEP:
            self._woke = now
            for listener in self.on_sleep:
                listener(self.lag)
