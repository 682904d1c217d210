"""A chain over strategies: whatever breaks off below it, the client hears each word once, or an error."""

from __future__ import annotations

import json

import pytest

from headgate.simulator import script as s
from headgate.upstream import answers
from support.virtual import VirtualGateway, answer, either, streamed, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  a: {provider: openai, upstream: a, price: {input: 1, output: 1}}
  b: {provider: openai, upstream: b, price: {input: 1, output: 1}}
  routed: {route: {classifier: keyword, keywords: {code: [lambda]}, tasks: {code: a}, otherwise: a}}
  fused: {ensemble: {mode: fuse, members: [a, b]}}
  inner: {fallback: {order: [a], rescue: error}}
  agent: {agent: {planner: a, models: [a]}}
  over_a_route: {fallback: [routed, b]}
  over_a_fusion: {fallback: [fused, b]}
  over_a_chain: {fallback: [inner, b]}
  over_two: {fallback: [over_a_route, b]}
  over_an_agent: {fallback: [agent, b]}
  strict: {fallback: {order: [routed, b], rescue: error}}
  plain: {fallback: [a, b]}
"""
PLAN = json.dumps({"steps": [{"name": "one", "query": "first"}]})


def gateway() -> VirtualGateway:
    it = VirtualGateway(CONFIG)
    broken = streamed("The sum ", "of both ", ending=s.Reset())
    it.fake.on("a", either(answer(PLAN), broken))
    it.fake.on("b", either(answer("done"), streamed("of both ", "is 12.")))
    return it


@pytest.mark.parametrize("model", ["over_a_route", "over_a_fusion", "over_a_chain", "over_two", "over_an_agent"])
def test_what_breaks_off_below_is_continued_and_not_begun_anew(model: str):
    async def main() -> None:
        it = gateway()
        heard = await it.ask(model, stream=True)
        assert heard.text == "The sum of both is 12."
        assert heard.finished
        assert it.transport.open == 0
        it.ledger.check()

    virtually(main)


def test_where_the_chain_says_so_it_is_an_error():
    async def main() -> None:
        heard = await gateway().ask("strict", stream=True)
        assert heard.text == "The sum of both "
        assert not heard.finished
        assert heard.error is not None

    virtually(main)


@pytest.mark.parametrize("model", ["plain", "over_a_route"])
def test_a_stream_that_said_more_than_is_kept_ends_with_an_error(model: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answers, "KEEP_BYTES", 200)

    async def main() -> None:
        it = gateway()
        heard = await it.ask(model, stream=True)
        assert heard.text == "The sum of both "
        assert not heard.finished
        assert heard.error is not None
        assert any("more than is kept" in d.because for d in it.house.recent(1)[0][0].decisions)

    virtually(main)
