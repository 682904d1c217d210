"""Every test of this folder runs on both front ends and both event loops, over real sockets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop

from headgate.core.errors import HeadgateError, http_status
from headgate.server.cors import Cors
from headgate.server.frontends.h1 import H1FrontEnd
from headgate.server.frontends.sockets import bind
from headgate.server.frontends.uvicorn import UvicornFrontEnd
from headgate.server.http import FrontEnd, HttpLimits, Request, Responder
from support.rawclient import RawClient

TEXT = (("content-type", "text/plain"),)
PAGE = "https://app.example.com"
"""The only origin whose pages may read answers."""


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class House:
    """A handler with a few paths, and the front end before it.

    seen       requests that reached the handler      refused   errors that were rendered
    cancelled  paths whose handler was cancelled       open      set while `/hang` or `/stream` waits
    """

    def __init__(self, kind: type, limits: HttpLimits) -> None:
        self.seen: list[Request] = []
        self.refused: list[tuple[HeadgateError, str]] = []
        self.cancelled: list[str] = []
        self.finished: list[str] = []
        self.written = 0
        self.waiting = asyncio.Event()
        self.left = asyncio.Event()
        self.go_on = asyncio.Event()
        self.front: FrontEnd = kind(Cors(self.handle, [PAGE]), self.refuse, limits)
        self.port = 0

    def open(self) -> list[Any]:
        """The front end's connections."""
        if isinstance(self.front, H1FrontEnd):
            return list(self.front.connections)
        assert isinstance(self.front, UvicornFrontEnd)
        return [one for server, _ in self.front._servers for one in server.server_state.connections]

    def unsent(self) -> int:
        """Bytes of answers that wait for the only client."""
        (connection,) = self.open()
        transport = connection._transport if isinstance(self.front, H1FrontEnd) else connection.transport
        return transport.get_write_buffer_size()

    def client(self) -> RawClient:
        return RawClient(self.port)

    async def refuse(self, error: HeadgateError, path: str, responder: Responder) -> None:
        self.refused.append((error, path))
        await responder.reply(http_status(error), TEXT, json.dumps({"error": error.code}).encode())

    async def handle(self, request: Request, responder: Responder) -> None:
        self.seen.append(request)
        try:
            await self._answer(request, responder)
        except asyncio.CancelledError:
            self.cancelled.append(request.path)
            self.left.set()
            raise
        self.finished.append(request.path)

    async def _answer(self, request: Request, responder: Responder) -> None:
        match request.path:
            case "/echo":
                await responder.reply(200, TEXT, request.body)
            case "/hang":
                self.waiting.set()
                await self.go_on.wait()
                await responder.reply(200, TEXT, b"late")
            case "/stream":
                await responder.start(200, TEXT)
                await responder.write(b"one")
                self.waiting.set()
                await self.go_on.wait()
                await responder.write(b"two")
                await responder.finish()
            case "/flood":
                await responder.start(200, TEXT)
                while True:
                    await responder.write(bytes(65536))
                    self.written += 65536
            case "/both":
                await responder.start(200, TEXT)
                await asyncio.gather(self._many(responder), self._many(responder))
                await responder.finish()
            case "/broken":
                await responder.start(200, TEXT)
                await responder.write(b"half")
                raise ValueError("a defect")
            case "/split":
                await responder.reply(200, [("x", "a\r\nset-cookie: b")], b"")
            case "/after":
                await responder.start(200, TEXT)
                await responder.write(b"all")
                await responder.finish()
                await asyncio.sleep(0.03)  # books are closed after the last byte
            case _:
                await responder.reply(200, TEXT, f"{request.method} {request.path}?{request.query}".encode())

    async def _many(self, responder: Responder) -> None:
        for _ in range(160):
            await responder.write(bytes(65536))


@pytest.fixture(params=[UvicornFrontEnd, H1FrontEnd], ids=["uvicorn", "h1"])
def kind(request) -> type:
    return request.param


@pytest.fixture
def make_house(kind):
    return lambda **limits: House(kind, HttpLimits(**limits))


@pytest.fixture
def serve(make_house):
    """`async with serve(limits) as house`."""

    @contextlib.asynccontextmanager
    async def serving(**limits) -> AsyncIterator[House]:
        house = make_house(**limits)
        sock = bind("127.0.0.1", 0)
        house.port = sock.getsockname()[1]
        await house.front.start(sock)
        try:
            yield house
        finally:
            await house.front.close(0.0)

    return serving
