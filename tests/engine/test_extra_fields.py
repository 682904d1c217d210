"""`extra:` of an entry reaches the provider, whether the client's bytes pass or are rendered anew, and in all formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from headgate.simulator.app import Simulator
from support.gateway import ENV, Loop, RunningGateway
from support.sim import INSTANT

CONFIG = """
providers: {openai: {}, anthropic: {}, google: {}}
models:
  gpt-5.5: {provider: openai, extra: {service_tier: flex, metadata: {team: a}}}
  claude-opus-4-7: {provider: anthropic, extra: {metadata: {user_id: u}}}
  gemini-3-pro: {provider: google, extra: {generationConfig: {topK: 3}}}
"""


class Stage:
    def __init__(self) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0))
        self.gateway = self.loop.call(lambda: RunningGateway(CONFIG, urls, env=ENV))
        self.loop.run(self.gateway.start())

    def sent(self, model: str, **more: Any) -> dict[str, Any]:
        """What the provider was sent for a chat request."""
        connection = HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=20)
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
        connection.close()
        return json.loads(self.loop.call(lambda: self.sim.log[-1].call.body))

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    found = Stage()
    yield found
    found.close()


def test_in_bytes_that_pass_and_over_what_the_client_says(stage: Stage) -> None:
    wire = stage.sent("gpt-5.5", service_tier="default", metadata={"mine": "b"}, unknown=1)
    assert (wire["service_tier"], wire["metadata"], wire["unknown"]) == ("flex", {"mine": "b", "team": "a"}, 1)
    assert wire["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("stream", [False, True])
def test_in_bodies_that_are_rendered(stage: Stage, stream: bool) -> None:
    assert stage.sent("claude-opus-4-7", stream=stream)["metadata"] == {"user_id": "u"}
    assert stage.sent("gemini-3-pro", stream=stream, temperature=0.5)["generationConfig"] == {
        "temperature": 0.5,
        "topK": 3,
    }
