"""`Idempotency-Key`: a request that is sent twice is run once, and both times answered the same.

The first one gets the name and runs; while it does, others are told 409; for another body 422. What came of it is kept for
a day: an answer of one piece as it was, errors of providers too, a stream as the final object, streamed anew. Nothing is
kept where nothing was asked of a provider, of 429s, of streams that broke off, and of what a client has left alone
(an agent's run that ends within its grace is kept)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from headgate.core.answer import JSON as JSON_TYPE
from headgate.core.clock import SYSTEM, Clock
from headgate.core.dialect import Dialect, Quirks, View
from headgate.core.errors import (
    Conflict,
    HeadgateError,
    IdempotencyMismatch,
    InvalidRequest,
    StorageUnavailable,
    UnsupportedFeature,
    http_status,
)
from headgate.core.events import Event, collect, events_of
from headgate.core.fleet import Claim
from headgate.core.ports import Answers
from headgate.server import bridge
from headgate.server.doors import CHAT_DOOR, Match
from headgate.server.errors import reply_error
from headgate.server.http import Headers, Request, Responder
from headgate.stores.memory import MemoryAnswers

HEADER = "idempotency-key"
REPLAYED = ("idempotent-replayed", "true")
LONGEST = 255
DAY = 86_400.0
RUNNING = 60.0
"""Seconds after which a name is free again whose process has died."""
RENEW_EVERY = 15.0
LARGEST = 8_000_000
"""Bytes of an answer beyond which it is not kept."""
_OF_THE_DAY = ("x-request-id", "request-id", "x-ratelimit-", "retry-after", "x-headgate-overhead")
"""Headers that say something of the first request alone."""
Event_ = Callable[[str, dict[str, object]], None]


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """whole: the body as it was sent. object: the final object of a stream. frames: a stream whose format has none."""

    form: Literal["whole", "object", "frames"]
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Repeats:
    """`answers` is what all replicas share, or one process's own. Where it is lost, this process's memory takes its place:
    repeats that reach another replica are then run again."""

    def __init__(
        self, answers: Answers, holder: str, *, clock: Clock = SYSTEM, on_event: Event_ = lambda kind, facts: None
    ) -> None:
        self._answers = answers
        self._holder = holder
        self._clock = clock
        self._on_event = on_event
        self._local = MemoryAnswers(clock)
        self._lost = False
        self._running: dict[str, Answers] = {}

    async def run(self) -> None:
        """For ever: what is running keeps its name."""
        while True:
            await self._clock.sleep(RENEW_EVERY)
            for name, answers in list(self._running.items()):
                with contextlib.suppress(StorageUnavailable):  # told where it was claimed; the name lasts a minute more
                    await answers.renew([name], holder=self._holder, seconds=RUNNING)

    async def once(
        self,
        request: Request,
        responder: Responder,
        match: Match,
        *,
        key_id: str,
        request_id: str,
        handle: Callable[[Responder], Awaitable[None]],
    ) -> None:
        """Runs `handle`, or answers what it answered before. Raises what it raises; InvalidRequest, Conflict,
        IdempotencyMismatch."""
        given = request.headers[HEADER]
        if not 0 < len(given) <= LONGEST:
            raise InvalidRequest(f"Idempotency-Key must have 1 to {LONGEST} characters", param="Idempotency-Key")
        name = _digest(key_id.encode(), given.encode())
        answers, claim = await self._claim(name, _digest(request.path.encode(), request.query.encode(), request.body))
        if claim.state == "done":
            await _replay(msgspec.msgpack.decode(claim.kept, type=Kept), responder, match, request, request_id)
            return
        if claim.state == "running":
            raise Conflict("a request with this Idempotency-Key is still running", retry_after=1.0)
        if claim.state == "other":
            raise IdempotencyMismatch(
                "this Idempotency-Key was used for another request", param="Idempotency-Key", should_retry=False
            )
        self._running[name] = answers
        try:
            await self._run(name, answers, responder, match, request_id, handle)
        finally:
            self._running.pop(name, None)
            # Where it was kept, this changes nothing.
            await asyncio.shield(self._quietly(answers.drop(name, holder=self._holder)))

    async def _run(
        self, name: str, answers: Answers, responder: Responder, match: Match, request_id: str,
        handle: Callable[[Responder], Awaitable[None]],
    ) -> None:  # fmt: skip
        async def keep(kept: Kept) -> None:
            if len(kept.body) <= LARGEST:
                data = msgspec.msgpack.encode(kept)
                await self._quietly(answers.keep(name, holder=self._holder, kept=data, seconds=DAY))

        recorder = Recorder(responder, match.door.dialect, keep)
        try:
            await handle(recorder)
        except HeadgateError as error:
            if recorder.started or not error.attempted or http_status(error) == 429:
                raise
            await reply_error(error, recorder, match.door.dialect, request_id)

    async def _claim(self, name: str, print: str) -> tuple[Answers, Claim]:
        try:
            claim = await self._answers.claim(name, print=print, holder=self._holder, seconds=RUNNING)
        except StorageUnavailable as error:
            if not self._lost:
                self._lost = True
                self._on_event("repeats_lost", {"detail": error.detail or error.message, "then": "this process alone"})
            return self._local, await self._local.claim(name, print=print, holder=self._holder, seconds=RUNNING)
        self._lost = False
        return self._answers, claim

    @staticmethod
    async def _quietly(work: Awaitable[None]) -> None:
        """An answer is worth more than its copy: where the store is lost now, the name is free again in a minute."""
        with contextlib.suppress(StorageUnavailable):
            await work


class Recorder:
    """A responder that keeps what goes through it, before the client sees the end of it."""

    def __init__(self, inner: Responder, dialect: Dialect, keep: Callable[[Kept], Awaitable[None]]) -> None:
        self._inner = inner
        self.started = inner.started
        self._dialect = dialect
        self._keep = keep
        self._head: tuple[int, Headers] = (200, ())
        self._pieces: list[bytes] = []
        self._size = 0
        self.push = None

    @property
    def left(self) -> bool:
        return self._inner.left

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        await self._keep(Kept("whole", status, _lasting(headers), body))
        self.started = True
        await self._inner.reply(status, headers, body)

    async def start(self, status: int, headers: Headers) -> None:
        self._head = (status, headers)
        self.started = True
        await self._inner.start(status, headers)

    async def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= LARGEST:
            self._pieces.append(data)
        else:
            self._pieces.clear()
        await self._inner.write(data)

    async def finish(self) -> None:
        if 0 < self._size <= LARGEST and (kept := self._final()) is not None:
            await self._keep(kept)
        await self._inner.finish()

    def _final(self) -> Kept | None:
        """The stream's final object, None where the stream did not end well."""
        status, headers = self._head
        data = b"".join(self._pieces)
        if not _is_sse(headers):
            return None if array_failed(data) else Kept("whole", status, _lasting(headers), data)
        try:
            answer = collect(_events(self._dialect, data))
        except HeadgateError:
            return None
        view = View(model=answer.model, id=answer.id, created=answer.created)
        try:
            return Kept("object", status, _lasting(headers), self._dialect.render_answer(answer, view).body)
        except UnsupportedFeature:
            return Kept("frames", status, _lasting(headers), data)


def _events(dialect: Dialect, data: bytes) -> list[Event]:
    """Raises the fault that the stream ended with."""
    splitter, parser, quirks = dialect.splitter(), dialect.event_parser(Quirks()), Quirks()
    out: list[Event] = []
    for frame in splitter.feed(data):
        facts = dialect.inspect_frame(frame, quirks)
        if facts is not None and facts.error is not None:
            raise facts.error
        out += parser.feed(frame)
    return out + parser.close()


async def _replay(kept: Kept, responder: Responder, match: Match, request: Request, request_id: str) -> None:
    headers = [*kept.headers, ("x-request-id", request_id), REPLAYED]
    if kept.form == "whole":
        await responder.reply(kept.status, headers, kept.body)
        return
    body = kept.body
    if kept.form == "object":
        dialect = match.door.dialect
        answer = dialect.parse_answer(kept.body, Quirks())
        view = View(
            model=answer.model,
            stream=True,
            include_usage=_wants_usage(request, match),
            id=answer.id,
            created=answer.created,
        )
        renderer = dialect.event_renderer(view)
        body = renderer.feed(list(events_of(answer))) + renderer.finish()
    await responder.start(kept.status, headers)
    await responder.write(body)
    await responder.finish()


def array_failed(data: bytes) -> bool:
    """Whether a stream that is one JSON array (Gemini's) ended with an error, or not at all."""
    try:
        elements = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return True
    return not isinstance(elements, list) or not elements or "error" in elements[-1]


def _wants_usage(request: Request, match: Match) -> bool:
    if match.door is CHAT_DOOR and bridge.is_responses(request.body):
        return bridge.as_responses(request.body)[1].include_usage
    return match.door.dialect.peek(request.body, model=match.model, stream=match.stream).include_usage


def _lasting(headers: Headers) -> list[tuple[str, str]]:
    found = [pair for pair in headers if not pair[0].startswith(_OF_THE_DAY)]
    return found if any(name == "content-type" for name, _ in found) else [("content-type", JSON_TYPE), *found]


def _is_sse(headers: Headers) -> bool:
    return any(name == "content-type" and "event-stream" in value for name, value in headers)


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.hexdigest()
