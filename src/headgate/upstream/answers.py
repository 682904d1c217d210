"""What a provider streams, as an `Answer`: still its own bytes where the door speaks its dialect.

The rules of raw passthrough (tried on recorded streams, see docs/decisions/0002): whole frames only; a byte scan selects
frames, a selected frame is decoded before anything is concluded; the tail, from the frame with the final usage on, is
held until the attempt's books are closed; the end of a stream without a finish is a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from headgate.core.answer import JSON, Piece, Push, read_events
from headgate.core.clock import Clock
from headgate.core.dialect import EventParser, Facts
from headgate.core.errors import UpstreamFault, fault
from headgate.core.events import (
    CONTENT,
    ChatAnswer,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Used,
    says_something,
)
from headgate.core.usage import Usage, widest
from headgate.dialects.sse import closed, data_of
from headgate.net.transport.protocol import TransportError
from headgate.upstream.call import Call
from headgate.upstream.faults import of_transport
from headgate.upstream.several import Several
from headgate.upstream.silence import Silence

TAIL_GRACE = 2.0
"""Seconds to wait for usage or the end mark once the finish has been seen."""
KEEP_BYTES = 8 * 1024 * 1024
"""How much of a raw stream is kept for a rescue; a longer one can only end with an error."""
BYTES_PER_TOKEN = 4
Misfit = Callable[[list[Event]], str | None]
"""What is wrong with all that a stream has said; asked before it may end as finished."""


class StreamAnswer:
    """A stream that has shown its first content. Raw until somebody pulls events; settled before its tail is given."""

    media = JSON

    def __init__(self, call: Call, *, keep: bool, clock: Clock, misfit: Misfit | None = None) -> None:
        self.model = call.model.name
        self.provider = call.deployment.provider
        self.deployment = call.deployment.name
        self.settled = False
        self._call = call
        self._dialect = call.endpoint.dialect
        self._quirks = call.endpoint.quirks
        self._inspect = self._dialect.inspect_frame
        self._splitter = self._dialect.splitter()
        self._waiting: list[bytes] = []
        self._tail: list[bytes] = []
        """Frames from the one on that may not go out before the books are closed; only the first has been looked at."""
        self._keeping = keep or misfit is not None
        self._misfit = misfit
        self._reason: str | None = None
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._opener = self._dialect.event_parser(self._quirks)
        self._parser: EventParser | None = None
        self._held_events: list[Event] = []
        self._events_said: list[Event] = []
        self._usage: Usage | None = None
        self._counted = False
        """Usage was told at the end or after it: some tell before what they have counted so far."""
        self._finished = self._terminal = False
        wanted = call.request.peek.n
        self._several = Several(wanted, self._dialect.event_parser(self._quirks)) if wanted > 1 else None
        self._frames = 0
        self._characters = 0
        self._id: str | None = None
        self._ended = False
        self._broken: UpstreamFault | None = None
        self._strip_usage = not call.request.peek.include_usage and call.request.dialect.name == self._dialect.name
        self._silence = Silence(call.deployment.timeouts.idle, clock)

    # -- opening -------------------------------------------------------------------------------------------------
    async def open(self) -> None:
        """Reads up to the first content. Raises the fault that came instead."""
        while True:
            frames = await self._more()
            if frames is None:
                if self._finished:
                    return  # an empty answer, but a finished one (a content filter, say)
                raise fault("stream_broken", "the provider's stream ended before it said anything")
            content = False
            for frame in frames:
                facts = self._inspect(frame, self._quirks) or (None if content else self._first_content(frame))
                self._waiting.append(frame)
                if facts is not None:
                    self._learn(facts)
                    content = content or facts.content or facts.finish is not None
            if content:
                self._call.spoke()
                self._silence.begin()
                return

    def _first_content(self, frame: bytes) -> Facts | None:
        """Up to the first content each frame is decoded: only that tells a delta from an empty role chunk."""
        facts = None
        for event in self._opener.feed(frame):
            if isinstance(event, CONTENT) and says_something(event):
                facts = Facts(content=True)
            elif isinstance(event, Started):
                self._id = event.id or self._id
        return facts

    # -- pulling -------------------------------------------------------------------------------------------------
    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None:
        if self._broken is not None:
            raise self._broken
        if self._ended:
            return None
        raw = dialect == self._dialect.name
        try:
            if push is not None and not self._waiting and not await self._pour(push, raw=raw):
                return b"" if raw else []
            return await (self._pull_raw() if raw else self._pull_events())
        except UpstreamFault as error:
            await self._break(error)
            raise

    async def _pour(self, push: Push, *, raw: bool) -> bool:
        """The middle of the stream, to `push` in the transport's own callback. True: what is next has to be pulled; False:
        `push` takes no more for now."""
        response, silence = self._call.response, self._silence
        assert response is not None
        split, hear, say = self._splitter.feed, silence.hear, self._pass_raw if raw else self._hear
        taken = True

        def into(data: bytes) -> bool:
            nonlocal taken
            frames = split(data)
            if not frames and data.strip():
                silence.hear_part()
                return True
            hear(frames)
            piece = say(frames)
            if piece and not push(piece):
                taken = False
            return taken and not self._finished and not self._tail

        if self._finished or self._terminal or self._tail:
            return True
        silence.ask()
        try:
            await response.pour(into)
        except TransportError as error:
            raise of_transport(error, opened=True) from error
        return taken

    async def _pull_raw(self) -> bytes | None:
        """Frames up to the tail; then, settled, the tail."""
        ready = b""
        while not self._tail:
            frames = self._waiting or (await self._more_of_tail() if self._finished else await self._more())
            self._waiting = []
            if frames is None:
                return None if self._ended else await self._close_raw()
            ready = self._pass_raw(frames)
            if ready and not self._tail:
                return ready
        return ready + await self._close_raw()

    def _pass_raw(self, frames: list[bytes]) -> bytes:
        """Those that may go out at once; the others are `_tail`."""
        before = self._frames
        for frame in frames:
            facts = self._inspect(frame, self._quirks)
            if self._several is not None:
                self._several.feed(frame)
            if facts is not None:
                self._learn(facts)
                holds = facts.usage is not None or self._misfit is not None
                if facts.terminal or (holds and (facts.usage_only or (facts.finish and self._all_over()))):
                    passed = self._frames - before
                    self._tail, frames = frames[passed:], frames[:passed]
                    break
            self._frames += 1  # at once: a later one of them may be an error, and what was said is charged
        if self._keeping:
            self._keep(frames)
        return b"".join(frames)

    async def _close_raw(self) -> bytes:
        tail, self._tail = self._tail, []
        out = self._told(tail, seen=1)
        while (frames := await self._more_of_tail()) is not None:
            out += self._told(frames)
        if self._several is not None:
            self._several.close()
        if self._keeping:
            self._keep(out)
        await self._settle()
        self._check([])
        return b"".join(out)

    def _told(self, frames: list[bytes], seen: int = 0) -> list[bytes]:
        """What the client is told of the tail. The first `seen` frames have been looked at."""
        out: list[bytes] = []
        for number, frame in enumerate(frames):
            facts = self._inspect(frame, self._quirks)
            if self._several is not None and number >= seen:
                self._several.feed(frame)
            if facts is not None:
                self._learn(facts)
                if facts.usage_only and self._strip_usage:
                    continue
            out.append(frame)
        return out

    async def _pull_events(self) -> list[Event] | None:
        while True:
            frames = self._waiting or (await self._more_of_tail() if self._finished else await self._more())
            self._waiting = []
            if frames is None:
                return None if self._ended else await self._close_events()
            if ready := self._hear(frames):
                return ready

    def _hear(self, frames: list[bytes]) -> list[Event]:
        """What they say that may be told at once."""
        if self._parser is None:
            self._parser = self._dialect.event_parser(self._quirks)
        ready: list[Event] = []
        for frame in frames:
            self._frames += 1
            for event in self._parser.feed(frame):
                self._learn_event(event, ready)
            if self._several is not None:  # nothing else may tell that there are fewer than were asked for
                facts = self._inspect(frame, self._quirks)
                self._terminal = self._terminal or (facts is not None and facts.terminal)
        if self._keeping:
            self._events_said += ready
        return ready

    async def _close_events(self) -> list[Event]:
        last: list[Event] = []
        for event in self._parser.close() if self._parser is not None else ():
            self._learn_event(event, last)
        await self._settle()
        if not any(isinstance(e, Used) for e in self._held_events) and self._usage is not None:
            self._held_events.append(Used(self._usage))
        self._check(last)
        return last + self._held_events

    def said(self) -> list[Event]:
        """What has been pulled so far, as events: what a rescue continues from."""
        if not self._kept:
            return list(self._events_said)
        parser = self._dialect.event_parser(self._quirks)
        return [event for frame in self._kept for event in parser.feed(frame) if not isinstance(event, Finished | Used)]

    async def body(self, dialect: str) -> bytes | None:
        return None

    async def read(self) -> ChatAnswer:
        return await read_events(self)

    async def aclose(self) -> None:
        if self._ended or self._broken is not None:
            return
        self._ended = True
        await self._call.close_connection()
        if self._call.request.peek.background and self._id and not self._finished:
            self._call.goes_on(self._id)  # whoever began it may ask for it later
            return
        if self._finished and self._parser is not None:  # its last events, usage among them, have not been pulled yet
            with contextlib.suppress(UpstreamFault):  # who has left is told of no fault
                for event in self._parser.close():
                    self._learn_event(event, [])
        usage = self._final_usage() if self._all_over() else None  # what others still said has not been counted
        self._call.end("cancelled" if usage is None else "ok", usage=usage, partial=self._partial())

    # -- inside --------------------------------------------------------------------------------------------------
    async def _more(self) -> list[bytes] | None:
        """Whole frames as they come; None at the end of the stream. Raises the fault that a broken transport is."""
        response = self._call.response
        assert response is not None
        while True:
            self._silence.ask()
            try:
                data = await response.next()
            except TransportError as error:
                raise of_transport(error, opened=True) from error
            if not data:
                return self._rest(self._splitter.close())
            frames = self._splitter.feed(data)
            if not frames and data.strip():
                self._silence.hear_part()
                continue
            self._silence.hear(frames)
            if frames:
                return frames

    def _rest(self, rest: bytes) -> list[bytes] | None:
        """What is left at the end: a last frame without its blank line, or all of an answer that is no stream at all."""
        if not rest.strip():
            return None
        is_frame = data_of(rest) is not None
        if not is_frame and rest.lstrip().startswith((b":", b"event:", b"id:", b"retry:")):
            return None
        facts = self._inspect(rest, self._quirks)
        if is_frame:  # after an end mark nothing follows, and it stays as it came
            return [rest if facts is not None and facts.terminal else closed(rest)]
        if facts is not None and facts.error is not None:
            raise facts.error
        raise fault("invalid_answer", "the provider answered with something else than the stream it was asked for")

    async def _more_of_tail(self) -> list[bytes] | None:
        """After the finish only a short grace is left for usage and the end mark: what was said is complete."""
        if self._terminal:
            return None
        if not self._all_over():
            return await self._more()
        try:
            async with asyncio.timeout(TAIL_GRACE):
                return await self._more()
        except (TimeoutError, UpstreamFault):
            if self._finished:
                self._terminal = True
                return None
            raise

    def _all_over(self) -> bool:
        """Once the finish has been seen: no other answer of the stream goes on."""
        return self._several is None or self._several.are_over

    def _learn(self, facts: Facts) -> None:
        if facts.error is not None:
            raise facts.error
        if facts.usage is not None:
            before = self._usage if facts.in_parts else None
            self._usage = facts.usage if before is None else widest(before, facts.usage)
        # Some servers never say why they ended; final usage and the protocol's own end mark say that they did.
        counted_and_closed = facts.terminal and self._usage is not None and not self._finished
        self._finished = self._finished or facts.finish is not None or counted_and_closed
        self._reason = facts.finish or self._reason
        self._counted = (
            self._counted or counted_and_closed or (facts.usage is not None and (self._finished or facts.usage_only))
        )
        self._terminal = self._terminal or facts.terminal
        self._id = facts.id or self._id

    def _learn_event(self, event: Event, ready: list[Event]) -> None:
        if isinstance(event, Failed):
            raise event.error
        if self._several is not None:
            self._several.heard(event)
        if isinstance(event, Used):
            self._usage, self._counted = event.usage, not event.usage.estimated
            if self._counted:
                self._held_events.append(event)
        elif isinstance(event, Finished):
            self._finished, self._reason = True, event.reason
            self._held_events.append(event)
        else:
            if isinstance(event, TextDelta | ReasoningDelta):
                self._characters += len(event.text)
            elif isinstance(event, ToolCallDelta):
                self._characters += len(event.arguments)
            ready.append(event)

    def _keep(self, frames: list[bytes]) -> None:
        self._kept += frames
        self._kept_bytes += sum(map(len, frames))
        if self._kept_bytes > KEEP_BYTES:
            self._keeping = False
            self._kept = []

    def _partial(self) -> Usage:
        """Our estimate where the provider gave no final usage: the input that it told of, else its bound, and a token per
        frame or four characters."""
        said = self._characters // BYTES_PER_TOKEN if self._characters else self._frames
        told = self._usage if self._usage is not None else Usage()
        if not told.input:
            told = Usage(input=self._call.request.peek.input_bound, output=told.output)
        return msgspec.structs.replace(told, output=max(told.output, said), estimated=True)

    def _final_usage(self) -> Usage | None:
        return self._usage if self._finished and self._counted else None

    def _check(self, last: list[Event]) -> None:
        """Raises the fault of an answer that is complete and not what was asked for. One that tells of another end itself
        (cut at the client's maximum, refused) is given; one that is too long to be kept, too."""
        if self._misfit is None or not self._keeping or (self._several is None and self._reason not in (None, "stop")):
            return
        said = self.said() + last
        if (problem := self._misfit(said if self._several is None else self._several.complete(said))) is not None:
            raise fault("invalid_output", f"{self.model}'s answer does not fit the requested schema: {problem}")

    async def _settle(self) -> None:
        """The end: finished or broken, the books are closed before the tail is given."""
        if not self._finished:
            raise fault("stream_broken", "the provider's stream ended without a finish")
        if self._several is not None and self._several.were_cut:
            raise fault("stream_broken", "the provider's stream ended while one of its answers still spoke")
        self._ended = True
        if self._call.response is not None:
            self._call.response.release()  # HTTP's own end may come a packet later: the connection is worth keeping
        partial = self._partial()
        self._call.end("ok", usage=self._final_usage(), partial=partial, upstream_id=self._id, status=200)
        if not self._counted:
            self._usage = partial
        self.settled = True

    async def _break(self, error: UpstreamFault) -> None:
        self._broken = error
        await self._call.close_connection()
        if self._call.request.peek.background and self._id and not self._finished:
            self._call.goes_on(self._id, error)  # also where it failed: its end, with what it used, is asked for
            return
        self._call.end("failed", fault=error, partial=self._partial(), upstream_id=self._id)
