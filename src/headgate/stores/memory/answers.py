"""Answers kept for one process: bounded, and gone with it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from headgate.core.clock import SYSTEM, Clock
from headgate.core.fleet import Claim

MOST_BYTES = 64_000_000
MOST_NAMES = 100_000


class _Kept(msgspec.Struct):
    print: str
    holder: str
    ends: float
    kept: bytes | None = None


class MemoryAnswers:
    """Implements the port Answers. Beyond its bounds the oldest answers are forgotten, never one that still runs."""

    def __init__(self, clock: Clock = SYSTEM, *, most_bytes: int = MOST_BYTES, most_names: int = MOST_NAMES) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._most_names = most_names
        self._names: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    async def claim(self, name: str, *, print: str, holder: str, seconds: float) -> Claim:
        now = self._clock.monotonic()
        found = self._names.get(name)
        if found is not None and found.ends <= now:
            self._forget(name)
            found = None
        if found is None:
            self._names[name] = _Kept(print, holder, now + seconds)
            self._bound(now)
            return Claim(state="mine")
        if found.print != print:
            return Claim(state="other")
        return Claim(state="running") if found.kept is None else Claim(state="done", kept=found.kept)

    async def renew(self, names: Iterable[str], *, holder: str, seconds: float) -> None:
        for name in names:
            if (found := self._mine(name, holder)) is not None:
                found.ends = self._clock.monotonic() + seconds

    async def keep(self, name: str, *, holder: str, kept: bytes, seconds: float) -> None:
        if (found := self._mine(name, holder)) is not None:
            found.kept = kept
            found.ends = self._clock.monotonic() + seconds
            self._bytes += len(kept)
            self._bound(self._clock.monotonic())

    async def drop(self, name: str, *, holder: str) -> None:
        if self._mine(name, holder) is not None:
            self._forget(name)

    async def aclose(self) -> None:
        self._names.clear()

    def _mine(self, name: str, holder: str) -> _Kept | None:
        found = self._names.get(name)
        return found if found is not None and found.holder == holder and found.kept is None else None

    def _forget(self, name: str) -> None:
        self._bytes -= len(self._names.pop(name).kept or b"")

    def _bound(self, now: float) -> None:
        """Oldest first; what runs is passed over."""
        for name in list(self._names) if self._is_full else ():
            found = self._names[name]
            if found.kept is not None or found.ends <= now:
                self._forget(name)
            if not self._is_full:
                return

    @property
    def _is_full(self) -> bool:
        return self._bytes > self._most_bytes or len(self._names) > self._most_names
