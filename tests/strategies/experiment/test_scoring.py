"""Judge samples through the running gateway: after the answer, blind, on their own account; and what they can stop."""

from __future__ import annotations

import json
import re

import pytest

from support.polling import until

JUDGED = """
  trial:
    experiment:
      arms: {old: claude-4.7, new: gemini-3.0}
      metric: judge
      judge: {model: llama-4, share: 100%, daily: 5}
      guard: {errors: off, quality: 0.1}
"""


def test_answers_are_scored_afterwards_blind_and_on_an_account_of_their_own(staged):
    stage = staged(JUDGED)
    stage.loop.call(lambda: stage.sim.scripts.on("", "8", model="llama-4"))
    arms = [stage.ask("trial", f"Question {number}")[1]["experiment"]["arm"] for number in range(8)]
    trial = stage.entry("trial").trial
    cells = trial.cells["old=0.5 new=0.5"]

    def scored() -> int:
        return sum(int(cells[arm]["judge"].n) for arm in cells if "judge" in cells[arm])

    until(lambda: stage.entry("trial").sampler._running == 0)
    judges = [row for row in stage.gateway.ledger.requests if row.door == "judge"]
    assert 4 <= len(judges) <= 8  # more than four at a time are left out
    assert all(row.key_id == "judge" and row.tags == ("judge", "experiment:trial/judge") for row in judges)
    assert scored() == len(judges)
    for arm in set(arms):
        assert cells[arm]["judge"].mean == pytest.approx(0.8)
        assert cells[arm]["unit:judge"].n == cells[arm]["judge"].n
    asked = [json.loads(call.call.body) for call in stage.sim.log if call.model == "llama-4"]
    for body in asked:
        text = json.dumps(body)
        assert "Question" in text
        assert not any(name in text for name in ("claude", "gemini", "trial", "old", "new"))


def test_a_judge_asks_no_more_once_the_days_money_does_not_cover_another_question(staged):
    stage = staged(JUDGED.replace("daily: 5", "daily: 0.02"))
    stage.loop.call(lambda: stage.sim.scripts.on("", "8", model="llama-4"))
    events: list[tuple[str, dict]] = []
    stage.house.on_event.append(lambda kind, facts: events.append((kind, facts)))

    def judged() -> list:
        return [row for row in stage.gateway.ledger.requests if row.door == "judge"]

    for number in range(40):
        stage.ask("trial", f"Question {number}")
        until(lambda: stage.entry("trial").sampler._running == 0)
    assert 2 <= len(judged()) < 40
    assert sum(row.cost or 0 for row in judged()) <= 20_000_000
    assert [(kind, facts["daily_usd"]) for kind, facts in events if kind == "judge_spent"] == [
        ("judge_spent", "0.020000")
    ], "said once a day"


def test_a_judge_that_is_down_or_babbles_counts_for_nothing(staged):
    stage = staged(JUDGED)
    stage.loop.run(stage.sim.break_model("llama-4", "500"))
    stage.ask("trial", "Question 1")
    until(lambda: any(row.door == "judge" for row in stage.gateway.ledger.requests))
    stage.loop.run(stage.sim.mend())
    stage.loop.call(lambda: stage.sim.scripts.on("", "it is rather good", model="llama-4"))
    stage.ask("trial", "Question 2")
    until(lambda: sum(row.door == "judge" for row in stage.gateway.ledger.requests) == 2)
    until(lambda: stage.entry("trial").sampler._running == 0)
    assert all(
        "judge" not in metrics for arms in stage.entry("trial").trial.cells.values() for metrics in arms.values()
    )


def test_a_fall_in_quality_stops_the_experiment(staged):
    stage = staged(JUDGED)
    entry = stage.entry("trial")
    record = stage.ask("trial")[1] and stage.house.recent(1)[0][1]
    facts = {"epoch": 0.0, "phase": entry.phase}

    def scores() -> None:
        for number in range(200):
            arm, score = ("new", 0.4) if number % 2 else ("old", 0.9)
            row = type(record)(**{**{f: getattr(record, f) for f in record.__struct_fields__}, "trace": f"tr_{number}"})
            entry._judged({**facts, "arm": arm, "unit": f"{number:024x}"}, row, score)

    stage.loop.call(scores)
    assert entry.trial.stopped is not None
    # The question itself may have been taken for a sample as well, and scored 0.8.
    assert re.match(r"quality 0\.4\d in arm 'new', quality 0\.(90|89) in 'old'", entry.trial.stopped.because)
