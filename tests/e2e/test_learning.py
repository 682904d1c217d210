"""Feedback moves a route's belief, and the next life of the gateway believes the same."""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

sys.path.insert(0, str(__import__("pathlib").Path(__file__).parent))
from test_demo import run, start, until

from support.gateway import EXAMPLE
from support.served import ServedGateway

ROUTE = """
  auto:
    route: {otherwise: reliable, tasks: {math: {models: [claude-4.7, gpt-5.5]}}}
"""
PROMPT = [{"role": "user", "content": "Solve the equation x^2 - 5x + 6 = 0."}]


def post(url: str, path: str, **body: Any) -> Any:
    request = urllib.request.Request(f"{url}{path}", data=json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def answers(url: str) -> float:
    found = post(url, "/v1/explain", model="auto", messages=PROMPT)
    return next(row["answers"] for row in found["candidates"] if row["model"] == "deepseek-v4")


def life(tmp_path, use, *more: str) -> Any:
    process = start(tmp_path, "--no-tour", *more)
    try:
        url = until(process, "ready ")[-1].removeprefix("ready ").strip()
        return use(url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.mark.timeout(150)
def test_what_was_learned_outlives_the_process(tmp_path):
    def first(url: str) -> list[str]:
        traces = [
            post(url, "/v1/chat/completions", model="auto", messages=PROMPT, headgate={"details": True})["headgate"]
            for _ in range(2)
        ]
        assert {trace["chosen"]["model"] for trace in traces} == {"deepseek-v4"}
        assert post(url, "/v1/feedback", trace=traces[0]["trace"], thumbs="up") == {"status": "recorded"}
        assert answers(url) == 1
        return [trace["trace"] for trace in traces]

    served = life(tmp_path, first)

    def second(url: str) -> None:
        assert answers(url) == 1
        post(url, "/v1/feedback", trace=served[1], score=0.5)  # of a request of the life before
        assert answers(url) == 2
        post(url, "/v1/feedback", trace=served[0], thumbs="down")  # in the place of what was said in the life before
        assert answers(url) == 2

    life(tmp_path, second)
    life(tmp_path, lambda url: answers(url) == 2 or pytest.fail("the third life has forgotten"))


@pytest.mark.timeout(150)
def test_feedback_that_was_answered_outlives_a_kill(tmp_path):
    """Of twenty words at once, each answered; the second word on one of them counts in the place of its first."""
    gateway = ServedGateway(tmp_path, ROUTE)
    try:

        def ask(number: int) -> str:
            messages = [{"role": "user", "content": f"Solve the equation x^2 - {number}x + 6 = 0."}]
            _, headers, _ = gateway.chat(None, "auto", messages=messages)
            assert headers["x-headgate-model"] == "claude-4.7"
            return headers["x-headgate-trace"]

        def row() -> dict[str, Any]:
            found = post(gateway.url, "/v1/explain", model="auto", messages=PROMPT)
            return next(row for row in found["candidates"] if row["model"] == "claude-4.7")

        def tell(trace: str, score: float = 0.0) -> None:
            assert post(gateway.url, "/v1/feedback", trace=trace, score=score) == {"status": "recorded"}

        before = row()
        assert before["answers"] == 0
        with ThreadPoolExecutor(8) as pool:
            traces = list(pool.map(ask, range(20)))
            list(pool.map(tell, traces))
        tell(traces[0], 1.0)
        told = row()
        gateway.kill()  # SIGKILL: nothing is written on the way out
        gateway.again()
        after = row()
        assert after == {**told, "latency_ms": after["latency_ms"]}, "beliefs, and what near prompts say"
        assert after["answers"] == pytest.approx(20, abs=1)
        assert after["quality"] < before["quality"]
        gateway.kill()
        gateway.again()
        assert row()["answers"] == after["answers"], "nothing counts twice"
    finally:
        gateway.close()


@pytest.mark.timeout(120)
def test_a_judge_teaches_on_its_own_ledger_line(tmp_path):
    learn = "learn: {judge: {model: llama-4, share: 1, daily: 1}}"
    text = EXAMPLE.read_text(encoding="utf-8").replace("otherwise: reliable", f"otherwise: reliable\n      {learn}")
    (tmp_path / "judged.yaml").write_text(text, encoding="utf-8")

    def use(url: str) -> None:
        post(url, "/v1/chat/completions", model="auto", messages=PROMPT)
        end = time.monotonic() + 30
        while answers(url) < 1:
            assert time.monotonic() < end, "nothing was learned"
            time.sleep(0.1)

    life(tmp_path, use, "--config", str(tmp_path / "judged.yaml"))
    _, out, _ = run("usage", "--by", "key,model", "--data-dir", str(tmp_path / "data"), "--json")
    rows = {row["key"]: row for row in json.loads(out)}
    assert (rows["judge"]["model"], rows["judge"]["attempts"]) == ("llama-4", 1)
    assert float(rows["judge"]["cost_usd"]) > 0
    assert [row["model"] for key, row in rows.items() if key != "judge"] == ["deepseek-v4"]
