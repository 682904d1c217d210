"""Whatever a body says twice, or multiplies, is part of the bound that money is reserved for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest
from headgate.dialects.anthropic_messages import DIALECT as ANTHROPIC
from headgate.dialects.gemini import DIALECT as GEMINI
from headgate.dialects.openai_chat import DIALECT as CHAT
from headgate.dialects.openai_completions import DIALECT as COMPLETIONS
from headgate.dialects.openai_responses import DIALECT as RESPONSES

ASK = [{"role": "user", "content": "hi"}]


def skim(dialect: Any, **fields: Any) -> Any:
    return dialect.peek(json.dumps({"model": "m", **fields}).encode())


@pytest.mark.parametrize(("older", "newer"), [(9000, 1), (1, 9000)])
def test_of_two_maxima_the_larger_counts(older: int, newer: int) -> None:
    """OpenAI reads the newer field, DeepSeek the older one."""
    assert skim(CHAT, messages=ASK, max_tokens=older, max_completion_tokens=newer).max_tokens == 9000


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"prompt": "a"}, 1),
        ({"prompt": ["a", "b", "c"]}, 3),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"prompt": []}, 1),
        ({"prompt": "a", "best_of": 20}, 20),
        ({"prompt": ["a", "b"], "n": 3, "best_of": 2}, 6),
    ],
)
def test_each_prompt_of_a_completion_has_answers_of_its_own(fields: dict[str, Any], answers: int) -> None:
    assert skim(COMPLETIONS, **fields).n == answers


def test_a_prompt_of_token_numbers_is_measured_by_them() -> None:
    assert skim(COMPLETIONS, prompt=[1] * 10_000).input_bound >= 10_000
    assert skim(COMPLETIONS, prompt=[[1] * 5000, [2] * 5000]).input_bound >= 10_000


@pytest.mark.parametrize("best_of", [0, -1, 129, "x"])
def test_a_best_of_that_is_none_is_refused(best_of: Any) -> None:
    with pytest.raises(InvalidRequest, match="best_of"):
        skim(COMPLETIONS, prompt="a", best_of=best_of)


@pytest.mark.parametrize(
    "fields",
    [
        {"generationConfig": {"maxOutputTokens": 1}, "generation_config": {"max_output_tokens": 65536}},
        {"generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 65536}},
        {"generationConfig": {"candidateCount": 1, "candidate_count": 8}},
    ],
)
def test_one_field_in_two_spellings_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"generationConfig"):
        GEMINI.peek(json.dumps({"contents": [{"parts": [{"text": "hi"}]}], **fields}).encode(), model="m")


@pytest.mark.parametrize(
    ("dialect", "fields", "dearer"),
    [
        (CHAT, {"messages": ASK, "service_tier": "priority"}, "service_tier"),
        (CHAT, {"messages": ASK, "service_tier": "flex"}, None),
        (RESPONSES, {"input": "hi", "service_tier": "priority"}, "service_tier"),
        (RESPONSES, {"input": "hi", "service_tier": None}, None),
        (ANTHROPIC, {"messages": ASK, "max_tokens": 9, "speed": "fast"}, "speed"),
        (ANTHROPIC, {"messages": ASK, "max_tokens": 9, "inference_geo": "us"}, "inference_geo"),
        (ANTHROPIC, {"messages": ASK, "max_tokens": 9, "speed": "standard", "inference_geo": "global"}, None),
    ],
)
def test_a_dearer_service_is_seen(dialect: Any, fields: dict[str, Any], dearer: str | None) -> None:
    assert skim(dialect, **fields).dearer == dearer
