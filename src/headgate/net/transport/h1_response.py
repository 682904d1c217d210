"""The answer that is on a connection, as its reader sees it."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.net.transport.encoding import Gunzip
from headgate.net.transport.h1_connection import Connection
from headgate.net.transport.protocol import BodyTooLarge, ConnectionLost, Into, ProtocolViolation, poured

LINGER_SECONDS = 0.25
"""How long HTTP's own end may take after an answer was released."""


class Response:
    """core of net.transport.protocol.HttpResponse. Outlives its connection, which is given back at the clean end."""

    __slots__ = ("_connection", "_decoder", "_ended", "headers", "status")

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._decoder = connection.decoder
        self._ended = False
        self.status = connection.status
        self.headers: Sequence[tuple[bytes, bytes]] = connection.headers

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def next(self) -> bytes:
        connection = self._connection
        if connection is None:
            if self._ended:
                return b""
            raise ConnectionLost("the answer was closed")
        if self._decoder is not None:
            return await self._next_decoded(connection, self._decoder)
        return await self._arrived(connection)

    async def pour(self, into: Into) -> None:
        if self._connection is None or self._decoder is not None:
            await poured(self, into)
        else:
            await self._connection.pour(into)

    async def _arrived(self, connection: Connection) -> bytes:
        """The next bytes as they came."""
        while not connection.chunks:
            if (error := connection.error()) is not None:
                self._connection = None
                raise error
            if connection.done:
                self._ended = True
                self._connection = None
                connection.give_back()
                return b""
            await connection.wait()
            if self._connection is not connection:
                raise ConnectionLost("the answer was closed")
        return connection.take()

    async def _next_decoded(self, connection: Connection, decoder: Gunzip) -> bytes:
        try:
            while not (out := decoder.step()):
                if data := await self._arrived(connection):
                    decoder.feed(data)
                else:
                    decoder.finish()
                    return b""
            return out
        except (ProtocolViolation, BodyTooLarge):
            await self.aclose()
            raise

    async def read(self) -> bytes:
        connection = self._connection
        if connection is not None and connection.done and self._decoder is None:  # it has all arrived: nothing to await
            data = connection.take()
            self._ended = True
            self._connection = None
            connection.give_back()
            return data
        first = await self.next()
        if not first:
            return b""
        second = await self.next()
        if not second:
            return first
        pieces = [first, second]
        while data := await self.next():
            pieces.append(data)
        return b"".join(pieces)

    def silence(self, seconds: float) -> None:
        if self._connection is not None:
            self._connection.silence(seconds)

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.linger(LINGER_SECONDS)

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.give_back()
