"""Core messages → chat messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headgate.core.chat import (
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Video,
    text_of,
)
from headgate.core.dialect import Quirks
from headgate.core.errors import UnsupportedFeature
from headgate.dialects.openai_chat.parts import NAME, data_url
from headgate.dialects.residue import foreign, notes_of, rest_of

_JOINTS = {"system": "\n\n", "developer": "\n\n", "tool": "\n"}


class MessageRenderer:
    """`own`: the request was parsed from this format, so that what it says has been said in it before."""

    def __init__(self, quirks: Quirks, *, own: bool, lossy: list[str]) -> None:
        self._quirks = quirks
        self._own = own
        self._marks = own or bool(quirks.extra.get("cache_control"))
        self.lossy = lossy

    def render(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Tool results stand alone in this format, right behind their calls and in words: media in them follow in a
        user message."""
        out: list[dict[str, Any]] = []
        media: list[Part] = []
        for message in messages:
            self.lossy += foreign(message, NAME)
            results = [part for part in message.content if isinstance(part, ToolResult)]
            for result in results:
                whole = message if len(results) == 1 and message.role == "tool" else None
                out.append(self._tool_message(result, whole, media))
            parts = [part for part in message.content if not isinstance(part, ToolResult)]
            if results and not parts:
                continue
            self._flush(media, out)
            out.append(self._message(message, parts))
        self._flush(media, out)
        return out

    def _flush(self, media: list[Part], out: list[dict[str, Any]]) -> None:
        if media:
            words = {"type": "text", "text": "(attached: what the tool returned beside its text)"}
            out.append({"role": "user", "content": [words, *self._parts(media)]})
            self.lossy.append("tool_result_media_position")
            media.clear()

    def _message(self, message: Message, parts: Sequence[Part]) -> dict[str, Any]:
        notes = notes_of(message, NAME)
        out = rest_of(message, NAME)
        role = "user" if message.role == "tool" else message.role
        out["role"] = "system" if role == "developer" and not self._quirks.developer_role else role
        if message.name is not None:
            out["name"] = message.name
        if role == "assistant":
            self._assistant(out, parts, notes)
        elif parts or notes.get("form") or not notes:
            out["content"] = self._content(parts, notes.get("form"), role)
        return out

    def _tool_message(self, result: ToolResult, message: Message | None, media: list[Part]) -> dict[str, Any]:
        out = rest_of(message, NAME) if message is not None else {}
        notes = notes_of(message, NAME) if message is not None else {}
        if notes.get("legacy"):
            out |= {"role": "function", "name": result.name}
        else:
            out["role"] = "tool"
            if result.call_id or "tool_call_id" not in out:
                out["tool_call_id"] = result.call_id
            if result.name is not None and message is not None and NAME in message.extensions:
                out["name"] = result.name
        if result.is_error:
            self.lossy.append("is_error")
        form = notes.get("form")
        if form is not None:
            out["content"] = self._content(result.content, form, "tool")
        elif result.content or not (notes.get("absent") or "content" in out):
            out["content"] = _joined([part for part in result.content if isinstance(part, Text)], "tool")
            media += [part for part in result.content if not isinstance(part, Text)]
        return out

    # -- assistant turns ---------------------------------------------------------------------------------------------
    def _assistant(self, out: dict[str, Any], parts: Sequence[Part], notes: dict[str, Any]) -> None:
        form = notes.get("form")
        spoken = [part for part in parts if isinstance(part, Text) or _stays(part, form)]
        said = {id(part) for part in spoken}
        rest = [part for part in parts if id(part) not in said]
        calls = [part for part in rest if isinstance(part, ToolCall)]
        if spoken or form:
            out["content"] = self._content(spoken, form, "assistant")
        elif "content" not in out and not notes.get("absent"):
            out["content"] = None if calls or notes else ""
        refusals = [part for part in rest if isinstance(part, Refusal)]
        if refusals:
            out["refusal"] = "".join(part.text for part in refusals)
        self._reason(out, [part for part in rest if isinstance(part, Reasoning)])
        for part in rest:
            if isinstance(part, Audio) and part.id and NAME in part.extensions:
                out["audio"] = {"id": part.id}
            elif not isinstance(part, Reasoning | Refusal | ToolCall):
                self.lossy.append(_name(part))
        legacy = [call for call in calls if notes_of(call, NAME).get("form") == "legacy"]
        if legacy:
            out["function_call"] = render_legacy(legacy[0])
        elif calls:
            out["tool_calls"] = [render_call(call, cache=self._marks) for call in calls]

    def _reason(self, out: dict[str, Any], thoughts: Sequence[Reasoning]) -> None:
        """A turn that was parsed from this format still has its fields; others get the profile's field, if it has one."""
        if not thoughts or any(field in out for field in ("reasoning_content", "reasoning", "reasoning_details")):
            return
        field = self._quirks.reasoning_field
        text = "".join(thought.text for thought in thoughts)
        details = [d for thought in thoughts for d in notes_of(thought, NAME).get("details") or ()]
        if details and "reasoning_details" in self._quirks.extra.get("accepts", ()):
            out["reasoning_details"] = details
        elif field is not None and text:
            out[field] = text
        else:
            self.lossy.append("reasoning")

    # -- content -----------------------------------------------------------------------------------------------------
    def _content(self, parts: Sequence[Part], form: str | None, role: str) -> Any:
        words = [part for part in parts if isinstance(part, Text)]
        plain = len(words) == len(parts) and not (self._marks and any(part.cache for part in words))
        if form == "string" and plain:
            return text_of(list(words))
        if form is None and plain and (len(words) < 2 or role != "user"):
            return _joined(words, role)
        return self._parts(parts)

    def _parts(self, parts: Sequence[Part]) -> list[Any]:
        return [rendered for part in parts if (rendered := self._part(part)) is not None]

    def _part(self, part: Part) -> Any:
        notes, out = notes_of(part, NAME), rest_of(part, NAME)
        match part:
            case Text():
                if notes.get("form") == "bare":
                    return part.text
                if part.citations:
                    self.lossy.append("citations")
                out |= {"type": "text", "text": part.text}
                return self._marked(out, part.cache)
            case Image():
                url = notes.get("url") or self._url(part.source, "image")
                if notes.get("bare"):
                    return {**out, "type": "image_url", "image_url": url}
                image: dict[str, Any] = {**notes.get("inner", {}), "url": url}
                if part.detail is not None:
                    image["detail"] = part.detail
                return self._marked(out | {"type": "image_url", "image_url": image}, part.cache)
            case Audio():
                return self._audio(part, out, notes)
            case Document():
                return self._document(part, out, notes)
            case Video():
                url = notes.get("url") or self._url(part.source, "video")
                return {"type": "video_url", "video_url": url if notes.get("bare") else {"url": url}}
            case Refusal():
                return out | {"type": "refusal", "refusal": part.text}
            case Reasoning() if "wire" in notes:
                return notes["wire"]
            case Opaque() if part.dialect == NAME:
                return part.data
        self.lossy.append(_name(part))
        return None

    def _audio(self, part: Audio, out: dict[str, Any], notes: dict[str, Any]) -> dict[str, Any]:
        if part.source.data is None:
            raise UnsupportedFeature("audio by reference cannot be sent to this model", param="messages")
        audio = {"data": part.source.data}
        if not notes.get("unsaid"):
            audio["format"] = part.format or (part.source.media_type or "audio/wav").rpartition("/")[2]
        return {**out, "type": "input_audio", "input_audio": audio}

    def _document(self, part: Document, out: dict[str, Any], notes: dict[str, Any]) -> dict[str, Any]:
        source, own = part.source, bool(notes.get("file"))
        file: dict[str, Any] = dict(notes.get("inner", {}))
        if source.text is not None:
            return self._marked({"type": "text", "text": source.text}, part.cache)
        if source.url is not None and not own:
            raise UnsupportedFeature("documents by URL cannot be sent to this model", param="messages")
        if source.data is not None or source.url is not None:
            file["file_data"] = notes.get("url") or source.url or data_url(source, "application/pdf")
        elif own and source.file_id is not None:
            file["file_id"] = source.file_id
        elif not own:
            raise UnsupportedFeature("another provider's file ids cannot be sent to this model", param="messages")
        if part.name is not None:
            file["filename"] = part.name
        elif not own:
            file["filename"] = "document.pdf"
        if part.context is not None:
            self.lossy.append("document_context")
        return {**out, "type": "file", "file": file}

    def _url(self, source: Source, what: str) -> str:
        if source.url is not None:
            if not self._quirks.image_url:
                raise UnsupportedFeature(f"this model takes {what}s only as data, not by URL", param="messages")
            return source.url
        if source.data is not None:
            return data_url(source)
        raise UnsupportedFeature(
            f"{what}s by another provider's file id cannot be sent to this model", param="messages"
        )

    def _marked(self, out: dict[str, Any], cache: dict[str, Any] | None) -> dict[str, Any]:
        if cache is not None and self._marks:
            out["cache_control"] = cache
        return out


def render_call(call: ToolCall, *, cache: bool = False, show_signature: bool = False) -> dict[str, Any]:
    """`show_signature`: to a client, as Gemini's own endpoint of this format does, so that it comes back."""
    notes, out = notes_of(call, NAME), rest_of(call, NAME)
    out["id"] = call.id
    if call.custom:
        return {**out, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    if not notes.get("untyped"):
        out["type"] = "function"
    inner = notes.get("inner", {})
    function: dict[str, Any] = {**inner, "name": call.name}
    if isinstance(notes.get("raw"), dict):
        function["arguments"] = notes["raw"]
    elif call.arguments != "{}":
        function["arguments"] = call.arguments
    elif not notes.get("unsaid") and "arguments" not in inner:
        function["arguments"] = notes.get("raw", "{}")
    out["function"] = function
    if call.cache is not None and cache:
        out["cache_control"] = call.cache
    if show_signature and call.signature is not None:
        out.setdefault("extra_content", {"google": {"thought_signature": call.signature}})
    return out


def render_legacy(call: ToolCall) -> dict[str, Any]:
    arguments = notes_of(call, NAME).get("raw", call.arguments)
    return {**rest_of(call, NAME), "name": call.name, "arguments": arguments}


def _joined(parts: Iterable[Text], role: str) -> str:
    return _JOINTS.get(role, "").join(part.text for part in parts)


def _beside(part: Part) -> bool:
    """It stood in a field of its own, beside the content."""
    return notes_of(part, NAME).get("form") == "field"


def _stays(part: Part, form: str | None) -> bool:
    """Other than text, only what was in this format's own list may be in an assistant's content."""
    if isinstance(part, Reasoning):
        return "wire" in notes_of(part, NAME)
    return form == "list" and not isinstance(part, ToolCall) and not _beside(part)


def _name(part: Part) -> str:
    return f"opaque:{part.data.get('type', part.dialect)}" if isinstance(part, Opaque) else type(part).__name__.lower()
