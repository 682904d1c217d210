"""`store: {bodies: true}`: what was asked and answered can be read by operators, redacted; without it, nowhere at all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.core.answer import Piece, Push
from headgate.core.dialect import View
from headgate.dialects.openai_chat import DIALECT
from headgate.engine.overheard import Overheard
from support.served import ServedGateway

CANARY = "sk-proj-canary7Ab12Cd34Ef56Gh78"
WORDS = "heron by the sluice"
PROMPT = f"Say who stands there: the {WORDS}. My key is {CANARY}, write to ann@example.com."
DOORS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": PROMPT}]},
    "/v1/messages": {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 60},
    "/v1/responses": {"input": PROMPT},
}


@pytest.fixture(params=[True, False], ids=["kept", "not-kept"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServedGateway]:
    found = ServedGateway(tmp_path, "store: {bodies: true}\n" if request.param else "")
    yield found
    found.close()


def everything(gateway: ServedGateway) -> str:
    files = [path for path in gateway.data.rglob("*") if path.is_file()]
    return gateway.printed + "".join(path.read_text(errors="replace") for path in files)


def ask(gateway: ServedGateway, path: str, body: dict[str, Any], model: str, *, stream: bool) -> str:
    """The trace's id."""
    import urllib.request

    data = json.dumps({"model": model, "stream": stream, **body}).encode()
    with urllib.request.urlopen(urllib.request.Request(gateway.url + path, data=data), timeout=30) as answer:
        answer.read()
        return answer.headers["x-headgate-trace"]


def kept(gateway: ServedGateway, trace: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while "bodies" not in (found := gateway.ask_admin(f"/traces/{trace}")):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found["bodies"]


@pytest.mark.timeout(180)
def test_bodies_are_kept_redacted_or_not_at_all(gateway: ServedGateway) -> None:
    is_kept = "bodies: true" in gateway.file.read_text()
    asked = [
        (path, model, stream)
        for path in DOORS
        for model in ("claude-4.7", "gpt-5.5")  # the door's own format, and another one
        for stream in (False, True)
    ]
    traces = [ask(gateway, path, DOORS[path], model, stream=stream) for path, model, stream in asked]
    if is_kept:
        for trace, what in zip(traces, asked, strict=True):
            found = kept(gateway, trace)
            assert WORDS in found["request"], what
            assert "[key]" in found["request"], what
            assert "[e-mail]" in found["request"], what
            assert "simulated" in found["answer"], what
            assert json.loads(found["answer"]), "the door's own form, whole"
        shown = subprocess.run(
            [sys.executable, "-m", "headgate.cli", "traces", "show", traces[0], "--data-dir", str(gateway.data)],
            capture_output=True, text=True, check=False, timeout=60, cwd=gateway.data.parent,
        )  # fmt: skip
        assert WORDS in shown.stdout, shown.stderr
        assert CANARY not in shown.stdout
    gateway.stop()
    assert CANARY not in everything(gateway)
    assert "ann@example.com" not in everything(gateway)
    assert (WORDS in everything(gateway)) == is_kept


class Streamed:
    """Only what is overheard of an answer."""

    settled, model, provider, deployment, media = True, "m", "p", "d", "text/event-stream"

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces

    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None:
        return self._pieces.pop(0) if self._pieces else None


def frame(text: str) -> bytes:
    delta = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + json.dumps(delta).encode() + b"\n\n"


VIEW = View(model="m", stream=False, include_usage=True, id="tr", created=1, request=None, array=False)


async def test_a_secret_in_pieces_is_found_all_the_same() -> None:
    """A stream gives a key a few letters at a time: each piece is innocent."""
    pieces: list[Piece] = [frame(CANARY[i : i + 4]) for i in range(0, len(CANARY), 4)]
    answer = Overheard(Streamed(pieces), DIALECT)  # type: ignore[arg-type]
    while await answer.pull("openai_chat") is not None:
        pass
    shown = answer.kept(VIEW)
    assert "[key]" in shown
    assert CANARY not in shown


async def test_what_cannot_be_understood_is_passed_on_and_not_kept() -> None:
    broken = b'data: {"choices": [{"delta": 5}]}\n\n'
    answer = Overheard(Streamed([frame("fine"), broken, frame("late")]), DIALECT)  # type: ignore[arg-type]
    assert [await answer.pull("openai_chat") for _ in range(4)] == [frame("fine"), broken, frame("late"), None]
    assert "fine" in answer.kept(VIEW)
