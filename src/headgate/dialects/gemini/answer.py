"""Complete generateContent answers: JSON ↔ core."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import Choice, Part, Text, ToolCall
from headgate.core.dialect import Quirks, View
from headgate.core.errors import fault
from headgate.core.events import ChatAnswer, Collector
from headgate.dialects.gemini.candidate import ANSWER, CANDIDATE, blocked, content_of, read_part, sources, word
from headgate.dialects.gemini.errors import error_of
from headgate.dialects.gemini.finish import finish_of, native_of
from headgate.dialects.gemini.names import NAME
from headgate.dialects.gemini.parts import PartReader, listed
from headgate.dialects.gemini.stream import EventParser
from headgate.dialects.gemini.usage import parse_logprobs, parse_usage, render_logprobs, render_usage
from headgate.dialects.gemini.writer import PartWriter
from headgate.dialects.jsonio import decode_upstream
from headgate.dialects.residue import extension, leftover, notes_of, rest_of


def parse_answer(body: bytes, quirks: Quirks) -> ChatAnswer:
    """Raises the fault that an error inside a 200, or nothing at all, is. A blocked prompt is a filtered answer."""
    raw = decode_upstream(body)
    if isinstance(raw, list) and raw and all(isinstance(chunk, dict) for chunk in raw):
        if len(raw) > 1:
            return _of_chunks(raw)
        raw = raw[0]
    if not isinstance(raw, dict):
        raise fault("invalid_answer", "the provider's answer is not an object")
    if raw.get("error"):
        raise error_of(raw["error"], None, {})
    candidates = raw.get("candidates")
    if not candidates and not raw.get("promptFeedback"):
        raise fault("invalid_answer", "the provider's answer holds no candidates")
    reader = PartReader(str(raw.get("responseId") or ""))
    return ChatAnswer(
        id=word(raw.get("responseId")),
        model=word(raw.get("modelVersion")),
        choices=[_choice(reader, c) for c in listed(candidates)] or [blocked(raw)],
        usage=parse_usage(raw.get("usageMetadata")),
        extensions=extension(
            NAME,
            leftover(raw, ANSWER),
            usage=raw.get("usageMetadata"),
            candidates=None if "candidates" in raw else False,
            form="answer",
        ),
    )


def _of_chunks(chunks: list[dict[str, Any]]) -> ChatAnswer:
    """A stream that came as one JSON array."""
    parser, collector = EventParser(), Collector()
    for event in [event for chunk in chunks for event in parser.take(chunk)] + parser.close():
        collector.feed(event)
    if not collector.finished:
        raise fault("stream_broken", "the stream ended without a finish")
    return collector.answer()


def _choice(reader: PartReader, raw: Any) -> Choice:
    content = content_of(raw)
    parts = [read_part(reader, part) for part in listed(content.get("parts"))]
    if cited := sources(raw):
        said = [part for part in parts if isinstance(part, Text)]
        if not said:
            parts.append(Text(text="", citations=cited, extensions=extension(NAME, {}, sources=True)))
        else:
            said[-1].citations = cited
    native = raw.get("finishReason")
    logprobs = raw.get("logprobsResult")
    return Choice(
        parts=parts,
        finish=finish_of(native, any(isinstance(part, ToolCall) for part in parts)),
        native_finish=None if native is None else str(native),
        logprobs=parse_logprobs([logprobs]),
        extensions=extension(
            NAME,
            leftover(raw, CANDIDATE),
            index=raw.get("index"),
            content={k: v for k, v in content.items() if k != "parts"} if "content" in raw else None,
            partless=True if content.get("parts") is None else None,
            native=native,
            logprobs=logprobs,
            form="candidate",
        ),
    )


def render_answer(answer: ChatAnswer, view: View) -> tuple[dict[str, Any], list[str]]:
    """(wire object, what it could not say)."""
    writer = PartWriter(answer=True)
    notes = notes_of(answer, NAME)
    out = rest_of(answer, NAME)
    if not any(notes_of(choice, NAME).get("blocked") for choice in answer.choices):
        out["candidates"] = [_candidate(choice, index, writer) for index, choice in enumerate(answer.choices)]
    elif notes.get("candidates") is None:
        out.setdefault("candidates", [])
    if (usage := usage_of(answer, notes)) is not None:
        out["usageMetadata"] = usage
    if answer.model or (view.model and notes.get("form") != "answer"):
        out["modelVersion"] = answer.model or view.model
    if answer.id or (view.id and notes.get("form") != "answer"):
        out["responseId"] = answer.id or view.id
    return out, writer.lossy


def usage_of(answer: ChatAnswer, notes: dict[str, Any]) -> dict[str, Any] | None:
    """The provider's own words where they still say what we count."""
    own = notes.get("usage")
    if own is not None and parse_usage(own) == answer.usage:
        return own
    return render_usage(answer.usage) if answer.usage is not None else None


def _candidate(choice: Choice, index: int, writer: PartWriter) -> dict[str, Any]:
    notes = notes_of(choice, NAME)
    out: dict[str, Any] = rest_of(choice, NAME)
    own = notes.get("form") == "candidate"
    said = choice.parts if own else [part for part in choice.parts if not _says_nothing(part)]
    parts: list[Any] = [found for part in said if (found := writer.part(part)) is not None]
    if own:
        content = notes.get("content")
        if content is not None or parts:
            wire: dict[str, Any] = {"role": "model"} if content is None else dict(content)
            if parts or not notes.get("partless"):
                wire["parts"] = parts
            out["content"] = wire
        if notes.get("index") is not None:
            out["index"] = notes["index"]
        if notes.get("native") is not None:
            out["finishReason"] = notes["native"]
    else:
        finish = native_of(choice.finish, choice.native_finish)
        out |= {"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": index}
    if (logprobs := notes.get("logprobs") or render_logprobs(choice.logprobs)) is not None:
        out["logprobsResult"] = logprobs
    elif choice.logprobs is not None:
        writer.lossy.append("logprobs")
    return out


def _says_nothing(part: Part) -> bool:
    return isinstance(part, Text) and not part.text and not part.signature and not part.citations
