"""HTTP as handlers see it: no framework, no front end's own types. A front end makes a Request and a Responder."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import parse_qsl

import msgspec

from headgate.core.errors import HeadgateError

Headers = Sequence[tuple[str, str]]
JSON: Headers = (("content-type", "application/json"),)


def among(
    names: frozenset[str], first: Mapping[str, str], pairs: Sequence[tuple[str, str]]
) -> Sequence[tuple[str, str]]:
    """The headers of these names, in no order. `first` and `pairs` as a Request has them."""
    found = names.intersection(first)
    if len(first) == len(pairs):  # no name stands twice
        return [(name, first[name]) for name in found]
    return [pair for pair in pairs if pair[0] in found]


class Request(msgspec.Struct):
    """`path` is percent-decoded once; `headers` hold lower-case names, the first value of each; `pairs` all of them.
    `body` is complete and within the limits."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    pairs: Sequence[tuple[str, str]]
    body: bytes = b""
    client: str = ""

    def argument(self, name: str) -> str | None:
        """First value of a query argument."""
        if not self.query:
            return None
        return next((value for key, value in parse_qsl(self.query, keep_blank_values=True) if key == name), None)


class Responder(Protocol):
    """Either `reply` once, or `start`, any number of `write`s and `finish`. Writing waits while the client is slow; what
    `start` says may wait for the first write, be it an empty one.
    The handler's task is cancelled when the client leaves (a half-close counts); a handler that ends without having
    finished its answer cuts the connection, so that half an answer never looks whole. A handler that goes on after its
    client has left may write: nobody hears it."""

    started: bool

    @property
    def left(self) -> bool:
        """The client is gone."""
        ...

    @property
    def push(self) -> Callable[[bytes], bool] | None:
        """`write` on a started stream for who cannot wait. False: the client is slow, and an empty `write` waits for it.
        None where there is only `write`."""
        ...

    async def reply(self, status: int, headers: Headers, body: bytes) -> None: ...
    async def start(self, status: int, headers: Headers) -> None: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...


Handler = Callable[[Request, Responder], Awaitable[None]]


Refuse = Callable[[HeadgateError, str, Responder], Awaitable[None]]
"""Renders an error that happened before there was a request to handle: (error, path as far as known, responder)."""


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes and seconds."""

    body: int = 32 * 1024 * 1024
    header_bytes: int = 65_536
    headers: int = 200
    head_time: float = 15.0
    """Seconds for a request's head, from its first byte to its last; also for the first byte on a new connection."""
    body_time: float = 30.0
    """Seconds that a client has to send its whole body, plus one for each 100 KB of it."""
    write_time: float = 60.0
    """Seconds that a client may take nothing of an answer that waits for it."""
    keepalive: float = 75.0
    """Seconds that an idle connection is kept."""
    connections: int = 10_000
    """At a time; who comes beyond is told to come again. 0: no bound."""


class FrontEnd(Protocol):
    """What listens. `start` once, then `drain` and `close`."""

    async def start(self, sock: socket.socket) -> None:
        """Serves on a bound socket; may be called for several."""
        ...

    def drain(self) -> None:
        """No new connections; idle ones are closed, the others after the answer they wait for, which says so."""
        ...

    async def close(self, grace: float) -> None:
        """Waits up to `grace` seconds for what runs, then cuts it."""
        ...
