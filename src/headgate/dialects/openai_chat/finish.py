"""Why an answer ended: the words of everyone who speaks this format ↔ core's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headgate.core.chat import FinishReason, Part, Refusal, ToolCall

FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
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
BROKEN = frozenset({"error", "insufficient_system_resource", "abort"})
"""Finish reasons by which OpenRouter and Mistral, DeepSeek and vLLM say that there is no answer."""
OWN = frozenset({*NATIVE.values(), "function_call"})


def finish_of(native: Any, *, calls: bool, refused: bool) -> FinishReason:
    """`native` may be absent or empty: then what was said decides."""
    reason = FINISH.get(native.lower(), "other") if isinstance(native, str) and native else "stop"
    if reason == "stop" and calls:
        return "tool_calls"
    if reason == "stop" and refused:
        return "refusal"
    return reason


def finish_of_parts(native: Any, parts: Iterable[Part]) -> FinishReason:
    parts = list(parts)
    return finish_of(
        native,
        calls=any(isinstance(part, ToolCall) for part in parts),
        refused=any(isinstance(part, Refusal) for part in parts),
    )


def native_of(reason: FinishReason, native: str | None, *, own: bool) -> str:
    """What a client of this format reads. An answer of this format (`own`) keeps its word even where another would fit
    better (OpenAI says stop to a forced call); of other formats a word is kept where it means the same here."""
    if native is not None and native in OWN and (own or FINISH[native] == reason):
        return native
    return NATIVE[reason]
