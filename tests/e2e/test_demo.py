"""`headgate demo` as a new user starts it: a process, its tour, breaking and mending a model, the end."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest

SIX = {
    "code": "claude-4.7",
    "summary": "gpt-5.5",
    "creative": "gemini-3.0",
    "analysis": "claude-4.7",
    "translation": "gpt-5.5",
    "math": "deepseek-v4",
}
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "headgate.cli"]


def free(argument: str) -> list[str]:
    return [argument, "0"]


def start(tmp_path: Path, *more: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "demo", "--port", "0", "--admin-port", "0", "--data-dir", str(tmp_path / "data"), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def until(process: subprocess.Popen[str], word: str, seconds: float = 120.0) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        line = process.stdout.readline()
        if not line:
            break
        lines.append(line.rstrip())
        if word in line:
            return lines
    raise AssertionError(f"{word!r} never came: {lines} {process.stderr.read() if process.poll() is not None else ''}")


def run(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, env=env)
    return done.returncode, done.stdout, done.stderr


def ask(url: str, model: str) -> tuple[int, dict[str, str], Any]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "What is a weir?"}]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/chat/completions", data=body), timeout=30) as answer:
        return answer.status, dict(answer.headers), json.loads(answer.read())


@pytest.mark.timeout(240)
def test_the_demo_tours_breaks_mends_and_ends(tmp_path):
    process = start(tmp_path)
    try:
        lines = until(process, "Ctrl-C ends the demo")
        text = "\n".join(lines)
        url = next(line.removeprefix("ready ") for line in lines if line.startswith("ready "))
        assert "[simulated]" in text
        assert "1 single" in text
        assert "2 fallback" in text
        assert "reliable → claude-4.7" in text
        assert "6 prompts, 6 routes" in text
        assert "402 budget_exceeded: The total budget of this key does not cover this request" in text
        assert re.search(r"^ +[1-9]\d* attempts, \$0\.00\d+ of \$0\.01$", text, re.MULTILINE)
        for task, model in SIX.items():
            beside = r"(?: · saved \$[\d.]+| · \$[\d.]+ dearer than claude-4\.7)?"
            assert re.search(
                rf"^ +{task} [01]\.\d\d \(.+\) → {model} · \$0\.\d+{beside}$",
                text,
                re.MULTILINE,
            ), (
                task,
                text,
            )
        assert "saved against always asking claude-4.7" in text
        assert re.search(r"80 sums were asked, \d+ answered right; .* the models and their errors are simulated", text)
        for arm, model in (("today", "claude-4.7"), ("cheaper", "deepseek-v4")):
            interval = r"\$0\.\d+ \(\$0\.\d+ to \$0\.\d+\) · feedback [01]\.\d\d \([01]\.\d\d to [01]\.\d\d\)"
            assert re.search(rf"^ +{arm} +{model} +[2-5]\d requests +cost {interval}", text, re.MULTILINE), text
        assert "cost -4" in text, "half the price, and what the interval says of it"
        assert "arm 'cheaper' is better in cost" in text
        screen = text.partition("Try it yourself")[2]
        curls = [shlex.split(line) for line in re.findall(r"^  \d\. (curl .*)$", screen, re.MULTILINE)]
        assert re.findall(r"^  (\d)\. curl", screen, re.MULTILINE) == [str(n) for n in range(1, len(curls) + 1)]
        assert {json.loads(words[-1])["model"] for words in curls} >= {"reliable", "auto", "careful", "agent"}
        for words in curls:
            assert words[:3] == ["curl", "-s", f"{url}/v1/chat/completions"]
            with urllib.request.urlopen(words[2], words[-1].encode(), timeout=60) as answer:
                assert json.load(answer)["choices"][0]["message"]["content"], words
        assert re.search("^  console: .*http://", screen, re.MULTILINE)

        def typed(begins: str) -> str:
            """What comes of the line, as it stands on the screen."""
            words = shlex.split(re.search(rf"^  {begins}: +(.*)$", screen, re.MULTILINE)[1])
            code, out, err = run(
                *words[words.index("demo" if "demo" in words else "chat") :], *(["hi"] * ("chat" in words))
            )
            assert code == 0, err
            return out

        data = str(tmp_path / "data")
        mending = shlex.split(typed("break a model").partition("mend it with: ")[2])
        assert mending[mending.index("demo") :] == ["demo", "--data-dir", data, "mend", "claude-4.7"]
        status, headers, _ = ask(url, "reliable")
        assert (status, headers["x-headgate-model"]) == (200, "gpt-5.5")
        assert "claude-4.7" in typed("mend it")
        assert "[simulated]" in typed("talk to one")
        code, out, _ = run("chat", "--url", url, "-m", "gpt-5.5", "What is a weir?")
        assert code == 0
        assert "[simulated]" in out
        assert "gpt-5.5 → gpt-5.5" in out
        code, out, _ = run("chat", "--url", url, "gemini-3.0", "What is a weir?")
        assert code == 0
        assert "gemini-3.0 → gemini-3.0" in out
        code, out, _ = run("chat", "--url", url, "--json", "auto", "is", "a", "word", "here")
        assert code == 0
        assert json.loads(out)["headgate"]["requested"] == "auto"
        for verb in ("chat", "explain"):
            code, out, err = run(verb, "--url", url, "-m", "carefull", "hello")
            assert (code, out) == (1, "")
            said = "The model 'carefull' does not exist or is not offered here (did you mean 'careful'?)."
            assert err == f"404 model_not_found: {said}\n"
        nothing_here = {"PATH": os.environ["PATH"]}  # whoever runs this may have providers' keys
        code, out, err = run("models", "--url", url, env=nothing_here)
        assert (code, out) == (1, "")
        assert f"the gateway at {url} serves: agent, auto, careful, claude-4.7, deepseek-v4" in err
        code, _, err = run("demo", "--data-dir", data, "break", "nobody")
        assert (code, err) == (
            1,
            "no model 'nobody'; there are: claude-4.7, gpt-5.5, gemini-3.0, llama-4, deepseek-v4\n",
        )
        code, out, _ = run("explain", "--url", url, "-m", "reliable", "hello")
        assert code == 0
        assert "reliable" in out
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
        stream = client.chat.completions.create(
            model="reliable", messages=[{"role": "user", "content": "What is a weir?"}], stream=True
        )
        assert "[simulated]" in "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    finally:
        process.send_signal(signal.SIGTERM)
        rest, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert '{"at"' not in text + rest, "a tour is no log"


@pytest.mark.timeout(120)
def test_a_demo_that_others_can_reach_shows_its_first_key_and_asks_nothing_without_it(tmp_path):
    process = start(tmp_path, "--host", "0.0.0.0")
    try:
        lines = until(process, "no tour")
        (key,) = [line.split()[-1] for line in lines if "the first key" in line]
        url = next(line.removeprefix("ready ") for line in lines if line.startswith("ready "))
        client = openai.OpenAI(base_url=url.replace("0.0.0.0", "127.0.0.1") + "/v1", api_key=key, max_retries=0)
        asked: Any = {"model": "reliable", "messages": [{"role": "user", "content": "What is a weir?"}]}
        assert client.chat.completions.create(**asked).choices[0].message.content
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="hg-another").chat.completions.create(**asked)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_a_tour_can_be_left_at_any_time(tmp_path):
    process = start(tmp_path)
    try:
        until(process, "2 fallback")
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert "Ctrl-C ends the demo" not in out


@pytest.mark.timeout(240)
def test_a_clean_clone_starts_tours_and_stops(tmp_path):
    """What is committed is enough: nothing that the demo needs lies in this tree only."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth", "1", ROOT.as_uri(), str(clone)], check=True, timeout=60)
    recipe = subprocess.run(
        ["make", "--no-print-directory", "-n", "demo"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert recipe.stdout.splitlines()[-1] == ".venv/bin/headgate demo"
    env = {**os.environ, "PYTHONPATH": str(clone / "src"), "PYTHONUNBUFFERED": "1"}
    where = [sys.executable, "-c", "import headgate; print(headgate.__file__)"]
    found = subprocess.run(where, cwd=clone, env=env, capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.startswith(str(clone))
    process = subprocess.Popen(
        [*COMMAND, "demo", "--port", "0", "--admin-port", "0"],
        cwd=clone,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = until(process, "Ctrl-C ends the demo")
        assert any("[simulated]" in line for line in lines)
        assert (clone / ".headgate").is_dir(), "everything it writes is in its own data directory"
        status = subprocess.run(
            ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True, timeout=30
        )
        assert status.stdout == ""
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.timeout(60)
def test_sigterm_lets_a_stream_finish_and_readiness_goes_first(tmp_path):
    process = start(tmp_path, "--no-tour")
    url = until(process, "ready ")[-1].removeprefix("ready ")
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    stream = client.chat.completions.create(
        model="claude-4.7", messages=[{"role": "user", "content": "Tell me a long story about a river."}], stream=True
    )
    chunks = iter(stream)
    next(chunks)
    process.send_signal(signal.SIGTERM)
    wait_until_refused(url)
    finish = [c.choices[0].finish_reason for c in chunks if c.choices][-1]
    assert finish == "stop"
    assert process.wait(20) == 0


def wait_until_refused(url: str) -> None:
    """Nobody new gets in: what asks whether it is ready is refused."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                time.sleep(0.02)
        except OSError:
            return
    raise AssertionError("still ready")


def test_the_version_is_instant_and_unknown_commands_are_usage_errors():
    code, out, _ = run("--version")
    assert (code, out.split()[0]) == (0, "headgate")
    code, _, err = run("chekc")
    assert code == 2
    assert "did you mean 'check'" in err


def test_chat_shows_an_agents_steps_as_they_pass_and_the_tour_lists_them(tmp_path):
    demo = start(tmp_path)
    try:
        lines = until(demo, "Try it yourself")
        url = next(line for line in lines if line.startswith("ready ")).split()[1]
        at = next(number for number, line in enumerate(lines) if line.startswith("5 agent"))
        assert "17 * 23 = 391" in lines[at + 1]  # worked out by a real tool: its models may slip, the sandbox does not
        for line, step in zip(
            lines[at + 2 : at + 4],
            ("compute passed · tool python · checked: not empty", r"write passed · \S+ · checked: validator"),
            strict=True,
        ):
            assert re.match(rf"    {step} · \d\.\d\d s · \$0\.0\d+$", line), line
        at = next(number for number, line in enumerate(lines) if line.startswith("4 ensemble"))
        for line, name in zip(lines[at + 2 : at + 5], ("claude-4.7", "gpt-5.5", "gemini-3.0"), strict=True):
            assert re.match(rf"    {name} valid · score [01]\.\d\d from llama-4 · \d\.\d\d s · \$0\.0\d+$", line), line
        code, out, _ = run("chat", "-m", "agent", "--url", url, "Name three uses of a weir.")
        assert code == 0
        order = [
            out.index(word) for word in ("Plan: gather", "gather passed", "write passed", "[simulated]", "agent → ")
        ]
        assert order == sorted(order)
        trace, shown = out.split()[-1], ""
        end = time.monotonic() + 20
        while "write passed" not in shown and time.monotonic() < end:  # what has just ended is written down soon
            shown = run("traces", "show", trace, "--data-dir", str(tmp_path / "data"))[1]
        assert re.search(r"^  gather passed · claude-4.7 · checked: validator · ", shown, re.MULTILINE)
        assert re.search(r"^  at_\w+  planner  anthropic/claude-opus-4-7  ok, settled  \$0\.0", shown, re.MULTILINE)
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.wait(30)
