"""By which names a model can be asked for: its own, what existing clients send (`aliases`), and its provider's, directly.
And a provider may be another gateway, of whatever make, since it is nothing but a base URL: here one of our own."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from support.gateway import RunningGateway, SimulatedGateway

BEHIND = """
providers:
  other: {kind: openai-compatible, base_url: "http://127.0.0.1:1/v1", api_key: sk-other}
models:
  theirs: {provider: other, upstream: reliable, cost_per_1k: 0.01}
  chain: {fallback: [theirs]}
aliases: {fast: theirs, "gpt-*": chain}
"""
ASKED: Any = [{"role": "user", "content": "What is 12 * 12?"}]


class Stage:
    """Our gateway before the simulated models, and another one before that gateway."""

    def __init__(self, near: SimulatedGateway) -> None:
        self.loop, self.near = near.loop, near
        self.gateway = self.loop.call(lambda: RunningGateway(BEHIND, {"other": f"{near.url}/v1"}))
        self.loop.run(self.gateway.start())

    def close(self) -> None:
        self.loop.run(self.gateway.stop())


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with SimulatedGateway() as near:
        found = Stage(near)
        yield found
        found.close()


def test_what_existing_clients_send_is_served_by_what_it_stands_for(stage):
    client = anthropic.Anthropic(base_url=stage.near.url, api_key="any", max_retries=0)
    answer = client.messages.with_raw_response.create(model="claude-3-5-sonnet-latest", max_tokens=99, messages=ASKED)
    assert answer.headers["x-headgate-model"] == "claude-4.7"
    chat = openai.OpenAI(base_url=f"{stage.near.url}/v1", api_key="any", max_retries=0).chat.completions
    answer = chat.with_raw_response.create(model="gpt-4o-mini-2024-07-18", messages=ASKED)
    assert answer.headers["x-headgate-strategy"] == "route"
    with pytest.raises(openai.NotFoundError):
        chat.create(model="gpt-3.5-turbo", messages=ASKED)


def test_aliases_are_listed_beside_the_models_but_for_patterns(stage):
    """A pattern is nothing that one could ask for."""
    with urllib.request.urlopen(f"{stage.gateway.url}/v1/models", timeout=10) as answer:
        assert [row["id"] for row in json.load(answer)["data"]] == ["theirs", "chain", "fast"]
    with urllib.request.urlopen(f"{stage.gateway.url}/v1/models/fast", timeout=10) as answer:
        assert json.load(answer)["id"] == "fast"


@pytest.mark.parametrize("model", ["chain", "theirs", "fast", "gpt-9", "other/auto", "other/anthropic/claude-opus-4-7"])
def test_another_gateway_is_one_more_provider(stage, model):
    """Its strategies are models to us; its models can be named through both."""
    chat = openai.OpenAI(base_url=f"{stage.gateway.url}/v1", api_key="any", max_retries=0).chat.completions
    whole = chat.with_raw_response.create(model=model, messages=ASKED)
    assert whole.headers["x-headgate-provider"] == "other"
    answer = whole.parse()
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    chunks = list(chat.create(model=model, messages=ASKED, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    outcome = stage.loop.call(lambda: list(stage.gateway.ledger.outcomes.values())[-1])
    assert (outcome.state, outcome.usage.estimated) == ("settled", False)
