"""Bare ASGI, under uvicorn (see frontends.uvicorn for what that adds) or a server of somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from headgate.core.errors import HeadgateError, InvalidRequest, RequestTimeout
from headgate.server.frontends.checks import body_seconds, decode_path, read_head, too_large
from headgate.server.http import Handler, Headers, HttpLimits, Refuse, Request

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
CLOSE = (b"connection", b"close")
EXTENSION = "headgate.connection"
"""Where a server of ours puts its `Watched` into the scope's extensions."""


class Watched(Protocol):
    """A connection that tells when its client leaves: no task has to wait for it. Who takes nothing for long has left."""

    lost: bool
    on_left: Callable[[], None] | None

    def arrived(self) -> bool:
        """The request being handled has completely arrived: `receive` will not wait."""
        ...

    def push(self, data: bytes) -> bool:
        """A piece of the answer that is being streamed. False: the client is slow."""
        ...

    def end_by_closing(self) -> None:
        """The answer that is about to start is as long as its connection: HTTP/1.0 knows no chunks."""
        ...


class ClientLeft(Exception):
    """The client went away before its request was complete: nobody is there to answer."""


class AsgiResponder:
    """core of server.http.Responder over ASGI's send. Knows the task to cancel when the client leaves."""

    __slots__ = ("_closing", "_connection", "_loop", "_patience", "_send", "_since", "_task", "_timer", "_unframed",
                 "finished", "left", "started")  # fmt: skip

    def __init__(self, send: Send, connection: Watched | None, patience: float, *, unframed: bool = False) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._send = send
        self._connection = connection
        self._patience = patience
        self._task = task
        self._loop = task.get_loop()
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._unframed = unframed
        self.started = False
        self.finished = False
        self.left = False

    def close_after(self) -> None:
        """The connection is in an unknown state (an unread body): close it after the reply."""
        self._closing = True

    def leave(self) -> None:
        """The client is gone: what its request started is cancelled."""
        if not self.finished and not self.left:
            self.left = True
            self._task.cancel()

    def done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def push(self) -> Callable[[bytes], bool] | None:
        return None if self._connection is None else self._connection.push

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        raw.append((b"content-length", b"%d" % len(body)))
        if self._closing:
            raw.append(CLOSE)
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        self.finished = True
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: Headers) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self.started = True
        if self._connection is None:
            self._timer = self._loop.call_later(self._patience, self._look)
        elif self._unframed:
            self._connection.end_by_closing()
            raw.append(CLOSE)
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        if self._unframed and self._connection is not None:
            self._connection.push(data)
            data = b""  # uvicorn would count it; an empty one waits for the client
        self._since = self._loop.time()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._since = 0.0

    async def finish(self) -> None:
        self.finished = True
        self.done()
        await self._send({"type": "http.response.body", "body": b""})

    def _look(self) -> None:
        """A write that has waited too long for its client ends the stream. One timer, looking now and then."""
        self._timer = None
        waited = self._loop.time() - self._since if self._since else 0.0
        if waited >= self._patience:
            self.leave()
        else:
            self._timer = self._loop.call_later(self._patience - waited, self._look)


class AsgiApp:
    """One per process. The handler runs in the connection's own task, which is cancelled when the client leaves."""

    def __init__(self, handler: Handler, refuse: Refuse, limits: HttpLimits) -> None:
        self._handler = handler
        self.refuse = refuse
        self.limits = limits

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        connection: Watched | None = scope.get("extensions", {}).get(EXTENSION)
        unframed = scope.get("http_version") == "1.0" and scope["method"] != "HEAD"
        responder = AsgiResponder(send, connection, self.limits.write_time, unframed=unframed)
        try:
            request = await self._read(scope, receive, connection)
        except ClientLeft:
            return
        except HeadgateError as error:
            responder.close_after()
            await self.refuse(error, scope.get("path", ""), responder)
            return
        if connection is None:
            await self._polled(request, responder, receive)
        elif not connection.lost:
            connection.on_left = responder.leave
            try:
                await self._handled(request, responder)
            finally:
                connection.on_left = None

    async def _handled(self, request: Request, responder: AsgiResponder) -> None:
        try:
            await self._handler(request, responder)
        except asyncio.CancelledError:
            if not responder.left:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        finally:
            responder.done()

    async def _polled(self, request: Request, responder: AsgiResponder, receive: Receive) -> None:
        """Under a server that is not ours: a task of its own waits for the client to leave."""

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            responder.leave()  # does nothing after the last byte, when ASGI says "disconnect" too

        watcher = asyncio.get_running_loop().create_task(watch())
        try:
            await self._handled(request, responder)
        finally:
            watcher.cancel()

    async def _read(self, scope: dict[str, Any], receive: Receive, connection: Watched | None) -> Request:
        head = read_head(scope["headers"], self.limits, scope.get("http_version", "1.1"))
        path = decode_path(scope.get("raw_path") or scope["path"].encode())
        client = scope.get("client")
        request = Request(
            method=scope["method"],
            path=path,
            query=scope["query_string"].decode("latin-1"),
            headers=head.first,
            pairs=head.pairs,
            client=client[0] if client else "",
        )
        if connection is not None and connection.arrived():
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            request.body = message["body"]
            if len(request.body) > self.limits.body:
                raise too_large(self.limits)
        elif head.length != 0:
            request.body = await self._body(receive, head.length)
        if head.length is not None and len(request.body) != head.length:
            raise InvalidRequest("the body is shorter or longer than its Content-Length says")
        return request

    async def _body(self, receive: Receive, length: int | None) -> bytes:
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(body_seconds(self.limits, length)):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    piece = message.get("body", b"")
                    size += len(piece)
                    if size > self.limits.body:
                        raise too_large(self.limits)
                    pieces.append(piece)
                    if not message.get("more_body"):
                        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except TimeoutError as error:
            raise RequestTimeout("the request body did not arrive in time") from error
