"""Complete chat answers: JSON ↔ core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headgate.core.chat import Audio, Choice, Image, Opaque, Part, Reasoning, Refusal, Source, Text, ToolCall, text_of
from headgate.core.dialect import Quirks, View
from headgate.core.errors import InvalidRequest, UpstreamFault, fault
from headgate.core.events import ChatAnswer
from headgate.dialects.jsonio import decode_upstream, encode
from headgate.dialects.openai_chat.finish import BROKEN, finish_of_parts, native_of
from headgate.dialects.openai_chat.parts import (
    NAME,
    REASONING_FIELDS,
    calls_of,
    data_url,
    form_of,
    parse_part,
    reasoning_parts,
)
from headgate.dialects.openai_chat.turns import render_call, render_legacy
from headgate.dialects.openai_chat.usage import parse_usage, render_usage, says
from headgate.dialects.openai_error import error_of
from headgate.dialects.residue import extension, leftover, notes_of, rest_of

_ANSWER = frozenset({"id", "object", "created", "model", "choices", "usage"})
_CHOICE = frozenset({"index", "message", "finish_reason", "logprobs"})


def parse_answer(body: bytes, quirks: Quirks) -> ChatAnswer:
    """Raises the fault that an error inside a 200, or no choices at all, is."""
    raw = decode_upstream(body)
    if not isinstance(raw, dict):
        raise fault("invalid_answer", "the provider's answer is not an object")
    if (found := error_in(raw)) is not None:
        raise found
    choices = raw.get("choices")
    if not isinstance(choices, list) or not choices:
        raise fault("invalid_answer", "the provider's answer holds no choices")
    created = raw.get("created")
    return ChatAnswer(
        id=str(raw.get("id") or ""),
        model=str(raw.get("model") or ""),
        created=int(created) if isinstance(created, int | float) else 0,
        choices=[_choice(choice) for choice in choices],
        usage=parse_usage(raw.get("usage"), quirks),
        extensions=extension(NAME, leftover(raw, _ANSWER), usage=raw.get("usage"), object=raw.get("object") or ""),
    )


def error_in(raw: Mapping[str, Any]) -> UpstreamFault | None:
    """The error that stands where an answer or a chunk should: at the top, or in a choice (OpenRouter's way to say that
    its own upstream broke off), or as a finish reason that says no more."""
    if raw.get("error"):
        return error_of(raw["error"], None, {})
    choices = raw.get("choices")
    if not isinstance(choices, list) or not choices:
        return _bare_error(raw)
    for choice in choices:
        if not isinstance(choice, dict):
            raise fault("invalid_answer", "a choice of the provider's answer is not an object")
        if choice.get("error"):
            return error_of(choice["error"], None, {})
        if choice.get("finish_reason") in BROKEN:
            return fault("stream_broken", f"the model stopped: {choice['finish_reason']}")
    return None


def _bare_error(raw: Mapping[str, Any]) -> UpstreamFault | None:
    """Where nothing was chosen: an error that is the object itself (vLLM's and Mistral's flat one, FastAPI's detail)."""
    if raw.get("object") == "error" or str(raw.get("type")).endswith("error"):
        return error_of(raw, None, {})
    if detail := raw.get("detail"):
        return error_of(
            {**raw, "message": detail if isinstance(detail, str) else encode(detail).decode()[:500]}, None, {}
        )
    return None


def _choice(raw: dict[str, Any]) -> Choice:
    message = raw.get("message")
    message = message if isinstance(message, dict) else {}
    native = raw.get("finish_reason")
    native = native if isinstance(native, str) else None
    try:
        parts, consumed = message_parts(message)
    except InvalidRequest as error:
        raise fault("invalid_answer", "the provider's answer is not what this format allows") from error
    return Choice(
        parts=parts,
        finish=finish_of_parts(native, parts),
        native_finish=native,
        logprobs=raw.get("logprobs"),
        extensions=extension(
            NAME,
            leftover(raw, _CHOICE),
            message={key: value for key, value in message.items() if key not in consumed} if message else None,
            form=form_of(message.get("content")) if message.get("content") else None,
            absent=None if "message" in raw else True,
        ),
    )


def message_parts(message: Mapping[str, Any]) -> tuple[list[Part], set[str]]:
    """(thinking, words, refusal, media, calls: in the order in which a reader would meet them; the fields they say)."""
    parts = reasoning_parts(message)
    consumed = {str(field) for part in parts if (field := notes_of(part, NAME).get("field"))}
    content = message.get("content")
    if content and isinstance(content, str | list):
        consumed.add("content")
        words: list[Part] = [Text(text=content)] if isinstance(content, str) else content_parts(content)
        if citations := citations_of(message.get("annotations")):
            for part in words:
                if isinstance(part, Text):
                    part.citations = citations
                    consumed.add("annotations")
                    break
        parts += words
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        consumed.add("refusal")
        parts.append(Refusal(text=refusal))
    if isinstance(audio := message.get("audio"), dict) and audio.get("data"):
        consumed.add("audio")
        parts.append(audio_part(audio))
    if isinstance(images := message.get("images"), list) and images:
        consumed.add("images")
        parts += image_parts(images)
    parts += executed_tools(message)  # the field itself stays with the message
    if calls := calls_of(message, "tool_calls"):
        consumed.add("tool_calls" if message.get("tool_calls") else "function_call")
        parts += calls
    return parts, consumed


def executed_tools(message: Mapping[str, Any]) -> list[Part]:
    """What Groq's server-side tools did: for others to say that it is missing."""
    done = message.get("executed_tools")
    data = (
        [{"type": "executed_tools", **tool} for tool in done if isinstance(tool, dict)]
        if isinstance(done, list)
        else []
    )
    return [Opaque(dialect=NAME, data=tool, extensions={NAME: {"form": "executed"}}) for tool in data]


def content_parts(content: Sequence[Any]) -> list[Part]:
    """List content: text parts, Mistral's thinking and references."""
    return [parse_part(raw, "content") for raw in content]


def citations_of(annotations: Any) -> list[dict[str, Any]]:
    return [{"kind": NAME, **c} for c in annotations if isinstance(c, dict)] if isinstance(annotations, list) else []


def audio_part(audio: dict[str, Any]) -> Audio:
    source = Source(data=audio.get("data"))
    return Audio(
        source=source, id=audio.get("id"), transcript=audio.get("transcript"), extensions={NAME: {"wire": audio}}
    )


def image_parts(images: Sequence[Any]) -> list[Part]:
    """What image models answer with (OpenRouter's field)."""
    parts = [parse_part(image, "images") for image in images]
    for part in parts:
        part.extensions = {NAME: {**part.extensions.get(NAME, {}), "form": "images"}}
    return parts


# -- rendering -------------------------------------------------------------------------------------------------------


def render_answer(answer: ChatAnswer, view: View) -> tuple[dict[str, Any], list[str]]:
    """The wire object and what it could not say."""
    lossy: list[str] = []
    notes = notes_of(answer, NAME)
    legacy = speaks_functions(view)
    out: dict[str, Any] = {
        "id": answer.id or view.id,
        "object": notes.get("object") or "chat.completion",
        "created": answer.created or view.created,
        "model": answer.model or view.model,
        "choices": [_render_choice(answer, index, legacy, lossy) for index in range(len(answer.choices))],
        **rest_of(answer, NAME),
    }
    if answer.usage is not None:
        wire = notes.get("usage")
        out["usage"] = wire if says(wire, answer.usage) else render_usage(answer.usage)
    return out, lossy


def speaks_functions(view: View) -> bool:
    """Whether the client asked in the legacy words (`functions`) and waits for a `function_call`."""
    tools = view.request.tools if view.request is not None else []
    return bool(tools) and all(notes_of(tool, NAME).get("legacy") for tool in tools)


def _render_choice(answer: ChatAnswer, index: int, legacy: bool, lossy: list[str]) -> dict[str, Any]:
    choice = answer.choices[index]
    notes, own = notes_of(choice, NAME), NAME in choice.extensions
    out: dict[str, Any] = {**rest_of(choice, NAME), "index": index}
    if not (notes.get("absent") and not choice.parts):
        out["message"] = _render_message(choice.parts, notes, legacy, lossy)
    logprobs = merged_logprobs(choice.logprobs)
    if logprobs is not None or not own:
        out["logprobs"] = logprobs
    if not own:
        out["finish_reason"] = native_of(choice.finish, choice.native_finish, own=NAME in answer.extensions)
        if legacy and out["finish_reason"] == "tool_calls":
            out["finish_reason"] = "function_call"
    elif choice.native_finish is not None:
        out["finish_reason"] = choice.native_finish
    return out


def _render_message(parts: Sequence[Part], notes: Mapping[str, Any], legacy: bool, lossy: list[str]) -> dict[str, Any]:
    own = "message" in notes
    out: dict[str, Any] = dict(notes["message"]) if own else {"role": "assistant", "content": None, "refusal": None}
    texts = [part for part in parts if isinstance(part, Text)]
    if notes.get("form") == "list":
        out["content"] = [wire for part in parts if (wire := _list_part(part)) is not None]
    elif texts:
        out["content"] = text_of(list(texts))
    elif notes.get("form"):
        out["content"] = None  # what was said has been taken out
    citations = [citation for text in texts for citation in text.citations]
    mine = [
        {k: v for k, v in citation.items() if k != "kind"} for citation in citations if citation.get("kind") == NAME
    ]
    if mine:
        out["annotations"] = mine
    if len(mine) < len(citations):
        lossy.append("citations")
    _reason(out, parts, lossy)
    for part in parts:
        notes_here = notes_of(part, NAME)
        match part:
            case Refusal():
                out["refusal"] = (out.get("refusal") or "") + part.text
            case Audio() if "wire" in notes_here:
                out["audio"] = notes_here["wire"]
            case Image() if (notes_here.get("form") == "images" or not own) and part.source.file_id is None:
                out.setdefault("images", []).append(image_wire(part))
            case Text() | ToolCall() | Reasoning():
                pass
            case Opaque() if notes_here.get("form") == "executed":
                pass
            case _ if _list_part(part) is None or notes.get("form") != "list":
                lossy.append(
                    f"opaque:{part.data.get('type', part.dialect)}"
                    if isinstance(part, Opaque)
                    else type(part).__name__.lower()
                )
    _call(out, [part for part in parts if isinstance(part, ToolCall)], legacy)
    return out


def _reason(out: dict[str, Any], parts: Sequence[Part], lossy: list[str]) -> None:
    """In the field it came in; thinking of other formats in `reasoning_content`, the field that most clients read."""
    for part in parts:
        if not isinstance(part, Reasoning) or "wire" in notes_of(part, NAME):
            continue
        notes = notes_of(part, NAME)
        field = notes.get("field") or (None if notes.get("form") == "field" else REASONING_FIELDS[0])
        if field is not None and part.text:
            out[field] = (out.get(field) or "") + part.text
        if part.signature or part.encrypted:
            lossy.append("reasoning_signature")


def _list_part(part: Part) -> dict[str, Any] | None:
    if isinstance(part, Text):
        return {**rest_of(part, NAME), "type": "text", "text": part.text}
    if isinstance(part, Reasoning):
        return notes_of(part, NAME).get("wire")
    return part.data if isinstance(part, Opaque) and part.dialect == NAME else None


def image_wire(part: Image) -> dict[str, Any]:
    notes = notes_of(part, NAME)
    url = notes.get("url") or part.source.url or data_url(part.source)
    return {**rest_of(part, NAME), "type": "image_url", "image_url": {**notes.get("inner", {}), "url": url}}


def _call(out: dict[str, Any], calls: Sequence[ToolCall], legacy: bool) -> None:
    if calls and (legacy or notes_of(calls[0], NAME).get("form") == "legacy"):
        out["function_call"] = render_legacy(calls[0])
    elif calls:
        out["tool_calls"] = [render_call(call, show_signature=True) for call in calls]


def merged_logprobs(logprobs: Any) -> Any:
    """Of a stream, the pieces of each delta; the format has one object."""
    if not isinstance(logprobs, list):
        return logprobs
    merged: dict[str, Any] = {}
    for piece in logprobs:
        for key, tokens in piece.items() if isinstance(piece, dict) else ():
            if isinstance(tokens, list):
                merged[key] = [*(merged.get(key) or []), *tokens]
            else:
                merged.setdefault(key, tokens)
    return merged
