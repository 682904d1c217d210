"""A second call when the first is slow: first content wins, the loser is cancelled, both are on the books."""

from __future__ import annotations

import asyncio

import pytest

from headgate.simulator import script as s
from headgate.upstream.retry import HedgeBudget
from support.virtual import VirtualGateway, answer, either, streamed, virtually

CONFIG = """
providers: {{openai: {{base_url: "http://one/v1"}}}}
models:
  m:
    deployments: [{{provider: openai, upstream: one, weight: 1000000}}, {{provider: openai, upstream: two, weight: 0}}]
    affinity: false
    price: {{input: 1, output: 1}}
    timeout: {{first_token: 5s, total: 30s}}
    hedge: {hedge}
  spare: {{provider: openai, upstream: spare}}
  chain: {{fallback: [m, spare]}}
"""


def gateway(hedge: str = "{after: 1s, share: 1}") -> VirtualGateway:
    return VirtualGateway(CONFIG.format(hedge=hedge))


def both(after: float, *words: str, model: str = "m"):
    return either(
        answer("".join(words) or "said", after=after, model=model), streamed(*words, after=after, model=model)
    )


@pytest.mark.parametrize("stream", [False, True])
def test_the_second_call_wins_and_the_first_is_cancelled(stream):
    async def main() -> None:
        it = gateway()
        it.fake.on("one", both(4, "slow"))
        it.fake.on("two", both(0.5, "fast"))
        heard = await it.ask("m", stream=stream)
        assert (heard.status, heard.text) == (200, "fast")
        assert 1.5 <= heard.took < 1.6
        assert [(a["deployment"], a["outcome"], a.get("role")) for a in heard.details["attempts"]] == [
            ("openai/one", "cancelled", None),
            ("openai/two", "ok", "hedge"),
        ]
        assert heard.details["chosen"]["deployment"] == "openai/two"
        assert it.transport.open == 0  # the slow provider was told to stop
        it.ledger.check()
        roles = {intent.deployment: intent.role for intent in it.ledger.intents}
        assert roles == {"openai/one": None, "openai/two": "hedge"}
        loser = next(o for o in it.ledger.outcomes.values() if o.outcome == "cancelled")
        assert (loser.state, loser.cost is not None and loser.cost > 0) == ("unknown", True)  # sent: it may be billed
        assert [kind for kind, _ in it.events] == ["hedge"]
        assert it.vitals("m", 0).outstanding == it.vitals("m", 1).outstanding == 0
        assert it.vitals("m", 0).gate.busy == it.vitals("m", 1).gate.busy == 0

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_a_first_call_in_time_is_not_hedged(stream):
    async def main() -> None:
        it = gateway()
        it.fake.on("one", both(0.9, "first"))
        it.fake.on("two", both(0, "second"))
        assert (await it.ask("m", stream=stream)).text == "first"
        assert len(it.fake.calls_of("two")) == 0

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_both_in_the_same_tick_leave_one_answer_and_closed_books(stream):
    async def main() -> None:
        it = gateway()
        it.fake.on("one", both(3, "same"))
        it.fake.on("two", both(2, "same"))
        for _ in range(20):
            heard = await it.ask("m", stream=stream)
            assert heard.text == "same"
            assert len(heard.details["attempts"]) == 2
        assert it.transport.open == 0
        assert it.vitals("m", 0).outstanding == it.vitals("m", 1).outstanding == 0
        it.ledger.check()

    virtually(main)


def test_a_client_that_leaves_ends_both_calls():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", [s.Hang()])
        it.fake.on("two", [s.Hang()])
        asking = asyncio.ensure_future(it.ask("m", stream=True))
        await asyncio.sleep(2)
        assert it.transport.open == 2
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert it.transport.open == 0
        it.ledger.check()
        assert {o.outcome for o in it.ledger.outcomes.values()} == {"cancelled"}

    virtually(main)


def test_a_failing_first_call_leaves_the_hedge_to_answer():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", [s.Pause(2), *s.reply_json(500, {"error": {"message": "no"}})])
        it.fake.on("two", both(3, "second"))
        heard = await it.ask("m", stream=True)
        assert heard.text == "second"
        assert [a["outcome"] for a in heard.details["attempts"]] == ["failed", "ok"]

    virtually(main)


def test_both_failing_is_a_failed_model_and_the_chain_goes_on():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", [s.Hang()])
        it.fake.on("two", [s.Hang()])
        it.fake.on("spare", both(0, "spared"))
        heard = await it.ask("chain", stream=True)
        assert heard.text == "spared"
        assert heard.headers["x-headgate-model"] == "spare"
        asked = [a["deployment"] for a in heard.details["attempts"]]
        assert asked == ["openai/one", "openai/two", "openai/spare"]  # the silent ones are not asked again
        it.ledger.check()

    virtually(main)


def test_left_out_the_delay_is_the_95th_percentile():
    async def main() -> None:
        it = gateway("{share: 1}")
        it.fake.on("one", *([both(0.1)] * 18), both(0.4), both(0.4), both(4))
        it.fake.on("two", both(0, "rescued"))
        for _ in range(20):
            assert len((await it.ask("m", stream=True)).details["attempts"]) == 1  # too little is known
        heard = await it.ask("m", stream=True)
        assert heard.text == "rescued"
        assert 0.4 <= heard.took < 0.45

    virtually(main)


def test_hedges_are_at_most_the_share_of_the_calls():
    async def main() -> None:
        it = gateway("{after: 100ms}")
        it.fake.on("one", both(0.5))
        it.fake.on("two", both(0.5))
        for _ in range(500):
            await it.ask("m")
        assert 8 <= len(it.fake.calls_of("two")) <= 10  # 2 % of 500

    virtually(main)


def test_a_quiet_time_does_not_save_up_hedges():
    budget = HedgeBudget()
    for _ in range(100_000):
        budget.earn(0.02)
    assert sum(budget.spend() for _ in range(100)) == 5


@pytest.mark.parametrize(("allowed", "hedged"), [("0.0000001", False), ("1", True)])
def test_a_hedge_may_cost_so_much_and_no_more(allowed, hedged):
    async def main() -> None:
        it = gateway(f"{{after: 1s, share: 1, max_cost: {allowed}}}")
        it.fake.on("one", both(2))
        it.fake.on("two", both(0))
        await it.ask("m", max_tokens=100)
        assert bool(it.fake.calls_of("two")) is hedged

    virtually(main)


def test_a_request_that_cannot_pay_twice_is_answered_by_its_first_call():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", both(2, "first"))
        it.fake.on("two", both(0, "second"))
        heard = await it.ask("m", stream=True, max_tokens=1000, headers={"x-headgate-max-cost": "0.0015"})
        assert heard.text == "first"
        assert len(it.fake.calls_of("two")) == 0
        it.ledger.check()

    virtually(main)


def test_no_hedge_goes_to_a_deployment_that_is_not_well():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", both(2, "first"))
        it.fake.on("two", s.reply_json(429, {"error": {"message": "wait"}}, (("retry-after", "100"),)))
        assert (await it.ask("m")).text == "first"
        assert (await it.ask("m")).text == "first"
        assert len(it.fake.calls_of("two")) == 1

    virtually(main)
