"""`usage`, `logs` and `traces show` on a store that a gateway has written, also while it owns the file."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from pathlib import Path

import pytest

from headgate.cli.main import run
from headgate.stores.sqlite import SqliteStore
from support.books import intent, outcome, record


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    now = time.time()
    asyncio.run(fill(tmp_path / ".headgate" / "headgate.db", now))
    return tmp_path


async def fill(path: Path, now: float) -> None:
    store = SqliteStore(path)
    await store.apply(
        [
            intent("at_1", trace="tr_1", at=now - 60, admitted=now - 60, team="red", key_id="k1"),
            outcome("at_1", cost=1_500_000),
            record("tr_1", at=now - 60, team="red", trace_json=TRACE),
            intent("at_2", trace="tr_2", at=now - 30, admitted=now - 30, key_id="=cmd()", model="gpt"),
            outcome("at_2", cost=None, outcome="failed", error="timeout"),
            record(
                "tr_2", at=now - 30, key_id="=cmd()", status=504, error="timeout", requested="a\x1b[31mb", cost=None
            ),
            intent("at_3", trace="tr_3", at=now - 9 * 86400, admitted=now - 9 * 86400),
            outcome("at_3", cost=7),
        ],
        holder="h1",
    )
    await store.aclose()


TRACE = b"""{"chosen": {"model": "claude", "because": "code"}, "attempts": [{"model": "claude", "deployment": "d",
 "provider": "anthropic", "outcome": "ok", "cost": 1500000}],
 "decisions": [{"kind": "route", "chosen": "claude", "because": "it is code", "over": ["gpt"]}]}"""


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        run(list(arguments))
    assert (ended.value.code or 0) == code
    got = capsys.readouterr()
    return got.out if code == 0 else got.err


def test_usage_as_json_by_any_dimension(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(capsys, "usage", "--by", "team,model", "--since", "1h", "--json"))
    assert rows == [
        {"team": "", "model": "gpt", "attempts": 1, "failed": 1, "input": 10, "output": 5, "cached": 4,
         "cost_usd": "0.000000", "unknown_cost": 1},
        {"team": "red", "model": "claude", "attempts": 1, "failed": 0, "input": 10, "output": 5, "cached": 4,
         "cost_usd": "0.001500", "unknown_cost": 0},
    ]  # fmt: skip
    (row,) = json.loads(said(capsys, "usage", "--by", "", "--since", "30d", "--where", "model=claude", "--json"))
    assert row["attempts"] == 2
    assert json.loads(said(capsys, "usage", "--where", "team=blue", "--json")) == []


def test_the_mix_of_tasks_as_table_and_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "insight", "tasks", "--since", "1h").splitlines()
    assert shown[0] == "2 requests · $0.000000300 · saved $0.000000"  # 300 nano-US$, and one without a price
    assert any(line.startswith("not routed · 2 (100%) · 1 failed") for line in shown)
    assert any(line.split()[:2] == ["claude", "2"] and line.endswith("0 of 1") for line in shown), shown
    assert any(line.split()[:2] == ["gpt", "0"] and line.endswith("1 of 1") for line in shown), shown
    found = json.loads(said(capsys, "insight", "tasks", "--json", "--where", "key=k1"))
    assert (found["requests"], found["tasks"][0]["models"][0]["calls_failed"]) == (1, 0)
    assert "nothing" in said(capsys, "insight", "tasks", "--until", "20d", "--since", "30d")
    assert "there is no filter" in said(capsys, "insight", "tasks", "--where", "prompt=x", code=2)


def test_usage_as_table_and_csv_cannot_be_a_formula(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "usage", "--by", "key", "--since", "1h")
    assert shown.splitlines()[0].split() == ["key", "attempts", "failed", "input", "output", "cached", "cost", "usd",
                                             "unknown", "cost"]  # fmt: skip
    rows = list(csv.reader(io.StringIO(said(capsys, "usage", "--by", "key", "--since", "1h", "--csv"))))
    assert rows[0][0] == "key"
    assert {row[0] for row in rows[1:]} == {"'=cmd()", "k1"}
    assert "nothing" in said(capsys, "usage", "--until", "20d")


def test_usage_says_what_it_does_not_understand(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no dimension" in said(capsys, "usage", "--by", "colour", code=2)
    assert "is no time" in said(capsys, "usage", "--since", "yesterday-ish", code=2)
    assert "NAME=VALUE" in said(capsys, "usage", "--where", "team", code=2)
    assert "is it there" in said(capsys, "usage", "--data-dir", str(data / "nowhere"), code=1)


def test_logs_list_requests_and_keep_the_terminal_safe(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "logs")
    assert [line.split()[-1] for line in shown.splitlines()[1:]] == ["tr_2", "tr_1"]
    assert "\x1b" not in shown
    rows = json.loads(said(capsys, "logs", "--failed", "--json"))
    assert [(row["trace"], row["cost_usd"]) for row in rows] == [("tr_2", None)]
    assert [row["trace"] for row in json.loads(said(capsys, "logs", "--where", "team=red", "--json"))] == ["tr_1"]
    assert "no request" in said(capsys, "logs", "--before", "2020-01-01")


def test_traces_show_the_decisions_and_the_attempts(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "traces", "show", "tr_1")
    assert "route: claude over gpt: it is code" in shown
    assert "at_1  claude@anthropic  ok, settled  $0.001500" in shown
    view = json.loads(said(capsys, "traces", "show", "tr_1", "--json"))
    assert view["chosen"]["because"] == "code"
    assert view["attempts"][0]["cost_usd"] == "0.001500"
    assert "no trace" in said(capsys, "traces", "show", "tr_404", code=1)


def test_the_store_can_be_read_while_a_gateway_owns_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqliteStore(data / ".headgate" / "headgate.db")
    assert len(json.loads(said(capsys, "logs", "--json"))) == 2
    asyncio.run(store.aclose())
