"""Questions of the house's own: rows, traces and envelopes of their own, and never an exception to whoever asks."""

from __future__ import annotations

import pytest

from headgate.core.answer import Answer
from headgate.core.request import Request
from headgate.core.strategy import Aside, Beside, Plan, Run
from headgate.simulator.app import Simulator
from headgate.strategies.single import Single
from support.asking import ask
from support.gateway import Loop, RunningGateway
from support.sim import INSTANT

MODELS = """
providers: {anthropic: {}, openai: {}}
models:
  claude-4.7: {provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.015}
  gpt-5.5: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.020}
"""


class Twice(Single):
    """Asks its model, and another one beside it."""

    def __init__(self, name: str, other: str, aside: Aside) -> None:
        super().__init__(name)
        self._other, self._aside = other, aside
        self.told: list[Beside] = []

    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer:
        self.told.append(await run.aside(self._other, request, self._aside))
        return await super().answer(request, run, plan)


@pytest.fixture
def stage():
    loop, sim = Loop(), Simulator(INSTANT)
    urls = loop.run(sim.start(0, port_each=True))
    gateway = loop.call(lambda: RunningGateway(MODELS, urls))
    loop.run(gateway.start())
    yield loop, sim, gateway
    loop.run(gateway.stop())
    loop.run(sim.aclose())
    loop.close()


def asked(gateway: RunningGateway, *, stream: bool = False, other: str = "gpt-5.5", **more) -> tuple[Beside, Twice]:
    aside = Aside(purpose="shadow", because="a test", timeout=20.0, tags=("of:test",), **more)
    entry = gateway.house.snapshot.entries["claude-4.7"] = Twice("claude-4.7", other, aside)
    status, headers, _ = ask(gateway.url, "claude-4.7", stream=stream)
    assert (status, headers["x-headgate-model"]) == (200, "claude-4.7")
    return entry.told[0], entry


@pytest.mark.parametrize("stream", [False, True])
def test_it_has_a_row_and_an_account_of_its_own(stage, stream):
    _, sim, gateway = stage
    told, _ = asked(gateway, stream=stream)
    assert told.error is None
    assert told.answer is not None
    assert told.cost
    served = {call.model: call for call in sim.log}
    assert served["gpt-5.5"].stream is False
    rows = {record.door: record for record in gateway.ledger.requests}
    assert (rows["shadow"].key_id, rows["shadow"].tags, rows["shadow"].trace) == (
        "shadow", ("shadow", "of:test"), told.trace,
    )  # fmt: skip
    assert rows["shadow"].cost == told.cost
    assert (rows["chat"].tags, rows["chat"].attempts) == ((), 1)
    decision = gateway.house.trace(told.trace, None)[0].decisions[0]
    assert (decision.kind, decision.chosen, decision.because) == ("shadow", "gpt-5.5", "a test")
    assert gateway.house.inflight == 0


def test_its_failures_are_told_and_do_nobody_harm(stage):
    loop, sim, gateway = stage
    loop.run(sim.break_model("gpt-5.5", "500"))
    told, _ = asked(gateway)
    assert (told.answer, told.error is not None) == (None, True)
    assert asked(gateway, max_cost=1)[0].error == "max_cost_exceeded"
    assert asked(gateway, other="nobody")[0].error == "model_not_found"
    assert gateway.house.inflight == 0
