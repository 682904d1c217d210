"""A small drill: what it says can be false, and is not."""

from __future__ import annotations

import json
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from headgate.cli.demo import simulated_environment
from headgate.config.load import load_file
from headgate.drill import drills, matrix, show
from headgate.drill.arms import NAIVE, arms_of
from headgate.drill.measure import Figures, agree, percentile, wilson
from headgate.drill.questions import Answered, Traffic, fate_of, questions
from headgate.simulator.minds import MARK
from support.virtual import DONE, chunk

FILE = Path(str(files("headgate.config") / "example.yaml"))
ENV = simulated_environment()
CONFIG = load_file(FILE, ENV).config
CHAINS = ("claude-4.7", NAIVE, "reliable")


@pytest.fixture(scope="module")
def short() -> drills.Report:
    return drills.run(drills.short_drill(CONFIG, ENV, requests=600, seed=3), only=CHAINS)


def arm(report: drills.Report, name: str):
    return next(arm for arm in report.arms if arm.name == name)


def test_every_strategy_that_exists_takes_part():
    assert {arm.name for arm in arms_of(CONFIG)} == {*CHAINS, "auto", "careful", "agent"}


def test_ours_is_more_available_than_the_naive_chain_and_that_than_one_model(short):
    single, naive, ours = (arm(short, name) for name in CHAINS)
    assert single.availability < naive.availability < ours.availability
    assert ours.fates["error"] < naive.fates["error"] / 2
    assert ours.moves["rescue"] > 0
    assert "rescue" not in naive.moves
    assert ours.calls < 2


def test_nothing_truncated_or_wrong_counts_as_an_answer(short):
    """Each chain's providers cut some answers short and make some up; a chain cannot tell, a drill must."""
    for name in CHAINS:
        found = arm(short, name)
        assert found.fates["truncated"] > 0
        assert found.fates["wrong"] > 0
        assert sum(found.fates.values()) == found.requests == 600
        assert found.availability == found.fates["ok"] / 600


def test_no_answer_is_late_in_fair_weather():
    """Real tools would be: a clock that jumps leaps over what they take."""
    agent = drills.run(drills.fair_weather(CONFIG, ENV, requests=40, seed=3), only=["agent"]).arms[0]
    assert (agent.fates["late"], agent.requests) == (0, 40)


def test_the_same_seed_gives_the_same_drill_and_without_faults_nothing_fails():
    setting = drills.short_drill(CONFIG, ENV, requests=120, seed=3)
    one, two = (drills.run(setting, only=["reliable"]) for _ in range(2))
    assert one == two
    assert one.arms[0].availability < 1.0
    calm = drills.run(msgspec.structs.replace(setting, plan=None), only=["reliable"])
    assert calm.arms[0].availability == 1.0


@pytest.mark.timeout(240)
def test_sockets_and_the_virtual_clock_agree():
    setting = drills.short_drill(CONFIG, ENV, requests=150, seed=5, gap=0.03)
    over_sockets = drills.run(setting, sockets=True, only=[NAIVE, "reliable"])
    virtual = drills.run(setting, only=[NAIVE, "reliable"])
    for one, two in zip(virtual.arms, over_sockets.arms, strict=True):
        assert agree(one, two, z=3.0), (one, two)
        assert two.calls >= 0.9
    assert not agree(virtual.arms[1], drills.run(setting, only=["claude-4.7"]).arms[0], z=3.0)


# -- what became of a request --------------------------------------------------------------------------------------------
ASKED = next(q for q in questions(20, seed=0) if q.prompt.startswith("Calculate"))


def whole(text: str, finish: str = "stop", **more) -> Answered:
    body = {"choices": [{"message": {"content": text}, "finish_reason": finish}]}
    return Answered(**{"status": 200, "body": json.dumps(body).encode(), "whole": True, **more})


def streamed(*words: str, end: bytes = chunk({}, "stop") + DONE, **more) -> Answered:
    body = b"".join(chunk({"content": word}) for word in words) + end
    return Answered(**{"status": 200, "body": body, "stream": True, "whole": True, **more})


HALF, REST = ASKED.whole[:20], ASKED.whole[20:]
FATES = {
    "right": (whole(MARK + ASKED.whole), "ok"),
    "right, streamed": (streamed(MARK, HALF, REST), "ok"),
    "half of it, finished all the same": (whole(HALF), "truncated"),
    "half of it, streamed": (streamed(HALF), "truncated"),
    "cut by length": (whole(ASKED.whole, "length"), "truncated"),
    "nothing": (whole(""), "truncated"),
    "another number": (whole(ASKED.whole.replace("answer is", "answer is 1")), "wrong"),
    "a seam that repeats": (streamed(HALF, HALF[-5:], REST), "wrong"),
    "told of in the stream": (streamed(HALF, end=b'data: {"error": {"message": "cut"}}\n\n'), "error"),
    "an error and then the end": (streamed(HALF, end=b'data: {"error": {"message": "cut"}}\n\n' + DONE), "error"),
    "no end": (streamed(HALF, REST, end=chunk({}, "stop")), "error"),
    "no finish": (streamed(HALF, REST, end=DONE), "error"),
    "the connection cut": (whole(ASKED.whole, whole=False), "error"),
    "refused": (Answered(status=503, body=b"{}", whole=True), "error"),
    "no answer at all": (whole(ASKED.whole, body=b"<html>"), "error"),
    "late": (whole(ASKED.whole, took=61.0), "late"),
}


@pytest.mark.parametrize("name", FATES)
def test_what_counts_as_an_answer(name):
    answered, fate = FATES[name]
    assert fate_of(ASKED, answered, limit=60.0, exact=True) == fate


def test_an_agents_own_words_around_the_answer_are_fine_but_the_answer_must_be_there():
    around = whole(f"What was found:\n{ASKED.whole}\nThat is all.")
    assert fate_of(ASKED, around, limit=60.0, exact=False) == "ok"
    assert fate_of(ASKED, around, limit=60.0, exact=True) == "wrong"
    assert fate_of(ASKED, whole("It is 7."), limit=60.0, exact=False) == "wrong"


def test_traffic_comes_as_often_as_it_says():
    many = questions(5_000, seed=1, traffic=Traffic(gap=13.0, burst=10.0, within=0.5))
    assert many[-1].at / len(many) == pytest.approx(13.0, rel=0.15)
    gaps = [b.at - a.at for a, b in pairwise(many)]
    assert sum(gap < 2 for gap in gaps) > 0.8 * len(gaps)


# -- figures -------------------------------------------------------------------------------------------------------------
def test_intervals_and_percentiles():
    low, high = wilson(95, 100)
    assert (round(low, 4), round(high, 4)) == (0.8882, 0.9785)  # Newcombe 1998's method 3, worked out by hand
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0
    assert [percentile([1, 2, 3, 4], share) for share in (0.5, 0.75, 0.99)] == [2, 3, 4]
    assert percentile([], 0.5) is None


@pytest.mark.parametrize(
    ("ok", "says"),
    [(19_990, "is more available"), (19_974, "above it by no more than chance"), (19_973, "is as available"),
     (19_967, "below it by no more than chance"), (19_900, "**less available**")],
)  # fmt: skip
def test_whether_a_strategy_is_less_available_than_a_chain_is_told_as_it_is(ok, says):
    def figures(name: str, kind: str, phase: str, ok: int) -> Figures:
        return Figures(
            name=name, kind=kind, phase=phase, requests=20_000, availability=ok / 20_000, low=0.0, high=1.0,
            fates={"ok": ok, "error": 20_000 - ok, "late": 0, "truncated": 0, "wrong": 0},
            p50=None, p95=None, p99=None, cost_usd=0.0, calls=1.0, moves={},
        )  # fmt: skip

    chain, other = figures("reliable", "fallback", "2", 19_973), figures("agent", "agent", "5", ok)
    [line, _] = matrix._beside_the_chain([figures("one", "single", "1", 19_000), chain, other])
    assert says in line
    assert "one (" not in line
    assert matrix._beside_the_chain([chain]) == []


def test_the_pages_of_a_report(short, tmp_path):
    lines = show.bars(short.arms)
    assert len(lines[0].split("█")) - 1 == show.WIDTH  # the worst fills the width
    found = matrix.Measured(
        virtual=short,
        sockets=short,
        twin=short,
        fair=short,
        lines=matrix._lines(FILE.read_text()),
        models={name: len(matrix._models(CONFIG, name)) for name in CONFIG.models},
        seed=3,
        requests=600,
    )
    page = matrix.page(found, "drill.png")
    assert "| 2 reliable |" in page
    assert "99.9 %" in page
    assert "| 2 lines, 4 models |" in page.split("| 2 reliable |")[1].split("\n")[0]
    assert "| yes |" in page
    show.plot(short, tmp_path / "drill.png")
    assert (tmp_path / "drill.png").read_bytes().startswith(b"\x89PNG")
