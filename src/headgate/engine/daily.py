"""What questions of the house's own may cost a day: judges of routes and of experiments. Counted by key and tag in the
store, so that all processes on one store share a sum; here never more than the sum is under way or spent."""

from __future__ import annotations

from collections import Counter

from headgate.core.clock import Clock
from headgate.core.errors import StorageUnavailable
from headgate.core.ports import Store

DAY = 86400.0


class Daily:
    """Money in nano-US$. An account is a key and a tag. Days are UTC."""

    def __init__(self, store: Store | None, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._day = 0
        self._spent: Counter[tuple[str, str]] = Counter()
        self._held: Counter[tuple[str, str]] = Counter()
        self._told: set[tuple[str, str]] = set()

    async def left(self, key: str, tag: str, limit: int) -> int:
        """Of `limit`, after what all processes have spent today and what is under way here. A store that does not answer
        leaves this process's own count."""
        now, account = self._clock.time(), (key, tag)
        day = int(now // DAY)
        if day != self._day:
            self._day, self._spent, self._told = day, Counter(), set()
        found = 0
        if self._store is not None:
            try:
                rows = await self._store.usage(since=day * DAY, until=now + 1, by=(), where={"key": key, "tag": tag})
            except StorageUnavailable:
                rows = ()
            found = sum(row.cost for row in rows)
        return limit - max(self._spent[account], found) - self._held[account]

    def hold(self, key: str, tag: str, amount: int) -> None:
        """What a question may cost at most, while it is under way."""
        self._held[key, tag] += amount

    def settle(self, key: str, tag: str, *, held: int, cost: int) -> None:
        self._held[key, tag] -= held
        self._spent[key, tag] += cost

    def is_news(self, key: str, tag: str) -> bool:
        """Whether it is the first time today that somebody asks this after the money has ended."""
        account = (key, tag)
        fresh = account not in self._told
        self._told.add(account)
        return fresh
