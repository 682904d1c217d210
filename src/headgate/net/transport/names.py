"""Names to addresses, remembered: a lookup per minute and name, and the old answer while a name server is in trouble."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from headgate.net.transport.protocol import DnsFailed

MAX_NAMES = 1024


class Address(msgspec.Struct, frozen=True):
    """What `socket.connect` takes, of which family."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def ip(self) -> str:
        return str(self.sockaddr[0])


class Resolver(Protocol):
    async def resolve(self, host: str, port: int) -> list[Address]:
        """At least one address, the preferred first. Raises DnsFailed, or EgressRefused where policy forbids them."""
        ...

    def forget(self, host: str, port: int) -> None:
        """None of the addresses answered: ask anew next time (the old ones stay as a last resort)."""
        ...


Lookup = Callable[[str, int], Awaitable[list[Address]]]


async def look_up(host: str, port: int) -> list[Address]:
    """The system's resolver."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DnsFailed(f"{host}: {error}") from error
    if not found:
        raise DnsFailed(f"{host}: no addresses")
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]


def literal(host: str, port: int) -> Address | None:
    """The address that `host` already is."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if ip.version == 4:
        return Address(socket.AF_INET, (host, port))
    return Address(socket.AF_INET6, (host, port, 0, 0))


class _Known:
    __slots__ = ("addresses", "fresh_until", "stale_until")

    def __init__(self, addresses: list[Address], fresh_until: float, stale_until: float) -> None:
        self.addresses = addresses
        self.fresh_until = fresh_until
        self.stale_until = stale_until


class CachingResolver:
    """core of Resolver. Answers are fresh for `ttl` seconds; for `stale` more they serve while lookups fail or take
    longer than `patience`. One lookup per name at a time, whoever waits for it."""

    def __init__(
        self, lookup: Lookup = look_up, *, ttl: float = 60.0, stale: float = 3600.0, patience: float = 1.0
    ) -> None:
        self._lookup = lookup
        self._ttl = ttl
        self._stale = stale
        self._patience = patience
        self._known: dict[tuple[str, int], _Known] = {}
        self._running: dict[tuple[str, int], asyncio.Task[list[Address]]] = {}

    async def resolve(self, host: str, port: int) -> list[Address]:
        if (address := literal(host, port)) is not None:
            return [address]
        loop = asyncio.get_running_loop()
        known = self._known.get((host, port))
        if known is not None and loop.time() < known.fresh_until:
            return known.addresses
        task = self._start(host, port)
        if known is None or loop.time() >= known.stale_until:
            return await asyncio.shield(task)
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(task)
        except (DnsFailed, TimeoutError):
            return known.addresses

    def forget(self, host: str, port: int) -> None:
        if (known := self._known.get((host, port))) is not None:
            known.fresh_until = 0.0

    def _start(self, host: str, port: int) -> asyncio.Task[list[Address]]:
        key = (host, port)
        task = self._running.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._look_up(host, port))
            self._running[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return task

    async def _look_up(self, host: str, port: int) -> list[Address]:
        addresses = await self._lookup(host, port)
        now = asyncio.get_running_loop().time()
        while len(self._known) >= MAX_NAMES:
            self._known.pop(next(iter(self._known)))
        self._known[(host, port)] = _Known(addresses, now + self._ttl, now + self._ttl + self._stale)
        return addresses

    def _finished(self, key: tuple[str, int], task: asyncio.Task[list[Address]]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # retrieved: nobody may be waiting any more
