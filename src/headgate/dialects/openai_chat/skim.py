"""What raw passthrough must know of frames and answers, by typed skims of their bytes."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from headgate.core.dialect import Facts, Quirks
from headgate.core.errors import UpstreamFault
from headgate.core.events import CONTENT, ReasoningDelta, TextDelta
from headgate.dialects.jsonio import decode_chunk
from headgate.dialects.openai_chat.answer import parse_answer
from headgate.dialects.openai_chat.finish import BROKEN, finish_of
from headgate.dialects.openai_chat.stream import DONE, EventParser, failure_of, payload_of
from headgate.dialects.openai_chat.usage import parse_usage
from headgate.dialects.openai_error import error_of


class _Function(msgspec.Struct):
    name: str | None = None


class _Message(msgspec.Struct):
    tool_calls: list[msgspec.Raw] | None = None
    function_call: _Function | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: _Message | None = None
    delta: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None


class _Skim(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    x_groq: Any = None


_skim = msgspec.json.Decoder(_Skim)


def inspect_answer(body: bytes, quirks: Quirks) -> Facts:
    """Usage, finish and ids without decoding the words; what the skim does not settle, the parser does."""
    try:
        skim = _skim.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        skim = _Skim()
    choices = skim.choices
    if skim.error or not choices or any(c.error or c.finish_reason in BROKEN for c in choices):
        return _inspect_slowly(body, quirks)
    first = choices[0]
    said = first.message or _Message()
    legacy = said.function_call is not None and bool(said.function_call.name)
    return Facts(
        content=True,
        usage=parse_usage(skim.usage, quirks),
        finish=finish_of(first.finish_reason, calls=bool(said.tool_calls) or legacy, refused=bool(said.refusal)),
        terminal=True,
        id=skim.id,
        model=skim.model,
    )


def _inspect_slowly(body: bytes, quirks: Quirks) -> Facts:
    try:
        answer = parse_answer(body, quirks)
    except UpstreamFault as error:
        return Facts(error=error)
    return Facts(
        content=True,
        usage=answer.usage,
        finish=answer.choices[0].finish,
        terminal=True,
        id=answer.id or None,
        model=answer.model or None,
    )


def inspect_frame(frame: bytes, quirks: Quirks) -> Facts | None:
    """What selects: usage that holds an object, a finish that is not null, an error, the end mark. Raises the
    invalid_answer fault where a frame is no JSON."""
    if frame.startswith(_WHOLE):
        try:
            _plain.decode(frame[5:])
            return None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # something is due, or it is no such chunk
    if not _selected(frame):
        return None
    data = payload_of(frame)
    if data is None:
        return None
    if data.startswith(DONE):
        return Facts(terminal=True)
    try:
        raw = _skim.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _inspect_loosely(data, frame, quirks)
    if raw.error:
        return Facts(error=error_of(raw.error, None, {}))
    if frame.startswith(b"event:") or not (raw.choices or raw.usage):
        return _inspect_loosely(data, frame, quirks)
    native = None
    for choice in raw.choices or ():
        if choice.error or choice.finish_reason in BROKEN:
            return _inspect_loosely(data, frame, quirks)
        native = native or choice.finish_reason
    groq = raw.x_groq.get("usage") if isinstance(raw.x_groq, dict) else None
    return _facts(frame, raw.usage or groq, native, bool(raw.choices), raw.id, raw.model, quirks)


def _inspect_loosely(data: bytes, frame: bytes, quirks: Quirks) -> Facts | None:
    """A frame that the skim's types do not fit, or one with an error in a choice."""
    raw = decode_chunk(data)
    if (error := failure_of(frame, raw)) is not None:
        return Facts(error=error)
    choices = raw.get("choices") or []
    native = next((c["finish_reason"] for c in choices if isinstance(c.get("finish_reason"), str)), None)
    groq = raw["x_groq"].get("usage") if isinstance(raw.get("x_groq"), dict) else None
    ids = [raw[key] if isinstance(raw.get(key), str) else None for key in ("id", "model")]
    return _facts(frame, raw.get("usage") or groq, native, bool(choices), ids[0], ids[1], quirks)


def _facts(
    frame: bytes, wire: Any, native: str | None, choices: bool, id: str | None, model: str | None, quirks: Quirks
) -> Facts | None:
    usage = parse_usage(wire, quirks)
    if usage is None and not native:
        return None
    calls = b'"tool_calls":' in frame and b'"tool_calls":null' not in frame
    return Facts(
        content=choices and _has_content(frame, quirks),
        usage=usage,
        finish=finish_of(native, calls=calls, refused=False) if native else None,
        usage_only=usage is not None and not choices,
        id=id,
        model=model,
    )


def _has_content(frame: bytes, quirks: Quirks) -> bool:
    for event in EventParser(quirks).feed(frame):
        if isinstance(event, TextDelta | ReasoningDelta):
            if event.text:
                return True
        elif isinstance(event, CONTENT):
            return True
    return False


class _PlainPlace(msgspec.Struct):
    finish_reason: None = None
    error: None = None


class _Plain(msgspec.Struct):
    """A chunk in which nothing is due: its decoder refuses every other one."""

    choices: Annotated[list[_PlainPlace], msgspec.Meta(min_length=1)]
    usage: None = None
    error: None = None
    x_groq: None = None


_plain = msgspec.json.Decoder(_Plain)


class _Place(msgspec.Struct):
    finish_reason: Any = None
    error: Any = None


class _Middle(msgspec.Struct):
    choices: list[_Place] | None = None
    usage: Any = None
    error: Any = None
    x_groq: Any = None


_middle = msgspec.json.Decoder(_Middle)


def _selected(frame: bytes) -> bool:
    """Whether a frame that is not plain has to be looked at. A typed decode costs half of what a search for marks does, and
    finds what is no JSON."""
    if not frame.startswith(_WHOLE):
        return not frame.startswith(b":")  # the end mark, a named event, or something broken
    try:
        seen = _middle.decode(frame[5:])
    except msgspec.ValidationError:  # JSON, of types that nobody expects
        return _MARKS.search(frame) is not None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    if seen.usage.__class__ is dict or seen.error or seen.x_groq or not seen.choices:
        return True
    for place in seen.choices:  # noqa: SIM110  `any` costs as much again as the decoding
        if place.finish_reason.__class__ is str or place.error:
            return True
    return False


_WHOLE = (b'data: {"', b'data:{"')
# Usage that holds an object, a finish that is a word, an error that is not null. In text the quotes are escaped.
_MARKS = re.compile(rb'"(?:finish_reason"\s*:\s*"|usage"\s*:\s*\{|error"\s*:\s*[^n\s])')
