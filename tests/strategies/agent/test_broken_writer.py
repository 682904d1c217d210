"""The final text breaks off in the middle: another goes on with it, or the client is told; it never looks finished."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.simulator import script as s
from support.virtual import Heard, VirtualGateway, answer, either, streamed, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  planner: {provider: openai, upstream: planner, price: {input: 1, output: 1}}
  worker: {provider: openai, upstream: worker, price: {input: 1, output: 1}}
  chain: {fallback: [planner, worker]}
  strict: {fallback: {order: [planner, worker], rescue: error}}
  agent: {agent: {planner: planner, models: [worker]}}
  alone: {agent: {planner: planner, models: [planner]}}
  chained: {agent: {planner: chain, models: [worker]}}
  bounded: {agent: {planner: strict, models: [worker]}}
"""
PLAN = json.dumps({"steps": [{"name": "a", "query": "first"}]})


def gateway(ending: s.Step, *, plan: str = PLAN) -> VirtualGateway:
    """The planner's last stream breaks off after some words; the worker says the rest."""
    it = VirtualGateway(CONFIG)
    whole = [answer(plan), answer("done") if plan == PLAN else answer(plan)]
    it.fake.on("planner", *whole, either(answer("done"), streamed("The sum ", "of both ", ending=ending)))
    it.fake.on("worker", either(answer("done"), streamed("of both ", "is 12.")))
    return it


async def heard(it: VirtualGateway, model: str) -> tuple[Heard, Any, Any]:
    found = await it.ask(model, stream=True)
    trace, record = it.house.recent(1)[0]
    assert it.transport.open == 0
    assert it.house.inflight == 0
    it.ledger.check()
    assert sum(it.ledger.outcomes[a.id].cost or 0 for a in trace.attempts) == record.cost
    return found, trace, record


ENDINGS = pytest.mark.parametrize("ending", [s.Reset(), s.End(), s.Hang()], ids=["reset", "no finish", "stalls"])


@ENDINGS
@pytest.mark.parametrize(
    ("model", "plan"), [("agent", PLAN), ("chained", PLAN), ("agent", "no plan")], ids=["model", "chain", "plain"]
)
def test_another_goes_on_where_the_writer_breaks_off(model: str, plan: str, ending: s.Step):
    async def main() -> None:
        found, trace, record = await heard(gateway(ending, plan=plan), model)
        assert found.text == "The sum of both is 12."
        assert found.finished
        assert found.error is None
        assert any(d.kind == "rescue" and d.chosen == "worker" for d in trace.decisions)
        assert record.status == 200
        if plan == PLAN:
            assert trace.facts["agent"]["final_answer"] == found.text

    virtually(main)


@ENDINGS
@pytest.mark.parametrize("model", ["alone", "bounded"])
def test_where_nobody_may_go_on_the_client_is_told(model: str, ending: s.Step):
    """Nobody else is there, or the planner's entry says `rescue: error`."""

    async def main() -> None:
        found, trace, record = await heard(gateway(ending), model)
        assert found.text == "The sum of both "
        assert not found.finished
        assert found.error is not None
        assert b'"finish_reason":"' not in found.body.replace(b" ", b"")
        assert record.error is not None
        assert "final_answer" not in trace.facts["agent"]

    virtually(main)
