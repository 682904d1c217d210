"""Complete chat answers: JSON ↔ core, and the skim that passthrough needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.chat import (
    Audio,
    Choice,
    FinishReason,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
    text_of,
)
from headgate.core.dialect import Facts, Quirks, View
from headgate.core.errors import UpstreamFault, fault
from headgate.core.events import ChatAnswer
from headgate.core.usage import Usage
from headgate.dialects.faults import classify
from headgate.dialects.jsonio import decode_upstream
from headgate.dialects.openai_chat.parse import NAME, parse_call, parse_part
from headgate.dialects.openai_chat.render import render_call
from headgate.dialects.residue import extension, leftover, notes_of, rest_of

FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "COMPLETE": "stop",
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "refusal",
}
NATIVE: Mapping[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "stop",  # a refusal is a field of the message in this format, not a way to end
    "pause": "stop",
    "other": "stop",
}
_ANSWER = frozenset({"id", "object", "created", "model", "choices", "usage"})
_CHOICE = frozenset({"index", "message", "finish_reason", "logprobs"})
_MESSAGE = frozenset({"role", "content", "refusal", "tool_calls", "function_call", "audio", "annotations"})


def parse_answer(body: bytes, quirks: Quirks) -> ChatAnswer:
    """Raises the fault that an error inside a 200, or no choices at all, is."""
    raw = decode_upstream(body)
    if not isinstance(raw, dict):
        raise fault("invalid_answer", "the provider's answer is not an object")
    if raw.get("error") and not raw.get("choices"):
        raise error_of(raw["error"], None, {})
    choices = raw.get("choices")
    if not isinstance(choices, list) or not choices:
        raise fault("invalid_answer", "the provider's answer holds no choices")
    notes = {"object": raw.get("object")} if raw.get("object") != "chat.completion" else {}
    return ChatAnswer(
        id=raw.get("id") or "",
        model=raw.get("model") or "",
        created=_count(raw, "created"),
        choices=[_choice(choice) for choice in choices],
        usage=parse_usage(raw.get("usage"), quirks),
        extensions=extension(NAME, leftover(raw, _ANSWER), usage=raw.get("usage"), **notes),
    )


def _choice(raw: Any) -> Choice:
    if not isinstance(raw, dict):
        raise fault("invalid_answer", "a choice of the provider's answer is not an object")
    message = raw.get("message") or {}
    native = raw.get("finish_reason")
    parts = message_parts(message)
    return Choice(
        parts=parts,
        finish=finish_of(native, parts),
        native_finish=native,
        logprobs=raw.get("logprobs"),
        extensions=extension(
            NAME,
            leftover(raw, _CHOICE),
            message=leftover(message, _MESSAGE) or None,
            absent=None if "message" in raw else True,
        ),
    )


def finish_of(native: Any, parts: list[Part]) -> FinishReason:
    if isinstance(native, str) and native in FINISH:
        reason = FINISH[native]
        if reason == "stop" and any(isinstance(part, ToolCall) for part in parts):
            return "tool_calls"
        if reason == "stop" and any(isinstance(part, Refusal) for part in parts):
            return "refusal"
        return reason
    return "other" if native is not None else ("tool_calls" if any(isinstance(p, ToolCall) for p in parts) else "stop")


def message_parts(message: dict[str, Any]) -> list[Part]:
    """Thinking, words, refusal, audio, calls: in the order in which a reader would meet them."""
    parts: list[Part] = []
    for field in ("reasoning_content", "reasoning"):
        if isinstance(message.get(field), str) and message[field]:
            parts.append(Reasoning(text=message[field], extensions=extension(NAME, {}, form="field")))
            break
    content = message.get("content")
    if isinstance(content, str):
        if content:
            parts.append(Text(text=content, citations=_citations(message)))
    elif isinstance(content, list):
        parts += [part for raw in content for part in answer_parts(raw)]
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        parts.append(Refusal(text=message["refusal"]))
    if isinstance(message.get("audio"), dict):
        audio = message["audio"]
        parts.append(
            Audio(
                source=Source(data=audio.get("data")),
                id=audio.get("id"),
                transcript=audio.get("transcript"),
                extensions=extension(NAME, {"audio": audio}),
            )
        )
    parts += [parse_call(call) for call in message.get("tool_calls") or []]
    if isinstance(message.get("function_call"), dict):
        call = message["function_call"]
        name = str(call.get("name", ""))
        legacy = extension(NAME, {}, form="legacy")
        parts.append(ToolCall(id=f"call_{name}", name=name, arguments=call.get("arguments") or "{}", extensions=legacy))
    return parts


def answer_parts(raw: Any) -> list[Part]:
    """List content: text parts, and Mistral's thinking."""
    if isinstance(raw, dict) and raw.get("type") == "thinking":
        pieces = raw.get("thinking")
        text = pieces if isinstance(pieces, str) else text_of([p for x in pieces or [] for p in answer_parts(x)])
        return [Reasoning(text=text, extensions=extension(NAME, {}, wire=raw))]
    return [parse_part(raw, "content")]


def _citations(message: dict[str, Any]) -> list[dict[str, Any]]:
    found = message.get("annotations")
    return [{"kind": NAME, **c} for c in found if isinstance(c, dict)] if isinstance(found, list) else []


def parse_usage(raw: Any, quirks: Quirks) -> Usage | None:
    """OpenAI: prompt_tokens include cached and audio, completion_tokens include reasoning and audio. xAI's newer models
    leave reasoning out of completion_tokens: total_tokens tells."""
    if not isinstance(raw, dict) or not any(
        isinstance(raw.get(k), int) for k in ("prompt_tokens", "completion_tokens")
    ):
        return None
    prompt, said = _count(raw, "prompt_tokens"), _count(raw, "completion_tokens")
    inward = raw.get("prompt_tokens_details") or {}
    outward = raw.get("completion_tokens_details") or {}
    reasoning = _count(outward, "reasoning_tokens") or _count(raw, "reasoning_tokens")
    total = raw.get("total_tokens")
    excluded = quirks.output_excludes_reasoning
    if reasoning and isinstance(total, int):
        excluded = total == prompt + said + reasoning and total != prompt + said
    cached = (
        _count(inward, "cached_tokens") or _count(raw, "prompt_cache_hit_tokens") or _count(raw, "num_cached_tokens")
    )
    output = said + reasoning if excluded else said
    return Usage(
        input=prompt,
        output=output,
        cached_input=min(cached, prompt),
        cache_write=min(_count(inward, "cache_write_tokens"), prompt),
        reasoning=min(reasoning, output),
        audio_input=_count(inward, "audio_tokens"),
        audio_output=_count(outward, "audio_tokens"),
    )


def render_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input,
            "audio_tokens": usage.audio_input,
            **({"cache_write_tokens": usage.cache_write} if usage.cache_write else {}),
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output},
    }


def _count(raw: Any, key: str) -> int:
    value = raw.get(key) if isinstance(raw, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def render_answer(answer: ChatAnswer, view: View) -> tuple[dict[str, Any], list[str]]:
    """The wire object and what it could not say."""
    lossy: list[str] = []
    notes = notes_of(answer, NAME)
    out: dict[str, Any] = {
        "id": answer.id or view.id,
        "object": notes.get("object") or "chat.completion",
        "created": answer.created or view.created,
        "model": answer.model or view.model,
        "choices": [_render_choice(choice, index, lossy) for index, choice in enumerate(answer.choices)],
    }
    if "usage" in notes:
        out["usage"] = notes["usage"]
    elif answer.usage is not None:
        out["usage"] = render_usage(answer.usage)
    out.update(rest_of(answer, NAME))
    return out, lossy


def _render_choice(choice: Choice, index: int, lossy: list[str]) -> dict[str, Any]:
    notes = notes_of(choice, NAME)
    native = choice.native_finish if NAME in choice.extensions or choice.native_finish in FINISH else None
    out: dict[str, Any] = {"index": index}
    if not notes.get("absent"):
        out["message"] = {**render_message(choice.parts, lossy), **notes.get("message", {})}
    out["logprobs"] = choice.logprobs
    out["finish_reason"] = native if native in NATIVE.values() else NATIVE[choice.finish]
    return {**rest_of(choice, NAME), **out}


def render_message(parts: list[Part], lossy: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    texts = [part for part in parts if isinstance(part, Text)]
    if texts:
        out["content"] = text_of(list(texts))
    annotations = [c for text in texts for c in text.citations]
    own = [{k: v for k, v in c.items() if k != "kind"} for c in annotations if c.get("kind") == NAME]
    if own:
        out["annotations"] = own
    if len(own) < len(annotations):
        lossy.append("citations")
    thoughts = "".join(part.text for part in parts if isinstance(part, Reasoning))
    if thoughts:
        out["reasoning_content"] = thoughts
    for part in parts:
        match part:
            case Refusal():
                out["refusal"] = (out["refusal"] or "") + part.text
            case Audio():
                audio = rest_of(part, NAME).get("audio")
                if audio:
                    out["audio"] = audio
                else:
                    lossy.append("audio")
            case Reasoning():
                if part.signature or part.encrypted:
                    lossy.append("reasoning_signature")
            case Text() | ToolCall():
                pass
            case Opaque():
                lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
            case _:
                lossy.append(type(part).__name__.lower())
    calls = [part for part in parts if isinstance(part, ToolCall)]
    legacy = [call for call in calls if notes_of(call, NAME).get("form") == "legacy"]
    if legacy:
        out["function_call"] = {"name": legacy[0].name, "arguments": legacy[0].arguments}
    elif calls:
        out["tool_calls"] = [render_call(call) for call in calls]
    return out


class _SkimChoice(msgspec.Struct):
    finish_reason: str | None = None


class _Skim(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_SkimChoice] | None = None
    usage: Any = None
    error: Any = None


_skim = msgspec.json.Decoder(_Skim)


def inspect_answer(body: bytes, quirks: Quirks) -> Facts:
    """Usage, finish and ids without decoding the words."""
    try:
        skim = _skim.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            parse_answer(body, quirks)  # tells broken from merely unusual
            skim = _loose(body)
        except UpstreamFault as error:
            return Facts(error=error)
    if skim.error and not skim.choices:
        return Facts(error=error_of(skim.error, None, {}))
    if not skim.choices:
        return Facts(error=fault("invalid_answer", "the provider's answer holds no choices"))
    native = skim.choices[0].finish_reason
    return Facts(
        content=True,
        usage=parse_usage(skim.usage, quirks),
        finish=FINISH.get(native or "stop", "other"),
        terminal=True,
        id=skim.id,
        model=skim.model,
    )


def _loose(body: bytes) -> _Skim:
    """An answer whose ids or the like have unexpected types."""
    raw = decode_upstream(body)
    choices = [_SkimChoice() for _ in raw.get("choices") or []]
    return _Skim(id=str(raw.get("id") or ""), choices=choices, usage=raw.get("usage"))


def error_of(raw: Any, status: int | None, headers: Mapping[str, str]) -> UpstreamFault:
    """The fault in OpenAI's `error` object, or whatever stands in its place."""
    if not isinstance(raw, dict):
        return classify(status=status, headers=headers, message=str(raw))
    code = raw.get("code")
    message = raw.get("message")
    if isinstance((meta := raw.get("metadata")), dict) and isinstance(meta.get("raw"), str):
        message = f"{message}: {meta['raw']}"  # OpenRouter: the provider's own words are behind its own
    return classify(
        status=raw.get("status_code") if status is None and isinstance(raw.get("status_code"), int) else status,
        headers=headers,
        message=message if isinstance(message, str) else str(raw)[:500],
        code=None if code is None else str(code),
        type=raw.get("type") if isinstance(raw.get("type"), str) else None,
    )
