"""The admin plane in a thread of its own: whatever it computes, the serving loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from inspect import isawaitable
from pathlib import Path
from typing import TypeVar

from headgate import __version__
from headgate.config.model import Config
from headgate.console.app import make_console
from headgate.console.auth import Sessions, load_token
from headgate.console.experiments import Experiments
from headgate.console.views import Admin
from headgate.core.background import give_way
from headgate.core.clock import SYSTEM
from headgate.core.fleet import Member
from headgate.core.principal import Principal
from headgate.engine.house import House
from headgate.engine.trials import Trials
from headgate.governance.desk import Desk
from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.protocol import HttpRequest, Limits, Origin, TransportError
from headgate.server.frontends.sockets import BACKLOG, bind
from headgate.server.frontends.uvicorn import make_server
from headgate.server.options import URL_FILE
from headgate.stores.memory import MemoryStore

T = TypeVar("T")
Reload = Callable[[], "str | Awaitable[str | None] | None"]
"""Says what is wrong with the configuration."""
PLAY_TIME = 600.0
CONSOLE = Principal(key_id="console", name="console")
"""Who asks from the playground."""


class AdminPlane:
    """`start` binds and returns; `stop` ends the thread. `token_is_new`: show it once. `is_shared`: other processes serve
    the same address, and somebody else writes down where it is. `keep`: carries what experiments have seen to the store."""

    def __init__(
        self,
        house: House,
        *,
        data_dir: Path,
        host: str,
        port: int,
        config,
        reload: Reload,
        desk: Desk | None = None,
        is_shared: bool = False,
        keep: Callable[[], Awaitable[None]] | None = None,
        members: Callable[[], Awaitable[Sequence[Member]]] | None = None,
    ) -> None:
        self.token, self.token_is_new = load_token(data_dir)
        self.play_key = "hg-" + hashlib.sha256(b"headgate playground\0" + self.token.encode()).hexdigest()
        """What the playground shows the data plane: known to whoever knows the admin token, the same on all workers."""
        self._desk = desk or Desk(MemoryStore())
        self._experiments = Experiments(Trials(house, keep), lambda: self._serving)
        self._admin = Admin(
            house,
            version=__version__,
            config=lambda: _shown(config()),
            reload=self._reload,
            members=None if members is None else self._on_serving_loop(members),
        )
        self._wanted_reload = reload
        self._serving: asyncio.AbstractEventLoop | None = None
        self._is_shared = is_shared
        self._where = data_dir / URL_FILE
        self._host = host
        self._wanted = port
        self._thread: threading.Thread | None = None
        self._server = None
        self._sock: socket.socket | None = None
        self.port = 0
        self.data_url = ""

    def start(self, data_url: str) -> None:
        """Raises OSError where the address is taken."""
        self.data_url = data_url
        with contextlib.suppress(RuntimeError):  # started from outside a loop: changes are seen at the next look
            self._desk.serving = self._serving = asyncio.get_running_loop()
        self._sock = bind(self._host, self._wanted, reuse_port=self._is_shared)
        self._sock.listen(BACKLOG)  # whoever comes before the thread is ready waits, and is not refused
        self.port = self._sock.getsockname()[1]
        if not self._is_shared:
            self._where.write_text(self.url + "\n", encoding="utf-8")
        self._thread = threading.Thread(target=self._run, name="admin", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if not self._is_shared:
            self._where.unlink(missing_ok=True)
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(3.0)

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    def _on_serving_loop(self, ask: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
        async def asked() -> T:
            return await ask()

        async def there() -> T:
            assert self._serving is not None
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked(), self._serving))

        return there

    async def _reload(self) -> str | None:
        """On the serving loop, where the configuration lives."""
        if self._serving is None:
            return await self._asked_to_reload()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._asked_to_reload(), self._serving))

    async def _asked_to_reload(self) -> str | None:
        found = self._wanted_reload()
        return await found if isawaitable(found) else found

    def _run(self) -> None:
        give_way()
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        transport = H1Transport()

        async def play(body: bytes, door: str) -> AsyncIterator[bytes]:
            async for piece in _ask(transport, self.data_url + door, body, self.play_key):
                yield piece

        app = make_console(self._admin, Sessions(self.token, SYSTEM), play, self._desk, self._experiments)
        self._server = make_server(app, grace=1.0)
        await self._server.serve(sockets=[self._sock] if self._sock is not None else None)
        await transport.aclose()


async def _ask(transport: H1Transport, url: str, body: bytes, key: str) -> AsyncIterator[bytes]:
    """One request to the data plane, as any client would make it; its stream, or its error as a frame."""
    place, slash, door = url.removeprefix("http://").partition("/")
    host, _, port = place.rpartition(":")
    request = HttpRequest(
        origin=Origin("http", host.strip("[]"), int(port)),
        method="POST",
        target=slash + door,
        headers=(("content-type", "application/json"), ("authorization", f"Bearer {key}")),
        body=body,
    )
    deadline = asyncio.get_running_loop().time() + PLAY_TIME
    try:
        response = await transport.send(request, Limits(idle=60.0), deadline)
    except TransportError as error:
        yield b'data: {"error":{"message":"the data plane does not answer (%b)"}}\n\n' % type(error).__name__.encode()
        return
    try:
        while piece := await response.next():
            yield piece
    finally:
        await response.aclose()


def _shown(config: Config) -> dict:
    return config.model_dump(mode="json", by_alias=True)
