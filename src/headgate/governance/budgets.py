"""Budgets: money is reserved in memory, from slices that the store has granted to this process.

    left = granted - reserved in flight - settled since

The store sees to spent + leased <= limit over all processes; here nothing is ever reserved beyond what is left. So
what is settled passes a limit at most by what attempts cost more than their own reservation.

Whatever moves money between the store and a window has a number (`turn`), and is asked again under it until it is answered:
where an answer is lost, nothing is granted or given back twice, and no slice is forgotten that the store thinks is held."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal, NamedTuple

from headgate.core.clock import Clock
from headgate.core.errors import BudgetExceeded, StorageUnavailable, StorageUnsure
from headgate.core.money import dollars
from headgate.core.ports import Store
from headgate.core.records import BudgetSpec, Period
from headgate.governance.rules import tightest

ASK_TIMEOUT = 3.0
"""Seconds that the store may take to grant a slice."""
REFUSAL_MEMORY = 0.25
"""Seconds for which the store's no is remembered: other processes may have given something back since."""
LEASE_TIME = 600.0
RENEW_EVERY = 120.0
IDLE = 5.0
"""Seconds without a request after which an unused slice goes back."""
FORGET = 3600.0
"""Seconds without a request after which a window is forgotten."""
LOOK_EVERY = 2.0
"""Seconds between looks at budgets that only tell."""
WARN_AT = (1.0, 0.8)
SLICES = 20
"""A slice is this part of the limit at most, and a quarter of what is left towards the end, so that processes do not
starve each other."""
MOST = 2**60
"""Nano-US$ (a billion US$): a budget of more holds as one of this; stores could not add it up."""
Event = Callable[[str, dict[str, object]], None]
Loss = Literal["local", "closed", "open"]


def since_of(period: Period, day: date) -> str:
    """The first day of the window that holds `day`."""
    match period:
        case "daily":
            return day.isoformat()
        case "weekly":
            return (day - timedelta(days=day.weekday())).isoformat()
        case "monthly":
            return day.replace(day=1).isoformat()
        case _:
            return ""


def day_of(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()


class Back(NamedTuple):
    """What is given back to the store, until that has answered."""

    turn: int
    amount: int


class Window:
    """One scope's money since one day. `limit` is the smallest hard budget that looks at it, None where all only tell;
    budgets of several periods share a window where they begin on the same day."""

    __slots__ = (
        "asked",
        "asking",
        "back",
        "granted",
        "is_blind",
        "known_at",
        "leased",
        "limit",
        "oversized",
        "period",
        "renewed_at",
        "reserved",
        "room",
        "scope",
        "settled",
        "since",
        "soft",
        "spent",
        "talking",
        "told",
        "unbacked",
        "used_at",
        "wanted",
    )  # fmt: skip

    def __init__(self, scope: str, since: str, now: float) -> None:
        self.scope = scope
        self.since = since
        self.limit: int | None = None
        self.soft: int | None = None
        self.period: Period = "total"
        self.granted = 0
        self.settled = 0
        self.reserved = 0
        self.oversized = False
        """The limit was lowered: what is left of the slice goes back, and the store says anew what there is."""
        self.unbacked = 0
        """Part of `granted` that the store knows nothing of: taken while it was lost."""
        self.spent = 0
        self.leased = 0
        self.room = 0
        self.known_at = -1e9
        self.used_at = now
        self.renewed_at = -1e9
        self.wanted = 0
        """What those who wait for the store need together."""
        self.is_blind = False
        """The store was lost at the last question: `room` is what it said before."""
        self.asking: asyncio.Task[None] | None = None
        self.talking = asyncio.Lock()
        """Held while the store is asked: one thing at a time."""
        self.asked = 0
        """The turn of a question for a slice that was not answered; 0: there is none."""
        self.back: Back | None = None
        self.told = {True: 0.0, False: 0.0}
        """The highest mark that was told, by whether it is the hard budget's."""

    @property
    def left(self) -> int:
        return self.granted - self.reserved - self.settled

    @property
    def is_unsure(self) -> bool:
        """The store may have granted, or taken back, what it was never heard to."""
        return self.asked != 0 or self.back is not None

    def rule(self, specs: Sequence[BudgetSpec]) -> None:
        """The budgets that look at this window now."""
        hard, soft = tightest([s for s in specs if s.hard]), tightest([s for s in specs if not s.hard])
        limit = None if hard is None else min(hard.limit, MOST)
        if limit != self.limit:
            self.oversized = self.limit is not None and limit is not None and limit < self.limit
            self.limit = limit
            self.known_at = -1e9  # what the store said of room was said of another limit
        self.soft = None if soft is None else min(soft.limit, MOST)
        first = hard or soft
        if first is not None:
            self.period = first.period

    def slice(self) -> int:
        limit = self.limit or 0
        fair = limit // SLICES
        return fair if self.known_at < 0 else min(fair, self.room // 4)


class BudgetBook:
    """All windows of this process. `holder` names it in the store. `replicas()` is how many processes share budgets."""

    def __init__(
        self,
        store: Store,
        holder: str,
        clock: Clock,
        on_event: Event = lambda kind, facts: None,
        *,
        replicas: Callable[[], int] = lambda: 1,
    ) -> None:
        self._store = store
        self._holder = holder
        self._clock = clock
        self._on_event = on_event
        self._replicas = replicas
        self._lost = False
        self._turns = itertools.count(1)
        self.on_store_loss: Loss = "closed"
        self.windows: dict[tuple[str, str], Window] = {}
        self.generation = 0
        """Grows when windows are forgotten: whoever keeps some has to find them anew."""

    def windows_of(self, specs: Iterable[tuple[str, BudgetSpec]], day: date) -> tuple[Window, ...]:
        """The windows that a request admitted on `day` moves in."""
        now = self._clock.monotonic()
        grouped: dict[tuple[str, str], list[BudgetSpec]] = {}
        for scope, spec in specs:
            grouped.setdefault((scope, since_of(spec.period, day)), []).append(spec)
        out: list[Window] = []
        for key, group in grouped.items():
            window = self.windows.get(key)
            if window is None:
                window = self.windows[key] = Window(*key, now)
            window.rule(group)
            self._shrink(window)
            out.append(window)
        return tuple(out)

    def _shrink(self, window: Window) -> None:
        """Not while a question is under way: what that brings goes back with the rest (`_grant`)."""
        if window.oversized and not (window.unbacked or window.is_unsure):
            window.oversized = False
            if window.left > 0:
                window.back = Back(next(self._turns), window.left)
                window.granted -= window.back.amount
                window.room += window.back.amount
                window.known_at = -1e9

    def touch(self, windows: Sequence[Window]) -> None:
        """Somebody spends here: the budgets that only tell are looked at."""
        now = self._clock.monotonic()
        for window in windows:
            window.used_at = now

    def take(self, windows: Sequence[Window], amount: int) -> bool:
        """Reserves in all of them, or in none: no waiting. What costs nothing passes, whatever was spent."""
        if not amount:
            return True
        for window in windows:
            if window.granted - window.reserved - window.settled < amount:
                return False
        for window in windows:
            window.reserved += amount
        return True

    async def reserve(self, windows: Sequence[Window], amount: int) -> None:
        """Reserves in all of them, or in none. Waits only where a slice has to be fetched. Raises BudgetExceeded,
        StorageUnavailable."""
        now = self._clock.monotonic()
        for window in windows:
            window.used_at = now
        while not self.take(windows, amount):
            for window in windows:
                if window.left < amount:
                    await self._fetch(window, amount)

    async def _fetch(self, window: Window, amount: int) -> None:
        if self._clock.monotonic() - window.known_at < REFUSAL_MEMORY and amount - window.left > window.room:
            raise refusal(window, amount)
        if window.asking is None:
            window.asking = asyncio.create_task(self._ask(window))
        window.wanted += amount
        try:
            await asyncio.shield(window.asking)
        finally:
            window.wanted -= amount
        room = 0 if window.is_blind and self.on_store_loss == "local" else window.room
        if amount - window.left > room and not (window.is_blind and self.on_store_loss == "open"):
            raise refusal(window, amount)

    async def _ask(self, window: Window) -> None:
        """One question at a time per window, for all that wait. What they need is known when it is asked."""
        await asyncio.sleep(0)
        try:
            want = max(window.wanted - window.left, window.slice(), 1)
            await self._lease(window, want)
        except StorageUnavailable:
            self._without_store(window, window.wanted - window.left)
        finally:
            window.asking = None

    async def _lease(self, window: Window, want: int) -> None:
        if window.limit is None and not window.asked:
            window.granted += want  # it only tells by now: nobody waits for it
            return
        try:
            async with asyncio.timeout(ASK_TIMEOUT), window.talking:
                await self._give_back(window)
                await self._grant(window, want)
        except TimeoutError as error:
            raise StorageUnavailable("the budget store does not answer", detail=window.scope) from error

    async def _grant(self, window: Window, want: int) -> None:
        now, limit = self._clock.monotonic(), window.limit or 0
        window.asked = window.asked or next(self._turns)
        lease = await self._store.lease(
            window.scope,
            window.since,
            limit=limit,
            want=want + window.unbacked,
            holder=self._holder,
            expires=self._clock.time() + LEASE_TIME,
            turn=window.asked,
            owed=max(window.settled + window.unbacked - window.granted, 0),
        )
        window.asked = 0
        if self._lost:
            self._lost = False
            self._on_event("budget_store_back", {})
        window.granted += lease.granted - window.unbacked  # what was taken without the store is backed now, or owed
        window.unbacked = 0
        window.is_blind = False
        window.spent, window.leased = lease.spent, lease.leased
        window.room = max(limit - lease.spent - lease.leased, 0)
        window.known_at = window.renewed_at = now
        self._shrink(window)
        self._tell(window)

    def _without_store(self, window: Window, need: int) -> None:
        """What `on_store_loss` says. Raises StorageUnavailable where it says no."""
        if not self._lost:
            self._lost = True
            self._on_event("budget_store_lost", {"scope": window.scope, "then": self.on_store_loss})
        if self.on_store_loss == "closed" or window.limit is None:
            raise StorageUnavailable("budgets cannot be checked at the moment", retry_after=1.0)
        if self.on_store_loss == "local":
            share = max(window.room // max(self._replicas(), 1) - window.unbacked, 0)
            need = min(need, share)
        window.is_blind = True
        window.granted += max(need, 0)
        window.unbacked += max(need, 0)

    def move(self, windows: Sequence[Window], *, reserved: int, settled: int) -> None:
        """An attempt or a request ended: what it held and what it cost."""
        for window in windows:
            window.reserved += reserved
            window.settled += settled

    # -- in the background ----------------------------------------------------------------------------------------------
    async def tend(self) -> None:
        """Tops up slices that are used, gives back those that are not, looks at budgets that only tell. Called about once
        a second. Raises StorageUnavailable."""
        now = self._clock.monotonic()
        for window in list(self.windows.values()):
            idle = now - window.used_at > IDLE
            is_empty = window.left <= 0 and not (window.reserved or window.unbacked or window.is_unsure)
            if now - window.used_at > FORGET and is_empty:
                del self.windows[window.scope, window.since]
                self.generation += 1
                continue
            if window.limit is None:
                await self._drop(window)
                if not idle and now - window.known_at > LOOK_EVERY:
                    await self._look(window, now)
            elif idle and window.reserved == 0:
                await self._drop(window)
            elif window.is_unsure and window.asking is None:
                await self._lease(window, 0)
            elif window.asking is None and window.left < window.slice() // 2 and window.room > 0:
                await self._lease(window, window.slice())
            elif now - window.renewed_at > (RENEW_EVERY if window.soft is None or idle else LOOK_EVERY):
                await self._lease(window, 0)

    def held(self) -> int:
        """Nano-US$ leased to this process and not spent, over all hard budgets."""
        return sum(max(window.granted - window.settled, 0) for window in self.windows.values())

    async def close(self) -> None:
        """Gives everything back that is not in flight. Raises StorageUnavailable."""
        for window in list(self.windows.values()):
            await self._drop(window)

    async def _drop(self, window: Window) -> None:
        if window.asked:
            await self._lease(window, 0)
        if window.left <= 0 and window.back is None:
            return
        async with window.talking:
            await self._give_back(window)
            if window.left > 0 and window.unbacked == 0 and not window.asked:
                window.back = Back(next(self._turns), window.left)
                window.granted -= window.back.amount
                try:
                    await self._give_back(window)
                except StorageUnsure:
                    raise  # others may have it by now: it is nobody's until the store has said
                except StorageUnavailable:
                    if window.back is not None:
                        window.granted += window.back.amount
                        window.back = None
                    raise

    async def _give_back(self, window: Window) -> None:
        if (back := window.back) is not None:
            await self._store.release(
                window.scope, window.since, holder=self._holder, amount=back.amount, turn=back.turn
            )
            window.back = None

    async def _look(self, window: Window, now: float) -> None:
        limit = window.soft or 0
        found = await self._store.lease(
            window.scope, window.since, limit=limit, want=0, holder=self._holder, expires=self._clock.time()
        )
        window.spent, window.leased, window.known_at = found.spent, found.leased, now
        self._tell(window)

    def _tell(self, window: Window) -> None:
        """Once per window and mark, and never for a spend that is only reserved."""
        for limit, hard in ((window.limit, True), (window.soft, False)):
            if not limit:
                continue
            mark = next((mark for mark in WARN_AT if window.spent >= mark * limit), 0.0)
            if mark > window.told[hard]:
                window.told[hard] = mark
                facts = {"scope": window.scope, "period": window.period, "hard": hard, "share": mark}
                money = {"limit_usd": dollars(limit), "spent_usd": dollars(window.spent)}
                self._on_event("budget_reached" if mark == 1.0 else "budget_near", {**facts, **money})


def refusal(window: Window, amount: int) -> BudgetExceeded:
    kind, _, name = window.scope.partition(":")
    whose = {"all": "the gateway", "key": "this key"}.get(kind, f"the {kind} {name[:80]!r}")
    left = max(window.left + window.room, 0)
    return BudgetExceeded(
        f"The {window.period} budget of {whose} does not cover this request: it may cost up to ${dollars(amount)}, "
        f"${dollars(left)} is left. Every call that it may lead to is counted, at its most; a lower max_tokens makes it "
        "less.",
        left=left,
    )
