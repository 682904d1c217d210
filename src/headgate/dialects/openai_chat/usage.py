"""The `usage` object ↔ core.usage.Usage."""

from __future__ import annotations

from typing import Any

from headgate.core.dialect import Quirks
from headgate.core.usage import Media, Usage

_REFERENCE = Quirks()


def parse_usage(raw: Any, quirks: Quirks = _REFERENCE) -> Usage | None:
    """None where the object holds no counts. OpenAI's prompt_tokens include cached and audio tokens, its
    completion_tokens reasoning and audio; not everybody's do: see `_output`."""
    if not isinstance(raw, dict) or not (
        isinstance(raw.get("prompt_tokens"), int) or isinstance(raw.get("completion_tokens"), int)
    ):
        return None
    prompt = _count(raw, "prompt_tokens")
    if len(raw) == 3 and raw.get("total_tokens") == prompt + _count(raw, "completion_tokens"):
        return Usage(input=prompt, output=_count(raw, "completion_tokens"))  # nothing else was said
    inward, outward = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    output, reasoning = _output(
        raw, prompt, _count(outward, "reasoning_tokens") or _count(raw, "reasoning_tokens"), quirks
    )
    cached = (
        _count(inward, "cached_tokens")
        or _count(raw, "prompt_cache_hit_tokens")  # DeepSeek
        or _count(raw, "num_cached_tokens")  # Mistral
        or _count(raw, "cached_tokens")  # Moonshot
    )
    written = _count(inward, "cache_write_tokens") or _count(raw, "cache_creation_input_tokens")
    cached = min(cached, prompt)
    drawn = _count(outward, "image_tokens")  # OpenRouter
    return Usage(
        input=prompt,
        output=output,
        cached_input=cached,
        cache_write=min(written, prompt - cached),
        reasoning=min(reasoning, output),
        audio_input=min(_count(inward, "audio_tokens"), prompt),
        audio_output=min(_count(outward, "audio_tokens"), output),
        media=Media(image_output=drawn) if drawn else None,
    )


def _output(raw: dict[str, Any], prompt: int, reasoning: int, quirks: Quirks) -> tuple[int, int]:
    """(output, reasoning). Who leaves reasoning out of completion_tokens is told by the total (xAI's newer models), by
    more reasoning than output (Gemini models behind routers; some count a token or two amiss), else by the profile. A
    total with more in it than the parts is thinking that is not itemised (Gemini's own endpoint of this format)."""
    said, total = _count(raw, "completion_tokens"), raw.get("total_tokens")
    if not isinstance(total, int) or isinstance(total, bool):
        return (said + reasoning if quirks.output_excludes_reasoning else said), reasoning
    missing = total - prompt - said
    if reasoning:
        left_out = missing == reasoning or (missing <= 0 and reasoning > said + said // 4)
        return (said + reasoning if left_out else said), reasoning
    return (said + missing, missing) if missing > 0 and said and prompt else (said, 0)


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


def _count(raw: Any, key: str) -> int:
    value = raw.get(key) if isinstance(raw, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
