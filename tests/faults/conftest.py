from collections.abc import Iterator

import pytest

from headgate.simulator.app import Simulator
from support.gateway import ENV, Loop, RunningGateway
from support.sim import INSTANT

# The demo's models with limits scaled down: what is tested is the rule, not the clock.
CONFIG = """
providers: {anthropic: {}, openai: {}, google: {}, deepseek: {},
  meta: {kind: openai-compatible, api_key: x, base_url: "http://x"}}
models:
  claude-4.7: {provider: anthropic, upstream: claude-opus-4-7, timeout: {first_token: 300ms, idle: 300ms, total: 3s}}
  gpt-5.5: {provider: openai, upstream: gpt-5.5, timeout: {first_token: 300ms, idle: 300ms, total: 3s}}
  gemini-3.0: {provider: google, upstream: gemini-3-pro, timeout: {first_token: 300ms, idle: 300ms, total: 3s}}
  llama-4: {provider: meta, upstream: llama-4-maverick, timeout: {first_token: 300ms, idle: 300ms, total: 3s}}
  deepseek-v4: {provider: deepseek, upstream: deepseek-chat, timeout: {first_token: 300ms, idle: 300ms, total: 3s}}
  reliable:
    fallback: {order: [{model: claude-4.7, timeout: 500ms}, {model: gpt-5.5, timeout: 500ms}, gemini-3.0, llama-4]}
  told: {fallback: {order: [claude-4.7, gpt-5.5], rescue: error}}
  strict: {fallback: {order: [{model: claude-4.7, timeout: 500ms}, gpt-5.5], move_on: [unavailable]}}
"""


class Stage:
    def __init__(self) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        self.urls = self.loop.run(self.sim.start(0, port_each=True))

        def make() -> RunningGateway:
            return RunningGateway(CONFIG, self.urls, env=ENV)

        self._make = make
        self.gateway = self.loop.call(make)
        self.loop.run(self.gateway.start())

    @property
    def url(self) -> str:
        return self.gateway.url

    def fresh(self) -> None:
        """Healthy models, closed breakers, an empty log."""
        self.loop.run(self.sim.mend())
        self.loop.run(self.gateway.stop())
        self.sim.log.clear()
        self.gateway = self.loop.call(self._make)
        self.loop.run(self.gateway.start())

    def break_model(self, name: str, mode: str, **more) -> None:
        self.loop.run(self.sim.break_model(name, mode, **more))

    def served(self) -> list[str]:
        return self.loop.call(lambda: [served.model for served in self.sim.log])

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def _stage() -> Iterator[Stage]:
    found = Stage()
    yield found
    found.close()


@pytest.fixture
def stage(_stage: Stage) -> Stage:
    _stage.fresh()
    return _stage
