"""The replay of recorded outcomes: its arithmetic on small cases, and the do-no-harm rule on every unseen split."""

from __future__ import annotations

import numpy
import pytest

from headgate.insight.outcomes import Curve, Rows, Split, apgr, cascade, curve, does_no_harm, judged, splits, trust_of
from support.outcomes import POOLS, pool


def rows(scores: list[list[float]], costs: list[float], **more: list[str]) -> Rows:
    count = len(scores)
    names = [f"r{i}" for i in range(count)]
    return Rows(
        [f"m{i}" for i in range(len(costs))],
        names,
        more.get("prompts", names),
        more.get("labels", ["x"] * count),
        more.get("sources", ["s"] * count),
        numpy.array(scores, dtype=float),
        numpy.array([costs] * count, dtype=float),
    )


def test_a_curve_is_followed_in_the_order_of_the_price_and_never_jumps_to_a_lucky_point():
    points = Curve([4.0, 2.0, 1.0], [0.8, 0.7, 0.9])
    assert points.at(9.0) == 0.8
    assert points.at(3.0) == pytest.approx(0.75)
    assert points.at(1.5) == pytest.approx(0.8)
    assert points.at(0.1) == 0.9


def test_apgr_is_a_half_for_no_knowledge_and_one_beyond_for_perfect():
    split = Split("s", *[rows([[0, 1], [1, 1], [0, 0], [0, 1]], [1.0, 10.0])] * 2, unseen=False)
    scores = split.test.scores
    assert apgr(numpy.zeros((4, 2)), split) == pytest.approx(0.5)
    assert apgr(scores, split) > 0.7
    assert apgr(-scores, split) < 0.3


def test_a_price_of_nothing_picks_the_best_and_any_price_the_cheaper_of_equals():
    split = Split("s", *[rows([[0, 1], [1, 1]], [1.0, 10.0])] * 2, unseen=False)
    points = curve(split.test.scores, split)
    assert points.qualities[0] == 1.0
    assert points.costs[0] == pytest.approx(5.5)
    assert points.costs[-1] == 1.0


def test_labels_are_trusted_only_as_far_as_they_hold_on_sources_left_out():
    good, bad = [[1.0, 0.0]] * 60, [[0.0, 1.0]] * 60
    labels, sources = ["a"] * 60 + ["b"] * 60, ["s1"] * 20 + ["s2"] * 20 + ["s3"] * 20
    holding = rows(good + bad, [1, 2], labels=labels, sources=sources * 2)
    assert trust_of(holding) > 0.9
    mixed = good[:20] + bad[:20] + good[:20]
    turning = rows(mixed + mixed, [1, 2], labels=labels, sources=sources * 2)
    assert trust_of(turning) == 0.0
    assert trust_of(rows(good, [1, 2])) == 0.0


def test_splits_are_made_by_rule_and_keep_unseen_sources_unseen():
    found = pool("mmlu_pro_12")
    made = splits(found)
    assert [s.name for s in made] == ["same sources", "unseen 1", "unseen 2", "unseen 3", "unseen 4"]
    assert made[0].test.ids == splits(found)[0].test.ids
    for split in made[1:]:
        assert not set(split.train.sources) & set(split.test.sources)
        assert len(split.train.ids) + len(split.test.ids) == len(found.ids)


@pytest.mark.parametrize("name", POOLS)
def test_headgate_does_no_harm_on_traffic_it_has_never_seen(name):
    for split in splits(pool(name)):
        results = judged(split, ("table of means", "Headgate"))
        if split.unseen:
            assert does_no_harm(results), (split.name, results["Headgate"].figures, results["table of means"].figures)
        else:
            mine, plain = results["Headgate"].figures, results["table of means"].figures
            assert mine.aiq > plain.aiq + 0.002
            assert mine.apgr > 0.52


@pytest.mark.parametrize("name", POOLS)
def test_a_cascade_whose_verifier_is_right_in_four_of_five_cases_pays(name):
    (split, *_) = splits(pool(name))
    best = split.train.scores.mean(axis=0).argmax()
    cost, quality = cascade(split, right=0.8)
    assert quality >= split.test.scores[:, best].mean()
    assert cost <= 0.51 * split.test.costs[:, best].mean()
    poor = cascade(split, right=0.6)[1]
    assert poor < quality
