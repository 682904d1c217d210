"""Slices of a limit per minute that a fleet shares (shared.py): drawn ahead of use, given back where nobody uses them."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from headgate.core.errors import StorageUnavailable
from headgate.core.fleet import Draw, Drawn
from headgate.governance.limits import MINUTE, Bucket
from headgate.governance.places import AGAIN, RESTED

if TYPE_CHECKING:
    from headgate.governance.shared import SharedLimits

KEEP = 0.02
"""Part of a limit that all processes together may keep ahead of use."""
IDLE = 30.0


class Slice(Bucket):
    """One limit per minute as this process sees it: what it has drawn and not used, and what the store last said.

    `tat` is the store's as far as known here: what others take since is not in it, so a wait may be told too short."""

    __slots__ = (
        "_asking", "_book", "_born", "_share", "_unbacked", "_waiting",
        "held", "name", "own", "refused_at", "typical", "used_at",
    )  # fmt: skip

    def __init__(self, limit: int, name: str, book: SharedLimits) -> None:
        super().__init__(limit)
        self.name = name
        self._book = book
        self.held = 0
        """Drawn and not used; below 0: used, and still to be booked."""
        self.own = -math.inf
        """`tat` of a bucket that holds only what this process has drawn: never behind the store's."""
        self._born = ""
        self.typical = 1.0
        self.used_at = -math.inf
        self.refused_at = -math.inf
        self._waiting: list[int] = []
        self._asking: asyncio.Task[None] | None = None
        self._share: Bucket | None = None
        self._unbacked = 0

    # -- as a bucket -----------------------------------------------------------------------------------------------------
    def wait(self, amount: int, now: float) -> float:
        if not self.limit:
            return math.inf
        amount = min(amount, self.limit)
        if self.held >= amount:
            return 0.0
        if self._is_alone(now):
            is_open = self._book.lost and self._book.on_store_loss == "open"
            return 0.0 if is_open else self._local(now).wait(amount, now)
        return max(super().wait(amount - max(self.held, 0), now), AGAIN)

    def take(self, amount: int, now: float) -> None:
        amount = min(amount, self.limit)
        self.used_at = now
        self.typical += (amount - self.typical) * 0.1
        alone = self._is_alone(now)
        if alone and self.held < amount:
            self._local(now).take(amount, now)
            self._unbacked += amount
            return
        self.held -= amount
        if (
            self._asking is None
            and not alone
            and self.held < max(self._kept() // 2, 1)
            and (ahead := self._ahead_of_use(now)) > 0
        ):
            self._asking = asyncio.create_task(self._ask(ahead))

    def correct(self, taken: int, used: int, now: float) -> None:
        change = min(taken, self.limit) - used
        if self._share is not None:
            self._share.tat -= change * self._share.interval
            self._unbacked = max(self._unbacked - change, 0)
        else:
            self.held += change

    def left(self, now: float) -> int:
        if self._is_alone(now):
            return self._local(now).left(now)
        return max(0, min(self.limit, super().left(now) + self.held))

    # -- the store ---------------------------------------------------------------------------------------------------------
    def short(self, amount: int, now: float) -> bool:
        """Something has to be drawn, and the store has not just said no."""
        amount = min(amount, self.limit)
        if self.held >= amount or not self.limit or now - self.refused_at < AGAIN or self._is_alone(now):
            return False
        return super().wait(amount - max(self.held, 0), now) == 0.0

    async def fetch(self, amount: int) -> None:
        amount = min(amount, self.limit)
        self._waiting.append(amount)
        try:
            if self._asking is not None:
                await asyncio.shield(self._asking)  # drawn ahead: perhaps enough for us too
            if self.held < sum(self._waiting) and not self._is_alone(self._book.clock.monotonic()):
                if self._asking is None:
                    self._asking = asyncio.create_task(self._ask(0))
                await asyncio.shield(self._asking)
        finally:
            self._waiting.remove(amount)

    async def _ask(self, ahead: int) -> None:
        """One question at a time for all that wait. Where the store fails, `lost` says so."""
        await asyncio.sleep(0)  # whoever comes in the same moment is asked for too
        try:
            need = max(sum(self._waiting) - max(self.held, 0), 0)
            least = max(min(self._waiting) - max(self.held, 0), 1) if self._waiting else 1
            now = self._book.clock.monotonic()
            want = max(need, ahead or min(self._kept(), self._fair(now)))
            granted = await self._draw(want, least)
            if not granted:
                self.refused_at = self._book.clock.monotonic()
        except StorageUnavailable as error:
            self._book.lose(error)
        finally:
            self._asking = None

    async def _draw(self, want: int, least: int = 1) -> int:
        """Raises StorageUnavailable; then nothing is booked, as far as we know."""
        debt = -self.held if self.held < 0 else 0
        drawn = await self._book.shared.draw(
            Draw(bucket=self.name, limit=self.limit, debt=debt, want=want, least=least)
        )
        self.held += debt
        return await self._booked(drawn, debt)

    async def _give_back(self, amount: int) -> None:
        self.held -= amount
        drawn = await self._book.shared.draw(Draw(bucket=self.name, limit=self.limit, debt=-amount))
        await self._booked(drawn, -amount)

    async def _booked(self, drawn: Drawn, debt: int) -> int:
        """What was granted. Raises StorageUnavailable."""
        now = self._book.clock.monotonic()
        self._counted(debt, now)
        self._book.heard(drawn.store)
        is_new = drawn.born != self._born and self.tat > now  # before it can have been full
        if is_new:
            self._book.forgotten()
        if is_new or (drawn.granted and self._book.is_alone(now) and not self._book.lost):
            await self._tell_again(now, debt, drawn.granted)
            self._born = drawn.born
            return 0
        self._born = drawn.born
        self._counted(drawn.granted, now)
        self.held += drawn.granted
        self.tat = now + drawn.ahead
        return drawn.granted

    async def _tell_again(self, now: float, debt: int, granted: int) -> None:
        """To a store that knows only of this `debt` and of what it has just `granted`, which goes back: it may be another
        process's."""
        self.tat += debt * self.interval
        self._local(now)  # begins where the old store stood
        told = Draw(bucket=self.name, limit=self.limit, debt=-granted, level=max(self.tat - now, 0.0))
        drawn = await self._book.shared.draw(told)
        self.tat = self._book.clock.monotonic() + drawn.ahead

    def _counted(self, amount: int, now: float) -> None:
        self.own = max(max(self.own, now) + amount * self.interval, now)

    async def tend(self, now: float, *, look: bool = False) -> None:
        if self._asking is not None or self._book.lost:
            return
        self._is_alone(now)  # where that is over, what it used is a debt by now
        rest = now - self.used_at
        keep = 0 if rest > IDLE else self._kept() if rest > RESTED else max(2 * self._kept(), math.ceil(self.typical))
        if self.held > keep:
            await self._give_back(self.held - keep)
        elif self.held < 0 or (look and self.tat > now):
            await self._draw(0)

    async def close(self) -> None:
        if self._asking is None and not self._book.lost and self.held:
            await (self._give_back(self.held) if self.held > 0 else self._draw(0))

    def _kept(self) -> int:
        """What may lie here ahead of use."""
        replicas = max(self._book.replicas, 1)
        return max(int(self.limit * KEEP) // replicas, 1 if self.limit >= 20 * replicas else 0)

    def _fair(self, now: float) -> int:
        """Towards the end of the limit nobody takes what others need."""
        return super().left(now) // (2 * max(self._book.replicas, 1))

    def _ahead_of_use(self, now: float) -> int:
        """What to draw before it is asked for; 0 where it would not be enough for one request."""
        wanted = min(max(self._kept(), math.ceil(self.typical)), self._fair(now))
        return wanted if wanted >= self.typical else 0

    # -- without the store -------------------------------------------------------------------------------------------------
    def _is_alone(self, now: float) -> bool:
        if self._book.is_alone(now):
            return True
        if self._share is not None:
            self.found(now)
        return False

    def _local(self, now: float) -> Bucket:
        """This process's share, from which what it has drawn lately is taken already; and as much as was taken from the
        whole when the store was last heard."""
        if self._share is None:
            replicas = max(self._book.replicas, 1)
            self._share = share = Bucket(max(self.limit // replicas, 1) if self.limit else 0)
            level = max((self.own - now) * replicas, self.tat - now, 0.0) - min(self.held, 0) * share.interval
            share.tat = now + min(level, MINUTE)
        return self._share

    def found(self, now: float) -> None:
        """The store is back: it is told what it has missed."""
        share, self._share = self._share, None
        if share is not None:
            lately = int(max(share.tat - now, 0.0) / share.interval)
            self.held -= min(self._unbacked, lately, share.limit)
        self._unbacked = 0
        self.refused_at = -math.inf
