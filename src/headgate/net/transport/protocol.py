"""What any HTTP client of ours must do. `h1` is our lean one, `aiohttp` the one for proxies and oddities.

Times are absolute, in the event loop's clock (`loop.time()`), so that no limit can be stretched by being passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec


class Origin(msgspec.Struct, frozen=True):
    """Where connections are pooled: scheme `http` or `https`, host without brackets, port."""

    scheme: str
    host: str
    port: int


class HttpRequest(msgspec.Struct, kw_only=True):
    """One request. `headers` is one tuple per endpoint, the same object for every request to it, so that a transport
    can keep its rendered form; Host, Content-Length and `extra` are added by the transport. `target` is path and query.
    """

    origin: Origin
    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes = b""
    extra: Sequence[tuple[str, str]] = ()
    """Headers of this request only (traceparent, anthropic-beta, ...)."""

    def __repr__(self) -> str:  # headers hold the provider's key
        return f"HttpRequest({self.method} {self.origin.host}{self.target.partition('?')[0]})"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for each phase, and bytes. `connect` covers name, TCP and TLS; `first_byte` runs from the end of sending
    to the status line; `idle` is the longest silence between two reads of the body."""

    connect: float = 5.0
    first_byte: float = 600.0
    idle: float = 60.0
    header_bytes: int = 65_536
    body_bytes: int = 256 * 1024 * 1024


class TransportError(Exception):
    """Root of what can go wrong. `sent` is False only where no byte of the request can have reached the server."""

    sent = True

    def __init__(self, message: str = "", *, sent: bool | None = None) -> None:
        super().__init__(message)
        if sent is not None:
            self.sent = sent


class ConnectFailed(TransportError):
    """Refused, unreachable, or the name is not known."""

    sent = False


class ConnectTimeout(ConnectFailed):
    pass


class DnsFailed(ConnectFailed):
    pass


class TlsFailed(ConnectFailed):
    """The certificate is expired, for another name or from an unknown authority, or the two sides
    agree on no protocol: the next handshake would end the same way."""


class EgressRefused(ConnectFailed):
    """Our own policy forbids to connect there (see net.egress)."""


class Exhausted(ConnectFailed):
    """This machine or process has nothing left to connect with (file descriptors, ports, its own pool's places): no
    fault of the server's."""


class FirstByteTimeout(TransportError):
    """No status line in time after the request was sent, or the server stopped reading the request."""


class IdleTimeout(TransportError):
    """The body fell silent."""


class TotalTimeout(TransportError):
    """The caller's deadline passed."""


class ConnectionLost(TransportError):
    """The connection broke before the answer was complete; whether the server worked on the request is unknown. That
    holds for a kept connection too, which the server may have closed just before the request reached it: nothing is
    sent again in silence."""


class ProtocolViolation(TransportError):
    """The server does not speak HTTP/1.1 as it must: broken chunks, CL with TE, an encoding nobody asked for. Bytes
    after a complete answer are no error of that answer; their connection is not used again."""


class HeaderTooLarge(TransportError):
    """The head (or the trailers) outgrew `Limits.header_bytes`."""


class BodyTooLarge(TransportError):
    """The body, as it came or decoded, outgrew `Limits.body_bytes`."""


Into = Callable[[bytes], bool]
"""Takes what has arrived, and must not wait. False: no more for now."""


class HttpResponse(Protocol):
    """Interim (1xx) answers are swallowed. A gzip body is decoded, within the limits."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    """Names in lower case, in order of arrival."""

    def header(self, name: bytes) -> bytes | None: ...

    async def next(self) -> bytes:
        """What has arrived of the body, coalesced; b"" at its clean end. Raises TransportError where it is cut."""
        ...

    async def pour(self, into: Into) -> None:
        """Gives what arrives to `into`, in order, where it can in the very callback in which it arrives: no task is woken
        for it. Returns once `into` said False, and at the end of the body or where it is cut, which `next` tells then (or
        raises as `next` does). Raises what `into` raises."""
        ...

    async def read(self) -> bytes:
        """The rest of the body."""
        ...

    def silence(self, seconds: float) -> None:
        """From now on the body may be silent for so long, in the place of `Limits.idle`."""
        ...

    def release(self) -> None:
        """For who has all that it wants of the body and knows it to be at its end (a stream's last event): the
        connection is kept if HTTP's own end follows within a moment, else closed. Does not wait."""
        ...

    async def aclose(self) -> None:
        """Idempotent. A connection whose answer has not completely arrived is closed at once, never pooled."""
        ...


class Transport(Protocol):
    async def send(self, request: HttpRequest, limits: Limits, deadline: float) -> HttpResponse:
        """Sends and waits for status and headers. `deadline` (loop time) bounds everything, the body included. Follows
        no redirect, keeps no cookie. Cancelling closes the connection."""
        ...

    async def aclose(self) -> None: ...


async def poured(response: HttpResponse, into: Into) -> None:
    """`HttpResponse.pour` where bytes can only be waited for."""
    while (data := await response.next()) and into(data):
        pass
