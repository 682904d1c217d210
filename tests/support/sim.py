"""Starting the simulator's parts in tests, and a plain-socket client that hides nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from headgate.simulator.app import Simulator
from headgate.simulator.demo import MODELS, at_speed
from headgate.simulator.scripted import FakeUpstream
from headgate.simulator.spec import SimModel

INSTANT = tuple(at_speed(model, 0) for model in MODELS)


@asynccontextmanager
async def fake_upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@dataclass
class Heard:
    """What came back on a socket: the raw bytes, the packets as read, and how it ended (eof, reset, timeout)."""

    raw: bytes = b""
    packets: list[bytes] = field(default_factory=list)
    end: str = ""

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """The body, chunked framing removed as far as it goes."""
        body = self.raw.partition(b"\r\n\r\n")[2]
        if b"transfer-encoding: chunked" not in self.head.lower():
            return body
        out = b""
        while True:
            size, _, rest = body.partition(b"\r\n")
            if not size or int(size, 16) == 0:
                return out
            length = int(size, 16)
            out, body = out + rest[:length], rest[length + 2 :]

    def json(self) -> Any:
        return json.loads(self.body)


async def ask(port: int, body: bytes | dict[str, Any] = b"", path: str = "/", **options: Any) -> Heard:
    """One request on a fresh connection, read until the server ends it or `timeout` passes."""
    headers: dict[str, str] = options.get("headers", {})
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"{options.get('method', 'POST')} {path} HTTP/1.1",
        "host: sim",
        "connection: close",
        f"content-length: {len(data)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    heard = Heard()
    over = asyncio.Event()
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: _Listening(heard, over), "127.0.0.1", port
    )
    try:
        transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        async with asyncio.timeout(options.get("timeout", 5)):
            await over.wait()
    except TimeoutError:
        heard.end = "timeout"
    finally:
        transport.close()
    return heard


class _Listening(asyncio.Protocol):
    """Notes packets as the loop reads them; a StreamReader would join them."""

    def __init__(self, heard: Heard, over: asyncio.Event) -> None:
        self._heard, self._over = heard, over

    def data_received(self, data: bytes) -> None:
        self._heard.packets.append(data)
        self._heard.raw += data

    def eof_received(self) -> None:
        self._heard.end = "eof"

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard.end = self._heard.end or ("reset" if exc else "eof")
        self._over.set()


@asynccontextmanager
async def simulator(*models: SimModel, port_each: bool = False, **options: Any) -> AsyncIterator[Simulator]:
    """A running simulator with these models, or the demo's five without any delay."""
    sim = Simulator(models or INSTANT, **options)
    await sim.start(port_each=port_each)
    try:
        yield sim
    finally:
        await sim.aclose()


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])
