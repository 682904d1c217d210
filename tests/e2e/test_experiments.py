"""Experiments of a served gateway: by command and admin API, over a restart, and with no gateway at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from support.gateway import ENV
from support.polling import until
from support.served import ServedGateway

TRIAL = """
  trial: {experiment: {arms: {old: claude-4.7, new: gpt-5.5}, assign_by: user}}
"""


@pytest.fixture
def served(tmp_path):
    gateway = ServedGateway(tmp_path, TRIAL)
    yield gateway
    gateway.close()


def command(served: ServedGateway, *arguments: str) -> tuple[int, str]:
    run = subprocess.run(
        [sys.executable, "-m", "headgate.cli", "experiments", *arguments, "--data-dir", str(served.data)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **ENV},
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def asked(served: ServedGateway, users: range) -> dict[str, str]:
    """User → arm."""
    out: dict[str, str] = {}
    for user in users:
        status, _, body = served.chat(None, "trial", user=f"user {user}", headgate={"details": True})
        assert status == 200, body
        out[f"user {user}"] = body["headgate"]["experiment"]["arm"]
    return out


def found(served: ServedGateway) -> Any:
    return served.ask_admin("/experiments/trial")


@pytest.mark.timeout(180)
def test_results_and_a_stop_outlive_the_gateway_and_can_be_read_without_one(served):
    arms = asked(served, range(12))
    seen = found(served)
    assert sum(arm["requests"] for arm in seen["arms"].values()) == 12
    assert {name: arm["units"] for name, arm in seen["arms"].items()} == {
        name: list(arms.values()).count(name) for name in ("old", "new")
    }
    assert seen["says"] == f"undecided after 12 of about {seen['planned_units']:,} units"
    code, text = command(served, "status")
    assert code == 0
    assert "trial · running · undecided after 12" in text

    served.stop()
    config = ("--config", str(served.file))
    code, text = command(served, "status", "trial", "--json", *config)
    assert code == 0
    assert json.loads(text)["units"] == 12  # from the store
    code, text = command(served, "stop", "trial")
    assert (code, "no gateway runs" in text) == (1, True)

    served.again()
    assert asked(served, range(12)) == arms  # sticky over lives
    assert found(served)["units"] == 12  # the users have counted already
    assert sum(arm["requests"] for arm in found(served)["arms"].values()) == 24
    code, text = command(served, "stop", "trial", "--arm", "new", "--because", "it is better")
    assert (code, "everybody gets arm 'new'" in text) == (0, True), text
    assert command(served, "stop", "trial")[0] == 1  # it is stopped already
    assert set(asked(served, range(6)).values()) == {"new"}

    served.stop()
    served.again()
    assert set(asked(served, range(6)).values()) == {"new"}
    assert found(served)["stopped"]["because"] == "it is better"
    audit = served.ask_admin("/audit")
    assert ("experiment.stop", "trial") in {(row["action"], row["target"]) for row in audit}
    code, text = command(served, "start", "trial")
    assert (code, "running" in text) == (0, True)
    assert asked(served, range(12)) == arms
    assert found(served)["units"] == 12


def test_what_cannot_be_done_is_told(served):
    assert served.ask_admin("/experiments/nope")["error"]["message"] == (
        "there is no experiment 'nope': there are trial"
    )
    said = served.ask_admin("/experiments/trial/stop", {"arm": "middle"})["error"]
    assert said["message"] == "'trial' has no arm 'middle': it has old, new"
    assert "both text" in served.ask_admin("/experiments/trial/stop", {"arms": 1})["error"]["message"]
    assert found(served)["state"] == "running"
    code, text = command(served, "status", "nope")
    assert (code, text.strip()) == (1, "there is no experiment 'nope'")


def test_one_made_by_command_is_taken_up_by_the_gateway_that_runs(served):
    made = ("start", "second", "--arm", "old=claude-4.7", "--arm", "new=gpt-5.5@50%", "--config", str(served.file))
    code, said = command(served, *made, "--write")
    assert code == 0, said
    until(lambda: served.chat(None, "second")[0] == 200)
    assert set(served.ask_admin("/experiments/second")["arms"]) == {"old", "new"}
    code, said = command(served, *made, "--write")
    assert (code, "there is an entry 'second' already" in said) == (1, True)
    assert command(served, "start", "second")[0] == 0, "without arms it begins anew"
    assert sum(arm["requests"] for arm in served.ask_admin("/experiments/second")["arms"].values()) == 0


def test_shadows_have_a_budget_of_their_own(tmp_path):
    served = ServedGateway(
        tmp_path,
        "  mirrored: {experiment: {arms: {all: claude-4.7}, shadow: {model: gpt-5.5, share: 100%}}}\n"
        "budgets: {tags: {shadow: {daily: 0.0030}}}\n",
    )
    try:

        def shadow() -> dict[str, Any]:
            return served.ask_admin("/experiments/mirrored")["shadow"]

        for number in range(4):
            status, headers, _ = served.chat(None, "mirrored")
            assert (status, headers["x-headgate-model"]) == (200, "claude-4.7")
            until(lambda number=number: shadow()["asked"] + shadow()["left_out"] == number + 1)
        found = shadow()
        assert found["failed"] == 0
        assert min(found["asked"], found["left_out"]) >= 1  # the worst case of one is $0.0022, its cost $0.00032
        cost = found["candidate"]["cost"]["mean"] * found["candidate"]["cost"]["n"]
        assert cost <= 0.003

        def spent() -> float:
            return next(float(row["spent_usd"]) for row in served.ask_admin("/budgets") if row["scope"] == "tag:shadow")

        until(lambda: spent() == pytest.approx(cost, abs=1e-6))  # the line moves by what shadows cost, and nothing else
    finally:
        served.close()
