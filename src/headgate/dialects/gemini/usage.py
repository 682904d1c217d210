"""usageMetadata and logprobsResult ↔ core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.core.usage import Media, Usage
from headgate.dialects.gemini.names import get

_AUDIO = ("AUDIO", 4)  # the enum's number where the client asked for numbers
_IMAGE = ("IMAGE", 2)


def parse_usage(raw: Any) -> Usage | None:
    """promptTokenCount includes cached tokens; candidatesTokenCount excludes thoughts; the tokens of tools' results that
    were read come on top (true in all recorded blocks: total = prompt + candidates + thoughts + toolUsePrompt)."""
    if not isinstance(raw, dict):
        return None
    prompt = _count(raw, "promptTokenCount") + _count(raw, "toolUsePromptTokenCount")
    thoughts = _count(raw, "thoughtsTokenCount")
    output = _count(raw, "candidatesTokenCount") + thoughts
    if not prompt and not output:
        return None
    cached = min(_count(raw, "cachedContentTokenCount"), prompt)
    audio = _of(_AUDIO, raw, "promptTokensDetails") + _of(_AUDIO, raw, "toolUsePromptTokensDetails")
    audio_input = max(audio - _of(_AUDIO, raw, "cacheTokensDetails"), 0)  # cached audio is billed as cached
    drawn = min(_of(_IMAGE, raw, "candidatesTokensDetails"), output - thoughts)
    return Usage(
        input=prompt,
        output=output,
        cached_input=cached,
        reasoning=thoughts,
        audio_input=min(audio_input, prompt - cached),
        audio_output=min(_of(_AUDIO, raw, "candidatesTokensDetails"), output - thoughts),
        media=Media(image_output=drawn) if drawn else None,
    )


def render_usage(usage: Usage) -> dict[str, Any]:
    spoken = max(usage.output - usage.reasoning, 0)
    out: dict[str, Any] = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": spoken,
        "totalTokenCount": usage.total,
    }
    if usage.cached_input:
        out["cachedContentTokenCount"] = usage.cached_input
    if usage.reasoning:
        out["thoughtsTokenCount"] = usage.reasoning
    if usage.audio_input:
        out["promptTokensDetails"] = _details(usage.input, usage.audio_input)
    if usage.audio_output:
        out["candidatesTokensDetails"] = _details(spoken, usage.audio_output)
    elif usage.media is not None and usage.media.image_output:
        out["candidatesTokensDetails"] = _details(spoken, usage.media.image_output, "IMAGE")
    return out


def _details(total: int, other: int, kind: str = "AUDIO") -> list[dict[str, Any]]:
    rows = [("TEXT", total - other), (kind, other)]
    return [{"modality": modality, "tokenCount": count} for modality, count in rows if count > 0]


def _count(raw: Any, key: str) -> int:
    value = get(raw, key) if isinstance(raw, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def _of(modality: tuple[str, int], raw: dict[str, Any], key: str) -> int:
    rows = get(raw, key)
    if not isinstance(rows, list):
        return 0
    return sum(_count(row, "tokenCount") for row in rows if isinstance(row, dict) and row.get("modality") in modality)


def parse_logprobs(results: Sequence[Any]) -> dict[str, Any] | None:
    """The results of an answer's chunks in the form of the vocabulary's Choice.logprobs: OpenAI's."""
    content: list[dict[str, Any]] = []
    for result in results:
        if not isinstance(result, dict):
            continue
        tops = get(result, "topCandidates")
        tops = tops if isinstance(tops, list) else []
        for index, chosen in enumerate(_rows(get(result, "chosenCandidates"))):
            row = _token(chosen)
            top = tops[index] if index < len(tops) and isinstance(tops[index], dict) else {}
            row["top_logprobs"] = [_token(one) for one in _rows(top.get("candidates"))]
            content.append(row)
    return {"content": content, "refusal": None} if content else None


def _rows(raw: Any) -> list[dict[str, Any]]:
    return [row for row in raw if isinstance(row, dict)] if isinstance(raw, list) else []


def _token(raw: dict[str, Any]) -> dict[str, Any]:
    token, logprob = raw.get("token"), get(raw, "logProbability")
    token = token if isinstance(token, str) else ""
    # A token without a probability is certain: proto JSON leaves zeros out.
    return {"token": token, "logprob": logprob if logprob is not None else 0.0, "bytes": list(token.encode())}


def render_logprobs(logprobs: Any) -> dict[str, Any] | None:
    """None where there is nothing of the vocabulary's form in it. A stream's come as a list of pieces."""
    pieces = logprobs if isinstance(logprobs, list) else [logprobs]
    rows = [row for piece in pieces if isinstance(piece, dict) for row in _rows(piece.get("content"))]
    if not rows:
        return None
    return {
        "chosenCandidates": [_candidate(row) for row in rows],
        "topCandidates": [{"candidates": [_candidate(one) for one in _rows(row.get("top_logprobs"))]} for row in rows],
    }


def _candidate(row: dict[str, Any]) -> dict[str, Any]:
    return {"token": row.get("token"), "logProbability": row.get("logprob")}
