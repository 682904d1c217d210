"""A listening socket that can be taken away and brought back on the same port, so that connecting is really refused."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator


class Listener:
    """Serves `factory`'s protocols on 127.0.0.1. While refusing, the port stays bound (nobody else can take it), and
    whoever connects gets RST at once."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._factory = factory
        self._server: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None
        self.host = "127.0.0.1"
        self.port = 0

    @property
    def listening(self) -> bool:
        return self._server is not None

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        """Listens; returns the port."""
        self.host = host
        return await self._listen(_bound(host, port))

    async def _listen(self, sock: socket.socket) -> int:
        self.port = sock.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(self._factory, sock=sock, backlog=1024)
        return self.port

    async def refuse(self) -> None:
        """No connection is accepted from now on; open ones are the owner's business."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        await asyncio.sleep(0)  # the loop closes the socket in its next turn
        for _ in range(100):
            try:
                self._placeholder = _bound(self.host, self.port)
                return
            except OSError:
                await asyncio.sleep(0.001)
        raise OSError(f"port {self.port} was not released")

    async def accept_again(self) -> None:
        if self._placeholder is None:
            return
        sock, self._placeholder = self._placeholder, None
        await self._listen(sock)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


@contextlib.contextmanager
def unanswered_port() -> Iterator[int]:
    """A port whose SYNs get no answer: connecting to it hangs until the caller's own time-out (Linux)."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_bound("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(4):  # a full accept queue makes the kernel drop further SYNs
            filler = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]


def linger_zero(transport: asyncio.BaseTransport) -> None:
    """The next close of this connection sends RST instead of FIN."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
