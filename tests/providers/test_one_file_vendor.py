"""A new OpenAI-compatible vendor is one TOML file and nothing else: no line of code, no mention in a configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from headgate.simulator.app import Simulator
from support.gateway import Loop, RunningGateway
from support.sim import INSTANT

PROFILE = """
base_url = "{url}"
key_env = ["ACME_API_KEY", "ACME_TOKEN"]
dialects = ["openai_chat"]

[quirks]
max_tokens_field = "max_tokens"
developer_role = false
drop = ["seed"]
"""


class Stage:
    def __init__(self, folder: Any) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0))
        (folder / "acme.toml").write_text(PROFILE.format(url=urls["deepseek"]))
        env = {"HEADGATE_PROFILES": str(folder), "ACME_TOKEN": "canary-acme"}
        self.gateway = self.loop.call(lambda: RunningGateway("providers: {acme: {}}\n", {}, env=env))
        self.loop.run(self.gateway.start())
        self.client = openai.OpenAI(base_url=f"{self.gateway.url}/v1", api_key="any", max_retries=0)

    def sent(self) -> Any:
        return self.loop.call(lambda: self.sim.log[-1].call)

    def close(self) -> None:
        self.client.close()
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    found = Stage(tmp_path_factory.mktemp("profiles"))
    yield found
    found.close()


@pytest.mark.parametrize("stream", [False, True])
def test_its_models_answer_by_direct_addressing(stage: Stage, stream: bool) -> None:
    answer = stage.client.chat.completions.with_raw_response.create(
        model="acme/deepseek-chat", messages=[{"role": "user", "content": "What is 12*12?"}], stream=stream
    )
    assert answer.headers["x-headgate-provider"] == "acme"
    found = answer.parse()
    text = (
        "".join(c.choices[0].delta.content or "" for c in found if c.choices)
        if stream
        else found.choices[0].message.content
    )
    assert "[simulated]" in text
    assert ("authorization", "Bearer canary-acme") in [(n.lower(), v) for n, v in dict(stage.sent().headers).items()]


def test_its_quirks_are_kept_to(stage: Stage) -> None:
    answer = stage.client.chat.completions.with_raw_response.create(
        model="acme/deepseek-chat",
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        max_completion_tokens=50,
        seed=7,
    )
    wire = json.loads(stage.sent().body)
    assert wire["max_tokens"] == 50
    assert not {"max_completion_tokens", "seed"} & wire.keys()
    assert wire["messages"][0]["role"] == "system"
    assert "seed" in answer.headers["x-headgate-lossy"]


def test_other_formats_reach_it_too(stage: Stage) -> None:
    found = stage.client.responses.create(model="acme/deepseek-chat", input="What is 12*12?")
    assert "[simulated]" in found.output_text
