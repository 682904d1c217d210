"""`extra:` of a model: what its requests carry upstream, whatever the client says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headgate import Gateway
from headgate.config.load import load_text
from headgate.simulator.app import Simulator
from support.gateway import ENV
from support.sim import INSTANT

ASK = [{"role": "user", "content": "What is 12*12?"}]
FILE = """
providers: {{openai: {{base_url: "{openai}"}}, anthropic: {{base_url: "{anthropic}"}}}}
models:
  own: {{provider: openai, upstream: gpt-5.5, extra: {{temperature: 0.3, service_tier: flex, store: false}}}}
  long: {{provider: openai, upstream: gpt-5.5, max_output: 9000, extra: {{max_completion_tokens: 4096, n: 3}}}}
  other: {{provider: anthropic, upstream: claude-opus-4-7, extra: {{top_k: 40}}}}
"""


@pytest.fixture
async def stage() -> AsyncIterator[tuple[Gateway, Simulator]]:
    sim = Simulator(INSTANT)
    urls = await sim.start(0)
    async with Gateway(load_text(FILE.format(**urls), "f", ENV).config, env=ENV) as gateway:
        yield gateway, sim
    await sim.aclose()


async def sent(stage: tuple[Gateway, Simulator], model: str, **said: Any) -> dict[str, Any]:
    gateway, sim = stage
    answer = await gateway.chat(model=model, messages=ASK, **said)
    assert "144" in answer.text
    return json.loads(sim.wire.calls[-1].body)


async def test_it_is_there_and_typed(stage: tuple[Gateway, Simulator]) -> None:
    body = await sent(stage, "own")
    assert (body["temperature"], body["service_tier"], body["store"]) == (0.3, "flex", False)
    assert body["model"] == "gpt-5.5"


async def test_it_counts_whatever_the_client_says(stage: tuple[Gateway, Simulator]) -> None:
    body = await sent(stage, "own", temperature=1.0)
    assert (body["temperature"], body["service_tier"]) == (0.3, "flex")


async def test_it_is_in_the_provider_s_own_words(stage: tuple[Gateway, Simulator]) -> None:
    assert (await sent(stage, "other"))["top_k"] == 40


async def test_it_makes_no_answer_longer_than_what_was_reserved_for(stage: tuple[Gateway, Simulator]) -> None:
    body = await sent(stage, "long", max_completion_tokens=50)
    assert (body["max_completion_tokens"], body["n"]) == (50, 1)
    body = await sent(stage, "long", max_completion_tokens=5000)
    assert body["max_completion_tokens"] == 4096
    assert (await sent(stage, "long"))["max_completion_tokens"] == 4096
