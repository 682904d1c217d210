"""Items of the Responses format ↔ parts: the same in a request's input and in an answer's output.

Consecutive items of the assistant (thinking, words, calls, server-side tools) are one turn in the vocabulary. Each part
notes which item it came from (`item`) and the first of an item carries the item's own fields (`head`), so that the same
items come out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.core.chat import (
    Audio,
    Document,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.core.errors import InvalidRequest, UnsupportedFeature
from headgate.dialects.jsonio import encode
from headgate.dialects.residue import extension, leftover, notes_of, rest_of

NAME = "openai_responses"
_TEXTS = frozenset({"input_text", "output_text", "text"})


def parse_item(raw: dict[str, Any], number: int, where: str) -> list[Part]:
    """The parts of one assistant-side or tool item; message items of users are read by parse.py."""
    kind = raw.get("type")
    if kind in ("message", None):
        return parse_content(raw, number, where)
    if kind == "function_call":
        known = frozenset({"type", "call_id", "name", "arguments"})
        head = leftover(raw, known)
        return [
            ToolCall(
                id=str(raw.get("call_id") or ""),
                name=str(raw.get("name") or ""),
                arguments=raw.get("arguments") or "{}",
                extensions=extension(NAME, {}, item=number, head=head, raw=_odd(raw.get("arguments"))),
            )
        ]
    if kind == "custom_tool_call":
        head = leftover(raw, frozenset({"type", "call_id", "name", "input"}))
        return [
            ToolCall(
                id=str(raw.get("call_id") or ""),
                name=str(raw.get("name") or ""),
                arguments=raw.get("input") or "",
                custom=True,
                extensions=extension(NAME, {}, item=number, head=head),
            )
        ]
    if kind in ("function_call_output", "custom_tool_call_output"):
        return [_result(raw, number, where)]
    if kind == "reasoning":
        return [_reasoning(raw, number)]
    return [Opaque(dialect=NAME, data=raw, extensions=extension(NAME, {}, item=number, head={}))]


def _odd(arguments: Any) -> Any:
    return arguments if not isinstance(arguments, str) or not arguments else None


def _result(raw: dict[str, Any], number: int, where: str) -> ToolResult:
    output = raw.get("output")
    parts: list[Part]
    if isinstance(output, list):
        parts = [parse_part(part, f"{where}.output") for part in output]
    else:
        parts = [Text(text=output if isinstance(output, str) else encode(output).decode())]
    return ToolResult(
        call_id=str(raw.get("call_id") or ""),
        content=parts,
        extensions=extension(
            NAME,
            {},
            item=number,
            head=leftover(raw, frozenset({"type", "call_id", "output"})),
            type=raw.get("type"),
            form="list" if isinstance(output, list) else "string" if isinstance(output, str) else "raw",
            raw=None if isinstance(output, list | str) else {"output": output},
        ),
    )


def _reasoning(raw: dict[str, Any], number: int) -> Reasoning:
    summary, content = raw.get("summary"), raw.get("content")
    told = summary if isinstance(summary, list) and summary else content if isinstance(content, list) else []
    return Reasoning(
        text="\n\n".join(str(piece.get("text") or "") for piece in told if isinstance(piece, dict)),
        encrypted=raw.get("encrypted_content"),
        id=raw.get("id"),
        summary=told is summary and bool(summary),
        extensions=extension(NAME, {}, item=number, wire=raw, head={}),
    )


def parse_content(raw: dict[str, Any], number: int, where: str) -> list[Part]:
    """The content of a message item."""
    content = raw.get("content")
    head = leftover(raw, frozenset({"role", "content"}))
    if isinstance(content, str):
        return [Text(text=content, extensions=extension(NAME, {}, item=number, head=head, form="string"))]
    if not isinstance(content, list):
        raise InvalidRequest(f"{where}.content must be a string or a list", param=f"{where}.content")
    if not content:
        return [Opaque(dialect=NAME, data=raw, extensions=extension(NAME, {}, item=number, head={}))]
    parts = [parse_part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
    for place, part in enumerate(parts):
        notes = dict(part.extensions.get(NAME, {}))
        notes["item"] = number
        if place == 0:
            notes["head"] = head
        part.extensions = {NAME: notes}
    return parts


def parse_part(raw: Any, where: str) -> Part:
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    kind = raw.get("type")
    if kind in _TEXTS and isinstance(raw.get("text"), str):
        annotations = raw.get("annotations")
        citations = [{"kind": NAME, **a} for a in annotations or [] if isinstance(a, dict)]
        rest = leftover(raw, frozenset({"type", "text", "annotations"}))
        return Text(text=raw["text"], citations=citations, extensions=extension(NAME, rest, kind=kind))
    if kind == "refusal" and isinstance(raw.get("refusal"), str):
        return Refusal(text=raw["refusal"], extensions=extension(NAME, leftover(raw, frozenset({"type", "refusal"}))))
    if kind == "input_image":
        url = raw.get("image_url")
        source = source_of(url) if isinstance(url, str) else Source(file_id=raw.get("file_id"))
        rest = leftover(raw, frozenset({"type", "image_url", "file_id", "detail"}))
        return Image(source=source, detail=raw.get("detail"), extensions=extension(NAME, rest, url=url))
    if kind == "input_file":
        data = raw.get("file_data")
        source = (
            source_of(data) if isinstance(data, str) else Source(url=raw.get("file_url"), file_id=raw.get("file_id"))
        )
        if source.url is not None and source.url == data:
            source = Source(data=data)
        known = frozenset({"type", "file_data", "file_url", "file_id", "filename"})
        return Document(
            source=source, name=raw.get("filename"), extensions=extension(NAME, leftover(raw, known), data=data)
        )
    if kind == "input_audio" and isinstance(raw.get("input_audio"), dict):
        audio = raw["input_audio"]
        source = Source(data=audio.get("data"), media_type=f"audio/{audio.get('format', 'wav')}")
        return Audio(source=source, format=audio.get("format"), extensions=extension(NAME, {}))
    return Opaque(dialect=NAME, data=raw)


def source_of(url: str) -> Source:
    if url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        if comma and head.endswith(";base64"):
            return Source(media_type=head[:-7] or None, data=data)
    return Source(url=url)


MADE_HERE = "rs_tr_"
"""How ids of reasoning items begin that are not the format's provider's: another provider's thoughts, or an agent's
progress. The provider looks its own items up by their ids, and refuses a whole request for one that it does not know."""


# -- rendering -------------------------------------------------------------------------------------------------------
def render_items(parts: Sequence[Part], role: str, lossy: list[str], *, own: bool) -> list[dict[str, Any]]:
    """The items of one turn, in order; texts that stood in one item stand in one again."""
    out: list[dict[str, Any]] = []
    open_item: Any = None
    for part in parts:
        notes = notes_of(part, NAME)
        number = notes.get("item")
        if isinstance(part, ToolCall | ToolResult | Reasoning) or (isinstance(part, Opaque) and "item" in notes):
            item = _single(part, notes, lossy, own=own)
            if item is not None:
                out.append(item)
            open_item = None
            continue
        content = render_part(part, role, lossy)
        if content is None:
            continue
        if open_item is not None and open_item[0] == number:
            open_item[1]["content"].append(content)
            continue
        head = dict(notes.get("head", {}))
        if notes.get("form") == "string" and isinstance(part, Text):
            out.append({**head, "role": role, "content": part.text})
            open_item = None
            continue
        item = {**head, "role": role, "content": [content]}
        if not notes and role == "assistant":
            item["type"] = "message"
        out.append(item)
        open_item = (number, item)
    return out


def _single(part: Part, notes: dict[str, Any], lossy: list[str], *, own: bool) -> dict[str, Any] | None:
    head = dict(notes.get("head", {}))
    match part:
        case ToolCall() if part.custom:
            return {**head, "type": "custom_tool_call", "call_id": part.id, "name": part.name, "input": part.arguments}
        case ToolCall():
            arguments = notes.get("raw", part.arguments)
            return {**head, "type": "function_call", "call_id": part.id, "name": part.name, "arguments": arguments}
        case ToolResult():
            return {**head, **_render_result(part, notes, lossy)}
        case Reasoning():
            if "wire" in notes and not (part.id or "").startswith(MADE_HERE):
                return dict(notes["wire"])
            if not own or "wire" in notes:
                lossy.append("reasoning")
                return None
            return reasoning_item(part, part.id or "")
        case Opaque():
            return part.data
    return None


def _render_result(part: ToolResult, notes: dict[str, Any], lossy: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {"type": notes.get("type") or "function_call_output", "call_id": part.call_id}
    if notes.get("raw") is not None:
        return out | notes["raw"]
    if notes.get("form") == "list" or not all(isinstance(p, Text) for p in part.content):
        out["output"] = [c for p in part.content if (c := render_part(p, "user", lossy)) is not None]
    else:
        out["output"] = "".join(p.text for p in part.content if isinstance(p, Text))
    return out


def reasoning_item(part: Reasoning, item_id: str) -> dict[str, Any]:
    out: dict[str, Any] = {"id": item_id, "type": "reasoning", "summary": []}
    if part.text:
        out["summary"] = [{"type": "summary_text", "text": part.text}]
    if part.encrypted is not None:
        out["encrypted_content"] = part.encrypted
    return out


def render_part(part: Part, role: str, lossy: list[str]) -> dict[str, Any] | None:
    notes, out = notes_of(part, NAME), rest_of(part, NAME)
    match part:
        case Text():
            kind = notes.get("kind") or ("output_text" if role == "assistant" else "input_text")
            out |= {"type": kind, "text": part.text}
            own = [{k: v for k, v in c.items() if k != "kind"} for c in part.citations if c.get("kind") == NAME]
            if own or (kind == "output_text" and not notes):
                out["annotations"] = own
            if len(own) < len(part.citations):
                lossy.append("citations")
        case Refusal():
            out |= {"type": "refusal", "refusal": part.text}
        case Image():
            out["type"] = "input_image"
            if part.source.file_id is not None:
                out["file_id"] = part.source.file_id
            else:
                out["image_url"] = notes.get("url") or _url(part.source, "image/png")
            if part.detail is not None:
                out["detail"] = part.detail
        case Document():
            out |= {"type": "input_file", **_file(part, notes)}
        case Audio():
            if part.source.data is None:
                raise UnsupportedFeature("audio by reference cannot be sent to this model", param="input")
            form = part.format or (part.source.media_type or "audio/wav").rpartition("/")[2]
            out |= {"type": "input_audio", "input_audio": {"data": part.source.data, "format": form}}
        case Opaque() if part.dialect == NAME:
            return part.data
        case Opaque():
            lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
            return None
        case _:
            raise UnsupportedFeature(f"this model takes no {type(part).__name__.lower()} input", param="input")
    return out


def _file(part: Document, notes: dict[str, Any]) -> dict[str, Any]:
    source = part.source
    out: dict[str, Any] = {}
    if notes.get("data") is not None:
        out["file_data"] = notes["data"]
    elif source.data is not None or source.text is not None:
        if source.text is not None:
            return {"type": "input_text", "text": source.text}
        out["file_data"] = _url(source, "application/pdf")
        out["filename"] = "document"
    elif source.url is not None:
        out["file_url"] = source.url
    elif source.file_id is not None:
        out["file_id"] = source.file_id
    if part.name is not None:
        out["filename"] = part.name
    return out


def _url(source: Source, default: str) -> str:
    if source.url is not None:
        return source.url
    if source.data is not None:
        return f"data:{source.media_type or default};base64,{source.data}"
    raise UnsupportedFeature("a file by id of another provider cannot be sent to this model", param="input")
