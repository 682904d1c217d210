"""An answer on its way to the client: raw frames or rendered events, kept alive by heartbeats, ended honestly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from headgate.core.answer import Answer, Piece
from headgate.core.dialect import Dialect, EventRenderer, View
from headgate.core.errors import HeadgateError, InternalError
from headgate.core.events import CitationAdded, Collector, Event, Finished, PartAdded, ReasoningDelta, TextDelta
from headgate.dialects.gemini.chunks import ARRAY_ENDS
from headgate.dialects.portable import Restorer, restored
from headgate.dialects.sse import closed
from headgate.engine.pipeline import Exchange
from headgate.server.errors import with_attempts
from headgate.server.http import JSON, Headers, Responder

SSE: Headers = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
)
OPEN_AFTER = 10.0
"""Seconds without content after which a stream is opened all the same, so that no client gives up on it."""
BEAT = 10.0
"""Seconds of silence after which a heartbeat is sent; 15 is the longest silence that clients are promised."""
LONGEST_NEWS = 300
"""Characters: cut in the middle of one, a line would be no UTF-8, and end the streams of SDKs that decode it."""


class ArrayResponder:
    """A responder of a stream that is one JSON array: whatever is written first, a heartbeat or an error too, comes after
    the opening bracket."""

    def __init__(self, inner: Responder) -> None:
        self._inner = inner
        self._opened = False
        self.started = inner.started
        self.push = None

    @property
    def left(self) -> bool:
        return self._inner.left

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.started = True
        await self._inner.reply(status, headers, body)

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        await self._inner.start(status, headers)

    async def write(self, data: bytes) -> None:
        if not self._opened and data:
            self._opened, data = True, b"[" + data
        await self._inner.write(data)

    async def finish(self) -> None:
        await self._inner.finish()


class Heart:
    """Beats when nothing was written for BEAT seconds, and says as comments what strategies tell of their progress. One
    timer per stream, re-armed lazily."""

    def __init__(self, responder: Responder, headers: Headers, beat: bytes) -> None:
        self._responder = responder
        self._headers = headers
        self._beat = beat
        self._loop = asyncio.get_running_loop()
        self.last = self._loop.time()
        """When something was written: whoever writes says so here."""
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(OPEN_AFTER, self._due)
        self._task: asyncio.Task[None] | None = None
        self._news = b""
        self._comments = beat.startswith(b":")

    async def tell(self, text: str, facts: Mapping[str, object]) -> None:
        """Progress: with the next beat, since before one is due nothing may be sent that spends the status."""
        if self._comments:
            self._news += b": " + " ".join(text.split())[:LONGEST_NEWS].encode() + b"\n"

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])  # a beat that is being written is written whole

    def _due(self) -> None:
        silent = self._loop.time() - self.last
        limit = BEAT if self._responder.started else OPEN_AFTER
        if silent >= limit * 0.99:
            if self._task is None or self._task.done():  # else one waits for the client still, and is beat enough
                self._task = self._loop.create_task(self._send())
            silent = 0.0
        self._timer = self._loop.call_later(BEAT - silent, self._due)

    async def _send(self) -> None:
        if not self._responder.started:
            await self._responder.start(200, self._headers)
        news, self._news = self._news, b""
        await self._responder.write(news + self._beat)
        self.last = self._loop.time()


async def relay_whole(exchange: Exchange, responder: Responder, dialect: Dialect) -> None:
    """A complete answer: the provider's own bytes where the dialect is the door's."""
    answer = exchange.answer
    assert answer is not None
    body = await answer.body(dialect.name)
    if body is None:
        view, said = _view(exchange), await answer.read()
        if view.request is not None and Restorer.needed(view.request):
            said = restored(said, view.request)
        rendered = dialect.render_answer(said, view)
        exchange.trace.lose(*rendered.lossy)
        body = rendered.body
    await exchange.close()
    if exchange.request.options.details:
        body = dialect.attach(body, exchange.details())
    await responder.reply(200, [("content-type", answer.media), *exchange.headers()], body)


async def relay_stream(exchange: Exchange, responder: Responder, dialect: Dialect, heart: Heart) -> None:
    """Frames as they come; after the first one every failure is told in-band and nothing looks finished that is not."""
    answer = exchange.answer
    assert answer is not None
    writer = _Writer(exchange, responder, dialect, heart)
    form, push = None if exchange.request.array else dialect.name, None
    try:
        while (piece := await answer.pull(form, push)) is not None:
            data = writer.bytes_of(piece)
            if answer.settled and writer.raw:
                await exchange.close()
                data = writer.tail(data)
                await heart.stop()  # nothing comes after the end mark
            if data or push is not None:
                await writer.write(data)
            push = writer.push if responder.started and responder.push is not None else None
        exchange.trace.lose(*writer.losses())
        await exchange.close()
        await heart.stop()
        if not writer.raw:
            await writer.write(writer.ending())
    except HeadgateError as error:
        await exchange.close(error)
        await heart.stop()
        await writer.fail(error)
    finally:
        await heart.stop()
    await responder.finish()


class _Writer:
    """Writes one stream; raw until the answer gives events."""

    def __init__(self, exchange: Exchange, responder: Responder, dialect: Dialect, heart: Heart) -> None:
        self._exchange = exchange
        self._responder = responder
        self._push = responder.push
        self._now = asyncio.get_running_loop().time
        self._dialect = dialect
        self._heart = heart
        assert exchange.answer is not None
        self._answer: Answer = exchange.answer
        self._renderer: EventRenderer | None = None
        self._restorer: Restorer | None = None
        self._notable: list[Event] = []
        self._passed = False  # frames of the provider's own have gone out; heartbeats are none
        self.raw = True

    def bytes_of(self, piece: Piece) -> bytes:
        if isinstance(piece, bytes):
            self._passed = True
            return piece
        if self._renderer is None:
            view = _view(self._exchange)
            self._renderer = self._dialect.event_renderer(view)
            if view.request is not None and Restorer.needed(view.request):
                self._restorer = Restorer(view.request)
            before = self._answer.said() if self._passed else []
            if len(before) > len(piece):
                # Raw so far: a fresh renderer hears it all again, so that ids and numbering go on.
                self._renderer.feed(before[: -len(piece)] if piece else before)
            self.raw = False
        self._notable += [event for event in piece if _may_be_lost(event)]
        return self._renderer.feed(piece if self._restorer is None else self._restorer.feed(piece))

    def tail(self, data: bytes) -> bytes:
        if not self._exchange.request.options.details:
            return data
        return self._dialect.attach_frame(closed(data), self._exchange.details())

    def ending(self) -> bytes:
        if self._renderer is None:
            return b""
        details = self._exchange.details() if self._exchange.request.options.details else None
        return self._renderer.finish(details)

    def losses(self) -> Sequence[str]:
        """What the door's format could not say of it. Headers are gone by now: the trace and the details tell."""
        if not self._notable:
            return ()
        collector = Collector()
        if any(getattr(event, "choice", 0) for event in self._notable):
            collector.feed(Finished("stop"))  # of the first answer: no other must be taken for it
        for event in self._notable:
            collector.feed(event)
        return self._dialect.render_answer(collector.answer(), _view(self._exchange)).lossy

    async def write(self, data: bytes) -> None:
        if not self._responder.started:
            await self._responder.start(200, stream_headers(self._exchange))
        await self._responder.write(data)
        if data:
            self._heart.last = self._now()

    def push(self, piece: Piece) -> bool:
        """core.answer.Push: a piece of a stream that has been opened."""
        data = piece if isinstance(piece, bytes) else self.bytes_of(piece)
        if not data:
            return True
        self._heart.last = self._now()
        push = self._push
        assert push is not None
        return push(data)

    async def fail(self, error: HeadgateError) -> None:
        request_id = self._exchange.trace.request_id
        if self._renderer is not None:
            await self.write(self._renderer.fail(error))
        else:
            await self.write(in_band(error, self._dialect, request_id, array=self._exchange.request.array))


def _may_be_lost(event: Event) -> bool:
    match event:
        case CitationAdded() | PartAdded():
            return True
        case ReasoningDelta():
            return bool(event.signature or event.encrypted)
        case TextDelta():
            return event.logprobs is not None
        case Finished():
            return event.logprobs is not None or event.choice > 0
        case _:
            return False


def stream_headers(exchange: Exchange) -> Headers:
    if exchange.request.array:
        return [*JSON, *exchange.headers()]
    return [*SSE, *exchange.headers()]


async def fail_opened(
    error: HeadgateError, responder: Responder, dialect: Dialect, request_id: str, *, array: bool
) -> None:
    """An error after the stream was opened: in-band, since the status is spent."""
    await responder.write(in_band(error, dialect, request_id, array=array))
    await responder.finish()


def in_band(error: HeadgateError, dialect: Dialect, request_id: str, *, array: bool) -> bytes:
    """The end of an open stream that fails: a frame, or the last element of an array. With the attempts, as in the body of
    an error that comes before."""
    if array:
        return with_attempts(error, dialect.render_error(error, request_id), dialect) + ARRAY_ENDS
    frame = dialect.render_stream_error(error, request_id)
    begin, end = frame.index(b"{"), frame.rindex(b"}") + 1
    return frame[:begin] + with_attempts(error, frame[begin:end], dialect) + frame[end:]


def unexpected(error: Exception) -> HeadgateError:
    """A defect of ours, as the client may see it."""
    failed = InternalError("the gateway failed on this request", detail=repr(error))
    failed.__cause__ = error
    return failed


def _view(exchange: Exchange) -> View:
    request, trace = exchange.request, exchange.trace
    answer = exchange.answer
    return View(
        model=answer.model if answer else trace.requested,
        stream=request.stream,
        include_usage=request.peek.include_usage,
        id=trace.id,
        created=int(trace.started_at),
        request=request.content(),
        array=request.array,
    )
