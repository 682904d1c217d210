"""The transport over aiohttp: for proxies and oddities, and the reference that our own client is measured against."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from aiohttp.tracing import Trace
from multidict import CIMultiDict
from yarl import URL

from headgate.core.patience import Patience
from headgate.net.transport import protocol as net
from headgate.net.transport.connect import default_context
from headgate.net.transport.encoding import Gunzip, decoder_for
from headgate.net.transport.heads import render_headers, render_line
from headgate.net.transport.names import CachingResolver, Resolver

_OVERSIZE = re.compile("more than|too long|too many headers", re.IGNORECASE)


class AiohttpTransport:
    """core of net.transport.protocol.Transport. One per event loop. `proxies`: honour HTTP(S)_PROXY of the environment
    (a proxy resolves names itself: `resolver` does not see them then)."""

    def __init__(
        self,
        *,
        per_origin: int = 0,
        keepalive: float = 30.0,
        proxies: bool = False,
        context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._per_origin = per_origin
        self._keepalive = keepalive
        self._proxies = proxies
        self._context = context
        self._resolver = resolver or CachingResolver()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = _Connector(
                limit=0,
                limit_per_host=self._per_origin,
                use_dns_cache=False,
                resolver=_Names(self._resolver),
                keepalive_timeout=self._keepalive,
                ssl=self._context or default_context(),
            )
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(_connected)
            trace.on_connection_reuseconn.append(_connected)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=self._proxies,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                timeout=aiohttp.ClientTimeout(total=None),
                trace_configs=[trace],
            )
        return self._session

    async def send(self, request: net.HttpRequest, limits: net.Limits, deadline: float) -> AiohttpResponse:
        loop = asyncio.get_running_loop()
        sending = _Sending(limits, deadline, asyncio.timeout_at(min(loop.time() + limits.connect, deadline)))
        try:
            async with sending.timeout:
                response = await self._request(request, limits, sending)
        except TimeoutError as error:
            raise sending.too_late() from error
        except aiohttp.ClientError as error:
            raise _translated(error, opened=False) from error
        try:
            return AiohttpResponse(response, limits, deadline)
        except net.TransportError:
            response.close()
            raise

    async def _request(self, request: net.HttpRequest, limits: net.Limits, sending: _Sending) -> aiohttp.ClientResponse:
        origin = request.origin
        render_line(request.method, request.target)  # raises for what is not fit to be sent
        render_headers((*request.headers, *request.extra))
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        headers: CIMultiDict[str] = CIMultiDict(request.headers)
        headers.setdefault("accept-encoding", "identity")
        for name, value in request.extra:
            headers.add(name, value)
        return await self._open().request(
            request.method,
            URL(f"{origin.scheme}://{host}:{origin.port}{request.target}", encoded=True),
            data=request.body or None,
            headers=headers,
            allow_redirects=False,
            max_line_size=limits.header_bytes,
            max_field_size=limits.header_bytes,
            trace_request_ctx=sending,
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class _Sending:
    """Which phase a request is in; aiohttp's trace callbacks move it on."""

    __slots__ = ("connected", "deadline", "limits", "timeout")

    def __init__(self, limits: net.Limits, deadline: float, timeout: asyncio.Timeout) -> None:
        self.limits = limits
        self.deadline = deadline
        self.timeout = timeout
        self.connected = False

    def move_on(self) -> None:
        self.connected = True
        now = asyncio.get_running_loop().time()
        if not self.timeout.expired():
            self.timeout.reschedule(min(now + self.limits.first_byte, self.deadline))

    def too_late(self) -> net.TransportError:
        if self.timeout.when() == self.deadline:
            return net.TotalTimeout("the deadline passed before the answer was complete", sent=self.connected)
        if self.connected:
            return net.FirstByteTimeout(f"nothing came within {self.limits.first_byte:g} s")
        return net.ConnectTimeout(f"not reached within {self.limits.connect:g} s")


async def _connected(session: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
    context.trace_request_ctx.move_on()


class _Connector(aiohttp.TCPConnector):
    """Never reuses a connection on which bytes arrived that nobody asked for: aiohttp would take them for the answer to
    the next request."""

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


class _Names(AbstractResolver):
    """Our resolver in aiohttp's clothes."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address.ip,
                port=port,
                family=address.family,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._resolver.resolve(host, port)
        ]

    async def close(self) -> None:
        return None


class AiohttpResponse:
    def __init__(self, response: aiohttp.ClientResponse, limits: net.Limits, deadline: float) -> None:
        self._response = response
        self._limits = limits
        self._deadline = deadline
        self._taken = 0
        self._closed = False
        self._ended = False
        self._until_close = not response.headers.keys() & {"Content-Length", "Transfer-Encoding"}
        self._protocol = response.connection.protocol if response.connection is not None else None
        self.status = response.status
        if response.status == 101:
            raise net.ProtocolViolation("the server switches protocols although nobody asked")
        self.headers: Sequence[tuple[bytes, bytes]] = [(name.lower(), value) for name, value in response.raw_headers]
        codings = [value for name, value in self.headers if name == b"content-encoding"]
        self._decoder: Gunzip | None = decoder_for(codings, limits.body_bytes)
        for name, value in self.headers:
            if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                raise net.ProtocolViolation(f"transfer-encoding {value[:40]!r} was not asked for")
        if (response.content_length or 0) > limits.body_bytes:
            raise net.BodyTooLarge(f"the body announced is larger than {limits.body_bytes} bytes")

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    async def next(self) -> bytes:
        if self._decoder is None:
            return await self._arrived()
        while not (out := self._step(self._decoder)):
            if data := await self._arrived():
                self._decoder.feed(data)
            else:
                self._decoder.finish()
                return b""
        return out

    def _step(self, decoder: Gunzip) -> bytes:
        try:
            return decoder.step()
        except net.TransportError:
            self._response.close()
            raise

    async def _arrived(self) -> bytes:
        if self._closed:
            if self._ended:
                return b""
            raise net.ConnectionLost("the answer was closed")
        loop = asyncio.get_running_loop()
        until = min(loop.time() + self._limits.idle, self._deadline)
        try:
            async with Patience(until):
                data = await self._response.content.readany()
        except TimeoutError as error:
            self._response.close()
            if until == self._deadline:
                raise net.TotalTimeout("the deadline passed before the answer was complete") from error
            raise net.IdleTimeout(f"nothing came within {self._limits.idle:g} s") from error
        except aiohttp.ClientError as error:
            raise _translated(error, opened=True) from error
        except HttpProcessingError as error:
            raise net.ProtocolViolation(f"{type(error).__name__}: {error}") from error
        self._taken += len(data)
        if self._taken > self._limits.body_bytes:
            self._response.close()
            raise net.BodyTooLarge(f"the body is larger than {self._limits.body_bytes} bytes")
        if not data:
            if self._until_close and self._protocol is not None and isinstance(self._protocol.exception(), OSError):
                raise net.ConnectionLost("the connection broke in the middle of the body")
            self._closed = self._ended = True
        return data

    async def pour(self, into: net.Into) -> None:
        await net.poured(self, into)

    async def read(self) -> bytes:
        pieces: list[bytes] = []
        while data := await self.next():
            pieces.append(data)
        return b"".join(pieces)

    def silence(self, seconds: float) -> None:
        self._limits = msgspec.structs.replace(self._limits, idle=seconds)

    def release(self) -> None:
        self._closed = True
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()

    async def aclose(self) -> None:
        self.release()


def _translated(error: aiohttp.ClientError, *, opened: bool) -> net.TransportError:
    """aiohttp's own tree in ours."""
    detail = f"{type(error).__name__}: {error}"
    if (cause := _cause(error)) is not None:
        return cause
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return net.TlsFailed(detail)
        case aiohttp.ClientConnectorDNSError():
            return net.DnsFailed(detail)
        case aiohttp.ConnectionTimeoutError():
            return net.ConnectTimeout(detail)
        case aiohttp.ClientConnectorError():
            return net.ConnectFailed(detail)
        case aiohttp.ClientPayloadError() if _malformed(error):
            return net.ProtocolViolation(detail)
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return net.ConnectionLost(detail)
        case aiohttp.ClientResponseError() if _OVERSIZE.search(error.message):
            return net.HeaderTooLarge(detail)
        case _:
            return net.ProtocolViolation(detail)


def _cause(error: BaseException) -> net.TransportError | None:
    """What our own resolver raised inside aiohttp."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, net.TransportError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _malformed(error: aiohttp.ClientPayloadError) -> bool:
    """A body that breaks HTTP's rules, not one that was cut."""
    return isinstance(error.__cause__, TransferEncodingError) and "Not enough" not in str(error.__cause__)
