"""Keys from the command line to a refused request: a real process, its data directory, a restart."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.served import ServedGateway


def keys(data: Path, *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "headgate.cli", "keys", *arguments, "--data-dir", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=data.parent, check=False)
    return done.returncode, done.stdout, done.stderr


def made(data: Path, *arguments: str) -> dict[str, Any]:
    code, out, err = keys(data, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def eventually(test: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path):
    running: list[ServedGateway] = []

    def make(more: str = "", **options: Any) -> ServedGateway:
        running.append(ServedGateway(tmp_path, more, **options))
        return running[-1]

    yield make
    for one in running:
        one.close()


def test_the_first_key_says_that_it_closes_the_gateway(start):
    gateway = start()
    (code, first, _), (_, second, _) = (keys(gateway.data, "create", name) for name in ("one", "two"))
    assert code == 0
    assert "from now on a request needs a key" in first
    assert "from now on" not in second


def test_the_first_key_is_shown_also_where_the_process_cannot_serve_then(start, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "headgate.cli", "serve", "--host", "0.0.0.0", "--admin-port", "0"]
        command += ["--port", str(taken.getsockname()[1]), "--data-dir", str(tmp_path / "data")]
        env = {**os.environ, "OPENAI_API_KEY": "sk-planted"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "cannot listen" in done.stderr) == (1, True)
    (said,) = [line for line in done.stdout.splitlines() if "the first key" in line]
    gateway = start(host="0.0.0.0")
    assert not any("first key" in line for line in gateway.said)
    assert (gateway.chat(said.split()[-1])[0], gateway.chat(None)[0]) == (200, 401)


def test_the_list_of_models_says_that_the_gateway_wants_a_key(start, tmp_path):
    gateway = start()

    def models(**env: str) -> str:
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        command = [sys.executable, "-m", "headgate.cli", "models", "--url", gateway.url]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, cwd=tmp_path / "elsewhere", check=False,
            env={"PATH": "/usr/bin:/bin", **env},
        )  # fmt: skip
        assert done.returncode == 1
        return done.stderr

    assert "serves: claude-4.7, gpt-5.5, reliable" in models()
    key = made(gateway.data, "create", "one")["secret"]
    assert f"the gateway at {gateway.url} wants a key: HEADGATE_KEY=hg-... headgate models, or --key hg-..." in models()
    assert "does not say what it serves: 401 invalid_api_key: Incorrect key" in models(HEADGATE_KEY="hg-mistyped")
    assert "serves: claude-4.7, gpt-5.5, reliable" in models(HEADGATE_KEY=key)


def test_the_life_of_a_key_and_its_budget_across_a_restart(start):
    gateway = start()
    assert any("no virtual key exists" in line for line in gateway.said)
    assert gateway.chat(None)[0] == 200, "open while there is no key"
    poor = made(gateway.data, "create", "poor", "--total", "0.01", "--user", "ann", "--rpm", "500")
    assert poor["secret"].startswith("hg-")
    assert gateway.chat(None)[0] == 401, "the first key closes the plane at once"
    served = 0
    while (answer := gateway.chat(poor["secret"]))[0] == 200:
        assert "x-ratelimit-remaining-requests" in answer[1]
        served += 1
    assert served >= 2
    assert (answer[0], answer[1]["x-should-retry"]) == (402, "false")
    assert "total budget of this key" in answer[2]["error"]["message"]
    asked = f"/usage?by=user,model&since=1h&key={poor['id']}"
    eventually(lambda: [row["attempts"] for row in gateway.ask_admin(asked)] == [served])
    (budget,) = gateway.ask_admin("/budgets")
    assert budget["name"] == "poor"
    assert 0 < float(budget["spent_usd"]) <= 0.01
    assert float(budget["reserved_usd"]) == 0
    (row,) = gateway.ask_admin(asked)
    assert (row["user"], row["cost_usd"]) == ("ann", budget["spent_usd"])
    gateway.stop()

    code, out, _ = keys(gateway.data, "list")
    assert (code, "poor" in out, poor["secret"] in out) == (0, True, False)
    rich = made(gateway.data, "create", "rich")  # on the store itself: no gateway runs
    gateway.again()
    assert not any("no virtual key exists" in line for line in gateway.said)
    assert gateway.chat(poor["secret"])[0] == 402, "what was spent stays spent"
    fresh = made(gateway.data, "rotate", rich["id"], "--overlap", "1h")
    assert [gateway.chat(one["secret"])[0] for one in (rich, fresh)] == [200, 200]
    assert keys(gateway.data, "revoke", rich["id"])[0] == 0
    assert [gateway.chat(one["secret"])[0] for one in (rich, fresh)] == [401, 200]
    assert keys(gateway.data, "revoke", "key_nope")[0] == 1
    code, _, err = keys(gateway.data, "create", "x", "--door", "window")
    assert (code, "there is no door" in err) == (1, True)
    assert gateway.ask_admin("/reload", {})["ok"]
    audit = gateway.ask_admin("/audit")
    done = ["config.reload", "key.revoke", "key.rotate", "key.create", "key.create"]
    assert [row["action"] for row in audit] == done
    gateway.stop()
    everything = gateway.printed + "".join(
        path.read_text(errors="replace") for path in gateway.data.rglob("*") if path.is_file()
    )
    for one in (poor, rich, fresh):
        assert one["secret"] not in everything, "a secret was written down"


def test_a_plane_that_others_can_reach_makes_one_key_shows_it_once_and_requires_it(start):
    gateway = start(host="0.0.0.0")
    (line,) = [line for line in gateway.said if "first key" in line]
    key = line.split()[-1]
    assert gateway.chat(None)[0] == 401
    assert gateway.chat(key)[0] == 200
    gateway.stop()
    gateway.again()
    assert not any("first key" in line for line in gateway.said)
    assert gateway.chat(key)[0] == 200


def test_budgets_of_the_file_hold_without_any_key_and_a_reload_raises_them(start):
    gateway = start("budgets: {all: {daily: 0.0001}}\n")
    assert gateway.chat(None)[0] == 402
    gateway.file.write_text(gateway.file.read_text().replace("0.0001", "100"))
    eventually(lambda: gateway.chat(None)[0] == 200)


def test_names_cannot_play_with_the_terminal(tmp_path):
    data = tmp_path / "data"
    code, _, err = keys(data, "create", "red \x1b[31m")
    assert (code, "visible characters" in err, "\x1b" in err) == (1, True, False)


def test_models_that_clients_invent_leave_one_line_in_the_sums(start):
    gateway = start()
    for number in range(4):
        assert gateway.chat(None, f"openai/invented-{number}")[0] == 404
    asked = "/usage?by=model,deployment&since=1h"
    eventually(lambda: [row["attempts"] for row in gateway.ask_admin(asked)] == [4])
    assert [(row["model"], row["deployment"]) for row in gateway.ask_admin(asked)] == [("openai/(unknown)",) * 2]
    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=20) as answer:
        assert b"invented" not in answer.read()


def test_a_team_that_is_taken_out_of_the_file_takes_its_keys_with_it_not_their_limits(start):
    team = "teams: {shop: {budgets: {total: 0.000001}}}\n"
    gateway = start(team)
    member, alone = made(gateway.data, "create", "member", "--team", "shop"), made(gateway.data, "create", "alone")
    assert [gateway.chat(one["secret"])[0] for one in (member, alone)] == [402, 200]
    gateway.file.write_text(gateway.file.read_text().replace(team, ""))
    eventually(lambda: gateway.chat(member["secret"])[0] == 403)
    error = gateway.chat(member["secret"])[2]["error"]
    assert error["code"] == "team_not_found"
    assert "'shop', which is not defined" in error["message"]
    assert gateway.chat(alone["secret"])[0] == 200
    eventually(lambda: '"team_missing"' in gateway.log())  # written by a thread
    states = {key["name"]: key["state"] for key in gateway.ask_admin("/keys")}
    assert states == {"member": "team_missing", "alone": "active"}
    assert "team_missing" in keys(gateway.data, "list")[1]
    code, _, err = keys(gateway.data, "rotate", member["id"])
    assert (code, "is not defined" in err) == (1, True)
    gateway.ask_admin("/teams", {"id": "shop", "budgets": {"total": "100"}})
    assert gateway.chat(member["secret"])[0] == 200
    assert gateway.ask_admin(f"/keys/{member['id']}")["state"] == "active"


ENDED_AT_START = """
import os, signal, sys
from pathlib import Path
from headgate.server.options import Options
from headgate.server.serve import Process, make_runner

options = Options(config=None, host="0.0.0.0", port=0, admin_port=0, data_dir=Path(sys.argv[1]), env=dict(os.environ))
process = Process(options)

async def tend():
    os.kill(os.getpid(), signal.SIGTERM)

async def ready(running):
    print(running.first_key, flush=True)

process.keeper.tend = tend
with make_runner() as runner:
    runner.run(process.run(ready))
"""


def test_the_first_key_is_shown_also_where_the_process_is_asked_to_end_as_it_begins(start, tmp_path):
    command = [sys.executable, "-c", ENDED_AT_START, str(tmp_path / "data")]
    env = {**os.environ, "OPENAI_API_KEY": "sk-planted"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.count("hg-")) == (0, 1), done.stderr
    assert start(host="0.0.0.0").chat(done.stdout.strip())[0] == 200
