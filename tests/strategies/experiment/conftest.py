"""A gateway with experiments over simulated models."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from headgate.simulator.app import Simulator
from support.gateway import ENV, Loop, RunningGateway
from support.sim import INSTANT

MODELS = """
providers: {anthropic: {}, openai: {}, google: {}, meta: {kind: openai-compatible, api_key: x, base_url: "http://x"}}
models:
  claude-4.7: {provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.015, max_output: 4096}
  gpt-5.5: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.020, max_output: 4096}
  gemini-3.0: {provider: google, upstream: gemini-3-pro, cost_per_1k: 0.012, max_output: 4096}
  llama-4: {provider: meta, upstream: llama-4-maverick, cost_per_1k: 0.005, max_output: 4096}
"""


class Stage:
    """`more`: entries below `models:`, indented by two."""

    def __init__(self, more: str) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0, port_each=True))
        self.gateway = self.loop.call(lambda: RunningGateway(MODELS + more, urls, env=ENV))
        self.loop.run(self.gateway.start())
        self.url = self.gateway.url
        self.house = self.gateway.house

    def entry(self, name: str) -> Any:
        return self.house.snapshot.entries[name]

    def post(self, path: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(f"{self.url}{path}", data=json.dumps(body).encode(), headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def ask(self, model: str, prompt: str = "Say hello.", **more: Any) -> tuple[str, dict[str, Any]]:
        """(text, the `headgate` object)."""
        messages = more.pop("messages", [{"role": "user", "content": prompt}])
        status, body = self.post(
            "/v1/chat/completions", {"model": model, "messages": messages, "headgate": {"details": True}, **more}
        )
        assert status == 200, body
        return body["choices"][0]["message"]["content"], body["headgate"]

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.house.snapshot.aclose())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture
def staged():
    """Makes stages, and closes them after the test."""
    open_ones: list[Stage] = []

    def make(more: str) -> Stage:
        open_ones.append(Stage(more))
        return open_ones[-1]

    yield make
    for stage in open_ones:
        stage.close()
