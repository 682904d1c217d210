"""The `usage` object ↔ core.usage.Usage."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from headgate.core.dialect import Quirks
from headgate.core.usage import Media, Usage

_REFERENCE = Quirks()
_Count = Annotated[int, msgspec.Meta(ge=0)] | None


class _Details(msgspec.Struct):
    cached_tokens: _Count = None
    cache_write_tokens: _Count = None
    audio_tokens: _Count = None
    reasoning_tokens: _Count = None
    image_tokens: _Count = None
    """OpenRouter's."""


class _Counts(msgspec.Struct):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    reasoning_tokens: _Count = None
    prompt_cache_hit_tokens: _Count = None
    """DeepSeek's."""
    num_cached_tokens: _Count = None
    """Mistral's."""
    cached_tokens: _Count = None
    """Moonshot's."""
    cache_creation_input_tokens: _Count = None


_NO_DETAILS = _Details()
_DETAILED = frozenset({"prompt_tokens_details", "completion_tokens_details"})


def parse_usage(raw: Any, quirks: Quirks = _REFERENCE) -> Usage | None:
    """None where the object holds no counts. OpenAI's prompt_tokens include cached and audio tokens, its
    completion_tokens reasoning and audio; not everybody's do: see `_output`."""
    if not isinstance(raw, dict) or not (
        isinstance(raw.get("prompt_tokens"), int) or isinstance(raw.get("completion_tokens"), int)
    ):
        return None
    try:
        said = msgspec.convert(raw, _Counts)
    except msgspec.ValidationError:
        said = msgspec.convert(_cleaned(raw), _Counts)
    inward, outward = said.prompt_tokens_details or _NO_DETAILS, said.completion_tokens_details or _NO_DETAILS
    prompt = said.prompt_tokens or 0
    output, reasoning = _output(said, prompt, outward.reasoning_tokens or said.reasoning_tokens or 0, quirks)
    cached = inward.cached_tokens or said.prompt_cache_hit_tokens or said.num_cached_tokens or said.cached_tokens or 0
    written = inward.cache_write_tokens or said.cache_creation_input_tokens or 0
    cached = min(cached, prompt)
    drawn = outward.image_tokens
    return Usage(
        input=prompt,
        output=output,
        cached_input=cached,
        cache_write=min(written, prompt - cached),
        reasoning=min(reasoning, output),
        audio_input=min(inward.audio_tokens or 0, prompt),
        audio_output=min(outward.audio_tokens or 0, output),
        media=Media(image_output=drawn) if drawn else None,
    )


def _cleaned(raw: dict[str, Any]) -> dict[str, Any]:
    """Without what is no count: what a provider says in a way of its own must not hide the rest."""
    out: dict[str, Any] = {}
    for key, value in raw.items():
        if key in _DETAILED:
            if isinstance(value, dict):
                out[key] = _cleaned(value)
        elif isinstance(value, int) and not isinstance(value, bool) and (value > 0 or key == "total_tokens"):
            out[key] = value
    return out


def _output(said: _Counts, prompt: int, reasoning: int, quirks: Quirks) -> tuple[int, int]:
    """(output, reasoning). Who leaves reasoning out of completion_tokens is told by the total (xAI's newer models), by
    more reasoning than output (Gemini models behind routers; some count a token or two amiss), else by the profile. A
    total with more in it than the parts is thinking that is not itemised (Gemini's own endpoint of this format)."""
    output, total = said.completion_tokens or 0, said.total_tokens
    if total is None:
        return (output + reasoning if quirks.output_excludes_reasoning else output), reasoning
    missing = total - prompt - output
    if reasoning:
        left_out = missing == reasoning or (missing <= 0 and reasoning > output + output // 4)
        return (output + reasoning if left_out else output), reasoning
    return (output + missing, missing) if missing > 0 and output and prompt else (output, 0)


def render_usage(usage: Usage) -> dict[str, Any]:
    inward: dict[str, Any] = {"cached_tokens": usage.cached_input, "audio_tokens": usage.audio_input}
    if usage.cache_write:
        inward["cache_write_tokens"] = usage.cache_write
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": inward,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output},
    }


def says(raw: Any, usage: Usage | None) -> bool:
    """Whether the wire's object still says what `usage` says, by any provider's accounting."""
    if usage is None:
        return parse_usage(raw) is None
    return usage in (parse_usage(raw), parse_usage(raw, Quirks(output_excludes_reasoning=True)))
