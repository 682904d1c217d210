"""The tour's stop at keys and budgets: a gateway of its own, so that the demo's stays open to whatever key is sent."""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

from headgate.cli.output import bold, dim, say

BUDGET = "0.01"
MOST = 40
"""Requests after which the budget must be used up: each costs a hundredth part of it and more."""
ASK = {
    "model": "claude-4.7",
    "messages": [{"role": "user", "content": "Name three uses of a headgate in irrigation."}],
    "max_tokens": 150,
}
FILE = """
providers: {{anthropic: {{base_url: "{anthropic}", api_key: simulated}}}}
models: {{claude-4.7: {{provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.015}}}}
"""


def stop_at_keys(urls: dict[str, str], data_dir: Path) -> None:
    """Makes a key with a budget of one cent, spends it, and shows the refusal and the books. Should that fail, says so:
    the demo goes on."""
    try:
        _stop(urls, data_dir)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        say(dim(f"    the stop at keys and budgets was not possible here: {error}\n"))


def _stop(urls: dict[str, str], data_dir: Path) -> None:
    folder = data_dir / "tour"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = folder / "headgate.yaml"
    file.write_text(FILE.format(**urls), encoding="utf-8")
    serve = [sys.executable, "-m", "headgate.cli", "serve", "--config", str(file), "--data-dir", str(folder), "--json"]
    command = [*serve, "--port", "0", "--admin-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            _spend(_ready(process), folder)
        finally:
            process.terminate()
            process.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


def _ready(process: subprocess.Popen[bytes]) -> str:
    """The URL that it prints, as JSON over several lines, when it answers."""
    assert process.stdout is not None
    text = b""
    for line in process.stdout:
        text += line
        if line.startswith(b"}"):
            return msgspec.json.decode(text)["ready"]
    raise RuntimeError("the gateway of the tour's stop at keys did not start")


def _spend(url: str, folder: Path) -> None:
    say(f"{bold('keys and budgets')}  {dim('a gateway of its own, with one key that may spend one cent')}")
    made = _run("keys", "create", "tour", "--total", BUDGET, "--json", folder=folder)
    say(f"    $ headgate keys create tour --total {BUDGET}")
    say(dim(f"      {made['secret'][:9]}…  shown once; only its hash is stored"))
    costs: list[str] = []
    for _ in range(MOST):
        status, headers, body = _ask(url, made["secret"])
        if status != 200:
            say(f"    {len(costs)} answers at ${costs[0] if costs else '0'} each, then:")
            say(f"    {status} {body['error']['code']}: {body['error']['message']}")
            say(dim(f"      x-should-retry: {headers.get('x-should-retry')}; no provider was asked"))
            break
        costs.append(headers.get("x-headgate-cost-usd", "?"))
    used = _used(folder, len(costs))
    say("    $ headgate usage --by key")
    say(dim(f"      {used['attempts']} attempts, ${used['cost_usd']} of ${BUDGET}"))
    say()


def _used(folder: Path, attempts: int) -> dict[str, Any]:
    """The key's sums, once the books have them all: a few tenths of a second behind."""
    rows: list[dict[str, Any]] = []
    for _ in range(20):
        rows = _run("usage", "--by", "key", "--json", folder=folder)
        if rows and rows[0]["attempts"] >= attempts:
            break
    return rows[0] if rows else {"attempts": 0, "cost_usd": "0"}


def _run(*arguments: str, folder: Path) -> Any:
    """What a command of ours prints as JSON."""
    command = [sys.executable, "-m", "headgate.cli", *arguments, "--data-dir", str(folder)]
    done = subprocess.run([*command, "--config", str(folder / "headgate.yaml")], capture_output=True, check=True)
    return msgspec.json.decode(done.stdout)


def _ask(url: str, secret: str) -> tuple[int, Any, Any]:
    headers = {"content-type": "application/json", "authorization": f"Bearer {secret}"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", msgspec.json.encode(ASK), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, msgspec.json.decode(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.headers, msgspec.json.decode(error.read())
