from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.simulator.app import Simulator
from support.gateway import ENV, Loop, RunningGateway

NAMES = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "groq",
    "deepseek",
    "xai",
    "openrouter",
    "only-chat",
    "only-responses",
)
CONFIG = """
providers: {openai: {}, anthropic: {}, google: {}, mistral: {}, groq: {}, deepseek: {}, xai: {}, openrouter: {},
  only-chat: {}, only-responses: {}}
models: {any: {provider: openai}}
"""


class Stage:
    """The gateway in front of the replaying simulator, both on real sockets in one background loop."""

    def __init__(self, profiles: Path) -> None:
        # Vendors of one format each: what crosses dialects must not find a native way. Each is one file and nothing else.
        (profiles / "only-chat.toml").write_text('auth = "none"\ndialects = ["openai_chat"]\n')
        (profiles / "only-responses.toml").write_text('auth = "none"\ndialects = ["openai_responses"]\n')
        self.loop = Loop()
        self.sim = Simulator([])
        self.loop.run(self.sim.start(0))
        urls = {name: self.sim.base_url(name) for name in NAMES}
        env = {**ENV, "HEADGATE_PROFILES": str(profiles)}
        self.gateway = self.loop.call(lambda: RunningGateway(CONFIG, urls, env=env))
        self.loop.run(self.gateway.start())
        self.url = self.gateway.url

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    found = Stage(tmp_path_factory.mktemp("profiles"))
    yield found
    found.close()
