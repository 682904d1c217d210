"""What complete answers and streamed chunks share: a candidate and its parts."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import Choice, Part
from headgate.core.errors import InvalidRequest, fault
from headgate.dialects.gemini.names import NAME
from headgate.dialects.gemini.parts import PartReader, listed
from headgate.dialects.residue import extension

ANSWER = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId"})
CANDIDATE = frozenset({"content", "finishReason", "index", "logprobsResult"})


def word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def blocked(raw: dict[str, Any]) -> Choice:
    """The choice of a prompt that was refused: there are no candidates then, only the reason."""
    feedback = raw.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    return Choice(
        finish="content_filter", native_finish=word(reason) or "SAFETY", extensions=extension(NAME, {}, blocked=True)
    )


def sources(candidate: dict[str, Any]) -> list[dict[str, Any]]:
    """What the answer rests on. This format tells it of the whole candidate, not of a place in its text; its own words stay
    with the candidate, so these are for others to read."""
    grounding = candidate.get("groundingMetadata")
    chunks = grounding.get("groundingChunks") if isinstance(grounding, dict) else None
    return [{"kind": NAME, **chunk} for chunk in listed(chunks) if isinstance(chunk, dict)]


def read_part(reader: PartReader, raw: Any) -> Part:
    """Raises the fault that a part of an answer which is none is."""
    try:
        return reader.part(raw, "content.parts")
    except InvalidRequest as error:
        raise fault("invalid_answer", f"the provider's answer is malformed: {error.message}") from error


def content_of(raw: Any) -> dict[str, Any]:
    """A candidate's content, empty where there is none."""
    if not isinstance(raw, dict):
        raise fault("invalid_answer", "a candidate of the provider's answer is not an object")
    content = raw.get("content")
    if content is not None and not isinstance(content, dict):
        raise fault("invalid_answer", "a candidate's content is not an object")
    return content or {}
