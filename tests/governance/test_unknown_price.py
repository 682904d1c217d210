"""Models whose price nobody knows: what they cost is unknown, told once, and refused or assumed under a hard budget."""

from __future__ import annotations

from headgate.config.load import load_text
from headgate.engine.compile import Compiler
from support.gateway import ENV
from support.virtual import VirtualGateway, answer, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models: {odd: {provider: openai, upstream: nobody-knows-it}}
"""


def test_a_model_without_a_price_costs_null_and_is_told_of_once():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("nobody-knows-it", lambda call: answer())
        for _ in range(3):
            heard = await it.ask("odd")
            assert (heard.status, heard.details["cost_usd"]) == (200, None)
            assert "x-headgate-cost-usd" not in heard.headers
        assert [o.cost for o in it.ledger.outcomes.values()] == [None] * 3
        assert [i.price_version for i in it.ledger.intents] == [None] * 3
        told = [facts for kind, facts in it.events if kind == "price_unknown"]
        assert told == [{"model": "odd", "deployment": "openai/nobody-knows-it"}]

    virtually(main)


def test_an_operator_may_say_what_it_is_charged_at():
    async def main() -> None:
        it = VirtualGateway(CONFIG + "budgets: {unknown_price_usd_per_mtok: 20}\n")
        it.fake.on("nobody-knows-it", lambda call: answer())
        assert (await it.ask("odd")).details["cost_usd"] == "0.000300"  # 15 tokens at $20 a million
        (intent,) = it.ledger.intents
        assert intent.price_version == "assumed"
        assert not [kind for kind, _ in it.events if kind == "price_unknown"]

    virtually(main)


def test_an_hour_of_anthropics_cache_has_its_price_from_the_profile():
    text = "providers: {anthropic: {}}\nmodels: {c: {provider: anthropic, upstream: claude-sonnet-4-5}}\n"
    found = Compiler(ENV).compile(load_text(text, "test.yaml", ENV).config).model("c")
    assert found is not None
    price = found.deployments[0].price
    assert price is not None
    assert (price.cache_write, price.cache_write_1h) == (price.input * 5 // 4, price.input * 2)
