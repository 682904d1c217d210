"""Core messages → the content blocks of a Messages request."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
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
)
from headgate.core.dialect import Quirks
from headgate.core.errors import UnsupportedFeature
from headgate.dialects.anthropic_messages.answer import call_input
from headgate.dialects.anthropic_messages.parse import NAME
from headgate.dialects.residue import foreign, notes_of, rest_of

_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NOT_ID = re.compile(r"[^a-zA-Z0-9_-]")
# What base64 of each picture format begins with, for pictures that came without a media type.
_MAGIC = (("iVBOR", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp"))


class BlockRenderer:
    """Renders the parts of one request. `own`: it was parsed from this format, so that its ids and empty texts stay."""

    def __init__(self, quirks: Quirks, *, own: bool, lossy: list[str]) -> None:
        self._quirks = quirks
        self._own = own
        self._ids: dict[str, str] = {}
        self.lossy = lossy

    def turns(self, messages: Sequence[Message]) -> tuple[list[dict[str, Any]], list[Message]]:
        """The user and assistant turns, and the system messages that stood between or before them.

        Results of tools and what the user says next are one turn here: messages of one role that other formats tell
        apart are joined."""
        turns: list[dict[str, Any]] = []
        system: list[Message] = []
        joinable = False
        for message in messages:
            inline = notes_of(message, NAME).get("inline")
            self.lossy += foreign(message, NAME)
            if message.role in ("system", "developer") and not inline:
                if turns:
                    self.lossy.append("system_position")
                system.append(message)
                continue
            if message.name is not None:
                self.lossy.append("name")
            role = message.role if message.role == "assistant" or inline else "user"
            noted = NAME in message.extensions
            content = self._content(message)
            if not content and (not noted or (message.content and content != "")):
                continue  # nothing is left of a turn that held only what cannot be said here
            if joinable and not noted and role == "user" == turns[-1]["role"]:
                turns[-1]["content"] = _blocks(turns[-1]["content"]) + _blocks(content)
            else:
                turns.append({**rest_of(message, NAME), "role": role, "content": content})
            joinable = not noted
        return turns, system

    def system(self, messages: Sequence[Message]) -> Any:
        """The value of the system field; None where there is none."""
        parts = [part for message in messages for part in message.content]
        form = notes_of(messages[0], NAME).get("form") if messages else None
        if len(messages) == 1 and form == "string" and len(parts) == 1 and isinstance(parts[0], Text):
            return parts[0].text
        if form is None and all(isinstance(part, Text) and not part.cache for part in parts):
            return "\n\n".join(part.text for part in parts if isinstance(part, Text) and not _is_blank(part)) or None
        if form is None:
            parts = [part for part in parts if not _is_blank(part)]
        return [block for part in parts if (block := self.block(part)) is not None]

    def _content(self, message: Message) -> str | list[dict[str, Any]]:
        form = notes_of(message, NAME).get("form")
        parts = message.content
        if len(parts) == 1 and isinstance(parts[0], Text) and form != "list":
            plain = form == "string" or (not parts[0].cache and not parts[0].citations)
            if plain and (form is not None or not _is_blank(parts[0])):
                return parts[0].text
        if form is None:
            parts = [part for part in parts if not _is_blank(part)]
            parts = sorted(parts, key=lambda part: not isinstance(part, ToolResult))  # results come first here
        return [block for part in parts if (block := self.block(part)) is not None]

    def block(self, part: Part) -> dict[str, Any] | None:
        """One content block; None where leaving the part out loses no meaning (then `lossy` names it)."""
        notes, out = notes_of(part, NAME), rest_of(part, NAME)
        match part:
            case Text():
                out |= {"type": "text", "text": part.text}
                own = [{k: v for k, v in c.items() if k != "kind"} for c in part.citations if c.get("kind") == NAME]
                if own:
                    out["citations"] = own
                if len(own) < len(part.citations):
                    self.lossy.append("citations")
            case Image():
                out |= {"type": "image", "source": notes.get("source") or self._picture(part.source)}
            case Document():
                out |= {"type": "document", "source": notes.get("source") or self._document(part.source)}
                if part.name is not None:
                    out["title"] = part.name
                if part.context is not None:
                    out["context"] = part.context
            case ToolCall():
                out |= {"type": "tool_use", "id": self._id(part.id), "name": part.name, "input": call_input(part)}
            case ToolResult():
                return self._result(part)
            case Reasoning():
                return self._thinking(part)
            case Refusal():
                out |= {"type": "text", "text": part.text}
            case Opaque():
                if part.dialect == NAME:
                    return part.data
                self.lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
                return None
            case Audio() if part.transcript:
                self.lossy.append("audio")
                return {"type": "text", "text": part.transcript}
            case _:
                kind = type(part).__name__.lower()
                raise UnsupportedFeature(f"this model takes no {kind} input", param="messages")
        if isinstance(part, Text | Image | Document | ToolCall) and part.cache is not None:
            out["cache_control"] = part.cache
        return out

    def _thinking(self, part: Reasoning) -> dict[str, Any] | None:
        """Only what this format's provider signed goes back to it: it refuses a whole request for one bad signature."""
        if notes_of(part, NAME).get("redacted"):
            return {"type": "redacted_thinking", "data": part.encrypted or ""}
        if NAME in part.extensions and part.signature:
            return {
                **rest_of(part, NAME),
                "type": "thinking",
                "thinking": part.text,
                "signature": part.signature,
            }
        self.lossy.append("reasoning")
        return None

    def _result(self, part: ToolResult) -> dict[str, Any]:
        notes = notes_of(part, NAME)
        out = {**rest_of(part, NAME), "type": "tool_result", "tool_use_id": self._id(part.call_id)}
        plain = [p.text for p in part.content if isinstance(p, Text) and not p.cache]
        if notes.get("form") == "string" or (not notes and len(plain) == len(part.content)):
            out["content"] = "".join(plain)
        elif notes.get("form") == "list" or part.content:
            out["content"] = [block for p in part.content if (block := self.block(p)) is not None]
        if part.is_error or notes.get("is_error") is not None:
            out["is_error"] = part.is_error
        if part.cache is not None:
            out["cache_control"] = part.cache
        return out

    def _id(self, given: str) -> str:
        """Ids of other providers may hold signs that this format does not take; calls and results change alike."""
        if self._own or _ID.fullmatch(given):
            return given
        if given not in self._ids:
            clean = _NOT_ID.sub("_", given) or "call"
            while clean in self._ids.values():
                clean += "_"
            self._ids[given] = clean
        return self._ids[given]

    # -- media -------------------------------------------------------------------------------------------------------
    def _picture(self, source: Source) -> dict[str, Any]:
        if source.data is None:
            return self._elsewhere(source, "image")
        kind = source.media_type or next((kind for magic, kind in _MAGIC if source.data.startswith(magic)), "image/png")
        kind = "image/jpeg" if kind == "image/jpg" else kind
        return {"type": "base64", "media_type": kind, "data": source.data}

    def _document(self, source: Source) -> dict[str, Any]:
        if source.text is not None:
            return {"type": "text", "media_type": "text/plain", "data": source.text}
        if source.data is None:
            return self._elsewhere(source, "document")
        kind = (source.media_type or "application/pdf").partition(";")[0].strip().lower()
        if kind == "application/pdf":
            return {"type": "base64", "media_type": kind, "data": source.data}
        if not kind.startswith("text/") and kind not in ("application/json", "application/xml", "application/yaml"):
            raise UnsupportedFeature(f"this model takes no documents of type {kind[:100]}", param="messages")
        try:
            text = base64.b64decode(source.data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise UnsupportedFeature("a text document is not base64 of UTF-8", param="messages") from error
        return {"type": "text", "media_type": "text/plain", "data": text}

    def _elsewhere(self, source: Source, what: str) -> dict[str, Any]:
        if source.url is None:
            raise UnsupportedFeature(f"{what}s by file id of another provider cannot be sent", param="messages")
        if not self._quirks.image_url:
            raise UnsupportedFeature(f"this model takes {what}s as data only, not by URL", param="messages")
        return {"type": "url", "url": source.url}


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _is_blank(part: Part) -> bool:
    """This format has no text of white space alone: its provider refuses it."""
    return isinstance(part, Text) and not part.text.strip()
