from collections.abc import Iterator

import pytest

from headgate.server.http import HttpLimits
from headgate.simulator.app import Simulator
from support.at_rest import Watched, at_rest
from support.gateway import ENV, EXAMPLE, Loop, RunningGateway
from support.sim import INSTANT


class Stage:
    """The demo's configuration in front of instant simulated models, under budgets and limits that nobody reaches."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0))
        limits = HttpLimits(body=2_000_000, body_time=0.5)
        text = EXAMPLE.read_text(encoding="utf-8")
        self.governor = Watched("claude-4.7", "gpt-5.5", "gemini-3.0", "llama-4", "deepseek-v4")
        self.loop.run(self.governor.refresh())
        self.gateway = self.loop.call(
            lambda: RunningGateway(text, urls, limits=limits, env=ENV, governor=self.governor)
        )
        self.loop.run(self.gateway.start())
        self.url = self.gateway.url
        self.port = int(self.url.rpartition(":")[2])

    def calls(self) -> int:
        """How many calls the providers have seen, of any kind."""
        return self.loop.call(lambda: self.sim.wire.numbered)

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    found = Stage()
    yield found
    found.close()


__all__ = ["at_rest", "stage"]
