"""Bad inputs whose words are a door's own: half a surrogate pair (9), conversations that are none (36), numbers out of
range (38), at every door that has a place for them. Each is 400 in the door's own form before anybody is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.test_bad_inputs import CHAT, GOOD, post

RESPONSES, MESSAGES, COUNT = "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"
GEMINI = "/v1beta/models/claude-4.7:generateContent"
GEMINI_STREAM = "/v1beta/models/gemini-3.0:streamGenerateContent?alt=sse"
GEMINI_COUNT = "/v1beta/models/gemini-3.0:countTokens"
EMBEDDINGS = "/v1/embeddings"
HI = [{"role": "user", "content": "hi"}]
SAID = {"model": "claude-4.7", "max_tokens": 5, "messages": HI}
ASKED = {"model": "claude-4.7", "input": "hi"}
TEXTS = {"model": "openai/text-embedding-3-small", "input": "hi"}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
PROMPT = {"model": "gpt-5.5", "prompt": "hi"}

# 9: where the half pair stands, by door
HALF = "\N{REPLACEMENT CHARACTER}"
"""Stands for half a pair, which no str that is encoded can hold."""
HALVES: dict[str, list[dict[str, Any]]] = {
    CHAT: [
        {**GOOD, "model": HALF},
        {**GOOD, "messages": [{"role": "user", "content": HALF}]},
        {**GOOD, "messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]},
        {**GOOD, "stop": [HALF], "stream": True},
        {**GOOD, HALF: 1},
    ],
    RESPONSES: [
        {**ASKED, "model": HALF},
        {**ASKED, "input": HALF},
        {**ASKED, "input": [{"role": "user", "content": HALF}], "stream": True},
        {**ASKED, "instructions": HALF},
    ],
    MESSAGES: [
        {**SAID, "model": HALF},
        {**SAID, "messages": [{"role": "user", "content": HALF}]},
        {**SAID, "system": HALF, "stream": True},
        {**SAID, "stop_sequences": [HALF]},
    ],
    COUNT: [{**SAID, "messages": [{"role": "user", "content": HALF}]}, {**SAID, "model": HALF}],
    GEMINI: [
        {"contents": [{"role": "user", "parts": [{"text": HALF}]}]},
        {"contents": HALF},
        {**CONTENTS, "systemInstruction": {"parts": [{"text": HALF}]}},
    ],
    GEMINI_STREAM: [{"contents": [{"role": "user", "parts": [{"text": HALF}]}]}],
    GEMINI_COUNT: [{"contents": [{"role": "user", "parts": [{"text": HALF}]}]}],
    EMBEDDINGS: [{**TEXTS, "model": HALF}, {**TEXTS, "input": HALF}, {**TEXTS, "input": ["hi", HALF]}],
    "/v1/completions": [{**PROMPT, "prompt": HALF}, {**PROMPT, "model": HALF}],
    "/v1/moderations": [{"model": "gpt-5.5", "input": HALF}],
    "/v1/images/generations": [{**PROMPT, "prompt": HALF}],
    "/v1/audio/speech": [{"model": "gpt-5.5", "input": HALF, "voice": "a"}],
    "/v1/rerank": [{"model": "gpt-5.5", "query": HALF, "documents": ["a"]}],
    "/v1/explain": [{**GOOD, "messages": [{"role": "user", "content": HALF}]}],
    "/v1/feedback": [{"trace": "tr_x", "score": 1, "comment": HALF}],
}


def turn(role: Any = "user", content: Any = "x") -> list[dict[str, Any]]:
    return [{"role": role, "content": content}]


def contents(role: Any, parts: Any) -> dict[str, Any]:
    return {"contents": [{"role": role, "parts": parts}]}


# 36
NO_MESSAGES: list[Any] = [
    *([], {}, {"role": "user", "content": "x"}, 7, None, "x", [7]),
    *(turn("root"), turn(7), turn(content={"text": "x"})),
]
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    CHAT: [{**GOOD, "messages": bad} for bad in NO_MESSAGES],
    RESPONSES: [{**ASKED, "input": bad} for bad in NO_MESSAGES if bad != "x"] + [{"model": "claude-4.7"}],
    MESSAGES: [{**SAID, "messages": bad} for bad in NO_MESSAGES],
    COUNT: [{**SAID, "messages": bad} for bad in NO_MESSAGES],
    GEMINI: [{"contents": bad} for bad in ([], {}, 7, None, [7], [{}], [{"role": "user"}])]
    + [contents("root", [{"text": "x"}]), contents(7, [{"text": "x"}])]
    + [contents("user", bad) for bad in ([], [7], "x", 7, [{"text": {}}])],
    GEMINI_STREAM: [{"contents": bad} for bad in ([], {}, 7)],
    GEMINI_COUNT: [{"contents": bad} for bad in ([], {}, 7)],
    EMBEDDINGS: [{**TEXTS, "input": bad} for bad in ([], {}, 7, None, [None], ["a", 1])],
    "/v1/explain": [{**GOOD, "messages": bad} for bad in NO_MESSAGES],
}

# 38: no number is clamped in silence, so none that is out of range is reserved for
LENGTHS = (-1, 10**12, "5", 1.5)
NUMBERS: dict[str, list[dict[str, Any]]] = {
    CHAT: [{**GOOD, field: bad} for field in ("max_tokens", "max_completion_tokens") for bad in LENGTHS]
    + [{**GOOD, "n": bad} for bad in (0, -1, 10_000, "2")]
    + [{**GOOD, "logprobs": True, "top_logprobs": bad} for bad in (-1, 99)],
    RESPONSES: [{**ASKED, "max_output_tokens": bad} for bad in (0, *LENGTHS)]
    + [{**ASKED, "top_logprobs": bad} for bad in (-1, 99)],
    MESSAGES: [{**SAID, "max_tokens": bad} for bad in LENGTHS],
    GEMINI: [{**CONTENTS, "generationConfig": {"maxOutputTokens": bad}} for bad in (0, -1, 10**12)]
    + [{**CONTENTS, "generationConfig": {"candidateCount": bad}} for bad in (-1, 10_000)]
    + [{**CONTENTS, "generationConfig": {"responseLogprobs": True, "logprobs": bad}} for bad in (-1, 99)],
    GEMINI_STREAM: [{**CONTENTS, "generationConfig": {"maxOutputTokens": -1}}],
    EMBEDDINGS: [{**TEXTS, "dimensions": bad} for bad in (0, -1, 10**12, "many")],
    "/v1/completions": [{**PROMPT, "max_tokens": bad} for bad in LENGTHS]
    + [{**PROMPT, "n": bad} for bad in (0, 10_000)],
    "/v1/images/generations": [{**PROMPT, "n": bad} for bad in (0, 10_000)],
    "/v1/explain": [{**GOOD, "n": 10_000}, {**GOOD, "max_tokens": -1}],
}


def cases(table: dict[str, list[dict[str, Any]]]) -> list[Any]:
    return [pytest.param(path, body, id=f"{path} {json.dumps(body)[-60:]}") for path in table for body in table[path]]


def refused(stage: Any, path: str, body: bytes) -> str:
    """The message of a 400 in the door's own form."""
    before = stage.calls()
    status, headers, answer = post(stage, path, body)
    assert status == 400, answer
    assert headers["x-request-id"].startswith("req_")
    assert stage.calls() == before
    if path.startswith(MESSAGES):
        assert (answer["type"], answer["error"]["type"]) == ("error", "invalid_request_error")
    elif path.startswith("/v1beta"):
        assert (answer["error"]["code"], answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    else:
        assert answer["error"]["type"] == "invalid_request_error"
    return answer["error"]["message"]


@pytest.mark.parametrize("half", ["\\ud800", "\\udfff", "\\udbffx"])
@pytest.mark.parametrize(("path", "body"), cases(HALVES))
def test_9_half_a_surrogate_pair_is_400_wherever_it_stands(stage, path, body, half):
    text = json.dumps(body).replace(json.dumps(HALF)[1:-1], half)
    assert "surrogate" in refused(stage, path, text.encode())


@pytest.mark.parametrize(("path", "body"), cases(CONVERSATIONS))
def test_36_a_conversation_that_is_none_is_400(stage, path, body):
    assert refused(stage, path, json.dumps(body).encode())


@pytest.mark.parametrize(("path", "body"), cases(NUMBERS))
def test_38_a_number_out_of_range_is_400(stage, path, body):
    assert refused(stage, path, json.dumps(body).encode())


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES, GEMINI])
def test_a_whole_surrogate_pair_is_a_character(stage, path):
    body = {CHAT: GOOD, RESPONSES: ASKED, MESSAGES: SAID, GEMINI: CONTENTS}[path]
    text = json.dumps(body).replace('"hi"', '"\\ud83d\\ude00"')
    assert post(stage, path, text.encode())[0] == 200
