"""Recorded answers of several choices (`n: 2`): at their own door as they were; at Gemini's, which knows candidates, all
of them; at the doors whose formats have one answer only, the first, with the others named as left out. Asked of a provider
whose format knows no choices, such a request is refused before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conformance.clients import Doors
from conformance.extract import Said, frames
from conformance.test_own_door import own_door, post, wanted
from support.corpus import rows

SEVERAL = [row for row in rows() if "n_choices" in row["features"]]
ENDS = {"stop": "STOP", "length": "MAX_TOKENS"}


def test_the_recordings_are_these():
    assert len(SEVERAL) == 7
    assert {row["api"] for row in SEVERAL} == {"openai.chat"}
    assert sorted(row["response"]["kind"] for row in SEVERAL) == ["json"] * 5 + ["sse"] * 2


def choices(row: dict[str, Any]) -> tuple[list[str], list[str], tuple[int, int]]:
    """(texts, endings, tokens in and out) of a recording, by choice."""
    stream = row["response"]["kind"] == "sse"
    chunks = frames(row["response"]["body"]) if stream else [json.loads(row["response"]["body"])]
    texts, ends, usage = ["", ""], ["", ""], {}
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            message = choice["delta" if stream else "message"]
            texts[choice["index"]] += message.get("content") or ""
            ends[choice["index"]] = choice["finish_reason"] or ends[choice["index"]]
    assert all(texts)
    assert all(ends)
    return texts, ends, (usage["prompt_tokens"], usage["completion_tokens"])


@pytest.fixture
def recorded(stage, row):
    yield stage.sim.replay.register(row, packets="random")
    stage.sim.replay.forget(row["id"])


every_recording = pytest.mark.parametrize("row", SEVERAL, ids=lambda row: row["id"])


@every_recording
def test_their_own_door_gives_the_recorded_bytes(stage, row, recorded):
    assert post(stage.url, *own_door("openai_chat", row, f"openai/{recorded.model}")) == (
        200,
        wanted("openai_chat", row),
    )


@every_recording
def test_geminis_door_gives_them_as_candidates(stage, row, recorded):
    texts, ends, tokens = choices(row)
    doors, model = Doors(stage.url), f"openai/{recorded.model}"
    asked: Any = {"model": model, "contents": "hello", "config": {"candidate_count": 2}}
    client = doors._google.models
    stream = row["response"]["kind"] == "sse"
    chunks = list(client.generate_content_stream(**asked)) if stream else [client.generate_content(**asked)]
    found, ended, usage = ["", ""], ["", ""], None
    for chunk in chunks:
        usage = chunk.usage_metadata or usage
        for candidate in chunk.candidates or []:
            index = candidate.index or 0
            parts = (candidate.content.parts if candidate.content else None) or []
            found[index] += "".join(part.text or "" for part in parts)
            ended[index] = candidate.finish_reason.name if candidate.finish_reason else ended[index]
    assert found == texts
    assert ended == [ENDS[end] for end in ends]
    assert usage is not None
    assert (usage.prompt_token_count, usage.candidates_token_count) == tokens
    sent = json.loads(stage.sim.replay.recordings[row["id"]].received[-1].body)
    assert sent["n"] == 2


@pytest.mark.parametrize("door", ["openai_responses", "anthropic_messages"])
@every_recording
def test_where_a_format_has_one_answer_the_others_are_named_as_left_out(stage, row, recorded, door):
    """All tokens are paid for, and told."""
    texts, ends, tokens = choices(row)
    doors = Doors(stage.url)
    got = doors.ask(door, f"only-chat/{recorded.model}", row["response"]["kind"] == "sse")
    assert got == Said(texts[0], (), ends[0], tokens, extras=got.extras)
    assert doors.lost() == ["choices"]


@pytest.mark.parametrize("provider", ["anthropic", "only-responses"])
@every_recording
def test_a_provider_whose_format_has_one_answer_is_not_asked_for_several(stage, row, recorded, provider):
    status, body = post(stage.url, *own_door("openai_chat", row, f"{provider}/{recorded.model}"))
    error = json.loads(body)["error"]
    assert (status, error["param"]) == (400, "n"), error
    assert not stage.sim.replay.recordings[row["id"]].received
