"""Until an ensemble has decided, the wire is never silent for long: exactly, on virtual time; and over sockets, with the
intervals scaled down, heard by the official SDKs."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Iterator

import anthropic
import openai
import pytest
from google import genai

from headgate.server import relay
from headgate.simulator.app import Simulator
from support.gateway import ENV, Loop, RunningGateway
from support.sim import INSTANT
from support.virtual import VirtualGateway, answer, either, streamed, virtually

PROMISED = 15.0
CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  a: {provider: openai, upstream: a, timeout: {first_token: 300s, idle: 300s, total: 600s}}
  b: {provider: openai, upstream: b, timeout: {first_token: 300s, idle: 300s, total: 600s}}
  j: {provider: openai, upstream: j, timeout: {first_token: 300s, idle: 300s, total: 600s}}
  fused: {ensemble: {mode: fuse, members: {a: 0.6, b: 0.4}, judge: {model: j, timeout: 120s}, grace: 300s}}
  scored: {ensemble: {members: {a: 0.6, b: 0.4}, judge: {model: j, timeout: 120s}, grace: 300s}}
"""


@pytest.mark.parametrize("model", ["scored", "fused"])
@pytest.mark.parametrize("at", [0.0, 9.95])
def test_the_longest_silence_is_fifteen_seconds(model, at):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        fusing = either(answer("Fused."), streamed("Fu", "sed", ".", after=47.0, every=23.0))
        it.fake.on("a", answer("One.", after=33.0 + at), fusing)
        it.fake.on("b", answer("Two.", after=71.0))
        it.fake.on("j", answer("7", after=38.0))
        heard_at = [it.clock.monotonic()]
        heard = await it.ask(
            model, stream=True, leaves=lambda _: bool(heard_at.append(it.clock.monotonic())),
            headers={"x-headgate-timeout": "590s"},
        )  # fmt: skip
        heard_at.append(it.clock.monotonic())
        assert heard.finished
        assert heard.body.endswith(b"data: [DONE]\n\n")
        assert heard.text == ("Fused." if model == "fused" else "One.")
        assert heard_at[-1] - heard_at[0] >= 100
        assert max(later - earlier for earlier, later in itertools.pairwise(heard_at)) <= PROMISED
        comments = [line for line in heard.body.decode().splitlines() if line.startswith(": ")]
        assert ": asking 2 models: a, b" in comments
        assert ": judging" in comments

    virtually(main)


SLOW = """
providers: {anthropic: {}, openai: {}, google: {}, deepseek: {}, meta: {kind: openai-compatible, api_key: x, base_url: "http://x"}}
models:
  claude-4.7: {provider: anthropic, upstream: claude-opus-4-7}
  gpt-5.5: {provider: openai, upstream: gpt-5.5}
  llama-4: {provider: meta, upstream: llama-4-maverick}
  careful: {ensemble: {members: {claude-4.7: 0.6, gpt-5.5: 0.4}, judge: llama-4, grace: 30s}}
"""
BEAT, WAIT = 0.25, 1.5
ASK = [{"role": "user", "content": "What is 17 * 23? Answer with the number."}]


@pytest.fixture(scope="module")
def slow() -> Iterator[str]:
    """A gateway whose members take a while and whose heart beats forty times as fast as in earnest."""
    patch = pytest.MonkeyPatch()
    patch.setattr(relay, "BEAT", BEAT)
    patch.setattr(relay, "OPEN_AFTER", BEAT)
    loop = Loop()
    sim = Simulator(INSTANT)
    urls = loop.run(sim.start(0, port_each=True))
    gateway = loop.call(lambda: RunningGateway(SLOW, urls, env=ENV))
    loop.run(gateway.start())
    for name in ("claude-4.7", "gpt-5.5"):
        loop.run(sim.break_model(name, "slow_first_token", delay=WAIT))
    yield gateway.url
    loop.run(gateway.stop())
    loop.run(sim.aclose())
    loop.close()
    patch.undo()


def test_a_socket_hears_the_heart_while_the_members_think(slow):
    body = json.dumps({"model": "careful", "stream": True, "messages": ASK}).encode()
    host, port = slow.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        wire.sendall(head.encode() + b"connection: close\r\ncontent-type: application/json\r\n\r\n" + body)
        times, raw = [time.monotonic()], b""
        while data := wire.recv(65536):
            raw += data
            times.append(time.monotonic())
    assert b"391" in raw
    assert raw.index(b": asking 2 models: claude-4.7, gpt-5.5") < raw.index(b"391")
    assert raw.count(b": ping\n\n", 0, raw.index(b"391")) >= 3
    assert max(b - a for a, b in itertools.pairwise(times)) < WAIT  # without a heart it is WAIT and more


def test_every_official_sdk_hears_it_out(slow):
    client = openai.OpenAI(base_url=f"{slow}/v1", api_key="any", max_retries=0)
    chunks = client.chat.completions.create(model="careful", messages=ASK, stream=True)  # type: ignore[arg-type]
    assert "391" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    with client.responses.stream(model="careful", input=ASK[0]["content"]) as events:
        assert "391" in events.until_done().get_final_response().output_text
    claude = anthropic.Anthropic(base_url=slow, api_key="any", max_retries=0)
    with claude.messages.stream(model="careful", max_tokens=500, messages=ASK) as events:  # type: ignore[arg-type]
        assert "391" in events.get_final_message().content[-1].text  # type: ignore[union-attr]
    google = genai.Client(api_key="any", http_options={"base_url": slow})
    found = list(google.models.generate_content_stream(model="careful", contents=ASK[0]["content"]))
    assert "391" in "".join(chunk.text or "" for chunk in found)
