"""The recorded answers of every format, read on Node at the other formats' doors: by OpenAI's SDK (chat and Responses) and
by Vercel's. At its own door an answer is the provider's bytes, odd ones with them: test_own_door."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.corpus import STEP, chosen, provider_of
from conformance.extract import FORMATS, STREAMS, Said, canonical, said

NODE = Path(__file__).parents[1] / "node"
SAMPLE = 1 if STEP == 1 else 3
"""Of what the Python readers take: every so manieth; in `make conformance` all."""
DOOR = {"chat": "openai_chat", "responses": "openai_responses", "ai": "openai_chat"}
FINISH = {
    # what each reader calls an ending, in the words of extract.Said; what is not here ended as it should
    "length": "length",
    "max_output_tokens": "length",
    "content_filter": "filter",
    "content-filter": "filter",
    "tool_calls": "tools",
    "tool-calls": "tools",
}


@pytest.fixture(scope="module")
def node() -> Path:
    subprocess.run(["sh", str(NODE.parents[1] / "scripts" / "node.sh")], check=True, timeout=500)
    return NODE


@pytest.mark.xdist_group("node")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fmt", FORMATS)
def test_the_node_sdks_read_what_was_recorded(stage, node, fmt):
    wanted: dict[tuple[str, str], tuple[str, Said]] = {}
    asked: list[str] = []
    for row, want in finished(fmt):
        key = stage.sim.replay.register(row).model
        for reader, door in DOOR.items():
            if door == fmt:
                continue
            model = f"{provider_of(fmt, row, door)}/{key}"
            wanted[reader, model] = row["id"], want
            asked.append(
                json.dumps({"model": model, "stream": row["response"]["kind"] in STREAMS, "readers": [reader]})
            )
    done = subprocess.run(
        ["node", "corpus.mjs", stage.url],
        cwd=node,
        input="\n".join(asked),
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(wanted) > 0
    wrong = [
        problem for answer in answers for problem in differences(answer, *wanted[answer["reader"], answer["model"]])
    ]
    assert not wrong, f"{len(wrong)} of {len(wanted)}:\n" + "\n".join(wrong[:12])


def finished(fmt: str) -> Iterator[tuple[dict[str, Any], Said]]:
    for row in chosen(fmt)[::SAMPLE]:
        if row["response"]["status"] == 200 and (
            found := said(fmt, row["response"]["kind"], row["response"]["body"] or "")
        ):
            yield row, found


def differences(answer: dict[str, Any], row_id: str, want: Said) -> list[str]:
    who = f"{row_id} by {answer['reader']}"
    if "error" in answer:
        return [f"{who}: {answer['error'][:300]}"]
    calls = tuple((name, canonical(arguments)) for name, arguments in answer["calls"])
    finish = FINISH.get(answer["finish"], "tools" if calls else "stop")
    expected = {"refusal": "stop", "pause": "stop"}.get(want.finish, want.finish)
    tokens = tuple(answer["tokens"]) if answer["tokens"] else None
    text = answer["text"]
    if answer["reader"] == "ai" and want.finish == "refusal":
        text = want.text  # Vercel's SDK has no word for refusals
    found = {"text": text, "calls": calls, "finish": finish, "tokens": tokens if want.tokens else None}
    should = {"text": want.text, "calls": want.calls, "finish": expected, "tokens": want.tokens}
    return [
        f"{who}: {name} {found[name]!r:.150} instead of {should[name]!r:.150}"
        for name in found
        if found[name] != should[name]
    ]
