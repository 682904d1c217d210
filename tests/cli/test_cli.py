"""Commands that need no running gateway: their words, their JSON, their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.cli.details import summary
from headgate.config.zero import Candidate, zero_config

EXAMPLE = Path(__file__).parents[2] / "src" / "headgate" / "config" / "example.yaml"


def run(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "headgate.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env=None if env is None else {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **env},
    )
    return done.returncode, done.stdout, done.stderr


def test_the_example_of_the_contract_passes_check():
    code, out, _ = run("check", str(EXAMPLE))
    assert code == 0
    assert "ok, 9 models" in out


def test_strict_fails_on_models_without_a_key():
    code, out, _ = run("check", "--strict", str(EXAMPLE), env={})
    assert code == 1
    assert "no key" in out


def test_problems_have_places_and_suggestions(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("providers: {openai: {}}\nmodels:\n  a: {provder: openai}\n  b: {fallback: [c]}\n")
    code, _, err = run("check", str(file))
    assert code == 1
    assert f"{file}:3:7: unknown key 'provder' (did you mean 'provider'?)" in err
    code, out, _ = run("check", "--json", str(file))
    assert json.loads(out)["problems"][0]["line"] == 3


def test_init_writes_a_file_that_passes_and_never_overwrites(tmp_path):
    assert run("init", cwd=tmp_path)[0] == 0
    assert run("check", cwd=tmp_path)[0] == 0
    code, _, err = run("init", cwd=tmp_path)
    assert code == 1
    assert "exists already" in err


def test_models_show_prices_and_what_is_unknown(tmp_path):
    code, out, _ = run("models", "--config", str(EXAMPLE), "--json", env={"OPENAI_API_KEY": "x"})
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["gpt-5.5"]["input"] == "20"
    assert {name for name, row in rows.items() if row["state"] == "no key"} == {
        "claude-4.7",
        "gemini-3.0",
        "llama-4",
        "deepseek-v4",
    }
    assert (rows["claude-4.7"]["provider"], rows["claude-4.7"]["upstream"]) == ("anthropic", "claude-opus-4-7")
    assert rows["gpt-5.5"]["capabilities"] == "multimodal,conversation,function_calling,vision"
    assert rows["gpt-5.5"]["prices"] == {"input": "20", "output": "20", "version": "config"}
    file = tmp_path / "m.yaml"
    file.write_text(
        "providers: {x: {kind: openai-compatible, base_url: 'http://127.0.0.1:1/v1'}}\nmodels: {m: {provider: x}}\n"
    )
    rows = json.loads(run("models", "--config", str(file), "--json")[1])
    assert rows[0]["input"] == "unknown"
    assert rows[0]["state"] == "ready", "a server of one's own may need no key"


def test_models_show_what_the_catalogue_knows_and_what_the_file_says_instead(tmp_path):
    file = tmp_path / "m.yaml"
    known = "provider: anthropic, upstream: claude-sonnet-4-5"
    own = "features: [tools], capabilities: [code], max_context: 1_000, price: {input: 7, output: 9}"
    file.write_text(f"providers: {{anthropic: {{}}}}\nmodels:\n  known: {{{known}}}\n  told: {{{known}, {own}}}\n")
    env = {"ANTHROPIC_API_KEY": "x"}
    first, told = json.loads(run("models", "--config", str(file), "--json", env=env)[1])
    assert (first["context"], first["input"], first["output"]) == (200_000, "3", "15")
    assert {"tools", "vision", "json_schema", "documents", "reasoning"} <= set(first["features"].split(","))
    assert {"reasoning", "code"} <= set(first["capabilities"].split(","))
    assert first["prices"]["version"].startswith("genai-prices ")
    assert (told["context"], told["input"], told["output"]) == (1_000, "7", "9")
    assert (told["features"], told["capabilities"]) == ("tools", "code")
    assert told["prices"] == {"input": "7", "output": "9", "version": "config"}
    shown = run("models", "--config", str(file), env={**env, "COLUMNS": "300"})[1]
    [line] = [line for line in shown.splitlines() if line.lstrip().startswith("known ")]
    for word in ("200000", "vision", "reasoning,code", "ready"):
        assert word in line


def test_a_model_that_is_not_paid_by_the_token_does_not_look_free(tmp_path):
    file = tmp_path / "m.yaml"
    file.write_text("providers: {openai: {}}\nmodels: {whisper-1: {provider: openai}, tts-1: {provider: openai}}\n")
    code, out, _ = run("models", "--config", str(file), "--json", env={"OPENAI_API_KEY": "x"})
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["whisper-1"]["input"] == "0.36 per hour"
    assert rows["tts-1"]["input"] == "15 per M characters"
    assert rows["tts-1"]["prices"]["characters"] == "15"


def test_no_file_at_all_offers_what_the_keys_reach(tmp_path):
    code, out, _ = run("models", "--json", cwd=tmp_path, env={"ANTHROPIC_API_KEY": "x", "OPENAI_API_KEY": "y"})
    rows = {row["name"]: row for row in json.loads(out)}
    names = list(rows)
    assert code == 0
    prices = rows["claude-opus-4-7"]["prices"]
    assert (
        float(prices["cached_input"]) < float(prices["input"]) < float(prices["cache_write"]) < float(prices["output"])
    )
    assert "genai-prices" in prices["version"] or "snapshot" in prices["version"]
    assert {"reliable", "auto", "careful", "agent", "gpt-5.5", "claude-opus-4-7"} <= set(names)
    agent = zero_config([Candidate("openai", ["gpt-5.5", "gpt-5.4"])]).models["agent"].agent
    assert agent is not None
    assert agent.budget.max_cost == 2  # or no key with a hard budget could use it
    code, _, err = run("serve", cwd=tmp_path, env={})
    assert code == 1
    assert "no model to serve" in err


def test_config_show_hides_secrets(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("providers: {openai: {api_key: sk-canary-123}}\nmodels: {m: {provider: openai}}\n")
    code, out, _ = run("config", "show", str(file))
    assert code == 0
    assert "canary" not in out


@pytest.mark.parametrize("client", ["claude-code", "codex", "openai", "cursor", "open-webui", "langchain", "vercel-ai"])
def test_connect_prints_lines_for_each_client(client):
    code, out, _ = run("connect", client, "--url", "http://127.0.0.1:4100")
    assert code == 0
    assert "127.0.0.1:4100" in out


@pytest.mark.parametrize(("client", "program"), [("claude-code", "claude"), ("codex", "codex")])
def test_connect_run_starts_the_client_configured(client, program, tmp_path):
    """A program of that name stands in: it says how it was started."""
    stand_in = tmp_path / program
    stand_in.write_text('#!/bin/sh\nfor one in "$@"; do echo "argument $one"; done\nenv\n')
    stand_in.chmod(0o755)
    arguments = ("connect", client, "--run", "--url", "http://127.0.0.1:4100", "--key", "hg-one", "--model", "reliable")
    code, out, err = run(*arguments, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert code == 0, err
    lines = out.splitlines()
    if client == "claude-code":
        assert "ANTHROPIC_BASE_URL=http://127.0.0.1:4100" in lines
        assert "ANTHROPIC_AUTH_TOKEN=hg-one" in lines
        assert "ANTHROPIC_MODEL=reliable" in lines
    else:
        assert "HEADGATE_KEY=hg-one" in lines
        assert 'base_url="http://127.0.0.1:4100/v1"' in out
        assert lines[lines.index("argument -m") + 1] == "argument reliable"


def test_connect_run_says_what_is_missing_and_what_cannot_be_started():
    code, _, err = run("connect", "codex", "--run", env={})
    assert (code, "codex is not installed" in err) == (1, True)
    code, _, err = run("connect", "cursor", "--run", env={})
    assert (code, "no command line" in err) == (2, True)


def test_a_gateway_that_is_not_there_is_told_plainly():
    code, _, err = run("chat", "--url", "http://127.0.0.1:9", "hi")
    assert code == 1
    assert "no gateway answers" in err


@pytest.mark.parametrize("there", [False, True])
def test_a_request_that_cannot_be_read_is_told_plainly(there, tmp_path):
    """One that is not there, and a folder."""
    file = tmp_path / "request"
    if there:
        file.mkdir()
    code, _, err = run("explain", "--file", str(file))
    assert code == 2
    assert err.startswith(f"cannot read {file}: ")


@pytest.mark.timeout(240)
def test_a_drill_measures_and_names_what_there_is():
    code, out, err = run("drill", "--requests", "20", "--strategies", "reliable", "--json")
    assert code == 0, err
    (arm,) = json.loads(out)["arms"]
    assert (arm["name"], arm["requests"], sum(arm["fates"].values())) == ("reliable", 20, 20)
    code, out, _ = run("drill", "--requests", "20", "--strategies", "reliable")
    assert code == 0
    assert "Failure = error, late (over 60 s), truncated or wrong; the denominator is all requests." in out
    assert "mean correlation" in out
    code, _, err = run("drill", "--strategies", "relible")
    assert code == 1
    assert "no such strategy: relible; there are: claude-4.7, naive chain, reliable" in err


def test_check_names_the_models_that_a_hard_budget_would_refuse(tmp_path):
    file = tmp_path / "f.yaml"
    text = "providers: {vllm: {}}\nmodels: {a: {provider: vllm}}\nbudgets: {keys: {daily: %s}}\n"
    for amount, unpriced in (("5", ["a"]), ("{limit: 5, hard: false}", [])):
        file.write_text(text % amount)
        code, out, _ = run("check", str(file))
        assert code == 0
        assert ("models.a: its price is not known" in out) == bool(unpriced)
        assert json.loads(run("check", "--json", str(file))[1])["no_price"] == unpriced


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ("0.000231", "$0.000264 (saved $0.000231)"),
        ("-0.000231", "$0.000264 ($0.000231 dearer than claude-4.7)"),
        ("0.000000", "$0.000264"),
    ],
)
def test_a_dearer_choice_is_not_called_saved(saved, words):
    about = {"cost_usd": "0.000264", "saved_usd": saved, "baseline": "claude-4.7"}
    assert f" · {words} · tr_1" in summary({"requested": "auto", "trace": "tr_1", **about})
