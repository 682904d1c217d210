"""Several answers in one stream: none is cut while it speaks, and one that breaks off ends nothing as finished."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.server.http import Request
from headgate.simulator import script as s
from support.virtual import DONE, SSE_HEAD, USAGE, Heard, VirtualGateway, chunk, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}, google: {base_url: "http://three/v1beta"}}
models: {gpt: {provider: openai, upstream: one}, gemini: {provider: google, upstream: three}}
"""
PAUSE = s.Pause(5.0)
"""Longer than a provider is given for its end mark once all has been said."""


def of(choice: int, delta: dict[str, Any], finish: str | None = None) -> s.Step:
    return s.Body(chunk(delta, finish).replace(b'"index": 0', b'"index": %d' % choice))


def candidate(index: int, text: str, finish: str | None = None) -> s.Step:
    said: dict[str, Any] = {"index": index, "content": {"role": "model", "parts": [{"text": text}]}}
    frame = {
        "candidates": [said | ({"finishReason": finish} if finish else {})],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6},
    }
    return s.Body(b"data: " + json.dumps(frame).encode() + b"\r\n\r\n")


CHAT = [of(0, {"content": "one"}), of(1, {"content": "t"}), of(0, {}, "stop"), PAUSE]
CHAT_ENDS = [of(1, {"content": "wo"}), of(1, {}, "stop"), s.Body(USAGE), s.Body(DONE), s.End()]
GEMINI = [candidate(0, "one"), candidate(1, "t"), candidate(0, "", "STOP"), PAUSE]
GEMINI_ENDS = [candidate(1, "wo"), candidate(1, "", "STOP"), s.End()]


def gateway(whole: bool) -> VirtualGateway:
    it = VirtualGateway(CONFIG)
    it.fake.on("one", [SSE_HEAD, *CHAT, *(CHAT_ENDS if whole else [s.End()])])
    it.fake.on("three", [SSE_HEAD, *GEMINI, *(GEMINI_ENDS if whole else [s.End()])])
    return it


async def at_geminis_door(it: VirtualGateway, model: str) -> Heard:
    heard = Heard()
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "generationConfig": {"candidateCount": 2}}
    data = json.dumps(body).encode()
    given = {"host": "localhost", "content-type": "application/json"}
    path = f"/v1beta/models/{model}:streamGenerateContent"
    await it.plane(Request("POST", path, "alt=sse", given, list(given.items()), data), heard)
    return heard


def frames(heard: Heard) -> list[dict[str, Any]]:
    text = heard.body.decode().replace("\r\n", "\n")
    return [json.loads(part[6:]) for part in text.split("\n\n") if part.startswith("data: {")]


def said(heard: Heard) -> list[str]:
    """What each of the two answers said, in either format."""
    out = ["", ""]
    for frame in frames(heard):
        for choice in frame.get("choices", []):
            out[choice["index"]] += choice["delta"].get("content") or ""
        for one in frame.get("candidates", []):
            parts = one.get("content", {}).get("parts", [])
            out[one.get("index", 0)] += "".join(part.get("text", "") for part in parts)
    return out


@pytest.mark.parametrize("model", ["gpt", "gemini"])
@pytest.mark.parametrize("door", ["chat", "gemini"])
def test_the_second_is_heard_to_its_end(model, door):
    async def main() -> None:
        it = gateway(whole=True)
        heard = await (it.ask(model, stream=True, n=2) if door == "chat" else at_geminis_door(it, model))
        assert said(heard) == ["one", "two"]
        assert not any("error" in frame for frame in frames(heard))
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("model", ["gpt", "gemini"])
@pytest.mark.parametrize("door", ["chat", "gemini"])
def test_a_stream_that_ends_while_one_speaks_is_no_finished_one(model, door):
    async def main() -> None:
        it = gateway(whole=False)
        heard = await (it.ask(model, stream=True, n=2) if door == "chat" else at_geminis_door(it, model))
        assert any("error" in frame for frame in frames(heard)), heard.body
        assert DONE not in heard.body
        it.ledger.check()

    virtually(main)


def test_a_provider_that_gives_one_answer_only_is_taken_at_its_end_mark():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on(
            "one", [SSE_HEAD, of(0, {"content": "one"}), of(0, {}, "stop"), s.Body(USAGE), s.Body(DONE), s.End()]
        )
        heard = await it.ask("gpt", stream=True, n=2)
        assert (said(heard), heard.finished) == (["one", ""], True)

    virtually(main)
