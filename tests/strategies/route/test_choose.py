"""The choice among candidates: filters with reasons, objectives, dominated ones, downgrades, conditions, exploration."""

from __future__ import annotations

import json
import random
import urllib.request
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from msgspec.structs import replace

from headgate.catalog.catalog import lookup
from headgate.core.dialect import Peek
from headgate.core.money import Price
from headgate.core.request import Request
from headgate.core.strategy import ModelInfo
from headgate.dialects.openai_chat import DIALECT
from headgate.engine.compile import Compiler
from headgate.simulator.app import Simulator
from headgate.strategies.route.beliefs import ASSUMED, MEASURED, Beliefs, Beta, Prior
from headgate.strategies.route.choose import Candidate, Limits, Weights, explore, rank
from headgate.strategies.route.keyword import Keyword
from headgate.strategies.route.learning import Conversation, Learning, prior_of
from headgate.strategies.route.neighbours import Neighbours, features
from headgate.strategies.route.route import Route
from headgate.strategies.route.rules import Hours, Rule
from headgate.strategies.words import KEPT
from support.gateway import ENV, Loop, RunningGateway
from support.sim import INSTANT

REQUEST = Request(op="chat", dialect=DIALECT, body=b"", peek=Peek(model="auto", input_bound=4000))
PRICE = Price(input=10_000_000_000, output=30_000_000_000, cached_input=1_000_000_000)


def row(name: str, quality: float, cost: int | None, latency: float | None = None, **more: Any) -> Candidate:
    worst = more.pop("worst", cost)
    belief = Beta(quality * 20, (1 - quality) * 20)
    return Candidate(ModelInfo(name=name, provider="p", upstream=name, **more), belief, quality, cost, worst, latency)


def names(rows: list[Candidate]) -> list[str]:
    return [r.info.name for r in rows if r.out is None]


def pool() -> list[Candidate]:
    return [
        row("best", 0.9, 1000, 2.0),
        row("mid", 0.8, 300, 1.0),
        row("cheap", 0.6, 50, 0.5),
        row("bad", 0.55, 400, 1.5),
    ]


@pytest.mark.parametrize(
    ("weights", "first"),
    [
        (Weights(), "best"),
        (Weights(quality=1.0, cost=0.3), "mid"),
        (Weights(quality=0.1, cost=1.0), "cheap"),
        (Weights(quality=0.1, latency=1.0), "cheap"),
        (Weights(at_least=0.75), "mid"),
        (Weights(at_least=0.5), "cheap"),
        (Weights(at_least=0.99), "best"),
        (Weights(max_cost=500), "mid"),
    ],
)
def test_objectives(weights, first):
    assert names(rank(REQUEST, pool(), weights, Limits()))[0] == first


def test_a_dominated_candidate_comes_last_and_says_of_whom():
    rows = rank(REQUEST, pool(), Weights(), Limits())
    assert names(rows)[-1] == "bad"
    assert rows[3].behind in ("mid", "cheap", "best")


def test_what_is_unknown_is_neither_free_nor_instant():
    rows = rank(REQUEST, [row("known", 0.8, 100), row("unknown", 0.8, None)], Weights(quality=0.1, cost=1), Limits())
    assert names(rows) == ["known", "unknown"]


@pytest.mark.parametrize(
    ("candidate", "limits", "weights", "why"),
    [
        (row("m", 0.9, 10, usable=False, reason="no key"), Limits(), Weights(), "no key"),
        (row("m", 0.9, 10), Limits(capabilities=frozenset({"math"})), Weights(), "without math"),
        (row("m", 0.9, 10, zone="eu"), Limits(zone="private"), Weights(), "outside the zone 'private'"),
        (row("m", 0.9, 10, 3.0), Limits(max_latency=2.0), Weights(), "first content takes 3.0 s"),
        (row("m", 0.9, 10), Limits(), Weights(max_cost=5), "dearer than the rule's cost limit"),
        (row("m", 0.9, 10, worst=100), Limits(room=50), Weights(), "more than the request may spend"),
        (row("m", 0.9, 10, max_context=900), Limits(), Weights(), "longer than m's context"),
    ],
)
def test_every_filter_says_why(candidate, limits, weights, why):
    (found,) = rank(REQUEST, [candidate], weights, limits)
    assert why in (found.out or "")
    assert why in found.shown()["out"]


def test_the_unwell_come_after_the_well():
    assert names(rank(REQUEST, [row("ill", 0.9, 1, health=0.0), row("well", 0.5, 9)], Weights(), Limits())) == [
        "well",
        "ill",
    ]


# -- beliefs ----------------------------------------------------------------------------------------------------------
def test_a_few_answers_move_a_belief_a_little_and_many_move_it_far():
    beliefs, prior = Beliefs(), Prior(0.8, MEASURED)
    seen = []
    for _ in range(200):
        beliefs.score("math", "m", 0.0, prior)
        seen.append(beliefs.quality("math", "m", prior).mean)
    assert seen[0] > 0.7
    assert seen[-1] < 0.1
    assert all(after <= before + 1e-9 for before, after in pairwise(seen))


def test_what_a_model_does_in_one_task_is_believed_a_little_of_the_others():
    beliefs, prior = Beliefs(), Prior(0.8, MEASURED)
    for _ in range(40):
        beliefs.score("math", "m", 0.3, prior)
    other = beliefs.quality("code", "m", prior)
    assert beliefs.quality("math", "m", prior).mean < other.mean < 0.8
    assert beliefs.quality("code", "another", prior).mean == pytest.approx(0.8)


def test_hints_only_compare_models_with_each_other():
    beliefs, prior = Beliefs(), Prior(0.8, MEASURED)
    luck = random.Random(1)
    for _ in range(500):
        beliefs.hint("chat", "a", bad=luck.random() < 0.3)
        beliefs.hint("chat", "b", bad=luck.random() < 0.1)
    a, b = (beliefs.quality("chat", model, prior).mean for model in "ab")
    assert a < 0.8 < b
    assert abs(a - 0.8) + abs(b - 0.8) < 0.4


def test_cost_and_latency_are_learned_relative_to_what_was_predicted():
    beliefs = Beliefs()
    for _ in range(50):
        beliefs.answered("code", "long", predicted=100, cost=300, seconds=2.0)
        beliefs.answered("code", "short", predicted=100, cost=50)
    assert beliefs.cost_factor("code", "long") > 2.0 > 1.0 > beliefs.cost_factor("code", "short")
    assert beliefs.cost_factor("code", "new") > 1.0  # as the route's others, not as if it cost what was predicted
    assert beliefs.seconds("code", "long", None) == pytest.approx(2.0, rel=0.1)
    assert beliefs.seconds("code", "new", None) is None


def test_priors_are_measured_where_somebody_measured_and_say_their_weight():
    strength = lookup("openai", "gpt-4o-mini-2024-07-18").strength
    measured = ModelInfo(name="m", provider="p", upstream="m", strength=strength)
    assert prior_of("math", measured) == Prior(strength["math"], MEASURED)
    assert prior_of("creative", measured).weight == (MEASURED + ASSUMED) / 2
    assumed = ModelInfo(name="n", provider="p", upstream="n", capabilities=("code",))
    assert (prior_of("code", assumed).mean, prior_of("math", assumed).mean) == (0.85, 0.7)
    assert lookup("openai", "gpt-4o-mini").strength["math"] < lookup("openai", "gpt-4o").strength["math"]
    assert lookup("anthropic", "claude-opus-4-7").strength == {}


# -- neighbours -------------------------------------------------------------------------------------------------------
def test_only_near_prompts_speak():
    near = Neighbours()
    for number in range(20):
        near.add(features(f"Convert the amount of {number} euros into dollars at today's rate"), {"m": -0.5})
    again = near.corrections(features("Convert the amount of 77 euros into dollars at today's rate"), ["m", "n"])
    assert -0.5 < again["m"] < -0.25
    assert "n" not in again
    assert near.corrections(features("Write a sonnet about a lighthouse in winter"), ["m"]) == {}


def test_no_text_is_kept():
    near = Neighbours()
    near.add(features("a very secret sentence"), {"m": 0.1})
    assert "secret" not in repr(vars(near))


def test_the_ring_forgets_the_oldest():
    near = Neighbours(kept=3)
    for word in ("alpha alpha", "beta beta", "gamma gamma", "delta delta"):
        near.add(features(word), {"m": 1.0})
    assert len(near) == 3
    assert near.corrections(features("alpha alpha"), ["m"]) == {}
    assert near.corrections(features("delta delta"), ["m"])


# -- exploration ------------------------------------------------------------------------------------------------------
def test_exploration_is_bounded_deterministic_and_its_propensities_are_right():
    rows = rank(REQUEST, pool()[:3], Weights(), Limits())
    counts: dict[int, int] = {}
    told: dict[int, list[float]] = {}
    for number in range(4000):
        found = explore(rows, Weights(), share=0.2, seed=f"7 tr_{number}")
        counts[found.chosen] = counts.get(found.chosen, 0) + 1
        told.setdefault(found.chosen, []).append(found.propensity)
    assert explore(rows, Weights(), share=0.2, seed="7 tr_1") == explore(rows, Weights(), share=0.2, seed="7 tr_1")
    assert sum(n for place, n in counts.items() if place) / 4000 <= 0.2
    for place, n in counts.items():
        assert n / 4000 == pytest.approx(sum(told[place]) / len(told[place]), abs=0.02)
    # Inverse propensities are unbiased: each arm's estimated total is the number of requests.
    assert sum(1 / p for p in told[0]) == pytest.approx(4000, rel=0.05)


def test_without_a_share_nothing_is_drawn():
    rows = rank(REQUEST, pool(), Weights(), Limits())
    found = explore(rows, Weights(), share=0.0, seed="x")
    assert (found.chosen, found.drawn, found.propensity) == (0, False, 1.0)


# -- cost -------------------------------------------------------------------------------------------------------------
def test_a_warm_cache_makes_the_conversations_model_cheaper():
    learning = Learning()
    info = ModelInfo(name="m", provider="p", upstream="m", price=PRICE)
    home = Conversation("m", "code", "t", 0.0, warm=2500)
    cold, warm = learning.cost(REQUEST, "code", info, None), learning.cost(REQUEST, "code", info, home)
    assert cold == 3000 * 10_000 + 600 * 30_000
    assert cold - warm == 2500 * 9_000
    other = ModelInfo(name="n", provider="p", upstream="n", price=PRICE)
    assert learning.cost(REQUEST, "code", other, home) == cold


def test_the_baseline_of_a_zone_is_a_model_that_its_keys_may_use():
    infos = {
        "big": ModelInfo(name="big", provider="p", upstream="big", strength={"code": 0.9}),
        "near": ModelInfo(name="near", provider="p", upstream="near", strength={"code": 0.7}, zone="eu"),
    }
    route = Route("auto", {"code": (Rule(models=("big", "near")),)}, otherwise="near", classifier=Keyword({}))

    def run(zone: str | None) -> Any:
        seen = {n: info if zone in (None, info.zone) else replace(info, usable=False) for n, info in infos.items()}
        return SimpleNamespace(principal=SimpleNamespace(zone=zone), model=seen.get)

    assert [route._best(run(zone)) for zone in ("eu", None, "eu", "us")] == ["near", "big", "near", None]


# -- conditions -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("hours", "at", "holds"),
    [
        (Hours(8 * 60, 18 * 60), "2026-11-24T12:00", True),
        (Hours(8 * 60, 18 * 60), "2026-11-24T18:00", False),
        (Hours(22 * 60, 6 * 60), "2026-11-24T23:30", True),
        (Hours(22 * 60, 6 * 60), "2026-11-24T05:59", True),
        (Hours(22 * 60, 6 * 60), "2026-11-24T12:00", False),
        (Hours(22 * 60, 6 * 60, frozenset({"tue"})), "2026-11-25T05:00", True),
        (Hours(22 * 60, 6 * 60, frozenset({"tue"})), "2026-11-24T05:00", False),
        (Hours(days=frozenset({"sat", "sun"})), "2026-11-24T12:00", False),
    ],
)
def test_hours(hours, at, holds):
    from datetime import UTC, datetime

    assert hours.holds(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()) is holds


MODELS = """
providers: {anthropic: {}, openai: {}, google: {}, meta: {kind: openai-compatible, api_key: x, base_url: "http://x"}}
models:
  strong: {provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.020, max_output: 4096, capabilities: [code, math, creative], zone: eu}
  middle: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.010, max_output: 4096, capabilities: [vision]}
  small: {provider: meta, upstream: llama-4-maverick, cost_per_1k: 0.001, max_output: 4096}
  auto:
    route:
      otherwise: small
      tasks:
        code:
          - {model: small, tags: [draft]}
          - {model: middle, keys: [somebody-else]}
          - {model: strong, downgrade: [middle, small]}
        math: {models: [strong, middle], choose: {quality: 1.0}}
        translation: {models: [strong, middle, small], zone: eu}
        creative: {models: [strong, middle]}
  drawn: {route: {otherwise: small, learn: {explore: 0.2}, tasks: {code: {models: [strong, middle]}}}}
"""  # noqa: E501  one entry a line
CODE = "Write a Python function that reverses a linked list."
MATH = "Solve the equation x^2 - 5x + 6 = 0."


class Stage:
    def __init__(self) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0, port_each=True))
        self.gateway = self.loop.call(lambda: RunningGateway(MODELS, urls, env=ENV))
        self.loop.run(self.gateway.start())
        self.url = self.gateway.url
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0)

    def ask(self, prompt: Any, model: str = "auto", **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        body = {"extra_body": {"headgate": {"details": True, **more.pop("headgate", {})}}}
        answer = self.client.chat.completions.create(model=model, messages=messages, **body, **more)
        return answer.model_extra["headgate"]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(self.url + path, data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def _stage():
    found = Stage()
    yield found
    found.close()


@pytest.fixture
def stage(_stage):
    for entry in _stage.gateway.house.snapshot.entries.values():
        if entry.kind == "route":
            entry.learning.__init__()
    return _stage


def test_the_first_rule_whose_conditions_hold_counts(stage):
    assert stage.ask(CODE, headgate={"tags": ["draft"]})["chosen"]["model"] == "small"
    assert stage.ask(CODE)["chosen"]["model"] == "strong"


def test_under_a_cost_limit_a_rule_that_allows_it_downgrades(stage):
    details = stage.ask(CODE, max_tokens=1000, headgate={"max_cost": "0.015"})
    assert details["chosen"]["model"] == "middle"
    assert "downgraded" in details["chosen"]["because"]
    details = stage.ask(CODE, max_tokens=1000, headgate={"max_cost": "0.003"})
    assert details["chosen"]["model"] == "small"
    # a rule that does not allow it goes to `otherwise`, with the reason on each candidate
    details = stage.ask("Write a short poem about the sea.", max_tokens=1000, headgate={"max_cost": "0.003"})
    assert details["chosen"]["model"] == "small"
    assert all("more than the request may spend" in c["out"] for c in details["route"]["candidates"])


def test_explain_shows_every_candidate_and_calls_nobody(stage):
    before = len(stage.sim.log)
    found = stage.post(
        "/v1/explain", {"model": "auto", "messages": [{"role": "user", "content": "Translate into French: Hi"}]}
    )
    rows = {row["model"]: row for row in found["route"]["candidates"]}
    assert set(rows) == {"strong", "middle", "small"}
    assert "outside the zone 'eu'" in rows["middle"]["out"]
    assert {"quality", "uncertainty", "cost_usd", "score"} <= set(rows["strong"])
    assert len(stage.sim.log) == before


def test_feedback_turns_a_choice_round_and_the_last_word_counts(stage):
    assert stage.ask(MATH)["chosen"]["model"] == "strong"
    for number in range(8):
        details = stage.ask(f"Solve the equation x^2 - {number}x + 6 = 0.")
        poor = details["chosen"]["model"] == "strong"
        stage.post("/v1/feedback", {"trace": details["trace"], "score": 1.0 if poor else 0.0})
        stage.post("/v1/feedback", {"trace": details["trace"], "thumbs": "down" if poor else "up"})
    assert stage.ask(MATH)["chosen"]["model"] == "middle"
    rows = stage.ask(MATH)["route"]["candidates"]
    assert rows[0]["quality"] > rows[1]["quality"]
    beliefs = stage.gateway.house.snapshot.entries["auto"].learning.beliefs
    assert beliefs.answers("math", "strong") + beliefs.answers("math", "middle") == pytest.approx(8, abs=0.2)


def refusal(stage: Any, trace: str) -> tuple[int, bool] | None:
    try:
        stage.post("/v1/feedback", {"trace": trace, "thumbs": "up"})
    except urllib.error.HTTPError as error:
        message = json.loads(error.read())["error"]["message"]
        return error.code, "of a request that is not over yet" in message
    return None


def test_a_word_on_what_is_not_over_is_told_so(stage):
    stream = stage.client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": MATH}], stream=True
    )
    trace = stream.headers["x-headgate-trace"]
    with stream.parse() as chunks:
        next(iter(chunks))
        assert refusal(stage, "tr_nobodys") == (404, True)
        told = refusal(stage, trace)  # the provider says all at once: the request may be over by now
        assert told == (404, True) or (told is None and stage.gateway.house.trace(trace, None) is not None)
        list(chunks)
    assert stage.post("/v1/feedback", {"trace": trace, "thumbs": "up"}) == {"status": "recorded"}


def test_a_conversation_stays_with_its_model_while_the_task_does(stage):
    first = [{"role": "user", "content": "Compose a haiku about the first snow."}]
    assert stage.ask(first)["chosen"]["model"] == "strong"
    learning = stage.gateway.house.snapshot.entries["auto"].learning
    for _ in range(60):
        learning.beliefs.score("creative", "strong", 0.0, Prior(0.7, ASSUMED))
    assert stage.ask(first)["chosen"]["model"] == "middle"  # a new conversation: the better one
    learning.conversations[next(iter(learning.conversations))].model = "strong"
    more = [
        *first,
        {"role": "assistant", "content": "Snow."},
        {"role": "user", "content": "Write another poem about snow."},
    ]
    details = stage.ask(more)
    assert details["chosen"]["model"] == "strong"
    assert "it has this conversation" in details["chosen"]["because"]
    changed = [*first, {"role": "assistant", "content": "Snow."}, {"role": "user", "content": CODE}]
    assert "it has this conversation" not in stage.ask(changed)["chosen"]["because"]


def test_asking_the_same_again_counts_against_the_answer(stage):
    learning = stage.gateway.house.snapshot.entries["auto"].learning
    for _ in range(5):
        stage.ask(CODE)
    prior = Prior(0.85, ASSUMED)
    assert learning.beliefs.quality("code", "strong", prior).mean < 0.85


def test_propensities_are_on_the_decision(stage):
    seen = [stage.ask(CODE, "drawn") for _ in range(40)]
    traces = [trace for trace, _ in stage.gateway.house.recent(40)]
    decided = [d for trace in traces for d in trace.decisions if d.kind == "route"]
    assert all(0 < d.numbers["propensity"] <= 1 for d in decided)
    assert sum(d["route"]["explored"] for d in seen) < 20


def believed(learning: Learning) -> tuple[float, float]:
    """(answers, quality) of a model without any other evidence."""
    beta = learning.beliefs.quality("math", "m", Prior(0.5, ASSUMED))
    return round(beta.count, 2), round(beta.mean, 3)


@pytest.mark.parametrize("how", ["restart", "replica", "both"])
def test_the_last_word_counts_whichever_process_hears_it(how):
    prior, first, second = Prior(0.5, ASSUMED), Learning(), Learning()
    for number in range(20):
        first.told_late(f"tr_{number}", "math", "m", 1.0, prior)
    if how != "replica":
        second.adopt([first.pack()])
    if how != "restart":
        second.hear([first.pack()] if how == "replica" else [])
    assert believed(second) == believed(first)
    alone = Learning()
    for score in (1.0, 0.0):
        for number in range(20):
            alone.told_late(f"tr_{number}", "math", "m", score, prior)
    for number in range(20):
        second.told_late(f"tr_{number}", "math", "m", 0.0, prior)
    assert believed(second)[0] == believed(first)[0]
    assert believed(second)[1] < 0.5
    assert believed(second) == believed(alone)
    third = Learning()
    third.hear([second.pack()] if how != "replica" else [first.pack(), second.pack()])
    assert believed(third) == believed(second)


def test_of_words_that_went_to_and_fro_the_last_one_counts():
    prior, one, two, three = Prior(0.5, ASSUMED), Learning(), Learning(), Learning()
    alone = Learning()

    def say(who: Learning, score: float) -> None:
        for learning in (who, alone):
            for number in range(20):
                learning.told_late(f"tr_{number}", "math", "m", score, prior)
        packs = [learning.pack() for learning in (one, two, three)]
        for at, learning in enumerate((one, two, three)):
            learning.hear(packs[:at] + packs[at + 1 :])
        assert believed(one) == believed(two) == believed(three) == believed(alone)

    for who, score in ((one, 1.0), (two, 0.0), (one, 0.6), (three, 0.9), (two, 0.1)):
        say(who, score)
    heir = Learning()
    heir.adopt([one.pack(), three.pack()])
    heir.hear([two.pack()])
    one, three = heir, Learning()
    say(heir, 1.0)


def test_of_words_the_newest_are_kept():
    learning = Learning()
    for number in range(KEPT + 5):
        learning.told_late(f"tr_{number}", "math", "m", 1.0, Prior(0.5, ASSUMED))
    heir = Learning()
    heir.adopt([learning.pack()])
    before = believed(heir)[0]
    heir.told_late(f"tr_{KEPT}", "math", "m", 0.5, Prior(0.5, ASSUMED))
    assert believed(heir)[0] == before
    heir.told_late("tr_0", "math", "m", 0.5, Prior(0.5, ASSUMED))  # forgotten: it counts as one more
    assert believed(heir)[0] != before


def test_what_was_learned_survives_a_reload(stage):
    compiler = Compiler(ENV)
    first, second = (compiler.compile(stage.gateway.config).entries["auto"] for _ in range(2))
    assert first is not second
    assert first.learning is second.learning


def test_a_word_that_comes_after_a_reload_is_learned(stage):
    """Also where nobody has asked for that task since."""
    house = stage.gateway.house
    before = house.snapshot
    compiler = Compiler(ENV)
    compiler.memory.learnings = {"auto": before.entries["auto"].learning}
    details = stage.ask(MATH)
    try:
        house.snapshot = compiler.compile(stage.gateway.config)
        stage.post("/v1/feedback", {"trace": details["trace"], "thumbs": "down"})
        learning = house.snapshot.entries["auto"].learning
        assert learning.beliefs.answers("math", "strong") == 1.0
        stage.post("/v1/feedback", {"trace": details["trace"], "thumbs": "up"})
        assert learning.beliefs.quality("math", "strong", Prior(0.85, ASSUMED)).mean > 0.85
    finally:
        house.snapshot = before
