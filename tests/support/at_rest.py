"""Nothing under way, nothing held: what must be so whenever a gateway has answered all that it was asked, however bad."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headgate.core.records import BudgetSpec, LimitSpec
from headgate.governance.governor import KeyedGovernor
from headgate.governance.rules import Rules
from headgate.stores.memory import MemoryStore
from support.gateway import Loop, RunningGateway
from support.polling import until

PLENTY = LimitSpec(requests_per_minute=10**9, tokens_per_minute=10**12, concurrent=10**6)
FORTUNE = (BudgetSpec(limit=10**18),)


class Watched(KeyedGovernor):
    """Limits and hard budgets over everything, none of which anybody can reach: what a request takes of them, it must give
    back. No cap is put into requests, so that providers are sent what the client has sent."""

    def __init__(self, *models: str) -> None:
        rules = Rules(
            all_limits=PLENTY,
            all_budgets=FORTUNE,
            model_limits=dict.fromkeys(models, PLENTY),
            model_budgets=dict.fromkeys(models, FORTUNE),
        )
        super().__init__(MemoryStore(), holder="tests", rules=rules)
        self.taken = 0
        """How many holds there have been: a check of nothing proves nothing."""

    def output_cap(self, principal: Any, tags: Any) -> int | None:
        return None

    async def _take(self, *args: Any) -> Any:
        self.taken += 1
        return await super()._take(*args)


@pytest.fixture(autouse=True)
def at_rest(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where a folder's conftest.py imports this: after each test that asks the gateway of a `stage`, it is at rest."""
    yield
    if "stage" in request.fixturenames:
        asked = request.getfixturevalue("stage")
        check_at_rest(asked.loop, asked.gateway, getattr(asked, "sim", None))


def check_at_rest(loop: Loop, gateway: RunningGateway, upstream: Any = None) -> None:
    """`upstream`: the simulator behind it. Waits for what ends a moment after the client has its answer."""
    try:
        until(lambda: not loop.call(lambda: held(gateway, upstream)), seconds=20)
    except AssertionError:
        raise AssertionError("; ".join(loop.call(lambda: held(gateway, upstream)))) from None


def held(gateway: RunningGateway, upstream: Any) -> list[str]:
    """What is still under way or reserved, or does not add up. To be called in the gateway's loop."""
    house, ledger = gateway.house, gateway.ledger
    found = [f"{house.inflight} requests under way"] if house.inflight else []
    found += [f"handled: {task}" for task in gateway.plane.active]
    for model in house.snapshot.models():
        for deployment in model.deployments:
            vitals = deployment.vitals
            if vitals.gate.busy or vitals.outstanding:
                found.append(f"{deployment.name}: {vitals.gate.busy} in its gate, {vitals.outstanding} outstanding")
    found += [f"{intent.id} never settled" for intent in ledger.intents if intent.id not in ledger.outcomes]
    if isinstance(house.governor, KeyedGovernor):
        found += _reserved(house.governor)
        booked = sum(outcome.cost or 0 for outcome in ledger.outcomes.values())
        whole = sum(w.settled for (scope, _), w in house.governor.book.windows.items() if scope == "all")
        if isinstance(house.governor, Watched) and whole != booked:
            found.append(f"the budget has paid {whole}, the ledger has {booked}")
    if upstream is not None:
        found += [f"upstream: {call}" for call in upstream.wire.calls if not call.ended.is_set()]
    return found


def _reserved(governor: KeyedGovernor) -> list[str]:
    limiters, windows = governor._limiters.values(), governor.book.windows.items()
    return [f"{limiter.scope}: {limiter.running} running" for limiter in limiters if limiter.running] + [
        f"{scope}: {window.reserved} reserved" for (scope, _), window in windows if window.reserved
    ]
