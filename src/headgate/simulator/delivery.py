"""An answer's way over the wire: how fast it comes, in which pieces, and how it breaks off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec

from headgate.core.chat import FinishReason, Part, Text
from headgate.core.dialect import Dialect, View
from headgate.core.events import CONTENT, ChatAnswer, Finished, Started, Used, events_of
from headgate.simulator import natives, tokens
from headgate.simulator import script as steps
from headgate.simulator.breaks import Break
from headgate.simulator.minds import Thought
from headgate.simulator.spec import SimModel

CHUNK = 12
"""Characters of a streamed delta: about three tokens."""
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_MIDWAY = frozenset({"cut_stream", "reset_stream", "stall", "error_in_stream", "malformed_stream", "refuse"})


class Pace(msgspec.Struct):
    """Seconds to the first token and per token."""

    first: float
    each: float

    def of_tokens(self, count: int) -> float:
        return self.each * count

    @staticmethod
    def of(spec: SimModel, thought: Thought, broken: Break | None, luck: Random) -> Pace:
        first = spec.ttft * (1 + spec.jitter * (2 * luck.random() - 1))
        if thought.said is not None and thought.said.delay is not None:
            first = thought.said.delay
        each = 1 / spec.tokens_per_second if spec.tokens_per_second else 0.0
        if broken is not None and broken.mode == "slow_first_token":
            first += broken.delay
        if broken is not None and broken.mode == "slow":
            first, each = max(first, 0.05) * broken.factor, max(each, 0.002) * broken.factor
        return Pace(first, each)


class Delivery:
    """One answer, ready to go out in its format."""

    def __init__(self, dialect: Dialect, answer: ChatAnswer, view: View, headers: steps.Headers, pace: Pace) -> None:
        self._dialect = dialect
        self._answer = answer
        self._view = view
        self._headers = tuple(headers)
        self._pace = pace

    def whole(self, broken: Break | None) -> steps.Script:
        mode = broken.mode if broken else None
        body = self._dialect.render_answer(self._answer, self._view).body
        if mode == "no_usage":
            body = _uncounted(body)
        yield steps.Pause(self._pace.first + self._pace.of_tokens(tokens.of_parts(self._answer.choices[0].parts)))
        yield from sent(body, steps.JSON, broken, self._headers, self._dialect.name)

    def stream(self, broken: Break | None, caught: Callable[[Break | None], Break | None]) -> steps.Script:
        """`caught` is asked before every piece whether the stream is hit on its way."""
        renderer = self._dialect.event_renderer(self._view)
        kind = steps.JSON if self._view.array else steps.SSE
        yield steps.Pause(self._pace.first / 2)
        yield steps.Head(200, (("content-type", kind), ("cache-control", "no-cache"), *self._headers))
        if self._view.array:
            yield steps.Body(b"[")
        passed = 0
        tail: list[Any] = []
        for event in events_of(self._answer, CHUNK):
            if isinstance(event, Finished | Used):
                tail.append(event)
                continue
            broken = caught(broken)
            if _breaks_at(broken, passed):
                yield from self._break_off(broken)
                return
            if data := _told(renderer.feed([event]), broken):
                yield steps.Body(data)
            if isinstance(event, Started):
                if self._dialect.name == "anthropic_messages":
                    yield steps.Body(_PING)
                yield steps.Pause(self._pace.first / 2)
            elif isinstance(event, CONTENT):
                passed += 1
                yield steps.Pause(self._pace.of_tokens(CHUNK // 4))
        if broken is not None and broken.mode in _MIDWAY:  # the answer was shorter than `after`
            yield from self._break_off(broken)
        else:
            yield from self._end(renderer, tail, broken)

    def _end(self, renderer: Any, tail: list[Any], broken: Break | None) -> Iterator[steps.Step]:
        mode = broken.mode if broken else None
        if mode != "truncate_finish":
            if mode == "no_usage":
                tail = [event for event in tail if not isinstance(event, Used)]
            if data := _told(renderer.feed(tail) + renderer.finish(), broken):
                yield steps.Body(data)
        yield steps.End()

    def _break_off(self, broken: Break | None) -> Iterator[steps.Step]:
        mode = broken.mode if broken else ""
        match mode:
            case "error_in_stream":
                yield steps.Body(self._error())
                yield steps.End()
            case "malformed_stream":
                yield steps.Body(b'data: {"broken\n\n')
                yield steps.End()
            case _:
                yield _ending(mode)

    def _error(self) -> bytes:
        if self._view.array:  # all elements before it have ended with a comma
            return msgspec.json.encode(natives.error_body(self._dialect.name, "overloaded")[1]) + b"]"
        return natives.stream_error(self._dialect.name)


def sent(body: bytes, kind: str, broken: Break | None, headers: steps.Headers, dialect: str) -> steps.Script:
    """An answer that is no stream, as a break leaves it."""
    mode = broken.mode if broken else None
    if mode in ("cut_stream", "reset_stream", "stall"):
        yield steps.Head(200, (("content-type", kind), *headers), "length", len(body))
        yield steps.Body(body[: len(body) // 2])
        yield _ending(mode)
        return
    if mode in ("malformed_stream", "truncate_finish"):
        body = body[: len(body) // 2]  # well framed, and no JSON
    elif mode == "error_in_stream":
        body, kind = msgspec.json.encode(natives.error_body(dialect, "overloaded")[1]), steps.JSON
    yield from steps.reply(200, body, headers, kind)


def _told(data: bytes, broken: Break | None) -> bytes:
    """Frames as they go out. Some formats always have a place for usage: where none is told, it is left out."""
    if broken is None or broken.mode != "no_usage" or not any(field in data for field in (b'"usage"', b'"usageMeta')):
        return data
    return b"".join(
        line[:6] + _uncounted(line[6:]) + line[len(line.rstrip()) :] if line.startswith(b"data: {") else line
        for line in data.splitlines(keepends=True)
    )


def _uncounted(body: bytes) -> bytes:
    wire = msgspec.json.decode(body)
    for holder in (wire, wire.get("message"), wire.get("response")):
        for field in ("usage", "usageMetadata"):
            if isinstance(holder, dict):
                holder.pop(field, None)
    return msgspec.json.encode(wire)


def _breaks_at(broken: Break | None, passed: int) -> bool:
    return broken is not None and broken.mode in _MIDWAY and passed >= broken.after


def _ending(mode: str) -> steps.Step:
    if mode == "stall":
        return steps.Hang()
    return steps.Reset() if mode in ("reset_stream", "refuse") else steps.Close()


def limited(thought: Thought, limit: int, stop: list[str]) -> tuple[list[Part], FinishReason, str | None]:
    """The parts up to the first stop sequence and to `limit` tokens, with the finish and stop sequence of that."""
    parts: list[Part] = []
    left = limit - tokens.count(thought.thinking)
    for part in thought.parts:
        if not isinstance(part, Text):
            parts.append(part)
            continue
        text = part.text
        found = [(text.index(word), word) for word in stop if word and word in text]
        if found:
            at, word = min(found)
            text = text[:at]
            if tokens.count(text) <= left:
                return [*parts, Text(text=text)], "stop", word
        if tokens.count(text) > left:
            return [*parts, Text(text=text[: max(0, left) * 4])], "length", None
        left -= tokens.count(text)
        parts.append(Text(text=text))
    return parts, thought.finish, None
