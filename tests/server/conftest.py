from collections.abc import Iterator

import pytest

from headgate.server.http import HttpLimits
from headgate.simulator.app import Simulator
from support.gateway import ENV, EXAMPLE, Loop, RunningGateway
from support.sim import INSTANT


class Stage:
    """The demo's configuration in front of instant simulated models."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0))
        limits = HttpLimits(body=2_000_000, body_time=0.5)
        text = EXAMPLE.read_text(encoding="utf-8")
        self.gateway = self.loop.call(lambda: RunningGateway(text, urls, limits=limits, env=ENV))
        self.loop.run(self.gateway.start())
        self.url = self.gateway.url
        self.port = int(self.url.rpartition(":")[2])

    def calls(self) -> int:
        """How many calls the providers have seen."""
        return self.loop.call(lambda: len(self.sim.log))

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    found = Stage()
    yield found
    found.close()
