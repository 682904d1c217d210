"""One client's connection on our own front end: parsing, limits, the order of answers, the client's leaving.

Requests that come before the answer to the last one (pipelining) wait, and no more is read until they have been taken.
What cannot be parsed is answered like a request, in its turn, and is the connection's last.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import httptools

from headgate.core.errors import HeadersTooLarge, HeadgateError, InvalidRequest, Overloaded, RequestTimeout
from headgate.server.frontends import wire
from headgate.server.frontends.checks import (
    Head,
    body_seconds,
    decode_path,
    is_too_large,
    read_head,
    split_target,
    too_large,
)
from headgate.server.frontends.h1_responder import H1Responder
from headgate.server.http import Request

if TYPE_CHECKING:
    from headgate.server.frontends.h1 import H1FrontEnd

PIPELINE = 32
"""Requests that may wait; who sends more at once is not a client of ours."""
LINGER = 2.0
"""Seconds during which the rest of a refused request is thrown away, so that the client gets to read the refusal."""

Waiting = tuple[Request | HeadgateError, H1Responder]


class Connection(asyncio.Protocol):
    __slots__ = (
        "_body", "_body_since", "_client", "_deaf", "_front", "_gone", "_head", "_head_open", "_head_since",
        "_headers", "_idle_since", "_linger_until", "_loop", "_message_open", "_method", "_owes_continue", "_parser",
        "_path", "_progress", "_query", "_queue", "_reading", "_refusal", "_seen", "_served", "_size", "_task",
        "_timer", "_transport", "_unsent", "_url", "_version", "_waiter", "_when", "closing", "paused",
    )  # fmt: skip

    def __init__(self, front: H1FrontEnd, loop: asyncio.AbstractEventLoop) -> None:
        self._front = front
        self._loop = loop
        self._parser: Any = httptools.HttpRequestParser(self)
        self._queue: deque[Waiting] = deque()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._when = math.inf
        self._waiter: asyncio.Future[None] | None = None
        self._message_open = False
        self._head_open = False
        self._deaf = False
        self._gone = False
        self._reading = True
        self._owes_continue = False
        self._refusal: HeadgateError | None = None
        self._served = 0
        self._linger_until = 0.0
        self._url = b""
        self._method = ""
        self._version = "1.1"
        self.paused = False
        self.closing = front.draining
        """The answer that is being given is the last."""

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if isinstance(peer, tuple) else ""
        self._front.opened(self)
        self._idle_since = self._loop.time()
        self._look_at(self._idle_since + self._front.limits.head_time)
        cap = self._front.limits.connections
        if cap and len(self._front.connections) > cap:
            self._refuse(Overloaded("there are too many connections", retry_after=1.0))

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._parser = None  # breaks the cycle parser -> bound methods -> self
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()  # what the client's request started ends with the client
        self.resume_writing()
        self._front.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        was_open = self._head_open
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)  # the offer is declined; see on_headers_complete
            self._deaf = True
        except httptools.HttpParserError:
            error, self._refusal = self._refusal, None
            self._refuse(error or InvalidRequest("the request is not valid HTTP/1.1"))
            return
        if self._head_open:
            if was_open:
                self._seen += len(data)
            limits = self._front.limits
            if self._seen > limits.header_bytes or is_too_large(self._headers, limits):
                self._refuse(HeadersTooLarge("the request's headers are too large"))
                return
            self._look_at(self._head_since + limits.head_time)
        elif self._message_open:
            self._look_at(self._body_due())

    def eof_received(self) -> None:
        """A half-close counts as leaving: returning None closes the connection."""

    def pause_writing(self) -> None:
        self.paused = True
        self._mind_writing()

    def resume_writing(self) -> None:
        self.paused = False
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._task is None and not self._gone and not self._transport.is_closing() and not self._linger_until:
            self._go_on()

    # -- httptools ------------------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._seen = self._size = 0
        self._head_open = self._message_open = True
        self._head_since = self._loop.time()
        self._method, self._version = "", "1.1"

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self._front.limits.header_bytes:
            self._stop(HeadersTooLarge("the request's target is too long"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_open:
            self._headers.append((name, value))
            return
        self._seen += len(name) + len(value)
        if self._seen > self._front.limits.header_bytes:
            self._stop(HeadersTooLarge("the request's trailers are too large"))

    def on_headers_complete(self) -> None:
        self._head_open = False
        self._seen = 0  # from here on it counts trailers
        parser = self._parser
        self._method = parser.get_method().decode("ascii")
        self._version = parser.get_http_version()
        try:
            self._head: Head = read_head(self._headers, self._front.limits, self._version)
            path, self._query = split_target(self._url)
            self._path = decode_path(path)
        except HeadgateError as error:
            self._stop(error)
        if parser.should_upgrade() and (self._head.length != 0 or self._method == "CONNECT"):
            self._stop(InvalidRequest("no other protocol is offered here"))
        self._body: list[bytes] = []
        self._size = 0
        self._body_since = self._loop.time()
        if self._head.expects and self._head.length != 0:
            if self._task is None and not self._queue:
                self._transport.write(wire.CONTINUE)
            else:
                self._owes_continue = True

    def _body_due(self) -> float:
        return self._body_since + body_seconds(self._front.limits, self._head.length)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._front.limits.body:
            self._stop(too_large(self._front.limits))
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._message_open = False
        self._owes_continue = False
        self._size = 0
        body = self._body
        request = Request(
            method=self._method,
            path=self._path,
            query=self._query,
            headers=self._head.first,
            pairs=self._head.pairs,
            body=body[0] if len(body) == 1 else b"".join(body),
            client=self._client,
        )
        parser = self._parser
        keep = parser.should_keep_alive() and not parser.should_upgrade()
        self._take(request, H1Responder(self, self._method, self._version, keep))

    def _stop(self, error: HeadgateError) -> None:
        """Out of the parser's callback: `data_received` goes on with `_refusal`."""
        self._refusal = error
        raise error

    # -- the order of answers -------------------------------------------------------------------------------------
    def _take(self, item: Request | HeadgateError, responder: H1Responder) -> None:
        if self._task is None and not self._queue and not self.paused:
            self._run(item, responder)
            return
        self._queue.append((item, responder))
        if len(self._queue) > PIPELINE:
            self._deaf = True
            self._transport.abort()
        elif self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _refuse(self, error: HeadgateError) -> None:
        """The last thing that is said here."""
        if self._deaf:
            return
        self._deaf = True
        self._head_open = self._message_open = False
        self._take(error, H1Responder(self, self._method, self._version, keep=False))

    def _run(self, item: Request | HeadgateError, responder: H1Responder) -> None:
        self._task = self._loop.create_task(self._answer(item, responder))

    async def _answer(self, item: Request | HeadgateError, responder: H1Responder) -> None:
        try:
            if isinstance(item, HeadgateError):
                await self._front.refuse(item, self._url.partition(b"?")[0].decode("latin-1"), responder)
            else:
                await self._front.handler(item, responder)
        except asyncio.CancelledError:
            if not self._gone:
                self._transport.abort()
                raise
        except Exception as error:  # noqa: BLE001  the edge of the house: half an answer must not look whole
            self._loop.call_exception_handler({"message": "a handler failed", "exception": error})
        finally:
            self._task = None
            self._next(responder)

    def _next(self, responder: H1Responder) -> None:
        """An answer is out."""
        self._served += 1
        if self._gone:
            return
        if not responder.finished:
            self._transport.abort()
        elif not responder.keep or (self.closing and not self._queue):
            self._close()
        elif not self.paused:  # else nobody's turn comes before the client has taken its answer
            self._go_on()

    def _go_on(self) -> None:
        if self._queue:
            item, following = self._queue.popleft()
            self._run(item, following)
        else:
            self._idle()

    def _idle(self) -> None:
        self._idle_since = now = self._loop.time()
        limits = self._front.limits
        if not self._message_open:
            self._look_at(now + limits.keepalive)
        else:  # a request that had to wait for its turn: its time runs from now
            self._head_since = now
            if not self._head_open:
                self._body_since = now
            self._look_at(now + min(limits.head_time, limits.body_time))
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        if self._owes_continue:
            self._owes_continue = False
            self._transport.write(wire.CONTINUE)

    def _close(self) -> None:
        """After the last answer. While a request that was refused is still arriving, it is thrown away for a moment:
        closing with unread bytes would reset the connection under the refusal."""
        self._queue.clear()
        if not self._deaf or not self._transport.can_write_eof():
            self._shut()
            return
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        self._linger_until = self._loop.time() + LINGER
        self._transport.write_eof()
        self._look_at(self._linger_until)

    def _shut(self) -> None:
        """Closes once the client has taken what waits for it."""
        self._transport.close()
        self._mind_writing()

    # -- for responders -------------------------------------------------------------------------------------------
    @property
    def gone(self) -> bool:
        return self._gone

    def write(self, data: bytes) -> None:
        if not self._gone:
            self._transport.write(data)

    async def drained(self) -> None:
        """Until the client has taken enough. Several may wait: an answer, and the heartbeat that its pause calls for."""
        if self.paused and not self._gone:
            if self._waiter is None:
                self._waiter = self._loop.create_future()
            await asyncio.shield(self._waiter)  # one that is cancelled does not end the others' wait

    # -- for the front end ----------------------------------------------------------------------------------------
    def drain(self) -> None:
        self.closing = True
        if self._task is None and not self._queue and not self._linger_until:
            self._shut()

    def cut(self) -> asyncio.Task[None] | None:
        self._transport.abort()
        return self._task

    # -- time -----------------------------------------------------------------------------------------------------
    def _look_at(self, when: float) -> None:
        """Makes sure that the timer fires no later than `when`; it may fire earlier."""
        if when < self._when and not self._gone:
            if self._timer is not None:
                self._timer.cancel()
            self._when = when
            self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._when = math.inf
        if self._gone:
            return
        now = self._loop.time()
        if self._linger_until:
            self._end_by(self._linger_until, now)
        elif self.paused or self._transport.is_closing():
            self._watch_writing(now)
        elif self._message_open and self._task is not None:
            self._look_at(now + self._front.limits.head_time)  # it is not its turn yet
        elif self._head_open:
            self._refuse_by(self._head_since + self._front.limits.head_time, now, "headers")
        elif self._message_open:
            self._refuse_by(self._body_due(), now, "body")
        elif self._task is None:
            limits = self._front.limits
            self._end_by(self._idle_since + (limits.keepalive if self._served else limits.head_time), now)

    def _mind_writing(self) -> None:
        self._progress = self._loop.time()
        self._unsent = self._transport.get_write_buffer_size()
        self._look_at(self._progress + self._front.limits.write_time)

    def _watch_writing(self, now: float) -> None:
        """A client that takes nothing of what waits for it is gone in all but name."""
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._progress = now
        self._unsent = unsent
        due = self._progress + self._front.limits.write_time
        if now >= due:
            self._transport.abort()
        else:
            self._look_at(due)

    def _end_by(self, due: float, now: float) -> None:
        if now < due:
            self._look_at(due)
        elif self._linger_until:
            self._transport.abort()
        else:
            self._shut()

    def _refuse_by(self, due: float, now: float, what: str) -> None:
        if now < due:
            self._look_at(due)
        else:
            self._refuse(RequestTimeout(f"the request's {what} did not arrive in time"))
