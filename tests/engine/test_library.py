"""The library: the same pipeline, no server, no file."""

from __future__ import annotations

import pytest

from headgate import Gateway, HeadgateError
from headgate.config.load import load_text
from headgate.core.events import Finished, TextDelta
from headgate.simulator.app import Simulator
from support.gateway import ENV, EXAMPLE
from support.sim import INSTANT

ASK = [{"role": "user", "content": "What is 12*12?"}]


@pytest.fixture
async def gateway():
    sim = Simulator(INSTANT)
    urls = await sim.start(0)
    config = load_text(EXAMPLE.read_text(encoding="utf-8"), "e", ENV).config
    providers = {n: p.model_copy(update={"base_url": urls[n]}) if n in urls else p for n, p in config.providers.items()}
    async with Gateway(config.model_copy(update={"providers": providers}), env=ENV) as found:
        yield found
    await sim.aclose()


async def test_chat_answers_with_text_model_cost_and_the_reasons(gateway):
    answer = await gateway.chat(model="reliable", messages=ASK)
    assert "144" in answer.text
    assert answer.model == "claude-4.7"
    assert answer.cost is not None
    assert answer.cost > 0
    assert answer.details["strategy"] == "fallback"


async def test_stream_gives_events_and_leaving_early_settles(gateway):
    events = [event async for event in gateway.stream(model="gpt-5.5", messages=ASK)]
    assert "144" in "".join(e.text for e in events if isinstance(e, TextDelta))
    assert any(isinstance(e, Finished) for e in events)
    stream = gateway.stream(model="gpt-5.5", messages=ASK)
    async for _ in stream:
        break
    await stream.aclose()
    assert gateway.house.inflight == 0


async def test_errors_are_the_typed_ones(gateway):
    with pytest.raises(HeadgateError) as caught:
        await gateway.chat(model="nobody", messages=ASK)
    assert caught.value.code == "model_not_found"


async def test_no_canary_key_leaves_by_any_way(gateway):
    answer = await gateway.chat(model="reliable", messages=ASK)
    house = gateway.house
    shown = [repr(house.snapshot.model(n)) for n in ("claude-4.7", "gpt-5.5")] + [repr(answer), str(answer.details)]
    shown += [repr(d.endpoints) for m in house.snapshot.models() for d in m.deployments]
    shown += [d.key for m in house.snapshot.models() for d in m.deployments]
    assert not [text for text in shown if "canary" in text]
