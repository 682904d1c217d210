"""Answers on our own front end's connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.server.frontends import wire
from headgate.server.http import Headers

if TYPE_CHECKING:
    from headgate.server.frontends.h1_connection import Connection

_BIG = 64 * 1024


class H1Responder(msgspec.Struct, eq=False):
    """core of server.http.Responder. `keep`: the connection may serve another request after this one."""

    _connection: Connection
    _method: str
    _version: str
    keep: bool
    started: bool = False
    finished: bool = False
    _chunked: bool = False
    _silent: bool = False
    _head: bytes = b""
    """Of a stream that has been started: it goes out with what is written first, in one packet."""

    @property
    def left(self) -> bool:
        return self._connection.gone

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self._begin()
        if wire.without_body(self._method, status):
            announced = b"" if self._method != "HEAD" else b"content-length: %d\r\n" % len(body)
            data, body = wire.head(status, headers, announced + self._stays()), b""
        else:
            data = wire.head(status, headers, b"content-length: %d\r\n%s" % (len(body), self._stays()))
        self.finished = True
        if len(body) < _BIG:
            self._connection.write(data + body)
        else:
            self._connection.write(data)
            self._connection.write(body)

    async def start(self, status: int, headers: Headers) -> None:
        self._begin()
        self._silent = wire.without_body(self._method, status)
        self._chunked = self._version == "1.1" and not self._silent
        if not self._chunked and not self._silent:
            self.keep = False  # the end of the connection is the end of the body
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        self._head = wire.head(status, headers, framing + self._stays())

    def push(self, data: bytes) -> bool:
        connection = self._connection
        if not data or self._silent:
            out = b""
        elif self._chunked:
            out = wire.CHUNK % (len(data), data)
        else:
            out = data
        if self._head:
            out, self._head = self._head + out, b""
        if out:
            connection.write(out)
        return not connection.paused

    async def write(self, data: bytes) -> None:
        if not self.push(data):
            await self._connection.drained()

    async def finish(self) -> None:
        self.finished = True
        if last := self._head + (wire.LAST_CHUNK if self._chunked else b""):
            self._connection.write(last)

    def _begin(self) -> None:
        if self.started:
            raise RuntimeError("an answer is begun only once")
        self.started = True
        if self._connection.closing:
            self.keep = False

    def _stays(self) -> bytes:
        if not self.keep:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self._version == "1.0" else b""
