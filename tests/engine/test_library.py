"""The library: the same pipeline, no server, no file."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headgate import Agent, Cascade, ConfigError, Ensemble, Fallback, Gateway, HeadgateError, Route
from headgate.config.load import load_text
from headgate.core.errors import InvalidRequest
from headgate.core.events import Finished, TextDelta
from headgate.engine.zero import config_from_environment
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
    async with Gateway.from_environment({}) as empty:
        with pytest.raises(HeadgateError, match="set a provider key"):
            await empty.chat(model="reliable", messages=ASK)


@pytest.mark.parametrize("content", ["\ud800 alone", object(), [{"type": "text", "text": {1j}}]])
async def test_what_is_no_json_is_told_before_anything_is_asked(gateway, content):
    with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
        await gateway.chat(model="auto", messages=[{"role": "user", "content": content}])


async def test_no_canary_key_leaves_by_any_way(gateway):
    answer = await gateway.chat(model="reliable", messages=ASK)
    house = gateway.house
    shown = [repr(house.snapshot.model(n)) for n in ("claude-4.7", "gpt-5.5")] + [repr(answer), str(answer.details)]
    shown += [repr(d.endpoints) for m in house.snapshot.models() for d in m.deployments]
    shown += [d.key for m in house.snapshot.models() for d in m.deployments]
    assert not [text for text in shown if "canary" in text]


async def test_strategies_as_plain_objects_without_a_file():
    sim, env = Simulator(INSTANT), {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "b"}
    urls, config = await sim.start(0), config_from_environment(env)
    for name in ("anthropic", "openai"):
        config.providers[name] = config.providers[name].model_copy(update={"base_url": urls[name]})
    models = {
        "chain": Fallback("anthropic/claude-opus-4-7", "openai/gpt-5.5", retries=0),
        "tasks": Route({"math": "panel"}, otherwise="chain", classifier="keyword", keywords={"math": ["what"]}),
        "panel": Ensemble({"anthropic/claude-opus-4-7": 0.6, "openai/gpt-5.5": 0.4}, mode="vote"),
        "stairs": Cascade("openai/gpt-5.5", "anthropic/claude-opus-4-7"),
        "team": Agent(planner="chain", models=["chain"], budget={"max_cost": 2.0, "max_steps": 4}),
    }
    async with Gateway(config, models=models, env=env) as gateway:
        assert set(models) <= set(gateway.models())
        for name, strategy in (("chain", "fallback"), ("tasks", "route"), ("panel", "ensemble"), ("team", "agent")):
            answer = await gateway.chat(model=name, messages=ASK)
            assert "144" in answer.text, name
            assert answer.details["strategy"] == strategy
        await sim.break_model("claude-4.7", "500")
        answer = await gateway.chat(model="chain", messages=ASK)
        assert answer.model == "openai/gpt-5.5"
    await sim.aclose()
    assert repr(models["chain"]).startswith("Fallback(order=[")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Fallback(), "order"),
        (lambda: Fallback("a", retires=1), "retires"),
        (lambda: Ensemble("a"), "members"),
        (
            lambda: Route({"code": "a"}, otherwise="b", threshold=7),
            "Route: threshold: at most 1 is expected here, not '7'",
        ),
        (lambda: Route({"code": "a"}, otherwise="b", classifier="keyword"), "Route: `classifier: keyword` needs"),
    ],
)
def test_a_plain_object_that_is_wrong_says_so_at_once(make, said):
    with pytest.raises(ConfigError) as caught:
        make()
    assert said in str(caught.value)


def test_plain_objects_that_name_nothing_or_each_other_are_refused():
    with pytest.raises(ConfigError, match="there is no model 'nobody'"):
        Gateway.from_environment({"OPENAI_API_KEY": "b"}, models={"mine": Fallback("nobody")})
    circle = {"one": Fallback("two"), "two": Fallback("one")}
    with pytest.raises(ConfigError, match="circle"):
        Gateway.from_environment({"OPENAI_API_KEY": "b"}, models=circle)


COMPILES = """
import sys, headgate.server.serve
from headgate.config.load import load_text
from headgate.engine.compile import Compiler
Compiler({}).compile(load_text(sys.argv[1], "f", {}).config)
print("numpy" in sys.modules)
"""
TWO = """
providers: {openai: {api_key: sk-a}}
models:
  a: {provider: openai, upstream: gpt-5.5}
  b: {provider: openai, upstream: gpt-5-mini}
"""


@pytest.mark.parametrize(
    ("entry", "is_there"), [("fallback: [a, b]", False), ("route: {tasks: {code: a}, otherwise: b}", True)]
)
def test_what_only_routes_need_is_read_for_routes_alone(entry, is_there):
    command = [sys.executable, "-c", COMPILES, f"{TWO}  c: {{{entry}}}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == str(is_there), done.stderr
