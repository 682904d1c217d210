from collections.abc import Iterator

import pytest

from headgate.simulator.app import Simulator
from headgate.simulator.faults import FaultProxy
from headgate.simulator.scripted import FakeUpstream
from support import asking
from support.gateway import ENV, Loop, RunningGateway
from support.sim import INSTANT
from support.virtual import answer, either, streamed

# The demo's models with limits scaled down: what is tested is the rule, not the clock.
CONFIG = """
providers: {anthropic: {}, openai: {}, google: {}, deepseek: {},
  meta: {kind: openai-compatible, api_key: x, base_url: "http://x"}}
models:
  claude-4.7: {provider: anthropic, upstream: claude-opus-4-7, max_context: 500_000,
    timeout: {first_token: 800ms, idle: 800ms, total: 3s}}
  gpt-5.5: {provider: openai, upstream: gpt-5.5, max_context: 256_000,
    timeout: {first_token: 800ms, idle: 800ms, total: 3s}}
  gemini-3.0: {provider: google, upstream: gemini-3-pro, max_context: 2_000_000,
    timeout: {first_token: 800ms, idle: 800ms, total: 3s}}
  llama-4: {provider: meta, upstream: llama-4-maverick, max_context: 128_000,
    timeout: {first_token: 800ms, idle: 800ms, total: 3s}}
  deepseek-v4: {provider: deepseek, upstream: deepseek-chat, timeout: {first_token: 800ms, idle: 800ms, total: 3s}}
  reliable:
    fallback: {order: [{model: claude-4.7, timeout: 1200ms}, {model: gpt-5.5, timeout: 1200ms}, gemini-3.0, llama-4]}
  told: {fallback: {order: [claude-4.7, gpt-5.5], rescue: error}}
  from_gpt: {fallback: [gpt-5.5, claude-4.7]}
  from_gemini: {fallback: [gemini-3.0, gpt-5.5]}
  strict: {fallback: {order: [{model: claude-4.7, timeout: 1200ms}, gpt-5.5], move_on: [unavailable]}}
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


class Wires:
    """A gateway whose model `first` is reached through a faulty network, `spare` is not, and `chain` is both (`calm` and
    `calmly` are the same without hurry). What they say is up to the test: `wires.says(upstream id, script...)`."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.loop.run(self._start())

    async def _start(self) -> None:
        self.fake, self.other = FakeUpstream(), FakeUpstream()
        await self.fake.start()
        await self.other.start()
        assert self.fake.listener is not None
        self.proxy = FaultProxy("127.0.0.1", self.fake.listener.port)
        self.first_url = f"http://127.0.0.1:{await self.proxy.start()}/v1"
        await self.begin()

    async def begin(self, first: str | None = None) -> None:
        """A fresh gateway; `first`: another base URL for the model of that name."""
        urls = {"openai": first or self.first_url, "deepseek": f"{self.other.base_url}/v1"}
        self.gateway = RunningGateway(WIRED, urls)
        await self.gateway.start()
        both = either(answer("Water is let in."), streamed("Water ", "is ", "let ", "in."))
        self.fake.on("one", both)
        self.other.on("two", either(answer("Spared."), streamed("Spared.")))
        self.fake.forget()
        self.proxy.accepted = 0
        self.other.forget()

    def fresh(self, first: str | None = None) -> None:
        self.loop.run(self.proxy.heal())
        self.loop.run(self.gateway.stop())
        self.loop.run(self.begin(first))

    def says(self, name: str, *answers) -> None:
        self.loop.call(lambda: (self.fake if name == "one" else self.other).on(name, *answers))

    def calls(self, name: str = "one") -> list:
        fake = self.fake if name == "one" else self.other
        return self.loop.call(lambda: [call for call in fake.calls])

    def ask(self, model: str, *, stream: bool, **more) -> tuple[int, dict[str, str], bytes]:
        return asking.ask(self.gateway.url, model, stream=stream, **more)

    def outcomes(self) -> list:
        return self.loop.call(lambda: list(self.gateway.ledger.outcomes.values()))

    def health(self, model: str):
        found = self.gateway.house.snapshot.model(model)
        assert found is not None
        return found.deployments[0].vitals.health

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.proxy.aclose())
        self.loop.run(self.fake.aclose())
        self.loop.run(self.other.aclose())
        self.loop.close()


WIRED = """
providers: {openai: {}, deepseek: {}}
models:
  first: {provider: openai, upstream: one, price: {input: 1, output: 1},
    timeout: {connect: 300ms, first_token: 500ms, idle: 400ms, total: 2s}}
  spare: {provider: deepseek, upstream: two, price: {input: 1, output: 1}}
  chain: {fallback: [first, spare]}
  calm: {provider: openai, upstream: one, price: {input: 1, output: 1}, timeout: {first_token: 60s, idle: 60s, total: 5m}}
  calmly: {fallback: [calm, spare]}
"""


@pytest.fixture(scope="module")
def _wires() -> Iterator[Wires]:
    found = Wires()
    yield found
    found.close()


@pytest.fixture
def wires(_wires: Wires) -> Wires:
    _wires.fresh()
    return _wires


@pytest.fixture(scope="module")
def _stage() -> Iterator[Stage]:
    found = Stage()
    yield found
    found.close()


@pytest.fixture
def stage(_stage: Stage) -> Stage:
    _stage.fresh()
    return _stage
