"""An HTTP/1.1 server that does exactly what a script says, down to the byte, the packet and the way it ends.

No web framework: a framework would mend what the scripts mean to break. The server keeps its own account of every call
it received (`Call`), which is the ground truth that tests compare the gateway's books with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import parse_qsl, unquote, urlsplit

import httptools

from headgate.core.clock import SYSTEM, Clock
from headgate.simulator import script as steps
from headgate.simulator.listener import Listener, linger_zero

_REASONS = {200: b"OK", 302: b"Found", 400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found",
            429: b"Too Many Requests", 500: b"Internal Server Error", 503: b"Service Unavailable"}  # fmt: skip
_MAX_BODY = 256 << 20
_HIGH_WATER = 256 * 1024


class Call:
    """One request as it arrived, and what became of its answer.

    status    sent, None where no head was
    sent      bytes written to the socket
    complete  the script's answer ended as HTTP wants it
    left      seconds after arrival at which the client was gone before the answer had ended; None if it stayed
    ended     set when nothing more will happen
    """

    def __init__(self, number: int, connection: int, method: str, target: str, at: float) -> None:
        self.number = number
        self.connection = connection
        self.method = method
        self.target = target
        parts = urlsplit(target)
        self.path = unquote(parts.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.headers: dict[str, str] = {}
        self.body = b""
        self.at = at
        self.status: int | None = None
        self.sent = 0
        self.complete = False
        self.left: float | None = None
        self.ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Call {self.number} {self.method} {self.path} -> {self.status} sent={self.sent} left={self.left}>"


Responder = Callable[[Call], steps.Script]


class Wire:
    """Serves `respond` on one or more ports.

    calls        every call in order of arrival
    connections  how many were accepted
    failures     what scripts raised: defects of the script, whose client got RST. `aclose` raises the first.
    """

    def __init__(self, respond: Responder, *, clock: Clock = SYSTEM, keep: int = 100_000) -> None:
        self.respond = respond
        self.clock = clock
        self.calls: deque[Call] = deque(maxlen=keep)
        self.failures: list[Exception] = []
        self.connections = 0
        self.numbered = 0
        self._open: set[_Connection] = set()
        self._listeners: list[Listener] = []

    async def listen(self, port: int = 0, host: str = "127.0.0.1") -> Listener:
        """One more port. The returned listener can refuse and accept again."""
        listener = Listener(lambda: _Connection(self))
        await listener.start(port, host)
        self._listeners.append(listener)
        return listener

    def reset_connections(self, port: int | None = None) -> None:
        """RST to every open connection (of one port)."""
        for connection in list(self._open):
            if port is None or connection.port == port:
                connection.reset()

    @property
    def open_connections(self) -> int:
        return len(self._open)

    async def aclose(self) -> None:
        for listener in self._listeners:
            listener.close()
        tasks = [connection.stop() for connection in list(self._open)]
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures[0]

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Connection(asyncio.Protocol):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        wire.connections += 1
        self._number = wire.connections
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._fields: dict[str, str] = {}
        self._body = bytearray()
        self._queue: deque[tuple[Call, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.port = 0

    # -- transport ------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transport = transport
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self.port = transport.get_extra_info("sockname")[1]
        self._wire._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire._open.discard(self)
        self._gone()

    def eof_received(self) -> bool:
        self._gone()
        return False

    def _gone(self) -> None:
        self._writable.set()
        for call, _ in self._queue:
            call.left = self._wire.clock.monotonic() - call.at
            call.ended.set()
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def reset(self) -> None:
        linger_zero(self._transport)
        self._transport.abort()

    def stop(self) -> asyncio.Task[None] | None:
        self._transport.abort()
        return self._task

    # -- httptools ------------------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        self._url, self._fields, self._body = b"", {}, bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self._fields[key] = f"{self._fields[key]}, {text}" if key in self._fields else text

    def on_headers_complete(self) -> None:
        if self._fields.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > _MAX_BODY:
            self._transport.abort()

    def on_message_complete(self) -> None:
        wire = self._wire
        wire.numbered += 1
        call = Call(
            wire.numbered,
            self._number,
            self._parser.get_method().decode("latin-1"),
            self._url.decode("latin-1"),
            wire.clock.monotonic(),
        )
        call.headers, call.body = self._fields, bytes(self._body)
        wire.calls.append(call)
        self._queue.append((call, self._parser.should_keep_alive()))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    # -- answering ------------------------------------------------------------------------------------------------
    async def _serve(self) -> None:
        while self._queue:
            call, keep_alive = self._queue.popleft()
            player = _Player(self._transport, self._writable, call, self._wire.clock)
            script: steps.Script = ()
            try:
                script = self._wire.respond(call)
                await player.play(script)
            except asyncio.CancelledError:
                if not call.complete:
                    call.left = self._wire.clock.monotonic() - call.at
                self._transport.close()
                return
            except Exception as error:  # noqa: BLE001 - a task's root: a defect of a script must not pass for a fault
                self._wire.failures.append(error)
                self.reset()
                return
            finally:
                close = getattr(script, "close", None)
                if close is not None:
                    close()  # a generator hears of a client that left
                call.ended.set()
            if not (call.complete and keep_alive) or player.closing:
                self._transport.close()
                break
        self._task = None


class _Player:
    """Writes one script's steps to one connection."""

    def __init__(self, transport: asyncio.Transport, writable: asyncio.Event, call: Call, clock: Clock) -> None:
        self._transport = transport
        self._writable = writable
        self._call = call
        self._clock = clock
        self._framing = "none"
        self._head = b""
        self.closing = False

    async def play(self, script: steps.Script) -> None:
        for step in script:
            match step:
                case steps.Head():
                    self._begin(step)
                case steps.Body(data):
                    await self._send(self._framed(data))
                case steps.End():
                    await self._send(b"0\r\n\r\n" if self._framing == "chunked" else b"")
                    self._call.complete = True
                    self.closing = self.closing or self._framing in ("close", "none")
                case steps.Raw(data):
                    await self._send(data)
                case steps.Pause(seconds):
                    await self._send(b"")
                    await self._clock.sleep(seconds)
                case steps.Wait(event):
                    await self._send(b"")
                    await event.wait()
                case steps.Hang():
                    await self._send(b"")
                    await asyncio.Event().wait()
                case _:
                    await self._finish(step)
                    return
        await self._send(b"")

    async def _finish(self, step: steps.Step) -> None:
        await self._send(b"")
        self.closing = True
        match step:
            case steps.Reset():
                linger_zero(self._transport)
                self._transport.abort()
            case steps.HalfClose():
                self._transport.write_eof()
                await asyncio.Event().wait()  # until the client leaves
            case _:
                self._transport.close()

    def _begin(self, head: steps.Head) -> None:
        self._framing = head.framing
        self._call.status = head.status
        lines = [b"HTTP/1.1 %d %s" % (head.status, _REASONS.get(head.status, b"Status"))]
        lines += [f"{name}: {value}".encode("latin-1", "replace") for name, value in head.headers]
        if head.framing == "chunked":
            lines.append(b"transfer-encoding: chunked")
        elif head.framing == "length":
            lines.append(b"content-length: %d" % head.length)
        elif head.framing == "close":
            lines.append(b"connection: close")
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"

    def _framed(self, data: bytes) -> bytes:
        if self._framing != "chunked":
            return data
        return b"%x\r\n%b\r\n" % (len(data), data) if data else b""

    async def _send(self, data: bytes) -> None:
        """One write; the head goes with the first. Yields, so that a reader in this loop sees each write by itself."""
        out, self._head = self._head + data, b""
        if not out:
            return
        self._transport.write(out)
        self._call.sent += len(out)
        if self._writable.is_set():
            await asyncio.sleep(0)  # wakes before the loop's next look at its sockets is acted on ...
            await asyncio.sleep(0)  # ... and this time after it
        else:
            await self._writable.wait()
