"""Models whose price nobody knows: what they cost is unknown, told once, and refused or assumed under a hard budget."""

from __future__ import annotations

import re

from headgate.config.load import load_text
from headgate.core.money import Price, cost_of, per_mtok, stamped
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
        assert intent.price_version == "assumed (input 20, output 20)"
        assert not [kind for kind, _ in it.events if kind == "price_unknown"]

    virtually(main)


def test_an_hour_of_anthropics_cache_has_its_price_from_the_profile():
    text = "providers: {anthropic: {}}\nmodels: {c: {provider: anthropic, upstream: claude-sonnet-4-5}}\n"
    found = Compiler(ENV).compile(load_text(text, "test.yaml", ENV).config).model("c")
    assert found is not None
    price = found.deployments[0].price
    assert price is not None
    assert (price.cache_write, price.cache_write_1h) == (price.input * 5 // 4, price.input * 2)


def test_a_row_holds_the_prices_that_it_was_worked_out_from():
    """Whatever the file or the catalogue says later."""

    async def main() -> None:
        models = """
models:
  flat: {provider: openai, upstream: a, cost_per_1k: 0.015}
  parts: {provider: openai, upstream: a, price: {input: 2.5, output: 10, cached_input: 0.25, request: 0.001}}
  listed: {provider: openai, upstream: gpt-4o}
"""
        it = VirtualGateway(CONFIG.partition("models:")[0] + models)
        for upstream in ("a", "gpt-4o"):
            it.fake.on(upstream, lambda call: answer())
        for name in ("flat", "parts", "listed"):
            assert (await it.ask(name)).status == 200
        said = [intent.price_version or "" for intent in it.ledger.intents]
        assert said[0] == "config (input 15, output 15)"
        assert said[1] == "config (input 2.5, output 10, cached_input 0.25, request 0.001)"
        assert re.fullmatch(r"genai-prices \S+ \(input 2\.5, output 10, cached_input 1\.25\)", said[2])
        for intent, text in zip(it.ledger.intents, said, strict=True):
            amounts = dict(part.split() for part in text.partition("(")[2].rstrip(")").split(", "))
            price = Price(**{name: per_mtok(amount) for name, amount in amounts.items()})
            outcome = it.ledger.outcomes[intent.id]
            assert outcome.usage is not None
            assert outcome.cost == cost_of(outcome.usage, price) > 0

    virtually(main)


def test_the_price_of_long_prompts_is_in_it_too():
    price = Price(input=per_mtok(3), output=per_mtok(15), version="v", long_context_from=200_000,
                  long=Price(input=per_mtok(6), output=per_mtok("22.5")))  # fmt: skip
    assert stamped(price).version == "v (input 3, output 15; beyond 200000 input 6, output 22.5)"
