"""One HTTP/1.1 connection to a provider: what is on the wire, the parser and the clock of it.

The hot path allocates nothing per chunk but the bytes themselves. A connection has one timer for its whole life: every
phase only writes down when it will be over, and the timer looks (and is set anew) when it happens to fire.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from itertools import compress
from operator import itemgetter
from typing import Any, cast

import httptools
import msgspec

from headgate.core.patience import LATE, SECOND_LOOK
from headgate.net.transport.encoding import Gunzip, decoder_for
from headgate.net.transport.protocol import (
    BodyTooLarge,
    ConnectionLost,
    FirstByteTimeout,
    HeaderTooLarge,
    IdleTimeout,
    Into,
    Limits,
    ProtocolViolation,
    TotalTimeout,
    TransportError,
)

HIGH_WATER = 256 * 1024
"""Bytes that wait for a slow reader before the provider is no longer read."""
BIG_BODY = 64 * 1024
"""From here on copying a body beside its head costs more than a second buffer."""
LINGER_BYTES = 4096
"""How much more may follow a released answer before its connection is given up."""
IDLE, BUSY, LINGERING, CLOSED = range(4)
_KEPT = re.compile(rb"(?:.*,)?\s*timeout=(\d{1,6})\b", re.IGNORECASE)
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"content-encoding", b"keep-alive"))
_name_of = itemgetter(0)


class Connection(asyncio.Protocol):
    """States: IDLE (in the pool) → BUSY (a request, until its answer is released) → IDLE, LINGERING or CLOSED.

    `on_free` is told once when the connection may be pooled again, `on_lost` once when it is gone.
    """

    __slots__ = (
        "_codings", "_deadline", "_doubted", "_error", "_framed", "_head_only", "_into", "_keep", "_limits", "_loop",
        "_mark", "_paused", "_seen", "_timer", "_transport", "_unsent", "_waiter", "_when", "chunks", "decoder", "done",
        "head", "headers", "idle_since", "keepalive", "linger_until", "on_free", "on_lost", "parser", "served", "size",
        "state", "status", "taken",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_free: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
        keepalive: float,
    ) -> None:
        self._loop = loop
        self.on_free = on_free
        self.on_lost = on_lost
        self.keepalive = keepalive
        self.state = IDLE
        self.idle_since = loop.time()
        self.served = 0
        self.parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._when = math.inf
        self._doubted = 0.0
        self._paused = False
        self._into: Into | None = None
        self.linger_until = 0.0

    # -- a request ------------------------------------------------------------------------------------------------
    def begin(self, head: bytes, body: bytes, limits: Limits, deadline: float, head_only: bool) -> None:
        """Sends. What was known of the last answer is forgotten."""
        self.state = BUSY
        self.served += 1
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.size = 0
        self.taken = 0
        self.head = False
        self.done = False
        self._error: TransportError | None = None
        self._keep = False
        self._framed = False
        self._head_only = head_only
        self._codings: list[bytes] = []
        self.decoder: Gunzip | None = None
        self._seen = 0
        self._unsent = 0
        self._limits = limits
        self._deadline = deadline
        self._mark = now = self._loop.time()
        transport = self._transport
        assert transport is not None  # the pool gives out open connections, and nothing was awaited since
        if len(body) < BIG_BODY:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        self._look_at(min(now + limits.first_byte, deadline))

    async def answered(self) -> None:
        """Waits for status and headers. Whatever goes wrong, a cancellation included, closes the connection."""
        try:
            while not self.head and self._error is None:
                await self.wait()
            if self._error is not None:
                raise self._error
            if self._codings:
                self.decoder = decoder_for(self._codings, self._limits.body_bytes)
        except BaseException:
            self.abort()
            raise
        self._mark = now = self._loop.time()
        self._look_at(min(now + self._limits.idle, self._deadline))

    def silence(self, seconds: float) -> None:
        self._limits = msgspec.structs.replace(self._limits, idle=seconds)
        self._mark = now = self._loop.time()
        self._look_at(min(now + seconds, self._deadline))

    async def wait(self) -> None:
        """Until something happened."""
        self._waiter = waiter = self._loop.create_future()
        await waiter

    def take(self) -> bytes:
        """Everything that has arrived."""
        data = b"".join(self.chunks)  # one chunk is not copied
        self.chunks.clear()
        self.taken = self.size
        if self._paused:
            self._paused = False
            self._mark = self._loop.time()
            if self._transport is not None:
                self._transport.resume_reading()
        return data

    async def pour(self, into: Into) -> None:
        """Everything that arrives, to `into`; returns once it takes no more, or nothing more will come."""
        if self.chunks and not into(self.take()):
            return
        if self.done or self._error is not None:
            return
        self._into = into
        try:
            await self.wait()
        finally:
            self._into = None

    def error(self) -> TransportError | None:
        return self._error

    # -- its end --------------------------------------------------------------------------------------------------
    @property
    def reusable(self) -> bool:
        """The answer has completely arrived, the request was completely sent, and nothing followed."""
        transport = self._transport
        return (
            self.done
            and self._keep
            and self._error is None
            and transport is not None
            and transport.get_write_buffer_size() == 0
        )

    def give_back(self) -> None:
        """The answer is over for its reader: into the pool if its end arrived, else away."""
        if self.state != BUSY and self.state != LINGERING:
            return
        if not self.reusable:
            self.abort()
            return
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self.chunks = []
        self.state = IDLE
        self.idle_since = now = self._loop.time()
        self._look_at(now + self.keepalive)
        self.on_free(self)

    def linger(self, seconds: float) -> None:
        """HTTP's own end is awaited for a moment, with nobody reading."""
        if self.done or self._error is not None or self.state != BUSY or self._transport is None:
            self.give_back()
            return
        self.state = LINGERING
        self.linger_until = self._loop.time() + seconds
        self.take()
        self.taken = self.size = 0
        self._look_at(self.linger_until)

    def abort(self) -> None:
        """Closes at once: the provider is told to stop."""
        if self.state == CLOSED:
            return
        if self.state == BUSY and not self.done and self._error is None:
            self._error = ConnectionLost("the connection was closed by us")
        self.state = CLOSED
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._wake()
        self.on_lost(self)

    def usable(self) -> bool:
        """Idle, open, and not idle for longer than servers keep connections (the timer may be late)."""
        return (
            self.state == IDLE
            and self._transport is not None
            and not self._transport.is_closing()
            and self._loop.time() - self.idle_since < self.keepalive
        )

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        if transport.get_extra_info("sslcontext") is None:
            # Zero: uvloop writes at once what the kernel takes, and `resume_writing` means that all of it is sent.
            self._transport.set_write_buffer_limits(high=0)

    def resume_writing(self) -> None:
        self._mark = self._loop.time()  # the first byte is awaited from the end of sending

    def data_received(self, data: bytes) -> None:
        into = self._into
        if into is None:
            self._store(data)
            return
        self._mark = self._loop.time()
        self._parse(data)
        if self._error is not None:
            return
        if self.size > self._limits.body_bytes:
            self._fail(self._too_large())
            return
        chunks = self.chunks
        try:
            if chunks:
                body = chunks.pop() if len(chunks) == 1 else self.take()
                self.taken = self.size
                if not into(body):
                    self._wake()
                    return
            if self.done:
                self._wake()
        except Exception as error:  # noqa: BLE001  it is raised in `pour`
            self._wake(error)

    def _store(self, data: bytes) -> None:
        """For who will ask for it."""
        if self.state != BUSY:
            self._unexpected(data)
            return
        if self.done:
            self._keep = False  # bytes after the answer: it stands, the connection does not
            return
        if not self.head:
            self._seen += len(data)
        self._parse(data)
        if self.head:  # the wait for one goes on, however it trickles
            self._mark = self._loop.time()
        if self._error is None:
            if not self.head:
                if self._seen > self._limits.header_bytes:
                    self._fail(HeaderTooLarge(f"the answer's head is larger than {self._limits.header_bytes} bytes"))
                return
            if self.size > self._limits.body_bytes:
                self._fail(self._too_large())
            elif self.size - self.taken > HIGH_WATER and not self._paused and not self.done:
                self._paused = True
                if self._transport is not None:
                    self._transport.pause_reading()
        self._wake()

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.done:
                self._keep = False
            elif self._error is not None:  # set by the callback that stopped the parser
                self._fail(self._error)
            else:
                self._fail(ProtocolViolation(f"the answer is not valid HTTP/1.1: {error}"))

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._limits.body_bytes} bytes")

    def _unexpected(self, data: bytes) -> None:
        """Bytes while nobody asked for any."""
        if self.state != LINGERING:
            self.abort()
            return
        self._parse(data)
        self.take()
        if self.done or self._error is not None or self.taken > LINGER_BYTES:
            self.give_back()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.parser = None  # breaks the cycle parser -> bound methods -> self
        if self.state == BUSY and not self.done and self._error is None:
            if self.head and exc is None and not self._framed:
                self.done = True  # the body that ends with the connection
            else:
                self._error = self._lost(exc)
        if self.state != CLOSED:
            self.abort()

    def _lost(self, exc: Exception | None) -> ConnectionLost:
        detail = f": {exc}" if exc is not None and str(exc) else ""
        if self.head or self._seen:
            where = "in the middle of the body" if self.head else "in the middle of the answer's head"
        else:
            where = "before a byte of the answer" + (", on a kept connection" if self.served > 1 else "")
        return ConnectionLost(f"the connection broke {where}{detail}")

    # -- httptools ------------------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        if self.done:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head or self.done:
            self._trailer(name, value)
        else:
            self.headers.append((name.lower(), value))

    def _trailer(self, name: bytes, value: bytes) -> None:
        self._seen += len(name) + len(value) + 4
        if not self.done and self._seen > self._limits.header_bytes:
            self._stop(HeaderTooLarge("the answer's trailers are too large"))

    def on_headers_complete(self) -> None:
        if self.done:
            return
        status = self.parser.get_status_code()
        if status < 200:
            if status == 101:
                self._stop(ProtocolViolation("the server switches protocols although nobody asked"))
            return
        limit = self._limits.header_bytes
        if self._seen > limit and sum(len(name) + len(value) + 4 for name, value in self.headers) > limit:
            self._stop(HeaderTooLarge(f"the answer's head is larger than {limit} bytes"))
        for name, value in compress(self.headers, map(_FRAMING.__contains__, map(_name_of, self.headers))):
            self._note(name, value)
        self.status = status
        self._keep = self.parser.should_keep_alive()
        self._seen = 0  # from here on it counts trailers
        self.head = True
        if self._head_only:
            self.done = True
            self._keep = False  # the parser cannot know that no body follows

    def on_body(self, body: bytes) -> None:
        if not self.done:
            self.chunks.append(body)
            self.size += len(body)

    def on_message_complete(self) -> None:
        if self.head:
            self.done = True
        else:  # an interim answer
            self.headers.clear()

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"content-encoding":
            self._codings.append(value)
        elif name == b"transfer-encoding":
            self._framed = True
            if value.strip().lower() != b"chunked":
                self._stop(ProtocolViolation(f"transfer-encoding {value[:40]!r} was not asked for"))
        elif name == b"content-length":
            self._framed = True
            if not self._head_only and value.isdigit() and int(value[:20]) > self._limits.body_bytes:
                self._stop(BodyTooLarge(f"the body announced is larger than {self._limits.body_bytes} bytes"))
        elif (kept := _KEPT.match(value)) is not None:
            # A second less than the server keeps it, so that it is we who close first.
            self.keepalive = min(self.keepalive, max(int(kept[1]) - 1.0, 0.0))

    def _stop(self, error: TransportError) -> None:
        self._error = error
        raise error

    # -- inside ---------------------------------------------------------------------------------------------------
    def _fail(self, error: TransportError) -> None:
        """Chunks that came before the failure stay readable."""
        self._error = error
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _wake(self, error: Exception | None = None) -> None:
        self._into = None  # what comes before he has woken waits for him
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if waiter.done():
                return
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def _look_at(self, when: float) -> None:
        """Makes sure that the timer fires no later than `when`; it may fire earlier."""
        if when < self._when:
            if self._timer is not None:
                self._timer.cancel()
            self._when = when
            self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._when = math.inf
        now = self._loop.time()
        if self.state == BUSY:
            self._watch(now)
        elif self.state == LINGERING or self.state == IDLE:
            until = self.linger_until if self.state == LINGERING else self.idle_since + self.keepalive
            if now >= until:
                self.abort()
            else:
                self._look_at(until)

    def _watch(self, now: float) -> None:
        """What has run out: the caller's time, the wait for the head, or the patience with a silent body."""
        if self.done or self._error is not None:
            return  # whatever comes next sets the timer
        limits = self._limits
        if not self.head:
            unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
            if unsent != self._unsent:  # the server reads: its time runs from the end of sending
                self._unsent, self._mark = unsent, now
            due, error = self._mark + limits.first_byte, FirstByteTimeout
        elif self._paused or self.chunks:
            due, error = now + limits.idle, IdleTimeout  # the silence is ours
        else:
            due, error = self._mark + limits.idle, IdleTimeout
        if now >= self._deadline:
            due, error = self._deadline, TotalTimeout
        if now < due:
            self._look_at(min(due, self._deadline))
        elif now - due > LATE and self._doubted != due:
            # The loop was blocked: what has arrived meanwhile may still have to be read.
            self._doubted = due
            self._look_at(now + SECOND_LOOK)
        elif error is TotalTimeout:
            self._fail(TotalTimeout("the deadline passed before the answer was complete"))
        else:
            limit = limits.idle if self.head else limits.first_byte
            self._fail(error(f"nothing came within {limit:g} s"))
