"""The transport over aiohttp: for proxies and oddities, and the reference that our own client is measured against."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from headgate.net.transport import protocol as net


class AiohttpTransport:
    """core of net.transport.protocol.Transport. One per event loop. `proxies`: honour HTTP(S)_PROXY of the environment."""

    def __init__(self, *, per_origin: int = 0, proxies: bool = False, context: ssl.SSLContext | None = None) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._per_origin = per_origin
        self._proxies = proxies
        self._context = context

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(
                limit=0,
                limit_per_host=self._per_origin,
                ttl_dns_cache=60,
                keepalive_timeout=30,
                ssl=self._context if self._context is not None else True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                trust_env=self._proxies,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
            )
        return self._session

    async def send(self, request: net.HttpRequest, limits: net.Limits, deadline: float) -> net.HttpResponse:
        origin = request.origin
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        url = URL(f"{origin.scheme}://{host}:{origin.port}{request.target}", encoded=True)
        headers: CIMultiDict[str] = CIMultiDict(request.headers)
        for name, value in request.extra:
            headers.add(name, value)
        remaining = deadline - asyncio.get_running_loop().time()
        timeout = aiohttp.ClientTimeout(
            total=max(remaining, 0.001), sock_connect=limits.connect, sock_read=max(limits.first_byte, limits.idle)
        )
        try:
            response = await self._open().request(
                request.method,
                url,
                data=request.body or None,
                headers=headers,
                allow_redirects=False,
                timeout=timeout,
                max_line_size=limits.header_bytes,
                max_field_size=limits.header_bytes,
            )
        except Exception as error:
            raise _translated(error) from error
        return AiohttpResponse(response, limits)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class AiohttpResponse:
    def __init__(self, response: aiohttp.ClientResponse, limits: net.Limits) -> None:
        self._response = response
        self._limits = limits
        self._read = 0
        self.status = response.status
        self.headers: Sequence[tuple[bytes, bytes]] = [(name.lower(), value) for name, value in response.raw_headers]

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    async def next(self) -> bytes:
        try:
            async with asyncio.timeout(self._limits.idle):
                data = await self._response.content.readany()
        except TimeoutError as error:
            raise net.IdleTimeout("nothing was read for too long") from error
        except Exception as error:
            raise _translated(error) from error
        self._read += len(data)
        if self._read > self._limits.body_bytes:
            raise net.BodyTooLarge(f"more than {self._limits.body_bytes} bytes")
        return data

    async def read(self) -> bytes:
        pieces: list[bytes] = []
        while data := await self.next():
            pieces.append(data)
        return b"".join(pieces)

    async def aclose(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


def _translated(error: Exception) -> net.TransportError:
    """aiohttp's own tree in ours; what is not a transport's failing is raised as it is."""
    detail = f"{type(error).__name__}: {error}"
    match error:
        case net.TransportError():
            return error
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return net.TlsFailed(detail)
        case aiohttp.ClientConnectorDNSError():
            return net.DnsFailed(detail)
        case aiohttp.ConnectionTimeoutError():
            return net.ConnectTimeout(detail)
        case aiohttp.ClientConnectorError():
            return net.ConnectFailed(detail)
        case aiohttp.SocketTimeoutError():
            return net.IdleTimeout(detail)
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return net.TotalTimeout(detail)
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | ConnectionError():
            return net.ConnectionLost(detail)
        case aiohttp.ClientResponseError() | aiohttp.ClientConnectionError():
            return net.ProtocolViolation(detail)
    raise error
