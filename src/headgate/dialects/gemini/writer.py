"""Parts of contents, of requests and answers alike: core → wire."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.chat import (
    Audio,
    Document,
    Image,
    Node,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Video,
)
from headgate.core.errors import UnsupportedFeature
from headgate.dialects.gemini.names import NAME, respell
from headgate.dialects.gemini.parts import result_text
from headgate.dialects.residue import notes_of, rest_of

# Google's own word for a call that another model made: without a signature its newer models refuse the history.
# (Base64 of "skip_thought_signature_validator".)
FOREIGN_SIGNATURE = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
_GUESSES = {Image: "image/jpeg", Audio: "audio/wav", Video: "video/mp4", Document: "application/pdf"}


class PartWriter:
    """Writes parts of a request (`answer` False) or of an answer; `lossy` collects what could not be said.

    `names` tells the function of a result that brings only its call's id. Raises UnsupportedFeature for media that
    this format has no place for.
    """

    def __init__(self, *, answer: bool, names: Mapping[str, str] | None = None, urls: bool = True) -> None:
        self._answer = answer
        self._names = names or {}
        self._urls = urls
        self.lossy: list[str] = []

    def part(self, part: Part) -> Any:
        """The wire part, None where the format has none for it."""
        notes = notes_of(part, NAME)
        if isinstance(part, Opaque):
            if part.dialect == NAME:
                return part.data
            self.lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
            return None
        if isinstance(part, Text) and notes.get("sources"):
            return None  # they stand beside the parts in this format
        if isinstance(part, Text) and notes.get("bare"):
            return part.text
        wire = self._wire(part, notes)
        if wire is None:
            return None
        if NAME in part.extensions:
            wire = {**rest_of(part, NAME), **wire}
        signature = self._signature(part, notes)
        if signature:
            wire["thoughtSignature"] = signature
        respell(wire, notes.get("forms"))
        return wire

    def _wire(self, part: Node, notes: dict[str, Any]) -> dict[str, Any] | None:
        match part:
            case Text():
                if any(citation.get("kind") != NAME for citation in part.citations):
                    self.lossy.append("citations")
                return {"text": part.text}
            case Refusal():
                return {"text": part.text}
            case Reasoning():
                return self._reasoning(part, notes)
            case ToolCall():
                return {"functionCall": self._call(part, notes)}
            case ToolResult():
                return {"functionResponse": self._result(part, notes)}
            case Document() if part.source.text is not None:
                return {"text": part.source.text}
            case Audio() if part.source.data is None and part.source.url is None and part.transcript is not None:
                self.lossy.append("audio")
                return {"text": part.transcript}
            case Image() | Audio() | Video() | Document():
                return self._media(part, notes)
        return None

    def _signature(self, part: Part, notes: dict[str, Any]) -> str | None:
        if isinstance(part, Reasoning):
            return part.signature if NAME in part.extensions else None
        if isinstance(part, Text | ToolCall):
            return part.signature
        return notes.get("signature")

    def _reasoning(self, part: Reasoning, notes: dict[str, Any]) -> dict[str, Any] | None:
        """Only this format's own thoughts go back to it; to a client, everybody's are shown."""
        if NAME in part.extensions:
            return {"text": part.text, "thought": notes.get("thought", True)}
        if not self._answer:
            self.lossy.append("reasoning")
            return None
        if part.signature or part.encrypted:
            self.lossy.append("reasoning_signature")
        return {"text": part.text, "thought": True} if part.text else None

    def _call(self, part: ToolCall, notes: dict[str, Any]) -> dict[str, Any]:
        out = dict(notes.get("inner", {}))
        out["name"] = part.name
        arguments = arguments_of(part)
        if arguments or not notes.get("argless"):
            out["args"] = arguments
        # A history's ids are of no use to a model that did not make them: names and order decide.
        call_id = notes.get("id") if notes.get("form") == "part" else part.id if self._answer else None
        if call_id:
            out["id"] = call_id
        return out

    def _result(self, part: ToolResult, notes: dict[str, Any]) -> dict[str, Any]:
        text = "".join(p.text for p in part.content if isinstance(p, Text))
        raw: dict[str, Any] = notes.get("raw") or {}
        if raw and text == result_text(raw.get("response")):
            return dict(raw)
        out = {key: value for key, value in raw.items() if key == "id"}
        out["name"] = part.name or self._names.get(part.call_id) or part.call_id
        out["response"] = _response(text, part.is_error)
        if media := [wire for p in part.content if not isinstance(p, Text) and (wire := self.part(p)) is not None]:
            out["parts"] = media
        return out

    def _media(self, part: Image | Audio | Video | Document, notes: dict[str, Any]) -> dict[str, Any]:
        media = dict(notes.get("inner", {}))
        source = part.source
        if source.data is not None:
            field = "inlineData"
            media["data"] = source.data
        elif source.url is not None:
            field = "fileData"
            media["fileUri"] = source.url
            if not self._urls and NAME not in part.extensions:
                raise UnsupportedFeature("this model takes media only as data, not by URL", param="messages")
        else:
            raise UnsupportedFeature("a file by id of another provider cannot be sent to this model", param="messages")
        if media_type := _media_type(part, source, notes):
            media["mimeType"] = media_type
        respell(media, notes.get("inner_forms"))
        return {field: media}


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """An object, which is all that this format takes; anything else becomes its field `input`. (`[]` is how some languages
    write an object without fields.)"""
    try:
        value = msgspec.json.decode(call.arguments) if call.arguments and not call.custom else call.arguments or {}
    except (msgspec.DecodeError, RecursionError):
        value = call.arguments
    return {} if value == [] else value if isinstance(value, dict) else {"input": value}


def _response(text: str, is_error: bool) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        value = text
    if isinstance(value, dict):
        return value
    return {"error" if is_error else "output": value}


def _media_type(part: Node, source: Source, notes: dict[str, Any]) -> str | None:
    """The provider insists on one; what the client named none for is guessed from the URL, else from the kind."""
    if source.media_type is not None or notes.get("field"):
        return source.media_type
    if isinstance(part, Audio) and part.format:
        return f"audio/{part.format}"
    path = (source.url or "").partition("?")[0]
    return mimetypes.guess_type(path)[0] or _GUESSES[type(part)]  # type: ignore[index]
