"""Every test of this folder that is asynchronous runs on both event loops, and on both transports if it asks for one."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from headgate.net.transport.aiohttp import AiohttpTransport
from headgate.net.transport.h1 import H1Transport

Make = Callable[..., H1Transport | AiohttpTransport]


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=[H1Transport, AiohttpTransport], ids=["h1", "aiohttp"])
async def make(request) -> AsyncIterator[Make]:
    """Makes transports of the kind under test, closed when the test is over."""
    made: list[H1Transport | AiohttpTransport] = []

    def one(**options) -> H1Transport | AiohttpTransport:
        made.append(request.param(**options))
        return made[-1]

    yield one
    for transport in made:
        await transport.aclose()


@pytest.fixture
def transport(make) -> H1Transport | AiohttpTransport:
    return make()
