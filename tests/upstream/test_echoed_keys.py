"""Some providers repeat the key that they refuse, or a header. Whatever they say, however, it is shown without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from support.canned import Answer, Provider
from support.gateway import ENV, Loop, RunningGateway
from support.polling import until
from support.rawserver import Peer

HELD = "canary-of-a-header"
CONFIG = f"""
providers:
  openai: {{headers: {{x-tenant: {HELD}}}}}
  anthropic: {{headers: {{x-tenant: {HELD}}}}}
  google: {{headers: {{x-tenant: {HELD}}}}}
models:
  openai: {{provider: openai, upstream: m}}
  anthropic: {{provider: anthropic, upstream: m}}
  google: {{provider: google, upstream: m}}
  chain: {{fallback: {{order: [openai, anthropic, google], retries: 0}}}}
"""
ASK = [{"role": "user", "content": "hi"}]
PATHS = {
    "openai": ["/chat/completions", "/responses"],
    "anthropic": ["/messages", "/messages/count_tokens"],
    "google": ["/models/m:generateContent", "/models/m:streamGenerateContent", "/models/m:countTokens"],
}
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "google": "GEMINI_API_KEY"}
DOORS: dict[str, Any] = {
    "/v1/chat/completions": {"messages": ASK},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": ASK, "max_tokens": 9},
    "/v1/messages/count_tokens": {"messages": ASK},
}


def refusal(provider: str) -> dict[str, Any]:
    said = f"the request with key {ENV[KEYS[provider]]} of {HELD} has a bad temperature"
    code = f"bad_{ENV[KEYS[provider]]}"
    return {
        "openai": {"error": {"message": said, "type": "invalid_request_error", "code": code, "param": None}},
        "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": said}},
        "google": {"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}},
    }[provider]


BEGUN = {
    "openai": [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": "So"}, "finish_reason": None}]}],
    "anthropic": [
        {"type": "message_start", "message": {"id": "a", "role": "assistant", "content": [], "model": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "So"}},
    ],
    "google": [{"candidates": [{"content": {"role": "model", "parts": [{"text": "So"}]}, "index": 0}]}],
}


class Breaking(Provider):
    """Of a stream it says the last frame only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def _talk(self, peer: Peer) -> None:
        send = peer.send

        async def halting(*pieces: bytes) -> None:
            frames = pieces[0].split(b"\n\n")
            if b"event-stream" in pieces[0] and len(frames) > 2:
                await send(b"\n\n".join([*frames[:-2], b""]))
                await self.go_on.wait()
                pieces = (frames[-2] + b"\n\n",)
            await send(*pieces)

        peer.send = halting
        await super()._talk(peer)


class Stage:
    def __init__(self) -> None:
        self.loop = Loop()
        self.provider = Breaking()
        self.loop.run(self.provider.server.__aenter__())
        url = f"http://127.0.0.1:{self.provider.server.port}/v1"
        self.gateway = self.loop.call(lambda: RunningGateway(CONFIG, dict.fromkeys(KEYS, url), env=ENV))
        self.events: list[str] = []
        self.gateway.house.on_event.append(lambda kind, facts: self.events.append(f"{kind} {facts}"))
        self.loop.run(self.gateway.start())

    def ask(self, path: str, body: Any = None) -> tuple[int, str]:
        """(status, all that came: headers, body)"""
        connection = HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=20)
        data = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, data, {"x-headgate-details": "true"})
        answer, got = connection.getresponse(), b""
        while piece := answer.read1():
            got += piece
            if b"So" in got:
                self.loop.call(self.provider.go_on.set)
        found = answer.status, f"{answer.getheaders()} {got.decode()}"
        connection.close()
        return found

    def answer(self, paths: list[str], answer: Answer) -> None:
        self.loop.call(lambda: self.provider.answers.update(dict.fromkeys(paths, answer)))

    def sent(self) -> str:
        return self.loop.call(lambda: str(self.provider.seen))

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.provider.server.__aexit__(None, None, None))
        self.loop.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    found = Stage()
    yield found
    found.close()


def looked_at(stage: Stage, texts: list[str]) -> None:
    gateway = stage.gateway
    until(lambda: not stage.loop.call(lambda: gateway.house.inflight))
    kept = stage.loop.call(lambda: [repr(o) for o in gateway.ledger.outcomes.values()])
    for name in ("/metrics", "/health"):
        texts.append(stage.ask(name)[1])
    for text in [*texts, *kept, *stage.events]:
        assert "canary" not in text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 200])
@pytest.mark.parametrize("provider", KEYS)
def test_a_refusal_that_repeats_the_key_is_shown_without(stage: Stage, provider: str, status: int) -> None:
    for name, paths in PATHS.items():
        stage.answer(paths, (status, "application/json", json.dumps(refusal(name)).encode()))
    texts: list[str] = []
    for path, asked in DOORS.items():
        if status == 200 and "count" in path:
            continue  # a provider that calls that a count
        for model in (provider, "chain"):
            found, text = stage.ask(path, {**asked, "model": model})
            assert found >= 400 or "count" in path, text
            texts.append(text)
    assert ENV[KEYS[provider]] in stage.sent(), "it was sent, or this proves nothing"
    if status == 400:
        assert any("has a bad temperature" in text for text in texts), "the words themselves are relayed"
        assert any("key *** of *** has" in text for text in texts)
    looked_at(stage, texts)


@pytest.mark.parametrize("door", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("provider", KEYS)
def test_a_stream_that_breaks_off_with_the_key_is_shown_without(
    stage: Stage, provider: str, begun: bool, door: str
) -> None:
    events = [*(BEGUN[provider] if begun else []), refusal(provider)]
    frames = "".join(
        (f"event: {event['type']}\n" if provider == "anthropic" else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    )
    answer = (200, "text/event-stream", frames.encode())
    stage.answer(PATHS[provider], answer)
    status, text = stage.ask(door, {**DOORS[door], "model": provider, "stream": True})
    assert ("So" in text, status == 200) == (begun, begun), text
    assert "bad temperature" in text
    assert ENV[KEYS[provider]] in stage.sent()
    looked_at(stage, [text])
