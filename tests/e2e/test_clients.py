"""Clients that are not Python: the OpenAI and Vercel SDKs on Node; Claude Code and Codex using a tool."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from headgate.cli.connect import launch
from support.gateway import SimulatedGateway

NODE = Path(__file__).parents[1] / "node"


@pytest.fixture(scope="module")
def url():
    with SimulatedGateway() as found:
        yield found.url


@pytest.fixture(scope="module")
def node() -> Path:
    subprocess.run(["sh", str(NODE.parents[1] / "scripts" / "node.sh")], check=True, timeout=500)
    return NODE


@pytest.mark.xdist_group("node")
@pytest.mark.timeout(600)
def test_the_node_sdks_understand_every_phase(node, url):
    models = ["claude-4.7", "gpt-5.5", "gemini-3.0", "reliable", "auto", "careful"]
    done = subprocess.run(
        ["node", "clients.mjs", url, *models], cwd=node, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["model"] for row in rows] == models
    for row in rows:
        for way in ("whole", "streamed", "response", "text", "read"):
            assert "[simulated]" in row[way], (row["model"], way)
        assert row["call"]["name"] == "get_weather"
        assert json.loads(row["call"]["arguments"])["city"]
        assert row["tokens"] > 0
        assert row["streamTokens"] > 0


@pytest.mark.xdist_group("node")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", ["claude-4.7", "gpt-5.5"])
def test_claude_code_reads_a_file_through_the_gateway(node, url, tmp_path, model):
    """With an Anthropic model its own bytes pass; with an OpenAI one every turn is translated both ways."""
    (tmp_path / "note.txt").write_text("The sluice opens at dawn.\n")
    command, configured = launch("claude-code", url, "any", model)
    env = {**os.environ, "HOME": str(tmp_path), "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", **configured}
    command[0] = str(node / "node_modules" / ".bin" / "claude")
    command += ["-p", "Read note.txt and tell me what it says", "--allowedTools", "Read", "--output-format", "json"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    found = json.loads(done.stdout)
    assert found["is_error"] is False
    assert "The sluice opens at dawn." in found["result"]
    assert found["num_turns"] >= 2


@pytest.mark.xdist_group("node")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", ["gpt-5.5", "claude-4.7", "gemini-3.0", "llama-4"])
def test_codex_runs_a_command_through_the_gateway(node, url, tmp_path, model):
    """It offers free-text and server-side tools beside functions; models of four formats get what they can take."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    (work / "note.txt").write_text("The sluice opens at dawn.\n")
    command, env = launch("codex", url, "any", model)
    command[0] = str(node / "node_modules" / ".bin" / "codex")
    command += ["exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    done = subprocess.run(
        [*command, "Run the shell command `cat note.txt` and tell me what it says"],
        cwd=work,
        env={**os.environ, **env, "CODEX_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    items = [row["item"] for row in map(json.loads, done.stdout.splitlines()) if row["type"] == "item.completed"]
    ran = [item for item in items if item["type"] == "command_execution"]
    assert ran[0]["exit_code"] == 0
    assert ran[0]["aggregated_output"] == "The sluice opens at dawn.\n"
    assert "The sluice opens at dawn." in next(i["text"] for i in items if i["type"] == "agent_message")
