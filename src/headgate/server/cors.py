"""Which web pages may read our answers: none, but for the origins that an operator names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headgate.server.http import Handler, Headers, Request, Responder

ANY = "*"
_ASKS = "access-control-request-method"
_HEADERS = "access-control-request-headers"
_REMEMBERED = "600"
"""Seconds that a browser need not ask again."""


class Cors:
    """A handler before another one. Browsers ask before a page may send a key or JSON (a preflight); from other origins,
    and to whoever is no browser, the answer is what it is without this."""

    def __init__(self, handler: Handler, origins: Sequence[str]) -> None:
        self._handler = handler
        self._origins = frozenset(origins)

    async def __call__(self, request: Request, responder: Responder) -> None:
        origin = request.headers.get("origin")
        if origin is None or self._origins.isdisjoint((origin, ANY)):
            await self._handler(request, responder)
        elif request.method == "OPTIONS" and _ASKS in request.headers:
            await responder.reply(200, _permission(request, origin), b"")
        else:
            shown = (
                ("access-control-allow-origin", origin),
                ("access-control-expose-headers", ANY),
                ("vary", "origin"),
            )
            await self._handler(request, _Shown(responder, shown))


def _permission(request: Request, origin: str) -> Headers:
    wanted = request.headers.get(_HEADERS)
    return [
        ("access-control-allow-origin", origin),
        ("access-control-allow-methods", "GET, HEAD, POST, DELETE"),
        *([("access-control-allow-headers", wanted)] if wanted else []),  # "*" would not cover a key
        ("access-control-max-age", _REMEMBERED),
        ("vary", f"origin, {_ASKS}, {_HEADERS}"),
    ]


class _Shown:
    """A responder whose answer the page may read."""

    def __init__(self, inner: Responder, headers: Headers) -> None:
        self._inner = inner
        self._headers = headers
        self.started = inner.started

    @property
    def left(self) -> bool:
        return self._inner.left

    @property
    def push(self) -> Callable[[bytes], bool] | None:
        return self._inner.push

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.started = True
        await self._inner.reply(status, [*headers, *self._headers], body)

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        await self._inner.start(status, [*headers, *self._headers])

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def finish(self) -> None:
        await self._inner.finish()
