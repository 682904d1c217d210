"""Recorded answers of real models through the real engine: an ensemble is no worse than its incumbent. A sample of what
`make quality` plays in full (docs/quality-ensembles.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.ensembles import PANELS, crossed, difference, half, log_odds, play, ranked, rows

SAMPLE = 100
QUALITY = (Path(__file__).parents[3] / "docs" / "quality.md").read_text(encoding="utf-8")


def sampled(task: str, ranks: slice, settings: str):
    """Weights from one half, the first records of the other."""
    weights = {name: log_odds(right) for name, right in ranked(task, 0)[ranks]}
    return play([row for row in rows(task) if half(row) == 1][:SAMPLE], weights, settings)


@pytest.mark.parametrize("task", ["gsm", "crux"])
@pytest.mark.parametrize("ranks", [slice(0, 3), slice(0, 5), slice(1, 6)], ids=["1-3", "1-5", "2-6"])
def test_a_vote_is_no_worse_than_its_incumbent(task, ranks):
    assert difference(sampled(task, ranks, "mode: vote")).points >= 0


@pytest.mark.parametrize("task", ["gsm", "crux"])
@pytest.mark.parametrize("panel", PANELS)
def test_quality_mode_is_no_worse_than_its_incumbent_on_any_panel(task, panel):
    """`role: incumbent` on the strongest, the others its peers; all records, both halves weighted by the other one. What
    docs/quality.md says is what is found."""
    found = difference(crossed(task, PANELS[panel], "mode: vote", quality=True))
    assert found.points >= 0
    line = next(line for line in QUALITY.splitlines() if f"**quality mode** | {task}, {panel} |" in line)
    assert line.endswith(f"| {found} |")


def test_a_vote_among_near_equals_is_better_than_the_best_of_them():
    found = sampled("crux", slice(1, 6), "mode: vote")
    assert sum(one.switched for one in found) >= 3
    assert difference(found).points >= 1


def test_without_a_judge_or_a_vote_the_incumbent_answers():
    found = sampled("crux", slice(0, 3), "mode: best")
    assert not any(one.switched for one in found)


def test_a_good_judge_s_scores_gain_with_ties_to_the_incumbent():
    found = sampled("wildbench", slice(0, 6), "judge: judge")
    assert 10 <= sum(one.switched for one in found) <= 50
    assert difference(found).points > 0


def test_a_duel_unseats_the_incumbent_only_where_both_orders_agree():
    sample = rows("llmbar")[:SAMPLE]
    for incumbent, other in (("A", "B"), ("B", "A")):
        judge = "GPT-4/Vanilla"
        found = play(sample, {incumbent: 0.6, other: 0.4}, "judge: {model: judge, style: pairwise}", judge=judge)
        for row, one in zip(sample, found, strict=True):
            verdicts = row["verdicts"][judge]
            assert one.switched is (verdicts["ab"] == other and verdicts["ba"] == other)
        assert sum(one.ensemble for one in found if one.switched) >= 0.8 * sum(one.switched for one in found)
