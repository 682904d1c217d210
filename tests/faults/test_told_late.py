"""A stream that was opened by heartbeats and then found nobody: one clean error in each door's format, with the attempts.
On virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.server.http import Request
from headgate.simulator import script as s
from support.virtual import Heard, VirtualGateway, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  first: {provider: openai, upstream: one}
  second: {provider: openai, upstream: two}
  pair: {fallback: [first, second]}
"""
ASK = [{"role": "user", "content": "hi"}]
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
STREAM = "/v1beta/models/pair:streamGenerateContent"
DOORS = {
    "chat": ("/v1/chat/completions", "", {"model": "pair", "messages": ASK, "stream": True}),
    "messages": ("/v1/messages", "", {"model": "pair", "messages": ASK, "stream": True, "max_tokens": 9}),
    "responses": ("/v1/responses", "", {"model": "pair", "input": "hi", "stream": True}),
    "gemini": (STREAM, "alt=sse", GEMINI),
    "array": (STREAM, "", GEMINI),
}


def _events(door: str, body: bytes) -> list[dict[str, Any]]:
    if door == "array":
        return json.loads(body)
    frames = body.decode().replace("\r\n", "\n").split("\n")
    return [json.loads(line[6:]) for line in frames if line.startswith("data: {")]


@pytest.mark.parametrize("door", DOORS)
def test_the_error_in_the_stream_lists_what_was_tried(door):
    path, query, body = DOORS[door]

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", [s.Hang()])
        it.fake.on("two", s.reply_json(500, {"error": {"message": "no"}}))
        given = {"host": "localhost"}
        heard = Heard()
        await it.plane(Request("POST", path, query, given, list(given.items()), json.dumps(body).encode()), heard)
        assert (heard.status, heard.whole) == (200, True)  # opened after 10 s, since the first stayed silent for 60
        told = [event for event in _events(door, heard.body) if "error" in event]
        assert len(told) == 1, heard.body
        assert "pair" in told[0]["error"]["message"]
        attempts = [(one["model"], one["error"]) for one in told[0]["headgate"]["attempts"]]
        assert attempts == [("first", "timeout"), *[("second", "unavailable")] * 3]
        assert b"[DONE]" not in heard.body
        assert b"message_stop" not in heard.body
        it.ledger.check()

    virtually(main)
