"""Experiments through the running gateway: who gets which arm, what the ledger says, and what happens when an arm fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from headgate.core.principal import Principal
from headgate.governance.open import OpenGovernor
from headgate.strategies.experiment import Experiment
from support.virtual import VirtualGateway, answer, virtually

HALVES = """
  trial: {experiment: {arms: {old: claude-4.7, new: gpt-5.5}, assign_by: conversation}}
"""


def arms_of(stage, name: str, count: int = 24) -> dict[str, str]:
    """Prompt → arm, of so many conversations."""
    return {f"Question {n}": stage.ask(name, f"Question {n}")[1]["experiment"]["arm"] for n in range(count)}


def test_a_conversation_stays_with_its_arm_and_all_of_it_says_so(staged):
    stage = staged(HALVES)
    first = arms_of(stage, "trial")
    assert set(first.values()) == {"old", "new"}
    for prompt, arm in first.items():
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": "?"}]
        _, details = stage.ask("trial", messages=[*turns, {"role": "user", "content": f"And more of {prompt}?"}])
        model = {"old": "claude-4.7", "new": "gpt-5.5"}[arm]
        assert (details["strategy"], details["experiment"]["arm"]) == ("experiment", arm)
        assert details["chosen"]["model"] == model
        trace, record = stage.house.recent(1)[0]
        decided = next(d for d in trace.decisions if d.kind == "experiment")
        assert (decided.chosen, decided.numbers["share"]) == (arm, 0.5)
        assert record.tags == (f"experiment:trial/{arm}",)
        assert {i.tags for i in stage.gateway.ledger.intents if i.trace == trace.id} == {record.tags}


def test_explain_names_the_arm_and_asks_nobody(staged):
    stage = staged(HALVES)
    arms = arms_of(stage, "trial", 6)
    calls = len(stage.sim.log)
    for prompt, arm in arms.items():
        _, found = stage.post("/v1/explain", {"model": "trial", "messages": [{"role": "user", "content": prompt}]})
        assert found["experiment"]["arm"] == arm
        assert found["experiment"]["arms"]["new"] == {"model": "gpt-5.5", "share": 0.5}
        assert found["chosen"]["model"] == found["experiment"]["arms"][arm]["model"]
        assert "is among the 0.5 of arm" in found["chosen"]["because"]
    assert len(stage.sim.log) == calls


def test_users_and_keys_stay_whatever_they_talk_about(staged):
    stage = staged("""
  by-user: {experiment: {arms: {old: claude-4.7, new: gpt-5.5}, assign_by: user}}
  by-key: {experiment: {arms: {old: claude-4.7, new: gpt-5.5}, assign_by: key}}
""")
    seen: dict[str, set[str]] = {}
    for turn in range(3):
        for user in range(12):
            _, details = stage.ask("by-user", f"{turn} of {user}", user=f"user {user}")
            seen.setdefault(f"user {user}", set()).add(details["experiment"]["arm"])
    assert all(len(arms) == 1 for arms in seen.values())
    assert len(set.union(*seen.values())) == 2
    assert len({stage.ask("by-key", f"Question {n}")[1]["experiment"]["arm"] for n in range(8)}) == 1


def test_arms_of_one_model_differ_by_their_parameters(staged):
    stage = staged("""
  warmth:
    experiment:
      arms: {cold: {model: gpt-5.5, temperature: 0.1}, warm: {model: gpt-5.5, temperature: 0.9, system: Rhyme.}}
""")
    for n in range(12):
        stage.sim.log.clear()
        _, details = stage.ask("warmth", f"Question {n}")
        sent = json.loads(stage.sim.log[-1].call.body)
        warm = details["experiment"]["arm"] == "warm"
        assert sent["temperature"] == (0.9 if warm else 0.1)
        assert (sent["messages"][0]["content"] == "Rhyme.") is warm
    _, _ = stage.ask("warmth", "Question 0", temperature=0.5)
    assert json.loads(stage.sim.log[-1].call.body)["temperature"] == 0.5


def test_where_an_arm_fails_the_control_answers_and_the_failure_counts(staged):
    stage = staged("""
  trial: {experiment: {arms: {new: gpt-5.5, old: claude-4.7}, control: old}}
""")
    stage.loop.run(stage.sim.break_model("gpt-5.5", "500"))
    arms = arms_of(stage, "trial")  # every one of them is answered
    new = sum(arm == "new" for arm in arms.values())
    assert 0 < new < len(arms)
    trial = stage.entry("trial").trial
    cells = trial.cells["new=0.5 old=0.5"]
    assert (cells["new"]["errors"].n, cells["new"]["errors"].total) == (new, new)
    assert (cells["old"]["errors"].n, cells["old"]["errors"].total) == (len(arms) - new, 0)
    prompt = next(prompt for prompt, arm in arms.items() if arm == "new")
    _, details = stage.ask("trial", prompt)
    assert details["chosen"]["model"] == "claude-4.7"
    assert details["experiment"]["failed"]
    assert cells["new"]["unit:errors"].n == new  # the conversation has counted already


def test_in_a_chain_an_experiment_is_an_entry_like_any_other(staged):
    stage = staged("""
  trial: {experiment: {arms: {old: claude-4.7, new: gpt-5.5}}}
  other: {experiment: {arms: {a: gemini-3.0, b: llama-4}}}
  chain: {fallback: [trial, other]}
""")
    for n in range(6):
        _, details = stage.ask("chain", f"Question {n}")
        assert details["strategy"] == "fallback"
        assert details["experiment"]["entry"] == "trial"
        record = stage.house.recent(1)[0][1]
        assert record.tags == (f"experiment:trial/{details['experiment']['arm']}",)
    for name in ("claude-4.7", "gpt-5.5"):
        stage.loop.run(stage.sim.break_model(name, "500"))
    _, details = stage.ask("chain", "Question 0")
    assert details["chosen"]["model"] in ("gemini-3.0", "llama-4")
    assert details["experiment"]["entry"] == "trial"  # it counts where it was first
    assert not stage.entry("other").trial.cells


def test_budgets_know_the_arm_of_an_experiment_that_a_chain_or_a_route_asks_first(staged, monkeypatch):
    stage = staged("""
  trial: {experiment: {arms: {old: claude-4.7, new: gpt-5.5}}}
  chain: {fallback: [trial, gemini-3.0]}
  routed: {route: {otherwise: chain, tasks: {}}}
  ruled: {route: {otherwise: gemini-3.0, classifier: keyword, keywords: {qa: [question]}, tasks: {qa: trial}}}
  late: {fallback: [gemini-3.0, trial]}
""")
    asked: list[tuple[str, ...]] = []
    admit = stage.house.governor.admit

    async def admitted(principal, *, tags, **more):
        asked.append(tuple(tags))
        return await admit(principal, tags=tags, **more)

    monkeypatch.setattr(stage.house.governor, "admit", admitted)
    for name in ("trial", "chain", "routed", "ruled"):
        for n in range(3):
            _, details = stage.ask(name, f"Question {n}")
            assert asked.pop() == (f"experiment:trial/{details['experiment']['arm']}",), name
            assert stage.house.recent(1)[0][1].tags == (f"experiment:trial/{details['experiment']['arm']}",)
    stage.ask("late", "Question 0")
    assert asked == [()]


GUARDED = """
  trial: {experiment: {arms: {old: claude-4.7, new: gpt-5.5}, guard: {errors: 0.1}}}
"""


def test_an_arm_that_does_harm_is_stopped_everybody_gets_the_control_and_all_say_so(staged):
    stage = staged(GUARDED)
    heard: list[tuple[str, dict]] = []
    stage.house.on_event.append(lambda kind, facts: heard.append((kind, facts)))
    stage.loop.run(stage.sim.break_model("gpt-5.5", "500"))
    trial, asked = stage.entry("trial").trial, 0
    while trial.stopped is None and asked < 200:
        stage.ask("trial", f"Question {asked}")
        asked += 1
    assert trial.stopped is not None, "two hundred requests, half of them failed, and nobody noticed"
    why = trial.stopped.because
    assert "100.0% errors in arm 'new'" in why
    told = [facts for kind, facts in heard if kind == "experiment_stopped"]
    assert [(one["experiment"], one["by"], one["arm"]) for one in told] == [("trial", "guard", "old")]

    stage.loop.run(stage.sim.mend())
    counted = str(trial.cells)
    for n in range(12):
        _, details = stage.ask("trial", f"Question {n}")
        assert details["chosen"]["model"] == "claude-4.7"
        assert (details["experiment"]["arm"], details["experiment"]["stopped"]) == ("old", True)
        decided = next(d for d in stage.house.recent(1)[0][0].decisions if d.kind == "experiment")
        assert decided.because == f"the experiment was stopped: {why}"
    assert str(trial.cells) == counted


def test_what_the_client_does_wrong_counts_against_nobody(staged):
    stage = staged(HALVES)
    stage.loop.run(stage.sim.break_model("claude-4.7", "context_length"))
    stage.loop.run(stage.sim.break_model("gpt-5.5", "context_length"))
    statuses = {
        stage.post("/v1/chat/completions", {"model": "trial", "messages": [{"role": "user", "content": f"{n}"}]})[0]
        for n in range(8)
    }
    assert statuses == {400}
    assert not stage.entry("trial").trial.cells


def test_feedback_counts_once_for_a_unit_and_the_last_word_stands(staged):
    stage = staged("""
  trial: {experiment: {arms: {old: claude-4.7, new: gpt-5.5}, assign_by: key, metric: feedback}}
""")
    traces = [stage.ask("trial", f"Question {n}")[1]["trace"] for n in range(3)]
    for trace, score in ((traces[0], 0.2), (traces[0], 0.8), (traces[1], 0.5), (traces[2], 1.0)):
        assert stage.post("/v1/feedback", {"trace": trace, "score": score})[0] == 200
    (arm,) = stage.entry("trial").trial.cells["old=0.5 new=0.5"].values()
    assert (arm["feedback"].n, arm["feedback"].total) == (3, pytest.approx(2.3))
    assert (arm["unit:feedback"].n, arm["unit:feedback"].total) == (1, pytest.approx(0.8))


BASE = "providers: {openai: {}}\nmodels:\n  m: {provider: openai}\n  n: {provider: openai}\n  "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("e: {experiment: {arms: {a: m, b: mm}}}", "there is no model 'mm' (did you mean 'm'?)"),
        ("e: {experiment: {arms: {a: m}}}", "at least two arms, or one and a shadow"),
        ("e: {experiment: {arms: {a: m, b: n}, metric: judge}}", "`metric: judge` needs `judge:`"),
        ("e: {experiment: {arms: {a: m, b: n}, judge: {model: e, daily: 1}}}", "circle: e → e"),
        ("e: {experiment: {arms: {a: m, b: n}, judge: {model: m}}}", "daily"),
        ("e: {experiment: {arms: {a: m}, shadow: nn}}", "there is no model 'nn' (did you mean 'n'?)"),
        ("e: {experiment: {arms: {a: m}, shadow: e}}", "circle: e → e"),
        ("e: {experiment: {arms: {a: m}, shadow: {model: n, share: 2}}}", "at most 1 is expected here, not '2'"),
        ("e: {experiment: {arms: {a: m, b: n}, control: c}}", "`control` names no arm: 'c' is not among a, b"),
        ("e: {experiment: {arms: {a: {model: m, share: 0.5}, b: {model: n, share: 0.6}}}}", "add up to 1.1, not to 1"),
        ("e: {experiment: {arms: {a: {model: m, share: 100%}, b: n}}}", "nothing is left for the arms without one"),
        ("e: {experiment: {arms: {a: {model: m, share: half}, b: n}}}", "'half' is no share: write 5% or 0.05"),
        ("e: {experiment: {arms: {a: {model: m, share: 0}, b: n}}}", "more than 0 is expected here"),
        ("e: {experiment: {arms: {a: m, b: f}}}\n  f: {fallback: [e]}", "circle: e → f → e"),
        (
            "e: {experiment: {arms: {a: m, b: f}}}\n  f: {fallback: [g]}\n  g: {experiment: {arms: {a: m, b: n}}}",
            "'f' leads to another experiment: experiments do not nest",
        ),
        ("e: {experiment: {arms: {a: m, b: n}, assign_by: users}}", "(did you mean 'user'?)"),
    ],
)
def test_mistakes_are_told_with_place_and_reason(text, said):
    with pytest.raises(ConfigError) as caught:
        load_text(BASE + text, "f.yaml", {})
    problems = [str(problem) for problem in caught.value.problems]
    assert any(said in problem and problem.startswith("f.yaml:") for problem in problems), problems


def test_arms_without_a_share_divide_the_rest():
    config = load_text(BASE + "e: {experiment: {arms: {a: m, b: {model: n, share: 5%}, c: m}}}", "f.yaml", {}).config
    assert config.models["e"].experiment is not None
    assert config.models["e"].experiment.shares() == pytest.approx({"a": 0.475, "b": 0.05, "c": 0.475})


def test_a_key_that_may_not_use_the_arm_gets_the_control_and_counts_for_nobody():
    config = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  outside: {provider: openai, upstream: one}
  inside: {provider: openai, upstream: two, zone: private}
  trial: {experiment: {arms: {new: {model: outside, share: 99.9%}, old: inside}, control: old, assign_by: key}}
"""

    class Private(OpenGovernor):
        def authenticate(self, credentials: Any) -> Principal:
            return Principal(key_id="k", name="k", zone="private")

    async def main() -> None:
        it = VirtualGateway(config, governor=Private())
        it.fake.on("two", answer("well"))
        heard = await it.ask("trial")
        assert (heard.status, heard.text) == (200, "well")
        entry = it.house.snapshot.entries["trial"]
        assert isinstance(entry, Experiment)
        assert heard.headers["x-headgate-model"] == "inside"
        assert not it.fake.calls_of("one")
        assert not entry.trial.cells
        it.ledger.check()

    virtually(main)
