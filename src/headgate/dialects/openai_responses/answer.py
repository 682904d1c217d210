"""Complete Responses answers: JSON ↔ core, and the skim that passthrough needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.chat import ChatRequest, Choice, FinishReason, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.dialect import Facts, Quirks, View
from headgate.core.errors import HeadgateError, UpstreamFault, fault, wire_type
from headgate.core.events import ChatAnswer
from headgate.core.usage import Usage
from headgate.dialects.faults import classify
from headgate.dialects.jsonio import decode_upstream
from headgate.dialects.openai_responses.items import NAME, parse_item, reasoning_item, render_part
from headgate.dialects.openai_responses.render import RequestRenderer
from headgate.dialects.residue import extension, leftover, notes_of, rest_of

_ANSWER = frozenset({"id", "object", "created_at", "model", "output", "usage"})
UNFINISHED = frozenset({"queued", "in_progress"})
INCOMPLETE: Mapping[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}


def parse_answer(body: bytes, quirks: Quirks) -> ChatAnswer:
    """Raises the fault that a failed response, an error inside a 200, or no output at all, is."""
    return answer_of(decode_upstream(body))


def answer_of(raw: Any) -> ChatAnswer:
    if not isinstance(raw, dict):
        raise fault("invalid_answer", "the provider's answer is not an object")
    if raw.get("error"):
        raise error_of(raw["error"], None, {})
    if not isinstance(raw.get("output"), list):
        raise fault("invalid_answer", "the provider's answer holds no output")
    parts: list[Part] = []
    for number, item in enumerate(raw["output"]):
        if isinstance(item, dict):
            parts += parse_item(item, number, f"output[{number}]")
    finish, native = finish_of(raw, parts)
    tokens = [token for part in parts if isinstance(part, Text) for token in rest_of(part, NAME).get("logprobs") or ()]
    created = raw.get("created_at")
    return ChatAnswer(
        id=raw.get("id") or "",
        model=raw.get("model") or "",
        created=int(created) if isinstance(created, int | float) else 0,
        choices=[Choice(parts=parts, finish=finish, native_finish=native, logprobs=logprobs_of(tokens))],
        usage=parse_usage(raw.get("usage")),
        extensions=extension(
            NAME, leftover(raw, _ANSWER), usage=raw.get("usage"), created=created, order=len(raw["output"])
        ),
    )


def logprobs_of(tokens: Any) -> dict[str, Any] | None:
    """Log probabilities in chat's form, which is the vocabulary's; the tokens are written alike."""
    return {"content": list(tokens), "refusal": None} if isinstance(tokens, list) and tokens else None


def finish_of(raw: dict[str, Any], parts: list[Part]) -> tuple[FinishReason, str | None]:
    status = raw.get("status")
    if status == "incomplete":
        reason = str((raw.get("incomplete_details") or {}).get("reason"))
        return INCOMPLETE.get(reason, "other"), reason
    if any(isinstance(part, ToolCall) for part in parts):
        return "tool_calls", status
    if any(isinstance(part, Refusal) for part in parts):
        return "refusal", status
    return "stop", status


def parse_usage(raw: Any) -> Usage | None:
    """input_tokens include cached ones, output_tokens include reasoning."""
    if not isinstance(raw, dict) or not ("input_tokens" in raw or "output_tokens" in raw):
        return None
    inward, outward = raw.get("input_tokens_details") or {}, raw.get("output_tokens_details") or {}
    prompt, said = _count(raw, "input_tokens"), _count(raw, "output_tokens")
    return Usage(
        input=prompt,
        output=said,
        cached_input=min(_count(inward, "cached_tokens"), prompt),
        cache_write=min(_count(inward, "cache_write_tokens"), prompt - min(_count(inward, "cached_tokens"), prompt)),
        reasoning=min(_count(outward, "reasoning_tokens"), said),
    )


def render_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached_input, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


def _count(raw: Any, key: str) -> int:
    value = raw.get(key) if isinstance(raw, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def response_id(given: str, view: View) -> str:
    """An id of this format's form; clients look at the prefix."""
    return given if given.startswith("resp_") else f"resp_{view.id.removeprefix('tr_')}"


def shell(view: View, *, status: str, response_id: str, model: str, created: int) -> dict[str, Any]:
    """A response object without output: all the fields that the official types require, the request's own where known."""
    out: dict[str, Any] = {
        "id": response_id,
        "object": "response",
        "created_at": created or view.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": model or view.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }
    return out | _echo(view.request)


def _echo(request: ChatRequest | None) -> dict[str, Any]:
    if request is None or NAME not in request.extensions:
        return {}
    wire = RequestRenderer(request, Quirks()).render(request.model)
    kept = ("instructions", "max_output_tokens", "parallel_tool_calls", "previous_response_id", "reasoning", "store")
    kept += ("temperature", "text", "tool_choice", "tools", "top_p", "truncation", "user", "metadata")
    return {key: wire[key] for key in kept if wire.get(key) is not None}


def render_answer(answer: ChatAnswer, view: View) -> tuple[dict[str, Any], list[str]]:
    """The wire object and what it could not say. Only the first choice exists in this format."""
    lossy: list[str] = ["choices"] if len(answer.choices) > 1 else []
    notes = notes_of(answer, NAME)
    choice = answer.choices[0] if answer.choices else Choice()
    own = NAME in answer.extensions
    items = output_items(choice.parts, view, lossy)
    if own:
        out: dict[str, Any] = rest_of(answer, NAME)
        out |= {"id": answer.id, "object": "response", "created_at": notes.get("created"), "model": answer.model}
        out["output"] = items
        if "usage" in notes:
            out["usage"] = notes["usage"]
        return out, lossy
    out = shell(
        view,
        status="completed",
        response_id=response_id(answer.id, view),
        model=answer.model,
        created=answer.created,
    )
    out |= ending(choice.finish)
    out["output"] = items
    out["usage"] = render_usage(answer.usage or Usage())
    if choice.logprobs is not None:
        lossy.append("logprobs")
    return out, lossy


def ending(finish: FinishReason) -> dict[str, Any]:
    """Status and incomplete_details for a finish."""
    if finish == "length":
        return {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    if finish == "content_filter":
        return {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    return {"status": "completed"}


def output_items(parts: list[Part], view: View, lossy: list[str]) -> list[dict[str, Any]]:
    """Parts as output items: words that follow each other are one message."""
    out: list[dict[str, Any]] = []
    message: dict[str, Any] | None = None
    number: Any = None
    for place, part in enumerate(parts):
        notes = notes_of(part, NAME)
        if isinstance(part, Text | Refusal) and not (isinstance(part, Opaque)):
            content = render_part(part, "assistant", lossy)
            if message is not None and (notes.get("item") == number):
                message["content"].append(content)
                continue
            head = dict(notes.get("head") or {"id": f"msg_{view.id}_{place}", "type": "message", "status": "completed"})
            message = {**head, "role": "assistant", "content": [content]}
            number = notes.get("item")
            out.append(message)
            continue
        item = _item(part, notes, f"{view.id}_{place}", lossy)
        if item is not None:
            out.append(item)
            message = None
    return out


def _item(part: Part, notes: dict[str, Any], suffix: str, lossy: list[str]) -> dict[str, Any] | None:
    head = dict(notes.get("head") or {})
    match part:
        case ToolCall() if part.custom:
            base = {"id": f"ctc_{suffix}", "type": "custom_tool_call", "call_id": part.id, "name": part.name}
            return {**base, "input": part.arguments, **head}
        case ToolCall():
            base = {"id": f"fc_{suffix}", "type": "function_call", "status": "completed"} if not head else {}
            call = {"type": "function_call", "call_id": part.id, "name": part.name}
            return {**base, **call, "arguments": notes.get("raw", part.arguments), **head}
        case Reasoning():
            if "wire" in notes:
                return dict(notes["wire"])
            if part.signature:
                lossy.append("reasoning_signature")
            return reasoning_item(part, part.id or f"rs_{suffix}") if part.text or part.encrypted else None
        case Opaque() if part.dialect == NAME:
            return part.data
        case Opaque():
            lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
        case _:
            lossy.append(type(part).__name__.lower())
    return None


class _Skim(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    incomplete_details: Any = None
    usage: Any = None
    error: Any = None


_skim = msgspec.json.Decoder(_Skim)


def inspect_answer(body: bytes, quirks: Quirks) -> Facts:
    try:
        raw = _skim.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            answer = parse_answer(body, quirks)
        except UpstreamFault as error:
            return Facts(error=error)
        return Facts(content=True, usage=answer.usage, finish=answer.choices[0].finish, terminal=True, id=answer.id)
    if raw.error:
        return Facts(error=error_of(raw.error, None, {}), usage=parse_usage(raw.usage), terminal=True, id=raw.id)
    if raw.output is None:
        return Facts(error=fault("invalid_answer", "the provider's answer holds no output"))
    if raw.status in UNFINISHED:
        return Facts(pending=True, id=raw.id, model=raw.model)
    if raw.status == "cancelled":
        return Facts(usage=parse_usage(raw.usage), terminal=True, id=raw.id, model=raw.model)
    details = raw.incomplete_details if isinstance(raw.incomplete_details, dict) else {}
    finish = INCOMPLETE.get(details.get("reason") or "", "other") if raw.status == "incomplete" else "stop"
    return Facts(content=True, usage=parse_usage(raw.usage), finish=finish, terminal=True, id=raw.id, model=raw.model)


def error_of(raw: Any, status: int | None, headers: Mapping[str, str]) -> UpstreamFault:
    if not isinstance(raw, dict):
        return classify(status=status, headers=headers, message=str(raw)[:500])
    code = raw.get("code")
    message = raw.get("message")
    return classify(
        status=500 if status is None and code == "server_error" else status,
        headers=headers,
        message=message if isinstance(message, str) else str(raw)[:500],
        code=None if code is None else str(code),
        type=raw.get("type") if isinstance(raw.get("type"), str) else None,
    )


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
    try:
        raw: Any = msgspec.json.decode(body.strip())
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = "" if body.lstrip().startswith(b"<") else body[:500].decode("utf-8", "replace")
        return classify(status=status, headers=headers, message=message)
    if isinstance(raw, dict):
        return error_of(raw.get("error") or raw, status, headers)
    return classify(status=status, headers=headers, message=str(raw)[:500])


def render_error(error: HeadgateError) -> dict[str, Any]:
    kind, code = wire_type(error)
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}
