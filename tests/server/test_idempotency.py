"""Idempotency-Key through every door: run once, answered the same; counted at the simulated providers and in the ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from headgate.core.clock import SYSTEM
from headgate.core.ports import Governor
from headgate.core.principal import Principal
from headgate.governance.open import OpenGovernor
from headgate.server.idempotency import array_failed
from headgate.simulator.app import Simulator
from headgate.simulator.breaks import Break
from support.gateway import ENV, EXAMPLE, Loop, RunningGateway
from support.polling import until
from support.sim import INSTANT

ASK = [{"role": "user", "content": "What is 12*12?"}]
CHAT = {"model": "claude-4.7", "messages": ASK, "max_tokens": 100}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "What is 12*12?"}]}]}
RESPONSES = {"model": "claude-4.7", "input": "What is 12*12?", "max_output_tokens": 100}
Answer = tuple[int, dict[str, str], bytes]


class Stage:
    def __init__(self, governor: Governor | None = None) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0))
        text = EXAMPLE.read_text(encoding="utf-8")
        self.gateway = self.loop.call(lambda: RunningGateway(text, urls, env=ENV, governor=governor))
        self.loop.run(self.gateway.start())
        self.port = int(self.gateway.url.rpartition(":")[2])

    def ask(self, path: str, body: Any, key: str, **headers: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, data, {"content-type": "application/json", "idempotency-key": key, **headers})
        answer = connection.getresponse()
        found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def counts(self) -> tuple[int, int, int]:
        """Calls that the providers have seen, attempts and requests in the ledger."""
        ledger = self.gateway.ledger
        return self.loop.call(lambda: (len(self.sim.log), len(ledger.intents), len(ledger.requests)))

    def forgive(self) -> None:
        """What was learned of deployments is forgotten."""
        for model in self.gateway.house.snapshot.models():
            for deployment in model.deployments:
                deployment.vitals.health.__init__(SYSTEM)

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    found = Stage()
    yield found
    found.close()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", {**CHAT, "model": "careful"}),
        ("/v1/messages", CHAT),
        ("/v1/responses", RESPONSES),
        ("/v1beta/models/claude-4.7:generateContent", GEMINI),
        ("/v1/embeddings", {"model": "openai/text-embedding-3-small", "input": "x"}),
    ],
)
def test_an_answer_is_given_again_and_nothing_is_asked_or_booked(stage: Stage, path: str, body: Any) -> None:
    key = f"whole {path} {body.get('model')}"
    first = stage.ask(path, body, key)
    assert first[0] == 200, first[2]
    before = stage.counts()
    second = stage.ask(path, body, key)
    assert stage.counts() == before, "a replay asks nobody and adds no rows"
    assert (second[0], second[2]) == (first[0], first[2])
    assert second[1]["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first[1]
    assert second[1]["x-headgate-trace"] == first[1]["x-headgate-trace"]
    assert second[1]["x-request-id"] != first[1]["x-request-id"]


def _text(door: str, data: bytes) -> str:
    """What a stream says, by its door's own format."""
    out, events = "", [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: {")]
    for event in events:
        match door:
            case "chat":
                out += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
            case "messages":
                out += event.get("delta", {}).get("text", "")
            case "responses":
                out += event["delta"] if event["type"] == "response.output_text.delta" else ""
            case _:
                out += "".join(
                    part.get("text", "") for part in event["candidates"][0].get("content", {}).get("parts", [])
                )
    return out


@pytest.mark.parametrize(
    ("door", "path", "body", "end"),
    [
        (
            "chat",
            "/v1/chat/completions",
            {**CHAT, "stream": True, "stream_options": {"include_usage": True}},
            b"[DONE]",
        ),
        ("messages", "/v1/messages", {**CHAT, "stream": True}, b"message_stop"),
        ("responses", "/v1/responses", {**RESPONSES, "stream": True}, b"response.completed"),
        ("gemini", "/v1beta/models/claude-4.7:streamGenerateContent?alt=sse", GEMINI, b"finishReason"),
    ],
)
def test_a_stream_is_given_again_from_its_final_object(
    stage: Stage, door: str, path: str, body: Any, end: bytes
) -> None:
    first = stage.ask(path, body, f"stream {door}")
    before = stage.counts()
    second = stage.ask(path, body, f"stream {door}")
    assert stage.counts() == before
    assert first[0] == second[0] == 200
    assert second[1]["content-type"].startswith("text/event-stream")
    assert second[1]["idempotent-replayed"] == "true"
    assert end in second[2]
    assert _text(door, second[2]) == _text(door, first[2]) != ""
    if door == "chat":
        assert b'"prompt_tokens"' in second[2], "the client had asked for usage"


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_of_responses_at_the_chat_door_is_given_again_as_chat(stage: Stage, stream: bool) -> None:
    body = {"model": "claude-4.7", "input": "What is 12*12?", "stream": stream}
    first = stage.ask("/v1/chat/completions", body, f"bridged {stream}")
    before = stage.counts()
    second = stage.ask("/v1/chat/completions", body, f"bridged {stream}")
    assert stage.counts() == before
    assert second[1]["idempotent-replayed"] == "true"
    if stream:
        assert _text("chat", second[2]) == _text("chat", first[2]) != ""
        assert second[2].endswith(b"data: [DONE]\n\n")
    else:
        assert second[2] == first[2]


def test_a_stream_that_is_one_array_is_given_again_and_is_kept_by_its_end_and_not_by_its_words(stage: Stage) -> None:
    path = "/v1beta/models/claude-4.7:streamGenerateContent"
    first = stage.ask(path, GEMINI, "array")
    before = stage.counts()
    second = stage.ask(path, GEMINI, "array")
    assert stage.counts() == before
    assert second[2] == first[2]
    assert json.loads(first[2])[-1]["candidates"][0]["finishReason"]
    call = {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {"error": "none"}}}]}}]}
    assert not array_failed(json.dumps([call, call]).encode())
    failed = {"error": {"code": 503, "message": "down"}}
    assert array_failed(json.dumps([call, failed]).encode())
    assert array_failed(b"[]")
    assert array_failed(json.dumps([call]).encode()[:-1])


def test_a_name_is_the_name_of_one_key_alone() -> None:
    class ByKey(OpenGovernor):
        def authenticate(self, credentials: Any) -> Principal:
            return Principal(key_id=credentials[0])

    stage = Stage(ByKey())
    try:
        for who in ("alice", "bob"):
            status, headers, _ = stage.ask("/v1/chat/completions", CHAT, "mine", **{"x-api-key": who})
            assert (status, headers.get("idempotent-replayed")) == (200, None)
        assert stage.counts()[0] == 2
        assert stage.ask("/v1/chat/completions", CHAT, "mine", **{"x-api-key": "bob"})[1]["idempotent-replayed"]
        assert stage.counts()[0] == 2
    finally:
        stage.close()


def test_what_a_client_left_is_not_kept_and_its_name_is_free(stage: Stage) -> None:
    stage.loop.run(stage.sim.set_break("gpt-5.5", Break(mode="hang")))
    connection = HTTPConnection("127.0.0.1", stage.port, timeout=30)
    body = {**CHAT, "model": "gpt-5.5"}
    before = stage.counts()[0]
    headers = {"content-type": "application/json", "idempotency-key": "left"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    until(lambda: stage.counts()[0] > before)
    connection.close()
    until(lambda: stage.loop.call(lambda: stage.gateway.house.inflight) == 0)
    stage.loop.run(stage.sim.set_break("gpt-5.5", None))
    stage.loop.call(stage.forgive)
    status, headers, data = stage.ask("/v1/chat/completions", body, "left")
    assert (status, headers.get("idempotent-replayed")) == (200, None), data


def test_another_body_is_422_and_a_long_key_400(stage: Stage) -> None:
    stage.ask("/v1/chat/completions", CHAT, "other")
    before = stage.counts()
    for path, body in (
        ("/v1/chat/completions", {**CHAT, "max_tokens": 99}),
        ("/v1/messages", CHAT),
    ):
        status, headers, data = stage.ask(path, body, "other")
        assert (status, headers["x-should-retry"]) == (422, "false"), data
    assert stage.ask("/v1/chat/completions", CHAT, "k" * 256)[0] == 400
    assert stage.counts() == before
    assert stage.ask("/v1/chat/completions", CHAT, "k" * 255)[0] == 200


def test_nothing_is_kept_where_validation_failed(stage: Stage) -> None:
    for bad, status in (
        (b"{", 400),
        ({**CHAT, "temperature": "hot"}, 400),
        ({**CHAT, "model": "nobody"}, 404),
    ):
        assert stage.ask("/v1/chat/completions", bad, "checked")[0] == status
    assert stage.ask("/v1/chat/completions", CHAT, "checked")[0] == 200, "the key is still free"


@pytest.mark.parametrize(
    ("mode", "kept"), [("500", True), ("content_policy", True), ("cut_stream", False), ("429", False)]
)
def test_failures_of_providers_are_kept_and_refusals_for_now_are_not(stage: Stage, mode: str, kept: bool) -> None:
    body = {**CHAT, "model": "gpt-5.5", "stream": mode == "cut_stream"}
    stage.loop.run(stage.sim.set_break("gpt-5.5", Break(mode=mode)))
    first = stage.ask("/v1/chat/completions", body, f"failed {mode}")
    stage.loop.run(stage.sim.set_break("gpt-5.5", None))
    stage.loop.call(stage.forgive)
    assert b'"error"' in first[2]
    before = stage.counts()
    second = stage.ask("/v1/chat/completions", body, f"failed {mode}")
    if kept:
        assert first[0] >= 400
        assert (second[0], second[2], stage.counts()) == (first[0], first[2], before)
        assert second[1]["idempotent-replayed"] == "true"
    else:
        assert second[0] == 200, second[2]
        assert "idempotent-replayed" not in second[1]


def test_of_many_at_once_one_is_run_and_the_others_are_told(stage: Stage) -> None:
    async def all_at_once() -> list[Answer]:
        return await asyncio.gather(
            *(asyncio.to_thread(stage.ask, "/v1/chat/completions", CHAT, "at once") for _ in range(12))
        )

    before = stage.counts()
    answers = asyncio.run(all_at_once())
    assert [count - was for count, was in zip(stage.counts(), before, strict=True)] == [1, 1, 1]
    assert {status for status, _, _ in answers} <= {200, 409}
    bodies = {data for status, _, data in answers if status == 200}
    assert len(bodies) == 1
    for status, headers, data in answers:
        if status == 409:
            assert headers["retry-after"] == "1"
            assert b"still running" in data
