"""The ports' Shared on Valkey, or anything else that speaks Redis' protocol (version 6 or newer, not a cluster)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from headgate.core.errors import StorageUnavailable
from headgate.core.fleet import About, Claim, Draw, Drawn, Heard, Member, Notice, Pulse, Seated, Seating
from headgate.stores.valkey import scripts

TIMEOUT = 0.5
"""Seconds after which the store counts as lost: requests may wait for it as long, once."""
CONNECTIONS = 16
SILENCE = 3.0
"""Seconds without a beat after which a replica counts no longer."""
LONGEST_TOLD = 3600.0


class ValkeyShared:
    """Made without a connection; used from one event loop. Nothing is tried again here: whoever asks knows better."""

    def __init__(self, url: str, *, prefix: str = "hg:", timeout: float = TIMEOUT) -> None:
        """Raises ValueError for what is no URL of a store."""
        self._prefix = prefix
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            protocol=2,
            client_name="headgate",
            retry=Retry(NoBackoff(), 0),
        )
        self._pool = pool
        self._life = f"{prefix}{{fleet}}:life"
        self._known = ""
        """Its life as last heard: a store that has another one was emptied meanwhile."""
        self._redis = redis = Redis(connection_pool=pool)
        self._draw = redis.register_script(scripts.DRAW)
        self._seat = redis.register_script(scripts.SEAT)
        self._beat = redis.register_script(scripts.BEAT)
        self._members = redis.register_script(scripts.MEMBERS)
        self._claim = redis.register_script(scripts.CLAIM)
        self._keep = redis.register_script(scripts.KEEP)
        self._renew = redis.register_script(scripts.RENEW)
        self._drop = redis.register_script(scripts.DROP)

    # -- limits --------------------------------------------------------------------------------------------------------
    async def draw(self, draw: Draw) -> Drawn:
        arguments = [draw.limit, draw.debt, draw.want, draw.least, draw.level, self._known]
        found = await self._run(self._draw, [f"{self._prefix}limit:{draw.bucket}", self._life], arguments)
        self._known = found[3].decode()
        return Drawn(granted=int(found[0]), ahead=float(found[1]), born=found[2].decode(), store=self._known)

    async def seat(self, seating: Seating, *, holder: str) -> Seated:
        arguments = [holder, seating.limit, seating.held, seating.want, seating.least, seating.seconds]
        keys = [f"{self._prefix}seats:{seating.bucket}", self._life]
        granted, life = await self._run(self._seat, keys, [*arguments, self._known, seating.alone])
        self._known = life.decode()
        return Seated(granted=int(granted), store=self._known)

    # -- the fleet -----------------------------------------------------------------------------------------------------
    async def beat(self, holder: str, news: Mapping[str, Notice], about: About | None = None) -> Pulse:
        arguments: list[Any] = [holder, SILENCE, b"" if about is None else msgspec.json.encode(about), self._known]
        for name, notice in news.items():
            arguments += [name, min(notice.seconds, LONGEST_TOLD), msgspec.json.encode(notice)]
        replicas, life, *told = await self._run(self._beat, [*self._fleet_keys, self._life], arguments)
        self._known = life.decode()
        heard = {}
        for name, seconds, age, by, text in told:
            try:
                notice = msgspec.json.decode(text, type=Notice)
            except msgspec.DecodeError:
                continue  # of another release
            heard[name.decode()] = Heard(by=by.decode(), notice=notice, seconds=float(seconds), age=float(age))
        return Pulse(replicas=tuple(sorted(name.decode() for name in replicas)), heard=heard, store=self._known)

    async def members(self) -> Sequence[Member]:
        replicas, _, abouts = self._fleet_keys
        found = []
        for holder, silent, text in await self._run(self._members, [replicas, abouts], [SILENCE]):
            try:
                about = msgspec.json.decode(text, type=About)
            except msgspec.DecodeError:
                about = None
            found.append(Member(holder=holder.decode(), silent=float(silent), about=about))
        return sorted(found, key=lambda member: member.holder)

    async def leave(self, holder: str) -> None:
        replicas, _, abouts = self._fleet_keys
        await self._call(lambda: self._redis.zrem(replicas, holder))
        await self._call(lambda: self._redis.hdel(abouts, holder))

    @property
    def _fleet_keys(self) -> list[str]:
        return [
            f"{self._prefix}{{fleet}}:replicas",
            f"{self._prefix}{{fleet}}:notices",
            f"{self._prefix}{{fleet}}:abouts",
        ]

    # -- answers -------------------------------------------------------------------------------------------------------
    async def claim(self, name: str, *, print: str, holder: str, seconds: float) -> Claim:
        state, kept = await self._run(self._claim, [self._answer(name)], [print, holder, int(seconds * 1000)])
        return Claim(state=state.decode(), kept=kept)

    async def renew(self, names: Iterable[str], *, holder: str, seconds: float) -> None:
        for name in names:
            await self._run(self._renew, [self._answer(name)], [holder, int(seconds * 1000)])

    async def keep(self, name: str, *, holder: str, kept: bytes, seconds: float) -> None:
        await self._run(self._keep, [self._answer(name)], [holder, kept, int(seconds * 1000)])

    async def drop(self, name: str, *, holder: str) -> None:
        await self._run(self._drop, [self._answer(name)], [holder])

    def _answer(self, name: str) -> str:
        return f"{self._prefix}answer:{name}"

    # -- the way there -------------------------------------------------------------------------------------------------
    async def _run(self, script: Any, keys: list[str], arguments: list[Any]) -> Any:
        return await self._call(lambda: script(keys=keys, args=arguments))

    async def _call(self, command: Any) -> Any:
        task = asyncio.current_task()
        cancels = task.cancelling() if task is not None else 0
        try:
            found = await command()
        except (RedisError, OSError, TimeoutError) as error:
            # Also where a server only reads: behind the same name there may be another one by now.
            await self._pool.disconnect(inuse_connections=False)
            raise StorageUnavailable("the shared store does not answer", detail=repr(error)) from error
        if task is not None and task.cancelling() > cancels:
            # redis-py sends within asyncio.wait_for, which loses a cancellation that meets its end (until Python 3.12).
            raise asyncio.CancelledError
        return found

    async def aclose(self) -> None:
        await self._redis.aclose()
        await self._pool.disconnect()
