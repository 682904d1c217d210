"""The skim that passthrough needs: usage, finish, error and first content, without decoding what is not asked for."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.dialect import Facts, Quirks
from headgate.core.errors import UpstreamFault
from headgate.dialects import sse
from headgate.dialects.gemini.answer import parse_answer
from headgate.dialects.gemini.errors import error_of
from headgate.dialects.gemini.finish import finish_of
from headgate.dialects.gemini.usage import parse_usage
from headgate.dialects.jsonio import holds_json

_Present = msgspec.Raw | msgspec.UnsetType


class _Part(msgspec.Struct, gc=False):
    text: str | None = None
    functionCall: _Present = msgspec.UNSET  # noqa: N815  the wire's names
    inlineData: _Present = msgspec.UNSET  # noqa: N815
    fileData: _Present = msgspec.UNSET  # noqa: N815
    executableCode: _Present = msgspec.UNSET  # noqa: N815
    codeExecutionResult: _Present = msgspec.UNSET  # noqa: N815
    toolCall: _Present = msgspec.UNSET  # noqa: N815
    toolResponse: _Present = msgspec.UNSET  # noqa: N815

    @property
    def speaks(self) -> bool:
        return bool(self.text) or any(getattr(self, name) is not msgspec.UNSET for name in _KINDS)


_KINDS = [name for name in _Part.__struct_fields__ if name != "text"]


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct):
    content: _Content | None = None
    finishReason: str | int | None = None  # noqa: N815

    @property
    def parts(self) -> list[_Part]:
        return (self.content.parts if self.content else None) or []


class _Chunk(msgspec.Struct):
    candidates: list[_Candidate] | None = None
    promptFeedback: Any = None  # noqa: N815
    usageMetadata: Any = None  # noqa: N815
    responseId: str | None = None  # noqa: N815
    modelVersion: str | None = None  # noqa: N815
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


def skim(body: bytes) -> Facts:
    """Facts of one answer or chunk; what is no chunk at all is a fault in it."""
    try:
        raw = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _slowly(body)
    if raw.error:
        return Facts(error=error_of(raw.error, None, {}))
    candidates = raw.candidates or []
    parts = [part for candidate in candidates for part in candidate.parts]
    facts = Facts(
        content=any(part.speaks for part in parts),
        usage=parse_usage(raw.usageMetadata),
        id=raw.responseId,
        model=raw.modelVersion,
    )
    ended = next((c for c in candidates if c.finishReason is not None), None)
    if ended is not None:
        called = any(part.functionCall is not msgspec.UNSET for part in ended.parts)
        facts.finish = finish_of(ended.finishReason, called)
    elif not candidates and isinstance(raw.promptFeedback, dict) and raw.promptFeedback.get("blockReason"):
        facts.finish = "content_filter"
    return facts


def _slowly(body: bytes) -> Facts:
    """What the typed skim does not take: odd forms, and what is broken."""
    try:
        answer = parse_answer(body, Quirks())
    except UpstreamFault as error:
        return Facts(error=error)
    finish = next((c.finish for c in answer.choices if c.native_finish is not None), None)
    content = any(choice.parts for choice in answer.choices)
    return Facts(content=content, usage=answer.usage, finish=finish, id=answer.id, model=answer.model)


def inspect_answer(body: bytes, quirks: Quirks) -> Facts:
    facts = skim(body)
    if facts.error is not None:
        return facts
    if facts.finish is None:
        try:
            facts.finish = parse_answer(body, quirks).choices[0].finish
        except UpstreamFault as error:
            return Facts(error=error)
    facts.content = facts.terminal = True
    return facts


def inspect_frame(frame: bytes, quirks: Quirks) -> Facts | None:
    """A finish, a block, an error, or usage on its own selects; usage in between is only the sum so far."""
    if frame.startswith(b":"):
        return None
    middle = b'"candidates"' in frame and b'"finishReason"' not in frame and b'"error"' not in frame
    if middle and holds_json(frame):
        return None
    data = sse.data_of(frame)
    if data is None or not data.strip():
        return None
    facts = skim(data)
    if facts.error is not None or facts.finish is not None or b'"candidates"' not in frame:
        return facts
    return Facts(content=True, id=facts.id, model=facts.model) if facts.content else None
