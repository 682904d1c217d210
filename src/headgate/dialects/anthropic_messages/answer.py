"""Complete Messages answers: JSON ↔ core, and the skim that passthrough needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.chat import Choice, Extensions, FinishReason, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.dialect import Facts, Quirks, View
from headgate.core.errors import UpstreamFault, fault
from headgate.core.events import ChatAnswer, Finished
from headgate.core.usage import Usage
from headgate.dialects.anthropic_messages.errors import error_of
from headgate.dialects.anthropic_messages.parse import NAME, parse_block
from headgate.dialects.jsonio import decode_upstream
from headgate.dialects.residue import extension, notes_of, rest_of

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
ANSWER = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"})


def parse_answer(body: bytes, quirks: Quirks) -> ChatAnswer:
    """Raises the fault that an error inside a 200, or no content at all, is."""
    raw = decode_upstream(body)
    content = raw.get("content") if isinstance(raw, dict) and raw.get("type") != "error" else None
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise _not_an_answer(raw)
    native = string(raw.get("stop_reason"))
    choice = Choice(
        parts=[parse_block(block, "content") for block in content],
        finish=finish_of(native),
        native_finish=native,
        stop_sequence=string(raw.get("stop_sequence")),
    )
    return ChatAnswer(
        id=string(raw.get("id")) or "",
        model=string(raw.get("model")) or "",
        choices=[choice],
        usage=parse_usage(raw.get("usage")),
        extensions=notes({key: value for key, value in raw.items() if key not in ANSWER}, raw.get("usage")),
    )


def notes(rest: Mapping[str, Any], usage: Any) -> Extensions:
    """An answer's extensions: fields that we do not know, and the usage in its own words. Their presence says that the
    answer was given in this format."""
    return extension(NAME, rest, own=True, usage=usage)


def finish_of(native: str | None) -> FinishReason:
    return FINISH.get(native, "other") if native is not None else "stop"


def stop_reason(end: Choice | Finished, own: bool) -> str:
    """An answer of this format keeps its word, also one that we do not know."""
    native = end.native if isinstance(end, Finished) else end.native_finish
    reason = end.reason if isinstance(end, Finished) else end.finish
    if own and native is not None:
        return native
    return "stop_sequence" if reason == "stop" and end.stop_sequence is not None else NATIVE[reason]


def answer_id(given: str, view: View, own: bool) -> str:
    return given if given and (own or given.startswith("msg_")) else f"msg_{view.id.removeprefix('tr_')}"


def string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _not_an_answer(raw: Any) -> UpstreamFault:
    if isinstance(raw, dict) and raw.get("error"):
        return error_of(raw, None, {})
    return fault("invalid_answer", "the provider's answer holds no content")


def parse_usage(raw: Any) -> Usage | None:
    """input_tokens exclude cache reads and writes here; output_tokens include thinking. What compacting the conversation
    used is billed too, and stands only in `iterations`; those of other models (advisor) are left there: they have
    prices of their own."""
    if not isinstance(raw, dict) or not ("input_tokens" in raw or "output_tokens" in raw):
        return None
    usage = _parse_counts(raw)
    iterations = raw.get("iterations")
    if isinstance(iterations, list):
        for one in iterations:
            if isinstance(one, dict) and one.get("type") == "compaction":
                usage += _parse_counts(one)
    return usage


def _parse_counts(raw: dict[str, Any]) -> Usage:
    cached, written = _count(raw, "cache_read_input_tokens"), _count(raw, "cache_creation_input_tokens")
    output = _count(raw, "output_tokens")
    details = raw.get("output_tokens_details")
    hour = _count(raw.get("cache_creation"), "ephemeral_1h_input_tokens")
    return Usage(
        input=_count(raw, "input_tokens") + cached + written,
        output=output,
        cached_input=cached,
        cache_write=written,
        cache_write_1h=min(hour, written),
        reasoning=min(_count(details, "thinking_tokens") or _count(details, "reasoning_tokens"), output),
    )


def render_usage(usage: Usage, own: Any = None) -> dict[str, Any]:
    """`own`: the same in this format's own words, where it came in them and still says the same."""
    if own is not None and parse_usage(own) == usage:
        return own
    out: dict[str, Any] = {
        "input_tokens": max(usage.input - usage.cached_input - usage.cache_write, 0),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached_input,
        "output_tokens": usage.output,
    }
    if usage.reasoning:
        out["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return out


def _count(raw: Any, key: str) -> int:
    value = raw.get(key) if isinstance(raw, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def render_answer(answer: ChatAnswer, view: View) -> tuple[dict[str, Any], list[str]]:
    """The wire object and what it could not say. Only the first choice exists in this format."""
    lossy: list[str] = ["choices"] if len(answer.choices) > 1 else []
    choice = answer.choices[0] if answer.choices else Choice()
    if choice.logprobs is not None:
        lossy.append("logprobs")
    own = NAME in answer.extensions
    blocks = [render_block(part, lossy, own=own) for part in choice.parts]
    out: dict[str, Any] = {
        "id": answer_id(answer.id, view, own),
        "type": "message",
        "role": "assistant",
        "model": answer.model or view.model,
        "content": [block for block in blocks if block is not None],
        "stop_reason": stop_reason(choice, own),
        "stop_sequence": choice.stop_sequence,
        "usage": render_usage(answer.usage or Usage(), notes_of(answer, NAME).get("usage")),
    }
    return {**rest_of(answer, NAME), **out}, lossy


def render_block(part: Part, lossy: list[str], *, own: bool) -> dict[str, Any] | None:
    """One content block of an answer; None where the format has none for it. `own`: the answer came in this format."""
    out = rest_of(part, NAME)
    match part:
        case Text():
            mine = [{k: v for k, v in c.items() if k != "kind"} for c in part.citations if c.get("kind") == NAME]
            if len(mine) < len(part.citations):
                lossy.append("citations")
            if not part.text and not own:
                return None  # no client may send an empty block back
            out |= {"type": "text", "text": part.text}
            if mine:
                out["citations"] = mine
        case Refusal():
            out |= {"type": "text", "text": part.text}
        case Reasoning():
            return _thinking(part, lossy, own=own)
        case ToolCall():
            out |= {"type": "tool_use", "id": part.id, "name": part.name, "input": call_input(part)}
        case Opaque() if part.dialect == NAME:
            return part.data
        case Opaque():
            lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
            return None
        case _:
            lossy.append(type(part).__name__.lower())
            return None
    return out


def _thinking(part: Reasoning, lossy: list[str], *, own: bool) -> dict[str, Any] | None:
    """Other providers' signatures are kept back: a client would send them where they prove nothing. Thinking without a
    signature is shown, and left out when it comes back."""
    if notes_of(part, NAME).get("redacted"):
        return {"type": "redacted_thinking", "data": part.encrypted or ""}
    own = own or NAME in part.extensions
    if not own and (part.signature or part.encrypted):
        lossy.append("reasoning_signature")
    if not own and not part.text:
        return None
    signature = part.signature or "" if own else ""
    return {**rest_of(part, NAME), "type": "thinking", "thinking": part.text, "signature": signature}


def call_input(call: ToolCall) -> Any:
    return {"input": call.arguments} if call.custom else tool_input(call.arguments)


def tool_input(arguments: str) -> Any:
    """The object of a call's arguments; what is no JSON object is wrapped, never lost. (`[]` is how some languages write an
    object without fields.)"""
    try:
        value = msgspec.json.decode(arguments or "{}")
    except msgspec.DecodeError:
        return {"input": arguments}
    return {} if value == [] else value if isinstance(value, dict) else {"input": value}


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
        finish = answer.choices[0].finish
        return Facts(content=True, usage=answer.usage, finish=finish, terminal=True, id=answer.id, model=answer.model)
    if raw.type == "error" or raw.content is None:
        return Facts(error=_not_an_answer({"error": raw.error} if raw.error else None))
    return Facts(
        content=True,
        usage=parse_usage(raw.usage),
        finish=finish_of(raw.stop_reason),
        terminal=True,
        id=raw.id,
        model=raw.model,
    )
