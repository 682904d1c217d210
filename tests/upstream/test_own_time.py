"""What a request's own time, and its own place in a queue, say of a provider: little. On virtual time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headgate.server.http import Request
from headgate.simulator import script as s
from support.virtual import DONE, SSE_HEAD, USAGE, Heard, VirtualGateway, answer, chunk, either, streamed, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  first: {provider: openai, upstream: one, timeout: {first_token: 5s}}
  small: {provider: openai, upstream: two, concurrency: 1}
  both: {deployments: [{provider: openai, upstream: three}, {provider: openai, upstream: four}]}
"""
SECOND = {"x-headgate-timeout": "1s"}
STREAMS = pytest.mark.parametrize("stream", [False, True])


@STREAMS
def test_clients_that_give_their_requests_little_time_open_nobodys_breaker(stream):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", either(answer(after=3), streamed(after=3)))
        for _ in range(30):
            heard = await it.ask("first", stream=stream, headers=SECOND)
            assert (heard.status, heard.took) == (504, 1)
        assert it.vitals("first").health.view().failures == 0
        assert (await it.ask("first", stream=stream)).text == "Water is let in."
        it.ledger.check()

    virtually(main)


@STREAMS
def test_who_says_nothing_to_anybody_for_a_minute_is_down_however_short_each_wait_was(stream):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", [s.Pause(1000)])
        for _ in range(70):
            await it.ask("first", stream=stream, headers=SECOND)
        assert not it.vitals("first").health.well
        it.ledger.check()

    virtually(main)


@STREAMS
def test_nor_do_those_whose_prompts_make_a_model_call_tools_that_there_are_not(stream):
    failed = {
        "error": {"message": "Failed to call a function.", "type": "invalid_request_error", "code": "tool_use_failed"}
    }

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", s.reply_json(400, failed))
        for _ in range(30):
            assert (await it.ask("first", stream=stream)).status == 502
        assert it.vitals("first").health.view().failures == 0
        it.fake.on("one", either(answer(), streamed()))
        assert (await it.ask("first", stream=stream)).text == "Water is let in."
        it.ledger.check()

    virtually(main)


def test_nor_do_those_whose_time_is_over_while_it_speaks():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", streamed(*["on "] * 40, every=0.3))
        for _ in range(10):
            heard = await it.ask("first", stream=True, headers=SECOND)
            assert heard.text
            assert not heard.finished
        assert it.vitals("first").health.well
        it.ledger.check()

    virtually(main)


@STREAMS
@pytest.mark.parametrize(("usual", "seconds"), [(0.1, "1s"), (None, "6s")])
def test_a_wait_that_is_long_for_any_request_counts_as_silence(stream, usual, seconds):
    """Long is twice the time that nearly all of its answers take, or where that is not known its limit of silence."""

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        if usual is not None:
            it.fake.on("one", either(answer(after=usual), streamed(after=usual)))
            for _ in range(20):
                await it.ask("first", stream=stream)
        it.fake.on("one", [s.Hang()])
        for _ in range(5):
            heard = await it.ask("first", stream=stream, headers={"x-headgate-timeout": seconds})
            assert heard.status == 504
        assert it.vitals("first").health.state == "open"

    virtually(main)


@STREAMS
def test_a_time_that_the_operator_has_set_for_a_target_counts_also_where_that_is_a_strategy(stream):
    text = CONFIG + "  inner: {fallback: [first]}\n  outer: {fallback: {order: [{model: inner, timeout: 1s}, small]}}\n"

    async def main() -> None:
        it = VirtualGateway(text)
        it.fake.on("one", [s.Hang()])
        it.fake.on("two", either(answer("two"), streamed("two")))
        for _ in range(5):
            heard = await it.ask("outer", stream=stream)
            assert (heard.text, heard.took) == ("two", 1)
        assert it.vitals("first").health.state == "open"

    virtually(main)


@STREAMS
def test_a_time_to_wait_is_kept_to_by_those_who_stood_in_the_queue_when_it_was_named(stream):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        limited = s.reply_json(429, {"error": {"message": "slow down"}}, (("retry-after", "30"),))
        it.fake.on("two", [s.Pause(0.1), *limited])
        heard = await asyncio.gather(*(it.ask("small", stream=stream) for _ in range(10)))
        assert len(it.fake.calls) == 1
        assert {h.status for h in heard} == {429}
        assert {h.headers["retry-after"] for h in heard} == {"30"}
        gate = it.vitals("small").gate
        assert (gate.busy, gate.waiting) == (0, 0)
        it.ledger.check()

    virtually(main)


@STREAMS
def test_the_time_in_the_queue_is_the_requests_own(stream):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("two", either(answer(after=1.5), streamed(after=1.5)))
        asked = (it.ask("small", stream=stream, headers={"x-headgate-timeout": "2s"}) for _ in range(3))
        heard = await asyncio.gather(*asked)
        assert [(h.status, h.took) for h in heard] == [(200, 1.5), (504, 2), (504, 2)]
        it.ledger.check()

    virtually(main)


def test_a_request_that_refers_to_what_one_deployment_holds_goes_to_no_other():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        model = it.house.snapshot.model("both")
        assert model is not None
        home = model.deployments[0]
        principal = it.house.governor.authenticate([])
        it.house.homes.remember(principal.key_id, "resp_1", "both", home)
        it.fake.on("three", s.reply_json(500, {"error": {"message": "no"}}))
        it.fake.on("four", s.reply_json(404, {"error": {"message": "there is no response resp_1"}}))

        async def ask() -> Heard:
            said: dict[str, Any] = {"model": "both", "input": "Go on.", "previous_response_id": "resp_1"}
            given = {"host": "localhost"}
            heard = Heard()
            body = json.dumps(said).encode()
            await it.plane(Request("POST", "/v1/responses", "", given, list(given.items()), body), heard)
            return heard

        heard = await ask()
        assert heard.status == 503, heard.body
        assert len(it.fake.calls_of("three")) == 3  # nobody else can answer it: worth another try
        limited = s.reply_json(429, {"error": {"message": "slow down"}}, (("retry-after", "30"),))
        it.fake.on("three", limited)
        for _ in range(3):
            assert (await ask()).status == 429
        assert len(it.fake.calls_of("three")) == 4
        assert not it.fake.calls_of("four")
        it.ledger.check()

    virtually(main)


def test_the_time_in_which_a_client_does_not_read_is_no_silence_of_the_provider():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", [SSE_HEAD, s.Body(chunk({"content": "Water"})), s.Pause(1), s.Body(b": ping\n\n"), *REST])
        heard = Slow()
        said = {"model": "first", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        given, body = {"host": "localhost"}, json.dumps(said).encode()
        await it.plane(Request("POST", "/v1/chat/completions", "", given, list(given.items()), body), heard)
        assert heard.error is None
        assert heard.finished

    virtually(main)


REST = [s.Body(chunk({"content": " is let in."})), s.Body(chunk({}, "stop")), s.Body(USAGE), s.Body(DONE), s.End()]


class Slow(Heard):
    """Takes a hundred seconds for the first words."""

    async def write(self, data: bytes) -> None:
        if not self.body:
            await asyncio.sleep(100)
        await super().write(data)
