"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio


class FakeClock:
    """`sleep` returns when `advance` has passed its time."""

    def __init__(self, now: float = 1_795_500_000.0) -> None:
        self.now = now
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Moves on, and lets everything run that is due."""
        self.now += seconds
        for _ in range(20):
            due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self.now]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self.now]
            for _, future in due:
                if not future.done():
                    future.set_result(None)
            await asyncio.sleep(0)
