"""`POST /v1/completions`, the format before chat: a prompt in, its continuation out, streamed or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.dialect import Facts, Peek, Quirks, Wanted
from headgate.core.errors import InvalidRequest, UpstreamFault, fault
from headgate.core.events import Event, Failed, Finished, Started, TextDelta, Used
from headgate.dialects import openai_error as _error
from headgate.dialects import sse
from headgate.dialects.jsonio import decode_chunk, decode_upstream, encode, invalid
from headgate.dialects.opaque import MOST_N, Opaque, usage_of

_ASK = b'"stream_options":{"include_usage":true},'
_FINISH = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


class OpenAiCompletions(Opaque):
    name = "openai_completions"
    noun = "plain completions"
    paths = {"completions": "/completions"}
    streams = True

    def _measure(self, peek: Peek, said: msgspec.Raw | None, content: memoryview) -> None:
        """Each prompt has answers of its own, and those that `best_of` leaves out are paid for as well."""
        try:
            raw = _asked.decode(content)
        except msgspec.ValidationError as error:
            raise invalid(error) from error
        if raw.best_of is not None and not 1 <= raw.best_of <= MOST_N:
            raise InvalidRequest(f"best_of must be between 1 and {MOST_N}", param="best_of")
        prompts, tokens = _prompts(raw.prompt)
        peek.n = max(peek.n, raw.best_of or 1) * max(prompts, 1)
        peek.input_bound = max(peek.input_bound, tokens)

    def splice(self, body: bytes, peek: Peek, *, model: str, quirks: Quirks) -> bytes | None:
        out = super().splice(body, peek, model=model, quirks=quirks)
        if out is not None and peek.stream and quirks.stream_usage == "ask" and b'"stream_options"' not in out:
            at = out.find(b"{") + 1
            return b"%b%b%b" % (out[:at], _ASK, out[at:])
        return out

    def inspect_answer(self, body: bytes, quirks: Quirks, wanted: Wanted = "json") -> Facts:
        raw: Any
        try:
            raw = decode_upstream(body)
        except UpstreamFault as error:
            return Facts(error=error)
        if not isinstance(raw, dict) or not (raw.get("choices") or raw.get("error")):
            return Facts(error=fault("invalid_answer", "the provider's answer holds no choices"))
        return super().inspect_answer(body, quirks, wanted)

    def attach_frame(self, frames: bytes, details: Mapping[str, Any]) -> bytes:
        """Before the end mark: a frame without choices, which OpenAI's SDK reads as one more chunk."""
        more = {"id": "", "object": "text_completion", "created": 0, "model": "", "choices": [], "headgate": details}
        extra = sse.frame(encode(more))
        at = frames.rfind(b"data: [DONE]")
        return frames + extra if at < 0 else frames[:at] + extra + frames[at:]

    def event_parser(self, quirks: Quirks) -> _Parser:
        return _Parser()

    def inspect_frame(self, frame: bytes, quirks: Quirks) -> Facts | None:
        """Frames are small here: each is decoded."""
        facts = Facts()
        data = sse.data_of(frame)
        if data is None:
            return None
        if data.strip() == b"[DONE]":
            return Facts(terminal=True)
        for event in _Parser().feed(frame):
            match event:
                case Failed():
                    return Facts(error=event.error)
                case TextDelta():
                    facts.content = facts.content or bool(event.text)
                case Finished():
                    facts.finish = event.reason
                case Used():
                    facts.usage = event.usage
                case Started():
                    facts.id, facts.model = event.id or None, event.model or None
        facts.usage_only = (
            facts.usage is not None and not facts.content and facts.finish is None and b'"text"' not in data
        )
        return facts if facts.usage or facts.finish else None


class _Asked(msgspec.Struct):
    prompt: Any = None
    best_of: int | None = None


_asked = msgspec.json.Decoder(_Asked)


def _prompts(prompt: Any) -> tuple[int, int]:
    """(how many, and how many tokens where they come as such). Text is measured by its bytes."""
    if not isinstance(prompt, list):
        return 1, 0
    if all(isinstance(one, int) for one in prompt):
        return 1, len(prompt)
    return len(prompt), sum(len(one) for one in prompt if isinstance(one, list))


class _Parser:
    """core.dialect.EventParser. Text of all choices; the finish of each."""

    def __init__(self) -> None:
        self._begun = False

    def feed(self, frame: bytes) -> list[Event]:
        data = sse.data_of(frame)
        if data is None or data.strip() == b"[DONE]":
            return []
        raw = decode_chunk(data)
        if raw.get("error"):
            return [Failed(_error.error_of(raw["error"], None, {}))]
        events: list[Event] = []
        if not self._begun:
            self._begun = True
            events.append(Started(id=_text(raw.get("id")), model=_text(raw.get("model"))))
        for choice in raw.get("choices") or ():
            index = choice.get("index") or 0
            if text := _text(choice.get("text")):
                events.append(TextDelta(text, 0, index))
            if native := choice.get("finish_reason"):
                events.append(Finished(_FINISH.get(native, "other"), str(native), choice=index))  # type: ignore[arg-type]
        if (usage := usage_of(raw)) is not None:
            events.append(Used(usage))
        return events

    def close(self) -> list[Event]:
        return []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


DIALECT = OpenAiCompletions()
