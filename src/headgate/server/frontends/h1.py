"""Our own HTTP/1.1 front end on httptools: one protocol object per connection, one task per request, one timer.

The default; uvicorn is the other one, and both pass the same suite.
"""

from __future__ import annotations

import asyncio
import socket

from headgate.server.frontends.h1_connection import Connection
from headgate.server.frontends.sockets import BACKLOG
from headgate.server.http import Handler, HttpLimits, Refuse


class H1FrontEnd:
    """core of server.http.FrontEnd."""

    def __init__(self, handler: Handler, refuse: Refuse, limits: HttpLimits) -> None:
        self.handler = handler
        self.refuse = refuse
        self.limits = limits
        self.draining = False
        self.connections: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._empty = asyncio.Event()

    async def start(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: Connection(self, loop), sock=sock, backlog=BACKLOG))

    def opened(self, connection: Connection) -> None:
        self.connections.add(connection)

    def closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def drain(self) -> None:
        self.draining = True
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.drain()

    async def close(self, grace: float) -> None:
        self.drain()
        if self.connections:
            self._empty.clear()
            try:
                async with asyncio.timeout(grace):
                    await self._empty.wait()
            except TimeoutError:
                tasks = [connection.cut() for connection in list(self.connections)]
                if running := [task for task in tasks if task is not None]:
                    await asyncio.wait(running, timeout=2.0)
        self._servers.clear()
