"""uvicorn as our front end's host: sockets, TLS-free HTTP/1.1 parsing, back-pressure. Signals and draining are ours."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

BACKLOG = 2048


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the process's own runner handles signals: it drains first


def make_server(app: Callable[..., Any], *, grace: float = 5.0) -> uvicorn.Server:
    """`app` is ASGI. `grace`: seconds uvicorn waits for open connections when told to exit."""
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="critical",
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(grace) or 1,
    )
    return _Quiet(config)


def bind(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket; port 0 takes any. Raises OSError where the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
