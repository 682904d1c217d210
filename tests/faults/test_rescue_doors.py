"""A stream that breaks in the middle, at every door: raw frames of the door's own format first, another provider's words
after them, and one form of an end. Over real sockets."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import Request, urlopen

import pytest

PROMPT = "Name three uses of a headgate in irrigation."
TURNS = [{"role": "user", "content": PROMPT}]
CLAUDE = "claude-opus-4-7"
GEMINI = {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}
DOORS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    # door: (path, its own provider's model, body, who goes on)
    "chat": ("/v1/chat/completions", "gpt-5.5", {"model": "from_gpt", "messages": TURNS, "stream": True}, CLAUDE),
    "messages": (
        "/v1/messages", "claude-4.7", {"model": "reliable", "messages": TURNS, "stream": True, "max_tokens": 500},
        "gpt-5.5",
    ),
    "responses": ("/v1/responses", "gpt-5.5", {"model": "from_gpt", "input": PROMPT, "stream": True}, CLAUDE),
    "gemini": ("/v1beta/models/from_gemini:streamGenerateContent?alt=sse", "gemini-3.0", GEMINI, "gpt-5.5"),
    "array": ("/v1beta/models/from_gemini:streamGenerateContent", "gemini-3.0", GEMINI, "gpt-5.5"),
}  # fmt: skip
ENDS = {
    "chat": lambda events: [c["finish_reason"] for e in events for c in e["choices"] if c.get("finish_reason")],
    "messages": lambda events: [e for e in events if e["type"] == "message_stop"],
    "responses": lambda events: [e for e in events if e["type"] == "response.completed"],
    "gemini": lambda events: [c for e in events for c in e["candidates"] if c.get("finishReason")],
}


def _text(door: str, events: list[dict[str, Any]]) -> str:
    match door:
        case "chat":
            said = [c["delta"].get("content") or "" for e in events for c in e["choices"]]
        case "messages":
            said = [e["delta"].get("text", "") for e in events if e["type"] == "content_block_delta"]
        case "responses":
            said = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
        case _:
            said = [
                p.get("text", "")
                for e in events
                for c in e["candidates"]
                for p in c.get("content", {}).get("parts", [])
            ]
    return "".join(said)


@pytest.mark.parametrize("mode", ["cut_stream", "stall", "malformed_stream"])
@pytest.mark.parametrize("door", DOORS)
def test_the_next_model_goes_on_and_the_stream_ends_once(stage, door, mode):
    path, model, body, then = DOORS[door]
    stage.break_model(model, mode, after=3)
    request = Request(f"{stage.url}{path}", data=json.dumps(body).encode())
    with urlopen(request, timeout=30) as answer:
        data = answer.read().decode()
    if door == "array":
        events, door = json.loads(data), "gemini"
    else:
        lines = data.replace("\r\n", "\n").split("\n")
        events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert not [event for event in events if event.get("error")], data
    assert len(ENDS[door](events)) == 1
    text = _text(door, events)
    trace = stage.gateway.house.recent(1)[0][0]
    attempts = [(a.model, a.outcome, a.role) for a in trace.attempts]
    assert [outcome for _, outcome, _ in attempts] == ["failed", "ok"]
    assert attempts[1][2] == "rescue"
    assert len(text) > 40
    [rescue] = [one for one in trace.decisions if one.kind == "rescue"]
    assert "continued by instruction" in rescue.because
    if door == "responses":
        [completed] = ENDS[door](events)
        whole = "".join(p["text"] for item in completed["response"]["output"] for p in item.get("content", []))
        assert whole == text, "the final object holds both halves"
        numbers = [event["sequence_number"] for event in events]
        assert numbers == sorted(set(numbers))
    if door == "messages":
        kinds = [event["type"] for event in events]
        assert kinds.count("message_start") == 1
        assert kinds.count("content_block_start") == kinds.count("content_block_stop")
    if door == "gemini":
        assert events[-1]["modelVersion"] == then  # frames that carry a model name the one that speaks
    if door == "chat":
        assert events[-2]["model"] == then or events[-1]["model"] == then
        assert len({event["id"] for event in events}) == 1
