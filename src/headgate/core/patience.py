"""How long one waits for somebody else, on a loop that may itself be late.

A blocked loop wakes to find a limit over and bytes that came in time not yet read (uvloop runs timers before it looks at
sockets; asyncio reads first, but cancels the reader before it has run). Whoever is to be blamed for silence is looked at
once more before.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

LATE = 0.01
"""Seconds after its time from which on a timer tells of a loop that was blocked rather than of its own resolution."""
SECOND_LOOK = 0.05
"""Seconds in which such a loop reads what had arrived."""


class Patience:
    """asyncio.timeout_at(when) that looks a second time where its timer came late. Raises TimeoutError."""

    def __init__(self, when: float) -> None:
        self._when = when
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._timer = asyncio.get_running_loop().call_at(self._when, self._over)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _over(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timeout.reschedule(now + SECOND_LOOK if now - self._when > LATE else now)
