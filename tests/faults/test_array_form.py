"""A stream as one JSON array (Gemini without `alt=sse`) that fails: what the client holds is JSON whatever happened, and
its last element tells the error."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from headgate.server.http import Request
from headgate.simulator import script as s
from support.virtual import Heard, VirtualGateway, streamed, virtually

CONFIG = """
providers: {openai: {}}
models: {first: {provider: openai, upstream: one, timeout: {first_token: 60s, idle: 60s, total: 5m}}}
"""
PATH = "/v1beta/models/first:streamGenerateContent"
BODY = json.dumps({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}).encode()


async def ask(gateway: VirtualGateway, heard: Heard) -> Heard:
    given = {"host": "localhost"}
    await gateway.plane(Request("POST", PATH, "", given, list(given.items()), BODY), heard)
    return heard


def elements(heard: Heard) -> list[dict[str, Any]]:
    assert (heard.status, heard.headers["content-type"], heard.whole) == (200, "application/json", True)
    return json.loads(heard.body)


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(p["text"] for c in chunks for one in c["candidates"] for p in one["content"]["parts"])


def test_heartbeats_stand_between_the_elements():
    async def main() -> None:
        gateway = VirtualGateway(CONFIG)
        gateway.fake.on("one", streamed("Water ", "flows.", after=25.0, every=25.0))
        heard = await ask(gateway, Heard())
        chunks = elements(heard)
        assert text_of(chunks) == "Water flows."
        assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
        assert heard.body.startswith(b"[\n")

    virtually(main)


def test_an_error_before_anything_was_sent_has_its_status():
    async def main() -> None:
        gateway = VirtualGateway(CONFIG)
        gateway.fake.on("one", s.reply_json(400, {"error": {"message": "no", "type": "invalid_request_error"}}))
        heard = await ask(gateway, Heard())
        assert (heard.status, heard.error["status"]) == (400, "INVALID_ARGUMENT")

    virtually(main)


def test_an_error_after_heartbeats_is_the_only_element():
    async def main() -> None:
        gateway = VirtualGateway(CONFIG)
        refused = s.reply_json(400, {"error": {"message": "no", "type": "invalid_request_error"}})
        gateway.fake.on("one", [s.Pause(15.0), *refused])
        [only] = elements(await ask(gateway, Heard()))
        assert only["error"]["status"] == "INVALID_ARGUMENT"

    virtually(main)


def test_an_error_after_content_is_the_last_element():
    async def main() -> None:
        gateway = VirtualGateway(CONFIG)
        gateway.fake.on("one", streamed("Water ", ending=s.Reset()))
        *chunks, last = elements(await ask(gateway, Heard()))
        assert text_of(chunks) == "Water "
        assert last.keys() == {"error"}

    virtually(main)


def test_the_end_of_a_drain_is_the_last_element():
    async def main() -> None:
        gateway = VirtualGateway(CONFIG)
        gateway.fake.on("one", streamed("Water ", "flows.", every=50.0))
        heard = Heard()
        running = asyncio.create_task(ask(gateway, heard))
        while b"Water" not in heard.body:
            await gateway.clock.sleep(0.1)
        await gateway.plane.drain(1.0)
        await running
        *chunks, last = elements(heard)
        assert text_of(chunks) == "Water "
        assert last["error"]["message"].startswith("the gateway was shut down")

    virtually(main)
