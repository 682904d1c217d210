"""Adaptive concurrency through the whole gateway: what a provider's overload does to its own deployment, who waits, who is
shed, and who comes first. On virtual time, counted at the provider's side."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from headgate.config.load import load_text
from headgate.core.principal import Principal
from headgate.governance.open import OpenGovernor
from headgate.simulator import script as s
from headgate.upstream.concurrency import LEAST, LONGEST_WAIT, MOST, QUEUE, START
from support.gateway import ENV
from support.virtual import VirtualGateway, answer, either, streamed, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  first: {provider: openai, upstream: one}
  second: {provider: openai, upstream: two}
  small: {provider: openai, upstream: three, concurrency: 2}
  chain: {fallback: [small, second]}
"""


class Ranked(OpenGovernor):
    """A key's priority is what it says it is."""

    def authenticate(self, credentials: Sequence[str]) -> Principal:
        return Principal(key_id=credentials[0], priority=int(credentials[0]))


class Counting:
    """A provider that takes its time; `most` is how many it was asked at once."""

    def __init__(self, it: VirtualGateway, name: str, *, seconds: float) -> None:
        self.most = 0
        self.busy: list[float] = []

        def say(call: Any) -> s.Script:
            self.busy = [ends for ends in self.busy if ends > it.clock.monotonic()] + [it.clock.monotonic() + seconds]
            self.most = max(self.most, len(self.busy))
            return either(answer(name, after=seconds), streamed(name, after=seconds))(call)

        it.fake.on(name, say)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_an_overload_takes_room_from_its_own_deployment_and_success_gives_it_back(status):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", [s.Pause(0.1), *s.reply_json(status, {"error": {"message": "too much"}})])
        it.fake.on("two", answer(after=0.1))
        gate, other = it.vitals("first").gate, it.vitals("second").gate
        assert gate.limit == START
        await asyncio.gather(*(it.ask(model) for _ in range(100) for model in ("first", "second")))
        low = gate.limit
        assert LEAST <= low <= 70  # 100 were under way, and that was too much: told of once
        assert other.limit == START
        await asyncio.sleep(60)
        it.fake.on("one", answer(after=0.1))
        for _ in range(8):
            heard = await asyncio.gather(*(it.ask("first") for _ in range(int(gate.limit))))
            assert {h.status for h in heard} == {200}
        assert gate.limit > low

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_no_more_are_asked_at_once_than_the_cap_and_who_waits_too_long_is_told(stream):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        provider = Counting(it, "three", seconds=0.9)
        heard = await asyncio.gather(*(it.ask("small", stream=stream) for _ in range(100)))
        assert provider.most == 2
        served = [h for h in heard if h.status == 200]
        assert len(served) == 6  # two at a time, the last of them begun within the longest wait
        shed = [h for h in heard if h.status == 503]
        assert len(shed) == 94
        assert {h.error["code"] for h in shed} == {"overloaded"}
        assert all(h.headers["retry-after"] == "1" for h in shed)
        assert all("x-should-retry" not in h.headers for h in shed)  # nobody was asked: a later try may help
        at_once = [h for h in shed if h.took == 0]
        assert len(at_once) == 100 - 2 - QUEUE
        assert max(h.took for h in shed) == LONGEST_WAIT
        assert Counter(facts["reason"] for kind, facts in it.events if kind == "shed") == {"concurrency": 94}
        assert (it.vitals("small").gate.busy, it.vitals("small").gate.waiting) == (0, 0)
        it.ledger.check()

    virtually(main)


def test_a_chain_moves_on_from_a_queue_that_is_full():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        provider = Counting(it, "three", seconds=0.9)
        it.fake.on("two", answer("second"))
        heard = await asyncio.gather(*(it.ask("chain") for _ in range(100)))
        assert provider.most == 2
        assert Counter(h.text for h in heard) == {"three": 6, "second": 94}

    virtually(main)


def test_whose_key_ranks_higher_is_served_first_and_shed_last():
    async def main() -> None:
        it = VirtualGateway(CONFIG, governor=Ranked())
        Counting(it, "three", seconds=0.5)
        asking = [asyncio.ensure_future(it.ask("small", headers={"x-api-key": "0"})) for _ in range(2 + QUEUE)]
        await asyncio.sleep(0.1)
        above = [asyncio.ensure_future(it.ask("small", headers={"x-api-key": "5"})) for _ in range(4)]
        below = [asyncio.ensure_future(it.ask("small", headers={"x-api-key": "-5"})) for _ in range(4)]
        first = await asyncio.gather(*above)
        assert {h.status for h in first} == {200}
        assert max(h.took for h in first) < 1.5  # the first two that came free, and the next two
        assert {h.status for h in await asyncio.gather(*below)} == {503}
        heard = await asyncio.gather(*asking)
        assert Counter(h.status for h in heard)[503] >= 4  # four of theirs had to give way
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize(
    ("caps", "least"),
    [({"small": 2}, 2), ({"small": 2, "again": 3}, 2), ({"again": 3}, 3), ({}, None)],
    ids=lambda value: str(value),
)
def test_a_cap_holds_from_the_reload_that_sets_it_to_the_one_that_lifts_it(caps, least):
    """Of the entries that ask the same deployment, the one that says least counts."""

    def told(caps: dict[str, int]) -> str:
        lines = [
            f"  {name}: {{provider: openai, upstream: three{f', concurrency: {caps[name]}' if name in caps else ''}}}"
            for name in ("again", "small", "plain")
        ]
        return "\n".join(['providers: {openai: {base_url: "http://one/v1"}}', "models:", *lines])

    async def main() -> None:
        it = VirtualGateway(told({"plain": 5}))

        async def most() -> int:
            provider = Counting(it, "three", seconds=0.1)
            await asyncio.gather(*(it.ask(name) for _ in range(10) for name in ("small", "plain")))
            return provider.most

        assert await most() == 5
        it.house.snapshot = it.compiler.compile(load_text(told(caps), "test.yaml", ENV).config)
        assert it.vitals("small").gate.cap == (least or MOST)
        if least is not None:
            assert await most() == least
            return
        for _ in range(60):  # lifted, it finds its limit again by success at it
            if await most() == 20:
                return
        raise AssertionError(it.vitals("small").gate.limit)

    virtually(main)
