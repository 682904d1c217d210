"""What a configuration keeps open ends with it, whatever becomes of its neighbours."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.engine.snapshot import Snapshot
from headgate.tools.broker import Broker
from support.virtual import VirtualGateway, answer, virtually


class Kept:
    """A tool server, say: it notes how it ends, or cannot."""

    def __init__(self, error: Exception | None = None) -> None:
        self.ended: list[str] = []
        self._error = error

    async def retire(self) -> None:
        await self._end("retired")

    async def aclose(self) -> None:
        await self._end("closed")

    async def _end(self, how: str) -> None:
        self.ended.append(how)
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("how", ["retire", "aclose"])
async def test_one_that_cannot_be_ended_keeps_no_other_from_ending(how: str) -> None:
    kept: dict[str, Any] = {"bad": Kept(OSError("gone")), "good": Kept(), "worse": Kept(RuntimeError("never"))}
    for holder in (Snapshot(entries=kept, models={}), Broker(kept)):
        with pytest.raises(ExceptionGroup, match="not ended: bad, worse") as caught:
            await getattr(holder, how)()
        assert [str(error) for error in caught.value.exceptions] == ["gone", "never"]
    assert {name: len(one.ended) for name, one in kept.items()} == {"bad": 2, "good": 2, "worse": 2}


def test_an_agent_plans_with_no_less_than_nothing() -> None:
    """One that has spent more than it had, since its last answer cost more than was foreseen, is owed nothing."""

    async def main() -> None:
        it = VirtualGateway("""
providers: {openai: {base_url: "http://one/v1"}}
models:
  boss: {provider: openai, upstream: boss, price: {input: 1, output: 1}}
  agent: {agent: {planner: boss, models: [boss], tools: []}}
""")
        it.fake.on("boss", answer("No plan."))
        heard: list[Any] = []
        strategy = it.house.snapshot.strategy("agent")
        plan = strategy.plan
        strategy.plan = lambda request, run: (heard.append((request, run)), plan(request, run))[1]  # type: ignore[method-assign]
        await it.ask("agent")
        request, run = heard[0]
        run = run.child(envelope=run.envelope.child(money=5))
        run.envelope.spent = 12
        assert run.envelope.room() == -7
        assert plan(request, run).worst_case == 0

    virtually(main)
