"""Places for requests at a time that a fleet shares: each process holds some of them, and asks for more where they are
taken."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from headgate.core.errors import StorageUnavailable
from headgate.core.fleet import Seating

if TYPE_CHECKING:
    from headgate.governance.shared import SharedLimiter, SharedLimits

AGAIN = 0.02
"""Seconds after a no in which the store is not asked again."""
RESTED = 1.0
"""Seconds without a request after which what is held beyond those that run goes back."""
ALONE = 2.0
"""Seconds for which each process keeps to its own share, or to the places that it holds, after the store was emptied: by
then all have said what they know of the limit (server/fleet.py looks twice a second)."""
SEATS_KEPT = 0.1
"""Part of all places that processes together may keep ahead of use."""
SEATED = 20.0
"""Seconds for which the store keeps the places of a process that says nothing."""
RENEW_EVERY = 5.0


class Seats:
    """Places for requests at a time, as held by this process."""

    __slots__ = ("_asking", "_book", "_limiter", "_renewed_at", "_waiting", "held", "name", "refused_at", "used_at")

    def __init__(self, name: str, book: SharedLimits, limiter: SharedLimiter) -> None:
        self.name = name
        self._book = book
        self._limiter = limiter
        self.held = 0
        self.used_at = self.refused_at = self._renewed_at = -math.inf
        self._waiting = 0
        self._asking: asyncio.Task[None] | None = None

    @property
    def limit(self) -> int:
        return self._limiter.concurrent or 0

    @property
    def most(self) -> float:
        """How many may run here now."""
        if not self._book.lost:
            return self.held
        if self._book.on_store_loss == "open":
            return math.inf
        return max(self.limit // max(self._book.replicas, 1), 1) if self.limit else 0

    def short(self, now: float) -> bool:
        return self._limiter.running >= self.held and self.limit > 0 and now - self.refused_at >= AGAIN

    async def fetch(self) -> None:
        self._waiting += 1
        try:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
            await asyncio.shield(self._asking)
        finally:
            self._waiting -= 1

    async def _ask(self) -> None:
        await asyncio.sleep(0)
        try:
            need = self._limiter.running + self._waiting - self.held
            if not await self._seat(max(need, 0) + self._spare()):
                self.refused_at = self._book.clock.monotonic()
        except StorageUnavailable as error:
            self._book.lose(error)
        finally:
            self._asking = None

    async def _seat(self, want: int) -> int:
        """What is held is said as it is: a store that has forgotten learns it anew. Raises StorageUnavailable."""
        seated = await self._book.shared.seat(
            Seating(bucket=self.name, limit=self.limit, held=self.held, want=want, seconds=SEATED, alone=ALONE),
            holder=self._book.holder,
        )
        self._book.heard(seated.store)
        self.held += seated.granted
        self._renewed_at = self._book.clock.monotonic()
        return seated.granted

    def found(self) -> None:
        """The store is back: what runs here has places, also where it got them from nobody."""
        self.held = max(self.held, self._limiter.running)
        self.refused_at = self._renewed_at = -math.inf

    async def tend(self, now: float, *, look: bool = False) -> None:
        if self._asking is not None or self._book.lost:
            return
        spare = self._spare() if now - self.used_at < RESTED else 0
        free = self.held - self._limiter.running - spare
        if free > 0:
            self.held -= free
            await self._seat(0)
        elif self.held and (look or now - self._renewed_at > RENEW_EVERY):
            await self._seat(0)

    async def close(self) -> None:
        if self.held and not self._book.lost:
            self.held = 0
            await self._seat(0)

    def _spare(self) -> int:
        replicas = max(self._book.replicas, 1)
        return max(int(self.limit * SEATS_KEPT) // replicas, 1 if self.limit >= 4 * replicas else 0)
