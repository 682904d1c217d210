"""Which deployment takes the next request: every balancer, affinity, and health before all of them. On virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from headgate.simulator import script as s
from support.virtual import VirtualGateway, answer, virtually

CONFIG = """
providers: {{openai: {{base_url: "http://one/v1"}}}}
models:
  m:
    deployments:
      - {{provider: openai, upstream: one, weight: 3}}
      - {{provider: openai, upstream: two, weight: 1}}
    balance: {balance}
    affinity: {affinity}
"""
DOWN = s.reply_json(503, {"error": {"message": "down"}})


def gateway(balance: str, *, affinity: bool = False) -> VirtualGateway:
    return VirtualGateway(CONFIG.format(balance=balance, affinity=str(affinity).lower()), seed=7)


def counted(it: VirtualGateway) -> Counter[str]:
    return Counter({name: len(it.fake.calls_of(name)) for name in ("one", "two")})


def test_weighted_shares_by_weight():
    async def main() -> None:
        it = gateway("weighted")
        it.fake.on("*", answer())
        for _ in range(400):
            await it.ask("m")
        assert 270 <= counted(it)["one"] <= 330

    virtually(main)


def test_least_outstanding_fills_by_weight():
    async def main() -> None:
        it = gateway("least_outstanding")
        it.fake.on("*", answer(after=10))
        asking = [asyncio.ensure_future(it.ask("m")) for _ in range(40)]
        await asyncio.sleep(1)
        assert counted(it) == {"one": 30, "two": 10}
        await asyncio.gather(*asking)

    virtually(main)


def test_latency_goes_where_it_is_fast():
    async def main() -> None:
        it = gateway("latency")
        it.fake.on("one", answer(after=5))
        it.fake.on("two", answer(after=0.2))
        for _ in range(60):
            await it.ask("m")
        assert counted(it)["two"] >= 50

    virtually(main)


@pytest.mark.parametrize("balance", ["rate_limit"])
def test_rate_limit_goes_where_most_is_left_and_comes_back_when_it_resets(balance):
    async def main() -> None:
        it = gateway(balance)
        left = {
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": "10",
            "x-ratelimit-reset-requests": "30s",
        }
        it.fake.on("one", lambda call: s.with_headers(answer(), left))
        it.fake.on("two", answer())
        for _ in range(50):
            await it.ask("m")
        assert counted(it)["two"] >= 45
        await asyncio.sleep(31)
        before = counted(it)["one"]
        for _ in range(10):
            await it.ask("m")
        assert counted(it)["one"] > before

    virtually(main)


@pytest.mark.parametrize("longer", [1, 200])
@pytest.mark.parametrize("balance", ["weighted", "latency"])
def test_a_conversation_stays_on_its_deployment_until_that_is_not_well(balance, longer):
    async def main() -> None:
        it = gateway(balance, affinity=True)
        it.fake.on("*", answer())
        homes: dict[int, str] = {}
        for turn in range(4):
            for talk in range(24):
                said = [
                    {"role": "system", "content": "Help the customers of the water company. " * longer},
                    {"role": "user", "content": f"talk {talk} " * longer},
                    *[{"role": "user", "content": "more"}] * turn,
                ]
                heard = await it.ask("m", messages=said)
                home = heard.details["chosen"]["deployment"]
                assert homes.setdefault(talk, home) == home
        assert set(homes.values()) == {"openai/one", "openai/two"}
        it.fake.on("one", DOWN)
        it.fake.on("two", answer("well"))
        for talk in range(24):
            said = [{"role": "user", "content": f"talk {talk} " * longer}]
            for _ in range(6):
                assert (await it.ask("m", messages=said)).text == "well"

    virtually(main)


@pytest.mark.parametrize("balance", ["weighted", "least_outstanding", "latency", "rate_limit"])
def test_whatever_the_balance_a_deployment_that_fails_is_left(balance):
    async def main() -> None:
        it = gateway(balance)
        it.fake.on("one", DOWN)
        it.fake.on("two", answer("well"))
        for _ in range(60):
            assert (await it.ask("m")).text == "well"
        assert counted(it)["one"] <= 6
        kinds = [facts for kind, facts in it.events if kind == "failover"]
        assert kinds
        assert all(move["frm"] == "openai/one" and move["to"] == "openai/two" for move in kinds)
        trace = it.house.trace(kinds[0]["trace"], None)
        assert trace is not None
        [moved] = [one for one in trace[0].decisions if one.kind == "failover"]
        assert (moved.chosen, moved.over, moved.because) == ("openai/two", ["openai/one"], "openai/one: overloaded")

    virtually(main)


def spares(balance: str, weights: tuple[float, float], *, affinity: bool) -> VirtualGateway:
    text = CONFIG.replace("weight: 1", f"weight: {weights[1]}").replace("weight: 3", f"weight: {weights[0]}")
    return VirtualGateway(text.format(balance=balance, affinity=str(affinity).lower()), seed=7)


@pytest.mark.parametrize("affinity", [True, False])
@pytest.mark.parametrize("balance", ["weighted", "least_outstanding", "latency", "rate_limit"])
def test_whatever_the_balance_one_that_weighs_nothing_is_a_spare(balance, affinity):
    used_up = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "1"}

    async def main() -> None:
        it = spares(balance, (1, 0), affinity=affinity)
        it.fake.on("one", lambda call: s.with_headers(answer(after=2), used_up))
        it.fake.on("two", answer("spare"))

        async def ask(number: int) -> str:
            return (await it.ask("m", messages=[{"role": "user", "content": f"talk {number}"}])).text

        await asyncio.gather(*map(ask, range(40)))
        for number in range(10):
            await ask(number)
        assert counted(it) == {"one": 50, "two": 0}
        it.fake.on("one", DOWN)
        assert {await ask(number) for number in range(20)} == {"spare"}

    virtually(main)


@pytest.mark.parametrize("affinity", [True, False])
@pytest.mark.parametrize("balance", ["weighted", "least_outstanding", "latency", "rate_limit"])
def test_spares_share_among_themselves(balance, affinity):
    async def main() -> None:
        it = spares(balance, (0, 0), affinity=affinity)
        it.fake.on("*", answer(after=1))
        talks = ([{"role": "user", "content": f"talk {number}"}] for number in range(60))
        await asyncio.gather(*(it.ask("m", messages=said) for said in talks))
        assert min(counted(it).values()) >= 15

    virtually(main)


def test_one_that_was_slow_is_tried_again_now_and_then_and_used_when_it_has_recovered():
    async def main() -> None:
        it = gateway("latency")
        it.fake.on("one", lambda call: answer(after=8 if it.clock.monotonic() < 600 else 0.2))
        it.fake.on("two", answer(after=0.2))
        while it.clock.monotonic() < 600:
            await it.ask("m")
            await asyncio.sleep(0.5)
        assert 5 <= counted(it)["one"] <= 40  # of some 750
        while it.clock.monotonic() < 700:
            await it.ask("m")
            await asyncio.sleep(0.5)
        before = counted(it)
        for _ in range(40):
            await it.ask("m")
        assert counted(it)["one"] - before["one"] >= 20  # it weighs three times as much as the other

    virtually(main)


def test_a_slow_one_that_is_tried_again_is_tried_by_one_request_at_a_time():
    async def main() -> None:
        it = gateway("latency")
        it.fake.on("one", answer(after=8))
        it.fake.on("two", answer(after=0.2))
        while not (it.vitals("m", 0).latency and it.vitals("m", 1).latency):
            await it.ask("m")
        await asyncio.sleep(60)
        before = counted(it)["one"]
        asking = []
        for _ in range(70):
            asking.append(asyncio.ensure_future(it.ask("m")))
            await asyncio.sleep(0.1)
        assert counted(it)["one"] - before <= 1
        await asyncio.gather(*asking)

    virtually(main)


def test_a_new_deployment_is_not_given_everything_before_its_first_answer():
    async def main() -> None:
        it = gateway("latency")
        it.fake.on("*", answer(after=2))
        it.vitals("m", 0).observe(2.0, stream=False)
        asking = []
        for _ in range(40):
            asking.append(asyncio.ensure_future(it.ask("m")))
            await asyncio.sleep(0.01)
        assert counted(it)["two"] == 1
        await asyncio.gather(*asking)

    virtually(main)


@pytest.mark.parametrize("weight", [1, 0])
@pytest.mark.parametrize("balance", ["weighted", "least_outstanding", "latency", "rate_limit"])
def test_nobody_queues_where_another_has_room(balance, weight):
    async def main() -> None:
        text = CONFIG.replace("weight: 1", f"weight: {weight}").format(balance=balance, affinity="true")
        it = VirtualGateway(text + "    concurrency: 5\n", seed=7)
        it.fake.on("*", answer(after=1))
        heard = await asyncio.gather(*(it.ask("m") for _ in range(10)))
        assert counted(it) == {"one": 5, "two": 5}
        assert {h.took for h in heard} == {1}
        late = await asyncio.gather(*(it.ask("m") for _ in range(11)))
        assert max(h.took for h in late) == 2  # all are full: one waits

    virtually(main)
