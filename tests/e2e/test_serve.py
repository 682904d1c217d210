"""`headgate serve` as a process: planted keys stay inside, reloads are atomic, a bad file keeps the old one running."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from headgate.simulator.app import Simulator
from support.gateway import ENV, Loop
from support.sim import INSTANT

FILE = """
providers:
  anthropic: {{base_url: "{anthropic}"}}
  openai: {{base_url: "{openai}", api_key: "${{OPENAI_API_KEY}}"}}
models:
  claude-4.7: {{provider: anthropic, upstream: claude-opus-4-7}}
  gpt-5.5: {{provider: openai, upstream: gpt-5.5}}
  reliable: {{fallback: [claude-4.7, gpt-5.5]}}
"""

EVERY = """
providers:
  anthropic: {{base_url: "{anthropic}"}}
  openai: {{base_url: "{openai}"}}
  google: {{base_url: "{google}"}}
  deepseek: {{base_url: "{deepseek}"}}
  meta: {{base_url: "{meta}"}}
  mistral: {{base_url: "{mistral}"}}
  groq: {{base_url: "{groq}"}}
  xai: {{base_url: "{xai}"}}
  openrouter: {{base_url: "{openrouter}"}}
models:
  claude-4.7: {{provider: anthropic, upstream: claude-opus-4-7}}
  gpt-5.5: {{provider: openai, upstream: gpt-5.5}}
  gemini-3.0: {{provider: google, upstream: gemini-3-pro}}
  deepseek-v4: {{provider: deepseek, upstream: deepseek-chat}}
  llama-4: {{provider: meta, upstream: llama-4-maverick}}
  reliable: {{fallback: [claude-4.7, gpt-5.5]}}
"""
"""Each provider with a key, most of which serve a simulated model; the others say that they do not know it."""
KEYED = ("anthropic", "openai", "google", "deepseek", "meta", "mistral", "groq", "xai", "openrouter")


def get(url: str, token: str | None = None) -> tuple[int, str]:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode() + str(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode() + str(error.headers)


def ask(url: str, model: str) -> tuple[int, str]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", data=body, headers={"x-headgate-details": "true"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode() + str(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode() + str(error.headers)


class Served:
    def __init__(self, folder: Path, more: str = "", file: str = FILE) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        self.loop.run(self.sim.start(0))
        self.urls = {name: self.sim.base_url(name) for name in KEYED}
        self.file = folder / "headgate.yaml"
        self.file.write_text(file.format(**self.urls) + more)
        self.data = folder / "data"
        command = [sys.executable, "-m", "headgate.cli", "serve", "--config", str(self.file), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--admin-port", "0", "--data-dir", str(self.data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENV},
        )
        self.said: list[str] = []
        while not self.said or not self.said[-1].startswith("ready "):
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read() if self.process.stderr else ""
            self.said.append(line.strip())
        self.url = self.said[-1].removeprefix("ready ")
        self.admin = next(line.split()[1] for line in self.said if line.startswith("console "))
        self.token = (self.data / "admin.token").read_text().strip()

    def end(self) -> str:
        """Stops the process; everything it has printed."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=20)
        self.loop.run(self.sim.aclose())
        self.loop.close()
        return "\n".join(self.said) + out + err


@pytest.fixture
def served(tmp_path):
    found = Served(tmp_path)
    yield found
    if found.process.poll() is None:
        found.end()


@pytest.mark.timeout(180)
def test_planted_keys_leave_by_no_way(tmp_path):
    served = Served(tmp_path, file=EVERY)
    models = ("claude-4.7", "gpt-5.5", "gemini-3.0", "deepseek-v4", "llama-4")
    seen: list[str] = []
    for mode in (None, "auth", "500", "quota", "error_in_200", "html"):
        for name in models:
            if mode is not None:
                served.loop.run(served.sim.break_model(name, mode))
        asked = (*models, "reliable", "nobody", "mistral/x", "groq/x", "xai/x", "openrouter/x")
        seen += [ask(served.url, model)[1] for model in asked]
    served.loop.run(served.sim.mend())
    sent = served.loop.call(lambda: json.dumps([call.headers for call in served.sim.wire.calls]))
    for name, key in ENV.items():
        assert (key in sent) == (name != "OPENAI_API_KEY_2"), (
            "the providers have been sent theirs, or this proves nothing"
        )
    for path in ("/metrics", "/health", "/v1/models", "/readyz", "/v1/nothing"):
        seen.append(get(served.url + path)[1])
    rows = json.loads(get(served.admin + "/admin/v1/requests", served.token)[1].rpartition("]")[0] + "]")
    seen.append(json.dumps(rows))
    for row in rows[:10]:
        seen.append(get(f"{served.url}/v1/traces/{row['trace']}")[1])
        seen.append(get(f"{served.admin}/admin/v1/traces/{row['trace']}", served.token)[1])
    for path in ("status", "models", "config"):
        seen.append(get(f"{served.admin}/admin/v1/{path}", served.token)[1])
    log = served.end()
    told = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    requests = [line for line in told if line["event"] == "request"]
    assert {line["requested"] for line in requests} >= {*models, "reliable"}
    assert all(line["id"].startswith("req_") and line["status"] for line in requests)
    for text in [*seen, log]:
        assert "canary" not in text


def wait_for(check: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


@pytest.mark.timeout(90)
def test_a_changed_file_is_loaded_and_a_bad_one_changes_nothing(served: Served):
    assert ask(served.url, "extra")[0] == 404
    good = FILE.format(**served.urls) + "  extra: {provider: openai, upstream: gpt-5.5}\n"
    served.file.write_text(good)
    wait_for(lambda: ask(served.url, "extra")[0] == 200)
    served.file.write_text(good + "  broken: {provder: x}\n")
    ordered = urllib.request.Request(
        served.admin + "/admin/v1/reload", data=b"{}", headers={"authorization": f"Bearer {served.token}"}
    )
    with urllib.request.urlopen(ordered, timeout=10) as answer:
        told = json.loads(answer.read())
    assert told["ok"] is False
    assert "headgate.yaml:10:" in told["problem"]
    assert "did you mean 'provider'?" in told["problem"]
    assert ask(served.url, "extra")[0] == 200
    failed = [json.loads(line) for line in served.end().splitlines() if '"reload_failed"' in line]
    assert "did you mean 'provider'?" in failed[0]["problems"][0]


@pytest.mark.timeout(90)
def test_sighup_loads_what_no_file_of_ours_shows(tmp_path):
    """A secret's own file is not watched: whoever renews a key says so."""
    secret = tmp_path / "openai.key"
    secret.write_text("canary-old")
    served = Served(tmp_path, file=FILE.replace("${{OPENAI_API_KEY}}", f"${{{{file:{secret}}}}}"))

    def key_sent() -> str:
        assert ask(served.url, "gpt-5.5")[0] == 200
        return served.loop.call(lambda: served.sim.wire.calls[-1].headers["authorization"])

    assert key_sent() == "Bearer canary-old"
    secret.write_text("canary-new")
    time.sleep(2.5)  # beyond a round of the watch over the file, which must not see it
    assert key_sent() == "Bearer canary-old"
    served.process.send_signal(signal.SIGHUP)
    wait_for(lambda: key_sent() == "Bearer canary-new")
    assert "canary" not in served.end()


@pytest.mark.timeout(60)
def test_uvicorn_serves_the_same(tmp_path):
    found = Served(tmp_path, "server: {frontend: uvicorn}\n")
    try:
        status, text = ask(found.url, "reliable")
        assert status == 200
        assert "x-headgate-model: claude-4.7" in text
    finally:
        assert "Traceback" not in found.end()


@pytest.mark.timeout(60)
def test_a_page_of_a_named_origin_is_told_that_it_may_read(tmp_path):
    found = Served(tmp_path, "server: {cors: ['https://app.example.com']}\n")
    try:
        page = {"origin": "https://app.example.com", "access-control-request-method": "POST"}
        asking = urllib.request.Request(f"{found.url}/v1/chat/completions", headers=page, method="OPTIONS")
        with urllib.request.urlopen(asking, timeout=10) as answer:
            assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    finally:
        found.end()


@pytest.mark.timeout(120)
def test_with_no_file_a_key_in_the_environment_is_enough(tmp_path):
    """A first start without any key fails; what it left behind hides nothing from the next one."""
    bare = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    command = [sys.executable, "-m", "headgate.cli", "serve", "--port", "0", "--admin-port", "0"]
    failed = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("no model to serve: set a provider key (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...)")
    keyed = {**bare, "OPENAI_API_KEY": "sk-planted", "ANTHROPIC_API_KEY": "sk-planted"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=keyed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said: list[str] = []
        while not said or not said[-1].startswith("ready "):
            said.append(process.stdout.readline().strip())
            assert said[-1], process.stderr.read() if process.stderr else ""
        assert said[-2].endswith("(admin token: in .headgate/admin.token)")
        assert (tmp_path / ".headgate" / "admin.token").read_text().startswith("hga-")
        status, listed = get(said[-1].removeprefix("ready ") + "/v1/models")
        assert status == 200
        for name in ("reliable", "auto", "careful", "agent", "gpt-5.5", "claude-opus-4-7"):
            assert f'"id":"{name}"' in listed
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "sk-planted" not in "".join(said) + out + err


@pytest.mark.parametrize("verb", ["serve", "demo"])
def test_a_port_that_cannot_be_had_is_named(tmp_path, verb):
    env = {**os.environ, "OPENAI_API_KEY": "sk-planted"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for ports, code, said in (
            (
                ("--port", port, "--admin-port", "0"),
                1,
                f"cannot listen: 127.0.0.1:{port}: Address already in use; --port",
            ),
            (
                ("--port", "0", "--admin-port", port),
                1,
                f"cannot listen: 127.0.0.1:{port}: Address already in use; --port",
            ),
            (("--port", "80000"), 2, "less than or equal to 65535"),
        ):
            command = [sys.executable, "-m", "headgate.cli", verb, *ports]
            done = subprocess.run(
                command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == code
            assert said in done.stderr
            assert "Traceback" not in done.stderr
