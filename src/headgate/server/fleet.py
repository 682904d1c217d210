"""This process among its replicas: says twice a second that it lives and what it has learned of deployments, hears the
others, and finds out when the shared store is lost and back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence

from headgate.config.model import Store as StoreSettings
from headgate.core.clock import Clock
from headgate.core.errors import StorageUnavailable
from headgate.core.fleet import About, Member, Notice
from headgate.core.ports import Shared
from headgate.governance.shared import SharedLimits
from headgate.upstream.deployment import Vitals

BEAT = 0.5
GRACE = 1.0
"""Seconds after the cool-down that are left to the replica which found out; the others follow, one a second."""


def open_shared(settings: StoreSettings) -> Shared | None:
    """Raises StorageUnavailable with a message for the operator. Nothing is connected yet."""
    if settings.shared is None:
        return None
    try:
        from headgate.stores.valkey import ValkeyShared
    except ImportError as error:
        raise StorageUnavailable("a shared store needs the extra: pip install 'headgate[redis]'") from error
    return ValkeyShared(settings.shared)


class Fleet:
    """`vitals`: the live state of the deployments by fingerprint. `about`: what others are told of this process."""

    def __init__(
        self,
        shared: Shared,
        limits: SharedLimits,
        vitals: Callable[[], Mapping[str, Vitals]],
        clock: Clock,
        about: Callable[[], About] | None = None,
    ) -> None:
        self._about = about
        self._shared = shared
        self.limits = limits
        self._vitals = vitals
        self._clock = clock
        self._news = asyncio.Event()
        self._told: dict[str, int] = {}
        """How much of each deployment's health others have been told (Health.learned)."""
        self.replicas: tuple[str, ...] = (limits.holder,)

    def event(self, kind: str, facts: dict[str, object]) -> None:
        """A listener of the house: what was learned is told at once."""
        if kind == "health":
            self._news.set()

    async def run(self) -> None:
        """For ever. Without the store, what was known goes on; the first beat that gets through ends that."""
        while True:
            try:
                await self.beat()
                self.limits.found()
                await self.limits.tend()
            except StorageUnavailable as error:
                self.limits.lose(error)
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT):  # not wait_for, which may lose a cancellation (until Python 3.12)
                    await self._news.wait()

    async def beat(self) -> None:
        """Raises StorageUnavailable; then what was to be told is told by the next one."""
        news: dict[str, Notice] = {}
        learned: dict[str, int] = {}
        for fingerprint, vitals in self._vitals().items():
            health = vitals.health
            if health.learned != self._told.get(fingerprint, 0):
                learned[fingerprint] = health.learned
                news[name_of(fingerprint)] = health.notice()
        about = None if self._about is None else self._about()
        pulse = await self._shared.beat(self.limits.holder, news, about)
        self._told |= learned
        self.limits.heard(pulse.store)
        self.replicas = pulse.replicas
        self.limits.counted(len(pulse.replicas))
        if pulse.heard:
            names = {name_of(fingerprint): vitals for fingerprint, vitals in self._vitals().items()}
            for name, heard in pulse.heard.items():
                if heard.by != self.limits.holder and name in names:
                    names[name].health.heard(heard, grace=self._grace(heard.by))

    async def members(self) -> Sequence[Member]:
        """Raises StorageUnavailable."""
        return await self._shared.members()

    def _grace(self, by: str) -> float:
        others = [replica for replica in self.replicas if replica != by]
        mine = others.index(self.limits.holder) if self.limits.holder in others else 0
        return GRACE * (1 + mine)

    async def close(self) -> None:
        """Gives back what this process holds, and says that it ends."""
        with contextlib.suppress(StorageUnavailable):  # what is held there ends by itself
            await self.limits.close()
            await self._shared.leave(self.limits.holder)
        await self._shared.aclose()


def name_of(fingerprint: str) -> str:
    """As others see it: base URLs stay at home."""
    return hashlib.blake2b(fingerprint.encode(), digest_size=12).hexdigest()
