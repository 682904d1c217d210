"""A request in one format's words and in another's: is anything lost in silence?

Both sides are read into the core's words and compared by what a model would see: texts in order by who says them, calls
with equal arguments, results, media, tools with their schemas, and the options that change the answer. What differs must
have been named. Left aside are spellings that mean the same: white space between parts, defaults that are said or not,
`{"output": x}` around a result, `[]` for arguments without fields, what strict schemas must say about further properties.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from conformance.extract import canonical
from headgate.core.chat import (
    Audio,
    ChatRequest,
    Document,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Video,
    text_of,
)
from headgate.dialects.gemini.writer import FOREIGN_SIGNATURE

_OPTIONS = ("temperature", "top_p", "top_k", "stop", "seed", "n", "presence_penalty", "frequency_penalty", "logprobs")
_DEFAULTS: dict[str, Any] = {
    "n": 1,
    "temperature": 1,
    "top_p": 1,
    "logprobs": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "stop": [],
}
_NOBODYS = (None, "", FOREIGN_SIGNATURE)
_NAMES = {
    # fact → what its loss may be named (the first word, before a dot or colon)
    "system": {"system_position", "opaque"},
    "words": {"system_position", "opaque", "tool_result_media_position"},
    "calls": {"opaque"},
    "results": {"opaque", "tool_result_media_position"},
    "thinking": {"reasoning", "opaque"},
    "signatures": {"reasoning_signature"},
    "tools": {"tools"},
    "choice": {"opaque", "tools"},
    "output": {"json_schema", "json_object"},
    "effort": {"reasoning", "reasoning_effort", "thinking"},
}


def silent(said: ChatRequest, heard: ChatRequest, lossy: Iterable[str]) -> list[str]:
    """What differs and was not named."""
    names = {name.partition(".")[0].partition(":")[0] for name in lossy}
    before, after = facts(said), facts(heard)
    return [
        f"{fact}: {before[fact]!r:.200} → {after[fact]!r:.200}"
        for fact in before
        if before[fact] != after[fact] and not names & _NAMES.get(fact, {fact})
    ]


def facts(request: ChatRequest) -> dict[str, Any]:
    system = [m for m in request.messages if m.role in ("system", "developer")]
    rest = [m for m in request.messages if m.role not in ("system", "developer")]
    parts = list(_parts(rest))
    mode, names = _choice(request)
    tools = [t for t in request.tools if t.vendor is None or t.custom]
    return {
        "system": _bare("".join(text_of(m.content) for m in system)),
        "words": list(_turns(rest)),
        "calls": [(p.name, _arguments(p)) for p in parts if isinstance(p, ToolCall) and not p.custom],
        "results": [_result("".join(map(_written, p.content))) for p in parts if isinstance(p, ToolResult)],
        "media": [m for p in parts if isinstance(p, Image | Audio | Video | Document) and (m := _medium(p))],
        "thinking": any(isinstance(p, Reasoning) and p.text for p in parts),
        "signatures": [p.signature for p in parts if isinstance(p, Text | ToolCall) and p.signature not in _NOBODYS],
        "tools": [
            (t.name, t.description or "", None if t.custom else _schema(t.schema))
            for t in tools
            if mode != "required" or not names or t.name in names
        ],
        "choice": None if mode == "auto" else (mode, names if mode == "named" else []),
        "output": _output(request),
        "effort": _thinks(request),
        **{name: None if (said := getattr(request, name)) == _DEFAULTS.get(name) else said for name in _OPTIONS},
    }


def _choice(request: ChatRequest) -> tuple[str, list[str]]:
    """One of several named tools is the same as any of those alone."""
    choice = request.tool_choice
    if choice is None:
        return "auto", []
    if choice.mode == "named" and len(choice.names) > 1:
        return "required", choice.names
    return choice.mode, choice.names


def _output(request: ChatRequest) -> Any:
    output = request.output
    return None if output is None or output.kind == "text" else (output.kind, _schema(output.schema))


def _thinks(request: ChatRequest) -> bool:
    """Asked to think; that it should not is what formats mean by saying nothing."""
    asked = request.reasoning
    if asked is None or asked.enabled is False or asked.budget == 0 or asked.effort == "none":
        return False
    return bool(asked.enabled or asked.budget or asked.effort)


def _schema(schema: Any) -> str | None:
    wire = json.dumps(_open(schema), sort_keys=True)
    return None if wire in ("null", "{}", '{"type": "object"}') else wire


def _open(schema: Any) -> Any:
    """Without what strict schemas say about further properties, and without what is empty. One of several is written as any
    of them where a format knows only that; `nullable` as a type where it was not JSON Schema's."""
    if isinstance(schema, dict):
        return {
            "anyOf" if key == "oneOf" else key: _type(value) if key == "type" else _open(value)
            for key, value in schema.items()
            if key not in ("additionalProperties", "nullable")
            and not (key in ("properties", "required", "description") and not value)
        }
    return [_open(item) for item in schema] if isinstance(schema, list) else schema


def _type(value: Any) -> Any:
    return next((kind for kind in value if kind != "null"), "null") if isinstance(value, list) else _open(value)


def _arguments(call: ToolCall) -> str:
    found = canonical(call.arguments)
    return "{}" if found == "[]" else found


def _result(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return _bare(text)
    if isinstance(value, dict) and set(value) <= {"output", "error"}:
        value = next(iter(value.values()), None)
    return _bare(value if isinstance(value, str) else json.dumps(value, sort_keys=True))


def _parts(messages: list[Message]) -> Iterator[Part]:
    for message in messages:
        for part in message.content:
            yield part
            if isinstance(part, ToolResult):
                yield from part.content


def _turns(messages: list[Message]) -> Iterator[tuple[str, str]]:
    """Words by turn: parts and messages of the same side in a row are one turn."""
    side, said = "", ""
    for message in messages:
        speaker = "assistant" if message.role == "assistant" else "user"
        words = _bare("".join(_written(part) for part in message.content))
        if not words:
            continue
        if speaker != side and said:
            yield side, said
            said = ""
        side, said = speaker, said + words
    if said:
        yield side, said


def _written(part: Part) -> str:
    if isinstance(part, Text | Refusal):
        return part.text
    return _plain(part) or "" if isinstance(part, Document) else ""


def _plain(part: Document) -> str | None:
    """A document that is plain text is words, wherever a format puts it."""
    source = part.source
    if source.text is not None:
        return source.text
    if source.data is not None and (source.media_type or "").startswith("text/"):
        return base64.b64decode(source.data.rpartition(",")[2] + "==").decode(errors="replace")
    return None


def _medium(part: Image | Audio | Video | Document) -> str | None:
    if isinstance(part, Document) and _plain(part) is not None:
        return None
    return part.source.data or part.source.url or part.source.file_id or ""


def _bare(text: str) -> str:
    return "".join(text.split())
