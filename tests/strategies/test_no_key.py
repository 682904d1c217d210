"""Where no model has a key, every strategy says so by its models' names; an empty `api_key` is one that is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.server.http import Request
from support.virtual import MESSAGES, Heard, VirtualGateway, virtually

CONFIG = """
providers: {mine: {kind: openai-compatible, base_url: "http://one/v1", api_key: "${NOT_SET:-}"}}
models:
  a: {provider: mine, capabilities: [math]}
  b: {provider: mine}
  chain: {fallback: [a, b]}
  panel: {ensemble: {members: [a, b]}}
  agent: {agent: {planner: a, models: [a, b]}}
"""


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("a", "a cannot be used: no key"),
        ("chain", "every model of 'chain' failed: a: no key; b: no key"),
        ("panel", "every model of 'panel' failed: a: no key; b: no key"),
        ("agent", "a cannot be used: no key"),
    ],
)
def test_every_strategy_says_that_there_is_no_key(model: str, said: str):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        heard = await it.ask(model)
        assert heard.status >= 500
        assert heard.error is not None
        assert heard.error["message"] == said
        assert not it.fake.calls
        if model != "a":
            found = await explained(it, model)
            assert "chosen" not in found
            assert {row["model"]: row["out"] for row in found["candidates"]} == {"a": "no key", "b": "no key"}

    virtually(main)


async def explained(it: VirtualGateway, model: str) -> dict[str, Any]:
    heard, body = Heard(), json.dumps({"model": model, "messages": MESSAGES}).encode()
    given = {"host": "localhost"}
    await it.plane(Request("POST", "/v1/explain", "", given, list(given.items()), body), heard)
    return heard.json()
