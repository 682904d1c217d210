"""Limits that a fleet shares: each process draws slices of them ahead of use, and asks the store only where its slice is
used up.

    admitted by all <= limit + limit * t / 60          in any t seconds, while the store answers and forgets nothing
    left unused     <= KEEP of the limit               in the slices of processes that nobody asks any more

Without the store each process goes on with its share of the limit (`on_store_loss: local`); what it lets through is booked
once the store is back. A store that was emptied is told how far the limit was used, by everybody who knows; for ALONE
seconds each keeps to its share as if the store were lost, and so takes nobody's part. Either way at most

    sum over processes of max(0, share - used)         share: limit / processes

is admitted beyond the bound above, where `used` is the larger of what the process itself has used lately and of its part of
what the store last told it was used by all. (Places for requests at a time, places.py: an emptied store gives none for as
long, and each goes on with those that it holds.)"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Literal

from headgate.core.clock import Clock
from headgate.core.errors import StorageUnavailable
from headgate.core.ports import Shared
from headgate.core.records import LimitSpec
from headgate.governance.limits import BUSY_RETRY, Bucket, Limiter
from headgate.governance.places import ALONE, Seats
from headgate.governance.slices import Slice

AT_ONCE = 8
Event = Callable[[str, dict[str, object]], None]
Loss = Literal["local", "closed", "open"]


class SharedLimits:
    """All shared limits of this process. `tend` is called about twice a second, `found` once the store is heard of again
    (server/fleet.py). `replicas` is how many share them."""

    def __init__(self, shared: Shared, holder: str, clock: Clock, on_event: Event = lambda kind, facts: None) -> None:
        self.shared = shared
        self.holder = holder
        self.clock = clock
        self._on_event = on_event
        self.on_store_loss: Loss = "local"
        self.replicas = 1
        self.lost = False
        self._store = ""
        self._look = False
        """The store was emptied: all that is known of limits is to be laid beside what it knows."""
        self._alone_until = -math.inf
        self._limiters: list[SharedLimiter] = []

    def limiter(self, scope: str, spec: LimitSpec) -> SharedLimiter:
        made = SharedLimiter(scope, spec, self)
        self._limiters.append(made)
        return made

    def is_short(self, limiters: Sequence[Limiter], tokens: int) -> bool:
        """Whether the store has to be asked first. Raises StorageUnavailable where it is lost and that ends it."""
        if self.lost:
            self._check()
            return False
        now = self.clock.monotonic()
        return any(isinstance(limiter, SharedLimiter) and limiter.short(tokens, now) for limiter in limiters)

    async def ready(self, limiters: Sequence[Limiter], tokens: int) -> None:
        """Draws what is short, once for all who wait for it. What is not granted is refused by the limiters themselves."""
        now = self.clock.monotonic()
        asks = [limiter.fetch(tokens, now) for limiter in limiters if isinstance(limiter, SharedLimiter)]
        await asyncio.gather(*(ask for group in asks for ask in group))
        if self.lost:
            self._check()

    def _check(self) -> None:
        if self.on_store_loss == "closed":
            raise StorageUnavailable("limits cannot be checked at the moment", retry_after=1.0)

    # -- the store comes and goes --------------------------------------------------------------------------------------
    def lose(self, error: StorageUnavailable) -> None:
        if not self.lost:
            self.lost = True
            self._on_event("shared_store_lost", {"detail": error.detail or error.message, "then": self.on_store_loss})

    def found(self) -> None:
        if self.lost:
            self.lost = False
            now = self.clock.monotonic()
            for limiter in self._limiters:
                limiter.found(now)
            self._on_event("shared_store_back", {})

    def heard(self, store: str) -> None:
        """The name of the store's present life (core/fleet.py, Pulse)."""
        if self._store and store != self._store:
            self.forgotten()
        self._store = store

    def forgotten(self) -> None:
        """The store has lost what it knew, or part of it."""
        self._look = True
        self._alone_until = self.clock.monotonic() + ALONE

    def counted(self, replicas: int) -> None:
        """How many live, as the store says: which has to hear of all of them anew where it was emptied."""
        forgets = self.is_alone(self.clock.monotonic())
        self.replicas = max(replicas, self.replicas if forgets else 1)

    def is_alone(self, now: float) -> bool:
        """Each keeps to its share: the store is lost, or has just forgotten what others use."""
        return self.lost or now < self._alone_until

    async def tend(self) -> None:
        """Gives back what nobody uses, books debts, renews places. Raises StorageUnavailable."""
        now = self.clock.monotonic()
        parts = [part for limiter in self._limiters for part in limiter.parts]
        if self._look:
            for start in range(0, len(parts), AT_ONCE):
                await asyncio.gather(*(part.tend(now, look=True) for part in parts[start : start + AT_ONCE]))
            self._look = False
            return
        for part in parts:
            await part.tend(now)

    def held(self) -> tuple[int, int]:
        """Requests per minute drawn ahead of use, and places held."""
        requests = places = 0
        for limiter in self._limiters:
            if isinstance(limiter.requests, Slice):
                requests += max(limiter.requests.held, 0)
            if limiter.seats is not None:
                places += limiter.seats.held
        return requests, places

    async def close(self) -> None:
        """Gives everything back. Raises StorageUnavailable."""
        for limiter in self._limiters:
            for part in limiter.parts:
                await part.close()


class SharedLimiter(Limiter):
    """The limits of one scope, shared by a fleet."""

    __slots__ = ("_book", "parts", "seats")

    def __init__(self, scope: str, spec: LimitSpec, book: SharedLimits) -> None:
        self._book = book
        self.seats: Seats | None = None
        self.parts: list[Slice | Seats] = []
        super().__init__(scope, spec)

    def change(self, spec: LimitSpec) -> None:
        if spec == self.spec:
            return
        self.requests = self._changed(self.requests, "requests", spec.requests_per_minute)
        self.tokens = self._changed(self.tokens, "tokens", spec.tokens_per_minute)
        self.concurrent = spec.concurrent
        if spec.concurrent is None:
            self.seats = None
        elif self.seats is None:
            self.seats = Seats(self.scope, self._book, self)
        self.parts = [part for part in (self.requests, self.tokens, self.seats) if isinstance(part, Slice | Seats)]
        self.spec = spec

    def _changed(self, bucket: Bucket | None, kind: str, limit: int | None) -> Slice | None:
        if limit is None:
            return None
        if isinstance(bucket, Slice) and bucket.limit == limit:
            return bucket
        return Slice(limit, f"{self.scope}:{kind}", self._book)

    def wait(self, tokens: int, now: float) -> tuple[float, str]:
        if self.seats is not None and self.running >= self.seats.most:
            return BUSY_RETRY, f"{self.concurrent} requests at a time"
        for bucket, amount, what in ((self.requests, 1, "requests"), (self.tokens, tokens, "tokens")):
            if bucket is not None and (seconds := bucket.wait(amount, now)):
                return seconds, f"{bucket.limit} {what} per minute"
        return 0.0, ""

    def take(self, tokens: int, now: float) -> None:
        super().take(tokens, now)
        if self.seats is not None:
            self.seats.used_at = now

    def short(self, tokens: int, now: float) -> bool:
        if isinstance(self.requests, Slice) and self.requests.short(1, now):
            return True
        if isinstance(self.tokens, Slice) and self.tokens.short(tokens, now):
            return True
        return self.seats is not None and self.seats.short(now)

    def fetch(self, tokens: int, now: float) -> list:
        """What has to be drawn first, as coroutines."""
        out = []
        if isinstance(self.requests, Slice) and self.requests.short(1, now):
            out.append(self.requests.fetch(1))
        if isinstance(self.tokens, Slice) and self.tokens.short(tokens, now):
            out.append(self.tokens.fetch(tokens))
        if self.seats is not None and self.seats.short(now):
            out.append(self.seats.fetch())
        return out

    def found(self, now: float) -> None:
        for part in self.parts:
            part.found(now) if isinstance(part, Slice) else part.found()
