"""uvicorn as a front end: its sockets, parsing and back-pressure; ours is what it lacks: a time limit and a size limit
for heads that arrive bit by bit, errors in the words of the doors, a cap on connections, news of clients that leave.
Signals and draining belong to the process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headgate.core.errors import HeadersTooLarge, HeadgateError, InvalidRequest, Overloaded, RequestTimeout
from headgate.server.frontends import wire
from headgate.server.frontends.asgi import EXTENSION, AsgiApp
from headgate.server.frontends.sockets import BACKLOG
from headgate.server.http import Handler, Headers, HttpLimits, Refuse

LINGER = 2.0
"""Seconds during which the rest of a refused request is thrown away, so that the client gets to read the refusal."""


class UvicornFrontEnd:
    """core of server.http.FrontEnd."""

    def __init__(self, handler: Handler, refuse: Refuse, limits: HttpLimits) -> None:
        self._config = _config(
            AsgiApp(handler, refuse, limits), http=_Connection, timeout_keep_alive=int(limits.keepalive) or 1
        )
        self._servers: list[tuple[_Server, asyncio.Task[None]]] = []

    async def start(self, sock: socket.socket) -> None:
        if not self._config.loaded:
            self._config.load()
        server = _Server(self._config)
        server.lifespan = self._config.lifespan_class(self._config)
        await server.startup(sockets=[sock])
        self._servers.append((server, asyncio.get_running_loop().create_task(server.main_loop())))

    def drain(self) -> None:
        for server, _ in self._servers:
            for listener in server.servers:
                listener.close()
            for connection in list(server.server_state.connections):
                connection.shutdown()

    async def close(self, grace: float) -> None:
        self.drain()
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        for server, ticker in self._servers:
            state = server.server_state
            while (state.connections or state.tasks) and loop.time() < until:  # noqa: ASYNC110  uvicorn has no event
                await asyncio.sleep(0.01)
            for connection in list(state.connections):
                connection.transport.abort()
            if state.tasks:
                await asyncio.wait(set(state.tasks), timeout=2.0)
            ticker.cancel()  # it only renders the date
            await asyncio.wait([ticker])
        self._servers.clear()


def make_server(app: Callable[..., Any], *, grace: float = 5.0) -> uvicorn.Server:
    """A server for any ASGI application (the admin plane). `grace`: seconds that it waits for open connections when
    told to exit."""
    return _Server(_config(app, timeout_graceful_shutdown=int(grace) or 1, timeout_keep_alive=75))


def _config(app: Callable[..., Any], **more: Any) -> uvicorn.Config:
    options: dict[str, Any] = {"http": "httptools", **more}
    return uvicorn.Config(
        app,
        loop="none",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_level="critical",
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        **options,
    )


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the process's own runner handles signals: it drains first


class _Connection(HttpToolsProtocol):
    """core of frontends.asgi.Watched."""

    def __init__(self, config: uvicorn.Config, **more: Any) -> None:
        super().__init__(config, **more)
        app = config.app
        assert isinstance(app, AsgiApp)
        self._refuse_with: Refuse = app.refuse
        self._limits = app.limits
        self._head_open = False
        self._head_since: float | None = None
        self._seen = 0
        self._timer: asyncio.TimerHandle | None = None
        self._running: Any = None
        self._refused = False
        self._owed: HeadgateError | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self.lost = False
        self.on_left: Callable[[], None] | None = None

    # -- life -----------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, _Lingering(transport, self)))
        self._head_since = self.loop.time()
        self._timer = self.loop.call_later(self._limits.head_time, self._look)
        if self._limits.connections and len(self.connections) > self._limits.connections:
            self._refuse(Overloaded("there are too many connections", retry_after=1.0))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost = True
        for timer in (self._timer, self._lingering, self._writing):
            if timer is not None:
                timer.cancel()
        if self.on_left is not None:
            self.on_left()

    # -- slow clients ---------------------------------------------------------------------------------------------
    def pause_writing(self) -> None:
        super().pause_writing()
        self.mind_writing()

    def mind_writing(self) -> None:
        """From now on a client that takes nothing of what waits for it is gone in all but name."""
        self._progress = self.loop.time()
        self._unsent = self.transport.get_write_buffer_size()
        if self._writing is None and not self.lost:
            self._writing = self.loop.call_later(self._limits.write_time, self._watch_writing)

    def _watch_writing(self) -> None:
        self._writing = None
        if not self.flow.write_paused and not self.transport.is_closing():
            return
        unsent, now = self.transport.get_write_buffer_size(), self.loop.time()
        if unsent < self._unsent:
            self._progress = now
        self._unsent = unsent
        due = self._progress + self._limits.write_time
        if now >= due:
            self.cut()
        else:
            self._writing = self.loop.call_at(due, self._watch_writing)

    # -- for answers ----------------------------------------------------------------------------------------------
    def arrived(self) -> bool:
        return self._running is not None and not self._running.more_body

    def push(self, data: bytes) -> bool:
        cycle = self._running
        if data and not cycle.disconnected:
            self.transport.write(wire.CHUNK % (len(data), data) if cycle.chunked_encoding else data)
        return not self.flow.write_paused

    def end_by_closing(self) -> None:
        self._running.chunked_encoding = False

    def cut(self) -> None:
        self.transport.abort()

    def unread(self) -> bool:
        """A request is still arriving that nobody will read."""
        return self._refused or (self.cycle is not None and self.cycle.more_body)

    def linger(self) -> None:
        """What still arrives is thrown away for a moment."""
        self._refused = True
        self.flow.resume_reading()
        self._lingering = self.loop.call_later(LINGER, self.cut)

    # -- heads ----------------------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        was_open = self._head_open
        super().data_received(data)
        if not self._head_open or self._refused:
            return
        if was_open:
            self._seen += len(data)
            if self._seen > self._limits.header_bytes:
                self._refuse(HeadersTooLarge("the request's headers are too large"))
                return
        if self._timer is None:
            self._timer = self.loop.call_later(self._limits.head_time, self._look)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[typeddict-item]
        self._head_open = True
        self._head_since = self.loop.time()
        self._seen = 0

    def on_headers_complete(self) -> None:
        self._head_open = False
        self._head_since = None
        super().on_headers_complete()

    def _look(self) -> None:
        """One timer for all heads of a connection, looking now and then."""
        self._timer = None
        if self._head_since is None or self._refused:
            return
        if self.pipeline or (self._running is not None and not self._running.response_complete):
            self._head_since = self.loop.time()  # it is not its turn yet
        waited = self.loop.time() - self._head_since
        if waited < self._limits.head_time:
            self._timer = self.loop.call_later(self._limits.head_time - waited, self._look)
        elif self._head_open:
            self._refuse(RequestTimeout("the request's headers did not arrive in time"))
        else:
            self.transport.close()  # not a byte came

    # -- refusals -------------------------------------------------------------------------------------------------
    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._head_open:
            self._head_since = self.loop.time()  # a request that had to wait for us: its time runs from now
        if self._owed is not None and not self.pipeline and not self.transport.is_closing():
            self._say(self._owed)

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest("the request is not valid HTTP/1.1"))

    def _refuse(self, error: HeadgateError) -> None:
        """Says so when all earlier answers are out, and closes."""
        self._refused = True
        broken = self.cycle if self.cycle is not None and self.cycle.more_body else None
        if broken is not None and not broken.response_complete:
            # Its head was fine, its body is not: the handler never gets to see it.
            broken.disconnected = True
            broken.message_event.set()
            for entry in [entry for entry in self.pipeline if entry[0] is broken]:
                self.pipeline.remove(entry)
        running = self._running
        if self.pipeline or (running is not None and running is not broken and not running.response_complete):
            self._owed = error
        elif running is not None and running is broken and running.response_started:
            self.transport.close()
        else:
            self._say(error)

    def _say(self, error: HeadgateError) -> None:
        task = self.loop.create_task(self._refuse_with(error, "", _Refusal(self.transport)))  # type: ignore[arg-type]
        self.tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self.tasks.discard)


class _Lingering:
    """A transport whose `close`, while a request is still arriving, first lets the client read the answer: closing with
    unread bytes would reset the connection under it."""

    def __init__(self, transport: asyncio.Transport, connection: _Connection) -> None:
        self._transport = transport
        self._connection = connection
        self._closing = False
        self.write = transport.write
        self.abort = transport.abort
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.set_protocol = transport.set_protocol
        self.get_write_buffer_size = transport.get_write_buffer_size

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        self._closing = True
        if self._connection.unread() and self._transport.can_write_eof():
            self._transport.write_eof()
            self._connection.linger()
        else:
            self._transport.close()
            self._connection.mind_writing()


class _Refusal:
    """core of Responder for an answer that belongs to no request."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.started = False
        self.left = False
        self.push = None

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.started = True
        framing = b"content-length: %d\r\nconnection: close\r\n" % len(body)
        self._transport.write(wire.head(status, headers, framing) + body)
        self._transport.close()

    async def start(self, status: int, headers: Headers) -> None:
        raise NotImplementedError("a refusal is one reply")

    async def write(self, data: bytes) -> None:
        raise NotImplementedError("a refusal is one reply")

    async def finish(self) -> None:
        raise NotImplementedError("a refusal is one reply")
