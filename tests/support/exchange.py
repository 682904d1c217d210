"""Sending one request with a transport, in the fewest words."""

import asyncio
from typing import Any

from headgate.net.transport.protocol import HttpRequest, HttpResponse, Limits, Origin, Transport
from support.rawserver import RawServer

HEADERS = (("authorization", "Bearer sk-test"), ("content-type", "application/json"))
QUICK = Limits(connect=2.0, first_byte=2.0, idle=2.0)


def request_to(server: RawServer | Origin, body: bytes = b'{"a":1}', method: str = "POST", **more: Any) -> HttpRequest:
    origin = server if isinstance(server, Origin) else Origin("http", server.host, server.port)
    values = {"headers": HEADERS, "target": "/v1/chat?x=1", **more}
    return HttpRequest(origin=origin, method=method, body=body, **values)


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def send(
    transport: Transport, server: RawServer | Origin, *, limits: Limits = QUICK, total: float = 5.0, **more: Any
) -> HttpResponse:
    return await transport.send(request_to(server, **more), limits, soon(total))


async def fetch(transport: Transport, server: RawServer | Origin, **more: Any) -> tuple[int, bytes]:
    """Status and body of one exchange."""
    response = await send(transport, server, **more)
    body = await response.read()
    await response.aclose()
    return response.status, body
