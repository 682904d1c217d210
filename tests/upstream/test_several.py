"""Several answers in one stream: none is cut while it speaks, and one that breaks off ends nothing as finished."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from headgate.server.http import Request
from headgate.simulator import script as s
from support.virtual import DONE, SSE_HEAD, USAGE, Heard, VirtualGateway, chunk, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}, google: {base_url: "http://three/v1beta"}}
models:
  gpt: {provider: openai, upstream: one}
  spare: {provider: openai, upstream: two}
  gemini: {provider: google, upstream: three}
  chain: {fallback: [gpt, spare]}
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


async def at_geminis_door(it: VirtualGateway, model: str, leaves: Callable[[Heard], bool] | None = None) -> Heard:
    heard = Heard(leaves=leaves)
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


@pytest.mark.parametrize("door", ["chat", "gemini"])
def test_a_provider_that_gives_one_answer_only_is_taken_at_its_end_mark(door):
    """Also where its connection stays open after that."""

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        one = [of(0, {"content": "one"}), of(0, {}, "stop"), s.Body(USAGE), s.Pause(0.1), s.Body(DONE), s.Hang()]
        it.fake.on("one", [SSE_HEAD, *one])
        began = it.clock.monotonic()
        heard = await (it.ask("gpt", stream=True, n=2) if door == "chat" else at_geminis_door(it, "gpt"))
        assert said(heard) == ["one", ""]
        assert not any("error" in frame for frame in frames(heard))
        assert it.clock.monotonic() - began < 1
        [outcome] = it.ledger.outcomes.values()
        assert (outcome.outcome, outcome.usage.output, outcome.usage.estimated) == ("ok", 5, False)

    virtually(main)


SPOKEN = [of(0, {"content": "one"}), of(1, {"content": "two"})]
LATE = chunk({}, "stop").replace(b'"index": 0', b'"index": 1')
UNUSUAL = {
    "no finish at all, the end in one packet": [*SPOKEN, s.Body(USAGE + DONE)],
    "usage before a finish, in one packet": [*SPOKEN, of(0, {}, "stop"), s.Body(USAGE + LATE + DONE)],
    "a finish told twice": [*SPOKEN, *[of(0, {}, "stop")] * 2, s.Body(LATE), s.Body(USAGE), s.Body(DONE)],
    "words after a finish": [
        SPOKEN[1], of(0, {"content": "on"}), of(0, {}, "stop"), of(0, {"content": "e"}), of(0, {}, "stop"),
        s.Body(LATE), s.Body(USAGE), s.Body(DONE),
    ],
    "one after the other": [
        SPOKEN[0], of(0, {}, "stop"), PAUSE, SPOKEN[1], s.Body(LATE), s.Body(USAGE), s.Body(DONE)
    ],
}  # fmt: skip


@pytest.mark.parametrize("door", ["chat", "gemini"])
@pytest.mark.parametrize("form", UNUSUAL)
def test_odd_ends_are_ends(form, door):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", [SSE_HEAD, *UNUSUAL[form], s.End()])
        heard = await (it.ask("gpt", stream=True, n=2) if door == "chat" else at_geminis_door(it, "gpt"))
        assert said(heard) == ["one", "two"]
        assert not any("error" in frame for frame in frames(heard)), heard.body
        [outcome] = it.ledger.outcomes.values()
        assert (outcome.outcome, outcome.usage.output, outcome.usage.estimated) == ("ok", 5, False)

    virtually(main)


def test_who_leaves_while_the_second_speaks_has_not_been_told_what_it_uses():
    """Gemini counts in every frame: what stands beside the first one's finish is not all."""

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("three", [SSE_HEAD, *GEMINI[:3], candidate(1, "wo"), s.Hang()])
        with contextlib.suppress(asyncio.CancelledError):
            await at_geminis_door(it, "gemini", leaves=lambda heard: b"wo" in heard.body)
        [outcome] = it.ledger.outcomes.values()
        assert (outcome.outcome, outcome.usage.estimated) == ("cancelled", True)
        assert outcome.usage.output >= 2
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("ending", [s.Reset(), s.End()])
def test_no_other_model_puts_its_second_answer_into_the_first(ending):
    """One that broke before its second had begun: what goes on would be one text of two."""

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", [SSE_HEAD, of(0, {"content": "one, and"}), ending])
        it.fake.on("two", [SSE_HEAD, *SPOKEN, of(0, {}, "stop"), s.Body(LATE), s.Body(USAGE), s.Body(DONE), s.End()])
        heard = await it.ask("chain", stream=True, n=2)
        assert said(heard) == ["one, and", ""]
        assert heard.error is not None
        assert not heard.finished
        assert not it.fake.calls_of("two")
        it.ledger.check()

    virtually(main)
