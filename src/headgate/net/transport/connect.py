"""From an origin to a connected, encrypted stream: name, TCP (addresses tried side by side), TLS; errors by phase."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from headgate.net.transport.names import Address, Resolver
from headgate.net.transport.protocol import ConnectFailed, ConnectTimeout, Exhausted, Origin, TlsFailed, TotalTimeout

STAGGER = 0.25
"""Seconds after which the next address is tried beside the first (RFC 8305)."""
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""What connecting fails with when this side has run out of something."""
Protocol = TypeVar("Protocol", bound=asyncio.Protocol)


def client_context(*, ca_bundle: str | None = None, verify: bool = True) -> ssl.SSLContext:
    """TLS as a client: the system's authorities, or those of `ca_bundle` only. `verify=False` is for tests."""
    context = ssl.create_default_context(cafile=ca_bundle)
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@functools.cache
def default_context() -> ssl.SSLContext:
    """One for the process: reading the authorities takes tens of milliseconds."""
    return client_context()


async def connect(
    factory: Callable[[], Protocol],
    origin: Origin,
    resolver: Resolver,
    context: ssl.SSLContext | None,
    *,
    limit: float,
    deadline: float,
) -> Protocol:
    """A connected protocol. `limit` is in seconds for all phases, `deadline` the caller's own, in loop time."""
    now = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(min(now + limit, deadline)):
            addresses = await resolver.resolve(origin.host, origin.port)
            try:
                sock = await _first_connected(addresses)
            except OSError as error:
                if error.errno in _OURS:
                    raise Exhausted(f"{origin.host}:{origin.port}: {error.strerror or error}") from error
                resolver.forget(origin.host, origin.port)
                raise ConnectFailed(f"{origin.host}:{origin.port}: {error.strerror or error}") from error
            return await _over(sock, factory, origin, context)
    except TimeoutError as error:
        if deadline <= now + limit:
            raise TotalTimeout("the deadline passed while connecting", sent=False) from error
        resolver.forget(origin.host, origin.port)
        raise ConnectTimeout(f"{origin.host}:{origin.port} was not reached within {limit:g} s") from error


async def _over(
    sock: socket.socket, factory: Callable[[], Protocol], origin: Origin, context: ssl.SSLContext | None
) -> Protocol:
    loop = asyncio.get_running_loop()
    try:
        if context is None:
            _, protocol = await loop.create_connection(factory, sock=sock)
        else:
            _, protocol = await loop.create_connection(factory, sock=sock, ssl=context, server_hostname=origin.host)
    except TimeoutError:
        sock.close()
        raise
    except (ssl.SSLError, OSError) as error:
        sock.close()
        if context is None or not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError):
            # Cut within the handshake says nothing of trust: it may go better the next time.
            raise ConnectFailed(f"{origin.host}:{origin.port}: {error or type(error).__name__}") from error
        raise TlsFailed(f"{origin.host}:{origin.port}: {error or type(error).__name__}") from error
    except BaseException:
        sock.close()
        raise
    return protocol


async def _first_connected(addresses: list[Address]) -> socket.socket:
    if len(addresses) == 1:
        return await _connected(addresses[0])
    waiting = list(reversed(addresses))
    pending: set[asyncio.Task[socket.socket]] = set()
    failure: OSError | None = None
    try:
        while waiting or pending:
            if waiting:
                pending.add(asyncio.ensure_future(_connected(waiting.pop())))
            done, pending = await asyncio.wait(
                pending, timeout=STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            winner: socket.socket | None = None
            for task in done:
                error = task.exception()
                if isinstance(error, OSError):
                    failure = failure or error
                elif error is not None:
                    raise error
                elif winner is None:
                    winner = task.result()
                else:
                    task.result().close()
            if winner is not None:
                return winner
    finally:
        for task in pending:
            task.cancel()
            task.add_done_callback(_discard)
    raise failure or OSError("no address")


def _discard(task: asyncio.Task[socket.socket]) -> None:
    """An attempt that lost the race may have connected before it was cancelled."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connected(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock
