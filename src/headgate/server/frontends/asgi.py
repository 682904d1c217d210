"""Bare ASGI: the default front end, under uvicorn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from headgate.core.errors import HeadgateError, InvalidRequest, RequestTimeout
from headgate.server.frontends.checks import check_head, decode_path, text_headers, too_large
from headgate.server.http import Handler, Headers, HttpLimits, Request, Responder

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Refuse = Callable[[HeadgateError, str, Responder], Awaitable[None]]
"""Renders an error that happened before a handler was chosen: (error, path, responder)."""
CLOSE = (b"connection", b"close")


class ClientLeft(Exception):
    """The client went away before its request was complete: nobody is there to answer."""


class AsgiResponder:
    """core of server.http.Responder over ASGI's send."""

    __slots__ = ("_closing", "_send", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._closing = False
        self.started = False

    def close_after(self) -> None:
        """The connection is in an unknown state (an unread body): close it after the reply."""
        self._closing = True

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.started = True
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        raw.append((b"content-length", b"%d" % len(body)))
        if self._closing:
            raw.append(CLOSE)
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


class AsgiApp:
    """One per process. The handler runs in the connection's own task; a watcher cancels it when the client leaves."""

    def __init__(self, handler: Handler, refuse: Refuse, limits: HttpLimits) -> None:
        self._handler = handler
        self._refuse = refuse
        self._limits = limits

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        responder = AsgiResponder(send)
        try:
            request = await self._read(scope, receive)
        except ClientLeft:
            return
        except HeadgateError as error:
            responder.close_after()
            await self._refuse(error, scope.get("path", ""), responder)
            return
        await self._watched(request, responder, receive)

    async def _watched(self, request: Request, responder: AsgiResponder, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        left = False

        async def watch() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            left = True
            task.cancel()

        watcher = asyncio.get_running_loop().create_task(watch())
        try:
            await self._handler(request, responder)
        except asyncio.CancelledError:
            if not left:
                raise
            task.uncancel()
        finally:
            watcher.cancel()

    async def _read(self, scope: dict[str, Any], receive: Receive) -> Request:
        length = check_head(scope["headers"], self._limits)
        path = decode_path(scope.get("raw_path") or scope["path"].encode())
        first, pairs = text_headers(scope["headers"])
        client = scope.get("client")
        request = Request(
            method=scope["method"],
            path=path,
            query=scope["query_string"].decode("latin-1"),
            headers=first,
            pairs=pairs,
            client=client[0] if client else "",
        )
        message = await receive()
        if message.get("more_body"):
            request.body = await self._rest(message.get("body", b""), receive, length)
        elif message["type"] == "http.disconnect":
            raise ClientLeft
        else:
            request.body = message.get("body", b"")
            if len(request.body) > self._limits.body:
                raise too_large(self._limits)
        if length is not None and len(request.body) != length:
            raise InvalidRequest("the body is shorter or longer than its Content-Length says")
        return request

    async def _rest(self, start: bytes, receive: Receive, length: int | None) -> bytes:
        pieces, size = [start], len(start)
        try:
            async with asyncio.timeout(self._limits.body_time + (length or 0) / 100_000):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    piece = message.get("body", b"")
                    size += len(piece)
                    if size > self._limits.body:
                        raise too_large(self._limits)
                    pieces.append(piece)
                    if not message.get("more_body"):
                        return b"".join(pieces)
        except TimeoutError as error:
            raise RequestTimeout("the request body did not arrive in time") from error
