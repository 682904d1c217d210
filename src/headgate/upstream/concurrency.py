"""Adaptive concurrency of one deployment: additive increase, multiplicative decrease on signs of overload.

The latency of language models grows with the length of what they say, so slowness is no signal here: only 429, 529 and
503 are. A short bounded queue takes bursts; beyond it load is shed, lowest priority first.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

from headgate.core.errors import Overloaded

START = 1024.0
LEAST = 8.0
"""A deployment that stands less says so by `concurrency:`; one lone 503 must not make a queue of everybody else."""
GROWTH = 0.1
"""Share by which the limit grows while it is used to the full, per limit's worth of calls; at least by one."""
MOST = 4096.0
DECREASE = 0.7
QUEUE = 64
LONGEST_WAIT = 2.0


class Gate:
    """`async with`-less on purpose: the hot path takes and gives back without a frame of its own."""

    __slots__ = ("_deaf", "_limit", "_order", "_waiting", "busy", "cap", "shed")

    def __init__(self, cap: int | None = None) -> None:
        self._limit = START
        self.capped(cap)
        self.busy = 0
        self.shed = 0
        self._deaf = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @property
    def limit(self) -> float:
        return self._limit

    def capped(self, cap: int | None) -> None:
        """From now on no more than `cap` calls at once (None: as many as it turns out to stand)."""
        self.cap = float(cap) if cap else MOST
        self._limit = min(self._limit, self.cap)

    @property
    def has_room(self) -> bool:
        return self.busy < self._limit and not self._waiting

    def try_enter(self) -> bool:
        if self.busy >= self._limit or self._waiting:
            return False
        self.busy += 1
        return True

    async def enter(self, priority: int, wait: float) -> None:
        """Takes a slot, waiting at most `wait` seconds. Raises Overloaded where the queue is full or time is up."""
        if self.try_enter():
            return
        if len(self._waiting) >= QUEUE and not self._make_room(priority):
            self.shed += 1
            raise Overloaded("too many requests are waiting for this model", retry_after=1.0)
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._order), slot))
        try:
            async with asyncio.timeout(min(wait, LONGEST_WAIT)):
                await slot
        except BaseException as error:
            if slot.done() and not slot.cancelled() and slot.exception() is None:
                self.leave()  # the slot came in the same tick as the end of waiting
            else:
                self._waiting = [entry for entry in self._waiting if entry[2] is not slot]
                heapq.heapify(self._waiting)
            if isinstance(error, TimeoutError):
                self.shed += 1
                raise Overloaded("no slot for this model came free in time", retry_after=1.0) from error
            raise

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def leave(self) -> None:
        self.busy -= 1
        if self._deaf:
            self._deaf -= 1
        while self._waiting and self.busy < self._limit:
            _, _, slot = heapq.heappop(self._waiting)
            if not slot.done():
                self.busy += 1
                slot.set_result(None)

    def praised(self) -> None:
        """A call went well: a little more room."""
        if self.busy + 1 >= self._limit:
            self._limit = min(self.cap, self._limit + max(1.0 / self._limit, GROWTH))

    def overloaded(self) -> None:
        """The provider said it is too much: what was in flight was too much. Said once is enough: until as many calls
        have ended as were under way, the same overload is told again and again."""
        if self._deaf:
            return
        self._deaf = self.busy + 1
        self._limit = min(self.cap, max(LEAST, min(self._limit, self.busy + 1.0) * DECREASE))

    def _make_room(self, priority: int) -> bool:
        lowest = max(self._waiting, key=lambda entry: (entry[0], entry[1]))
        if -lowest[0] >= priority:
            return False
        self._waiting.remove(lowest)
        heapq.heapify(self._waiting)
        if not lowest[2].done():
            lowest[2].set_exception(Overloaded("shed for a request of higher priority", retry_after=1.0))
        self.shed += 1
        return True
