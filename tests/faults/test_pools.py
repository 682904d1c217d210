"""The property of test_virtual.py where most can go wrong at once: pools that hedge, queues, targets that are strategies,
every rule for cooling down and for streams that break, and clients that leave in the middle. On virtual time."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from faults.test_virtual import BEHAVIOURS, _behaviour, came_to_one_end
from support.virtual import VirtualGateway, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  pool:
    deployments: [{provider: openai, upstream: one}, {provider: openai, upstream: two}]
    balance: latency
    hedge: {after: 1s, share: 1}
    price: {input: 1, output: 1}
    timeout: {first_token: 5s, idle: 3s, total: 20s}
  small: {provider: openai, upstream: three, concurrency: 1, price: {input: 1, output: 1},
    timeout: {first_token: 2s, idle: 5s, total: 20s}}
  last: {provider: openai, upstream: four, price: {input: 1, output: 1}, timeout: {first_token: 5s, idle: 5s, total: 20s}}
  chain: {fallback: [pool, small, last]}
  waits: {fallback: {order: [small, pool], when_all_cooling: wait}}
  fails: {fallback: {order: [small, pool], when_all_cooling: fail, rescue: restart}}
  outer: {fallback: {order: [{model: waits, timeout: 6s}, {model: fails, timeout: 4s}, last], rescue: restart}}
"""
MOST = {"pool": 4, "small": 3, "chain": 6, "waits": 6, "fails": 6, "outer": 15}
"""Calls that one request may lead to: each target once, the last one that is well three times, and a hedge."""
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(list(MOST)),
        st.booleans(),  # streams
        st.sampled_from([0.3, 2.0, 12.0, 60.0]),  # its time
        st.booleans(),  # takes a restart
        st.sampled_from([None, None, 0.5, 1.0, 3.0, 7.0]),  # leaves
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(providers=st.tuples(*[BEHAVIOURS] * 4), requests=REQUESTS, together=st.booleans())
def test_whatever_providers_and_clients_do_there_is_one_end_and_every_call_is_paid_once(providers, requests, together):
    note(f"{providers=} {requests=} {together=}")

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        for name, said in zip(("one", "two", "three", "four"), providers, strict=True):
            it.fake.on(name, *(_behaviour(*one) for one in said))

        async def one(model: str, stream: bool, limit: float, restart: bool, leaves: float | None) -> None:
            headers = {"x-headgate-timeout": f"{limit}s", "x-headgate-restart": str(restart).lower()}
            asking = asyncio.ensure_future(it.ask(model, stream=stream, headers=headers))
            await asyncio.wait([asking], timeout=leaves)
            if not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                return
            heard = await asking
            came_to_one_end(heard, stream=stream, limit=limit)

        asked = [one(*request) for request in requests]
        if together:
            await asyncio.gather(*asked)
        else:
            for request in asked:
                await request
        assert len(it.fake.calls) <= sum(MOST[model] for model, *_ in requests)
        assert not [error for error in it.errors if error.code == "internal_error"]
        assert it.transport.open == 0
        assert it.house.inflight == 0
        for model, number in (("pool", 0), ("pool", 1), ("small", 0), ("last", 0)):
            vitals = it.vitals(model, number)
            assert (vitals.outstanding, vitals.gate.busy, vitals.gate.waiting) == (0, 0, 0)
        it.ledger.check()
        booked = {record.id: record for record in it.ledger.requests}
        assert len(booked) == len(requests)
        assert sum(record.attempts for record in booked.values()) >= len(it.fake.calls)
        costs = [outcome.cost for outcome in it.ledger.outcomes.values()]
        assert sum(filter(None, costs)) == sum(record.cost or 0 for record in booked.values())

    virtually(main)
