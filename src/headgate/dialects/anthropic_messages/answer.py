"""Complete Messages answers: JSON ↔ core, and the skim that passthrough needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.chat import Choice, FinishReason, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.dialect import Facts, Quirks, View
from headgate.core.errors import HeadgateError, UpstreamFault, fault, http_status
from headgate.core.events import ChatAnswer
from headgate.core.usage import Usage
from headgate.dialects.anthropic_messages.parse import NAME, parse_block
from headgate.dialects.faults import classify
from headgate.dialects.jsonio import decode_upstream
from headgate.dialects.residue import extension, leftover, notes_of, rest_of

FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
}
NATIVE: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "other": "end_turn",
}
_ANSWER = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"})
# CLIENTS §2: Anthropic's error types by HTTP status.
ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def parse_answer(body: bytes, quirks: Quirks) -> ChatAnswer:
    """Raises the fault that an error inside a 200, or no content at all, is."""
    raw = decode_upstream(body)
    if not isinstance(raw, dict) or raw.get("type") == "error" or not isinstance(raw.get("content"), list):
        raise _not_an_answer(raw)
    parts = [parse_block(block, "content") for block in raw["content"]]
    native = raw.get("stop_reason")
    choice = Choice(
        parts=parts,
        finish=FINISH.get(native or "end_turn", "other"),
        native_finish=native,
        stop_sequence=raw.get("stop_sequence"),
    )
    return ChatAnswer(
        id=raw.get("id") or "",
        model=raw.get("model") or "",
        choices=[choice],
        usage=parse_usage(raw.get("usage")),
        extensions=extension(NAME, leftover(raw, _ANSWER), usage=raw.get("usage")),
    )


def _not_an_answer(raw: Any) -> UpstreamFault:
    if isinstance(raw, dict) and raw.get("error"):
        return error_of(raw, None, {})
    return fault("invalid_answer", "the provider's answer holds no content")


def parse_usage(raw: Any) -> Usage | None:
    """input_tokens exclude cache reads and writes here; output_tokens include thinking."""
    if not isinstance(raw, dict) or not ("input_tokens" in raw or "output_tokens" in raw):
        return None
    cached, written = _count(raw, "cache_read_input_tokens"), _count(raw, "cache_creation_input_tokens")
    output = _count(raw, "output_tokens")
    details = raw.get("output_tokens_details") or {}
    return Usage(
        input=_count(raw, "input_tokens") + cached + written,
        output=output,
        cached_input=cached,
        cache_write=written,
        reasoning=min(_count(details, "thinking_tokens") or _count(details, "reasoning_tokens"), output),
    )


def render_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": max(usage.input - usage.cached_input - usage.cache_write, 0),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached_input,
        "output_tokens": usage.output,
    }


def _count(raw: Any, key: str) -> int:
    value = raw.get(key) if isinstance(raw, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def render_answer(answer: ChatAnswer, view: View) -> tuple[dict[str, Any], list[str]]:
    """The wire object and what it could not say. Only the first choice exists in this format."""
    lossy: list[str] = ["choices"] if len(answer.choices) > 1 else []
    choice = answer.choices[0] if answer.choices else Choice()
    if choice.logprobs is not None:
        lossy.append("logprobs")
    notes = notes_of(answer, NAME)
    native = choice.native_finish if choice.native_finish in FINISH else NATIVE[choice.finish]
    out: dict[str, Any] = {
        "id": answer.id or f"msg_{view.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model or view.model,
        "content": [block for part in choice.parts if (block := render_block(part, lossy)) is not None],
        "stop_reason": "stop_sequence" if choice.stop_sequence else native,
        "stop_sequence": choice.stop_sequence,
        "usage": notes.get("usage") or render_usage(answer.usage or Usage()),
    }
    return {**rest_of(answer, NAME), **out}, lossy


def render_block(part: Part, lossy: list[str]) -> dict[str, Any] | None:
    """One content block of an answer; None where the format has none for it."""
    out = rest_of(part, NAME)
    match part:
        case Text():
            out |= {"type": "text", "text": part.text}
            own = [{k: v for k, v in c.items() if k != "kind"} for c in part.citations if c.get("kind") == NAME]
            if own:
                out["citations"] = own
            if len(own) < len(part.citations):
                lossy.append("citations")
        case Refusal():
            out |= {"type": "text", "text": part.text}
        case Reasoning():
            if part.encrypted is not None and not part.text:
                if notes_of(part, NAME).get("redacted"):
                    return {"type": "redacted_thinking", "data": part.encrypted}
                lossy.append("reasoning_encrypted")
                return None
            out |= {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
        case ToolCall():
            out |= {"type": "tool_use", "id": part.id, "name": part.name, "input": tool_input(part.arguments)}
        case Opaque() if part.dialect == NAME:
            return part.data
        case Opaque():
            lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
            return None
        case _:
            lossy.append(type(part).__name__.lower())
            return None
    return out


def tool_input(arguments: str) -> Any:
    """The object of a call's arguments; what is no JSON object is wrapped, never lost."""
    try:
        value = msgspec.json.decode(arguments or "{}")
    except msgspec.DecodeError:
        return {"input": arguments}
    return value if isinstance(value, dict) else {"input": value}


class _Skim(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    usage: Any = None
    error: Any = None


_skim = msgspec.json.Decoder(_Skim)


def inspect_answer(body: bytes, quirks: Quirks) -> Facts:
    try:
        raw = _skim.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            answer = parse_answer(body, quirks)
        except UpstreamFault as error:
            return Facts(error=error)
        return Facts(content=True, usage=answer.usage, finish="stop", terminal=True, id=answer.id)
    if raw.type == "error" or raw.content is None:
        return Facts(error=_not_an_answer({"error": raw.error} if raw.error else None))
    return Facts(
        content=True,
        usage=parse_usage(raw.usage),
        finish=FINISH.get(raw.stop_reason or "end_turn", "other"),
        terminal=True,
        id=raw.id,
        model=raw.model,
    )


def error_of(raw: Any, status: int | None, headers: Mapping[str, str]) -> UpstreamFault:
    """`{"type": "error", "error": {"type", "message"}}`."""
    error = raw.get("error") if isinstance(raw, dict) else None
    if not isinstance(error, dict):
        return classify(status=status, headers=headers, message=str(error or raw)[:500])
    kind = error.get("type") if isinstance(error.get("type"), str) else None
    by_type = {name: code for code, name in ERROR_TYPES.items()}
    if status is None and kind in by_type:
        status = 529 if kind == "overloaded_error" else by_type[kind]
    elif status is None and kind == "api_error":
        status = 500
    message = error.get("message")
    return classify(status=status, headers=headers, message=message if isinstance(message, str) else "", type=kind)


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = "" if body.lstrip().startswith(b"<") else body[:500].decode("utf-8", "replace")
        return classify(status=status, headers=headers, message=text)
    return error_of(raw, status, headers)


def render_error(error: HeadgateError, request_id: str) -> dict[str, Any]:
    status = http_status(error)
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}
