"""Our lean HTTP/1.1 client: httptools on asyncio's own transports, a pool of kept connections per origin.

No redirects, no cookies, no proxies (net.transport.aiohttp has those), no retries: what happened is told, never mended
in silence.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence

from headgate.net.transport.connect import connect, default_context
from headgate.net.transport.h1_connection import Connection
from headgate.net.transport.h1_response import Response
from headgate.net.transport.heads import host_header, render_headers, render_line
from headgate.net.transport.names import CachingResolver, Resolver
from headgate.net.transport.protocol import ConnectFailed, Exhausted, HttpRequest, Limits, Origin, TotalTimeout

_KEPT_HEADS = 256
"""Rendered header blocks and request lines that a pool remembers."""
_BODILESS = frozenset(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE"))


class H1Transport:
    """core of net.transport.protocol.Transport. One per event loop.

    per_origin   connections to one origin at a time; more requests wait (within their connect limit). 0: no bound.
    max_idle     kept connections per origin beyond which one is closed instead of kept
    keepalive    seconds that an idle connection is kept; a server's shorter `Keep-Alive: timeout=` is honoured
    """

    def __init__(
        self,
        *,
        per_origin: int = 0,
        max_idle: int = 256,
        keepalive: float = 30.0,
        context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._per_origin = per_origin
        self._max_idle = max_idle
        self._keepalive = keepalive
        self._context = context
        self._resolver = resolver or CachingResolver()
        self._pools: dict[Origin, _Pool] = {}

    async def send(self, request: HttpRequest, limits: Limits, deadline: float) -> Response:
        pool = self._pools.get(request.origin)
        if pool is None:
            pool = self._pools[request.origin] = self._new_pool(request.origin)
        head = pool.head(request)
        connection = pool.idle_one()
        if connection is None:
            connection = await pool.connected(limits, deadline)
        connection.begin(head, request.body, limits, deadline, request.method == "HEAD")
        await connection.answered()
        return Response(connection)

    async def aclose(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def idle(self, origin: Origin) -> int:
        """Kept connections to `origin`."""
        pool = self._pools.get(origin)
        return len(pool.idle) if pool is not None else 0

    def _new_pool(self, origin: Origin) -> _Pool:
        context = (self._context or default_context()) if origin.scheme == "https" else None
        return _Pool(origin, self._resolver, context, self._per_origin, self._max_idle, self._keepalive)


class _Pool:
    """Connections to one origin. The most recently used is taken first, so that those not needed grow old."""

    def __init__(
        self,
        origin: Origin,
        resolver: Resolver,
        context: ssl.SSLContext | None,
        per_origin: int,
        max_idle: int,
        keepalive: float,
    ) -> None:
        self.idle: list[Connection] = []
        self._origin = origin
        self._resolver = resolver
        self._context = context
        self._per_origin = per_origin
        self._max_idle = max_idle
        self._keepalive = keepalive
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._blocks: dict[int, tuple[Sequence[tuple[str, str]], bytes]] = {}
        self._lines: dict[tuple[str, str], bytes] = {}
        self._host = host_header(origin)

    # -- connections ----------------------------------------------------------------------------------------------
    def idle_one(self) -> Connection | None:
        """A kept connection that is fit for use."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.usable():
                return connection
            connection.abort()
        return None

    async def connected(self, limits: Limits, deadline: float) -> Connection:
        """A new connection, or a kept one that became free while waiting for room."""
        loop = asyncio.get_running_loop()
        until = min(loop.time() + limits.connect, deadline)
        while self._per_origin and len(self._open) + self._opening >= self._per_origin:
            await self._room(until, deadline)
            if (kept := self.idle_one()) is not None:
                return kept
        self._opening += 1
        try:
            connection = await connect(
                lambda: Connection(loop, self._freed, self._lost, self._keepalive),
                self._origin,
                self._resolver,
                self._context,
                limit=limits.connect,
                deadline=deadline,
            )
        except BaseException:
            self._opening -= 1
            self._admit()
            raise
        self._opening -= 1
        if not connection.usable():
            self._admit()
            raise ConnectFailed(f"{self._origin.host}:{self._origin.port}: closed as soon as it was opened")
        self._open.add(connection)
        return connection

    async def _room(self, until: float, deadline: float) -> None:
        """Waits, first come first served, until a connection is free or may be opened."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(until):
                await waiter
        except TimeoutError as error:
            self._pass_on(waiter)
            if until == deadline:
                raise TotalTimeout("the deadline passed while waiting for a connection", sent=False) from error
            raise Exhausted(f"all {self._per_origin} connections are in use") from error
        except BaseException:
            self._pass_on(waiter)
            raise

    def _pass_on(self, waiter: asyncio.Future[None]) -> None:
        """One that does not wait any more; what it was granted goes to the next."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif waiter.done() and not waiter.cancelled():
            self._admit()

    def _admit(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _freed(self, connection: Connection) -> None:
        if self._closed or len(self.idle) >= self._max_idle:
            connection.abort()
            return
        self.idle.append(connection)
        if self._waiters:
            self._admit()

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        self._admit()

    def close(self) -> None:
        self._closed = True
        for connection in list(self._open):
            connection.abort()
        self.idle.clear()

    # -- heads ----------------------------------------------------------------------------------------------------
    def head(self, request: HttpRequest) -> bytes:
        """Request line and headers, as they go on the wire."""
        line = self._lines.get((request.method, request.target))
        if line is None:
            line = self._line(request.method, request.target)
        kept = self._blocks.get(id(request.headers))
        if kept is None or kept[0] is not request.headers:
            kept = self._block(request.headers)
        block = kept[1]
        if request.extra:
            block += render_headers(request.extra)
        if request.body or request.method not in _BODILESS:
            return b"%s%scontent-length: %d\r\n\r\n" % (line, block, len(request.body))
        return b"%s%s\r\n" % (line, block)

    def _line(self, method: str, target: str) -> bytes:
        if len(self._lines) >= _KEPT_HEADS:
            self._lines.clear()
        line = self._lines[(method, target)] = render_line(method, target)
        return line

    def _block(self, headers: Sequence[tuple[str, str]]) -> tuple[Sequence[tuple[str, str]], bytes]:
        block = self._host + render_headers(headers)
        if not any(name.lower() == "accept-encoding" for name, _ in headers):
            block += b"accept-encoding: identity\r\n"
        if len(self._blocks) >= _KEPT_HEADS:
            self._blocks.clear()
        # The headers are kept beside their rendered form, so that their id stays theirs.
        kept = self._blocks[id(headers)] = (headers, block)
        return kept
