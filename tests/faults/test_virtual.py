"""Faults where sockets are not the point, on virtual time; and the property that holds for any of them. (Numbers:
test_index.py.)"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from headgate.config.errors import ConfigError
from headgate.server.http import Request
from headgate.simulator import script as s
from support.virtual import DONE, SSE_HEAD, USAGE, Heard, VirtualGateway, answer, chunk, either, streamed, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  first: {provider: openai, upstream: one, max_context: 100_000, price: {input: 1, output: 1},
    timeout: {first_token: 5s, idle: 5s, total: 20s}}
  second: {provider: openai, upstream: two, max_context: 200_000, price: {input: 1, output: 1},
    timeout: {first_token: 5s, idle: 5s, total: 20s}}
  third: {provider: openai, upstream: three, price: {input: 1, output: 1},
    timeout: {first_token: 5s, idle: 5s, total: 20s}}
  chain: {fallback: [first, second, third]}
  told: {fallback: {order: [first, second, third], rescue: error}}
"""
DOWN = s.reply_json(503, {"error": {"message": "down"}})


def test_12_fields_that_nobody_knows_pass_through():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        whole = json.loads(next(step.data for step in answer("Said.") if isinstance(step, s.Body)))
        whole["x_new"] = {"a": [1, None]}
        piece = json.loads(chunk({"content": "Said.", "x_delta": 1})[6:])
        lines = [b"data: " + json.dumps({**piece, "x_new": 2}).encode() + b"\n\n", chunk({}, "stop"), USAGE, DONE]
        it.fake.on("one", either(s.reply_json(200, whole), [SSE_HEAD, *map(s.Body, lines), s.End()]))
        assert (await it.ask("first")).json()["x_new"] == {"a": [1, None]}
        heard = await it.ask("first", stream=True)
        assert heard.finished
        assert heard.chunks[0]["x_new"] == 2
        assert heard.chunks[0]["choices"][0]["delta"]["x_delta"] == 1

    virtually(main)


def _tool(index: int, **function: str) -> bytes:
    call = {"index": index, "function": function, **({"id": f"call_{index}"} if "name" in function else {})}
    return chunk({"tool_calls": [call]})


DISORDERLY = {
    "later index first": [_tool(1, name="b", arguments="{}"), _tool(0, name="a", arguments="{}")],
    "index twice": [_tool(0, name="a", arguments="{"), _tool(0, name="a", arguments="}")],
    "arguments of nobody": [_tool(3, arguments="{}")],
    "interleaved": [
        _tool(0, name="a", arguments=""),
        _tool(1, name="b", arguments=""),
        _tool(0, arguments="{}"),
        _tool(1, arguments="{}"),
    ],
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("name", DISORDERLY)
def test_19_deltas_out_of_order_pass_in_their_own_format_and_end_cleanly_in_another(name, path):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        frames = [*DISORDERLY[name], chunk({}, "tool_calls"), USAGE, DONE]
        it.fake.on("one", [SSE_HEAD, *map(s.Body, frames), s.End()])
        body = {"model": "first", "max_tokens": 50, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        given_headers = {"host": "localhost"}
        request = Request("POST", path, "", given_headers, list(given_headers.items()), json.dumps(body).encode())
        heard = Heard()
        await it.plane(request, heard)
        assert heard.whole
        assert heard.status in (200, 502)
        if path == "/v1/chat/completions":
            assert all(frame in heard.body for frame in DISORDERLY[name])
            assert heard.body.endswith(DONE)
        else:
            ended = (heard.body.count(b"event: message_stop"), heard.body.count(b'"type":"error"'))
            assert ended in ((1, 0), (0, 1)), heard.body
        assert not [error for error in it.errors if error.code == "internal_error"]
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize(
    ("name", "steps", "stream", "seconds"),
    [
        ("silent from the first", streamed(after=10_000), True, 60),
        ("silent after some words", [*streamed("Half", ending=s.Pause(10_000))], True, 60),
        ("a word now and then", streamed(*["on "] * 40, every=50), True, 600),
        ("a whole answer that does not come", answer(after=10_000), False, 600),
    ],
)
def test_a_model_whose_limits_nobody_set_has_those_of_the_documentation(name, steps, stream, seconds):
    """docs/reliability.md: 60 s of silence, 600 s in all."""

    async def main() -> None:
        it = VirtualGateway(
            'providers: {openai: {base_url: "http://one/v1"}}\nmodels: {plain: {provider: openai, upstream: one}}\n'
        )
        it.fake.on("one", steps)
        heard = await it.ask("plain", stream=stream)
        assert heard.error is not None
        assert not heard.finished if stream else heard.status == 504
        assert seconds <= heard.took < seconds + 10, name

    virtually(main)


def test_47_a_storm_on_providers_that_are_all_down():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        names = ("one", "two", "three")
        for name in names:
            it.fake.on(name, DOWN)
        for _ in range(10):
            await it.ask("chain")  # the breakers open
        assert {it.vitals(model).health.state for model in ("first", "second", "third")} == {"open"}
        before = len(it.fake.calls)
        rate, seconds = 500, 6.0
        asking: list[asyncio.Task[Heard]] = []
        for _ in range(int(rate * seconds)):
            asking.append(asyncio.ensure_future(it.ask("chain")))
            await asyncio.sleep(1 / rate)
        heard = await asyncio.gather(*asking)
        assert {h.status for h in heard} == {503}
        assert (len(it.fake.calls) - before) <= 1.2 * len(heard) + seconds
        assert sorted(h.took for h in heard)[int(len(heard) * 0.99)] <= 0.1
        for name in names:
            it.fake.on(name, answer("Back."))
        mended = it.clock.monotonic()
        for _ in range(50):
            if (await it.ask("chain")).status == 200:
                break
            await asyncio.sleep(0.1)
        assert it.clock.monotonic() - mended <= 5.0
        it.ledger.check()

    virtually(main)


# -- the property ------------------------------------------------------------------------------------------------------
TEXT = ("Water ", "is ", "let ", "in.")
WHOLE = "".join(TEXT)
ENDINGS: dict[str, s.Step] = {"reset": s.Reset(), "close": s.Close(), "stall": s.Hang(), "no finish": s.End()}


def _behaviour(kind: str, number: float) -> Any:
    match kind:
        case "well":
            return either(answer(WHOLE, after=number), streamed(*TEXT, after=number, every=number / 8))
        case "status":
            status = (400, 401, 403, 404, 429, 500, 502, 503, 529)[int(number) % 9]
            headers = (("retry-after", f"{number:g}"),) if number > 4 else ()
            return s.reply_json(status, {"error": {"message": "no", "type": "t"}}, headers)
        case "context":
            return s.reply_json(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
        case "html":
            return s.html()
        case "empty":
            return s.reply(200, b"")
        case "nothing":
            return s.reply_json(200, {})
        case "drip":
            return s.drip(b" " * 1000, every=0.5)
        case "error inside":
            told = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'
            said = [chunk({"content": word}) for word in TEXT[: int(number) % 4]]
            body = s.reply_json(200, {"error": {"message": "overloaded"}})
            return either(body, [SSE_HEAD, *map(s.Body, [*said, told]), s.End()])
        case "malformed":
            return either(s.reply(200, b'{"choices": [{"mess'), [SSE_HEAD, s.Body(b"data: {bad\n\n"), s.End()])
        case ending:
            words = TEXT[: int(number) % 4 + 1]
            cut = [s.Head(200, (("content-type", s.JSON),), "length", 500), s.Body(b'{"choices": ['), ENDINGS[ending]]
            return either(cut, streamed(*words, ending=ENDINGS[ending]))


KINDS = ["well", "status", "context", "html", "empty", "nothing", "drip", "error inside", "malformed", *ENDINGS]
BEHAVIOURS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.floats(0, 9).map(lambda f: round(f, 1))), min_size=1, max_size=4
)


def came_to_one_end(heard: Heard, *, stream: bool, limit: float) -> None:
    """A complete answer, or one clean error, within the request's time."""
    assert heard.whole
    assert heard.took <= limit + 0.1
    if heard.status != 200:
        assert heard.error is not None
        assert heard.error["message"]
        assert heard.status in (400, 404, 429, 502, 503, 504)
    elif not stream:
        assert heard.text == WHOLE
    elif heard.error is None:
        assert heard.finished
        assert heard.text.endswith(WHOLE)
    else:
        assert not heard.finished
        assert b"[DONE]" not in heard.body


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    providers=st.tuples(BEHAVIOURS, BEHAVIOURS, BEHAVIOURS),
    requests=st.lists(
        st.tuples(st.sampled_from(["chain", "told", "first"]), st.booleans(), st.sampled_from([0.3, 2.0, 12.0, 60.0])),
        min_size=1,
        max_size=6,
    ),
    together=st.booleans(),
)
def test_any_sequence_of_behaviours_ends_in_one_complete_answer_or_one_clean_error(providers, requests, together):
    note(f"{providers=} {requests=} {together=}")

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        for name, said in zip(("one", "two", "three"), providers, strict=True):
            it.fake.on(name, *(_behaviour(*one) for one in said))

        async def one(model: str, stream: bool, limit: float) -> None:
            heard = await it.ask(model, stream=stream, headers={"x-headgate-timeout": f"{limit}s"})
            came_to_one_end(heard, stream=stream, limit=limit)
            if heard.status == 200 and not stream:
                assert heard.json()["usage"]["total_tokens"] > 0
            elif heard.status == 200 and heard.finished:
                assert heard.details["attempts"][-1]["usage"]["output"] > 0

        asked = [one(*request) for request in requests]
        if together:
            await asyncio.gather(*asked)
        else:
            for request in asked:
                await request
        # One call each of three targets, two retries of the last that is well; a rescue goes on along the chain.
        assert len(it.fake.calls) <= 6 * len(requests)
        assert not [error for error in it.errors if error.code == "internal_error"]
        assert it.transport.open == 0
        assert it.house.inflight == 0
        for model in ("first", "second", "third"):
            assert (it.vitals(model).outstanding, it.vitals(model).gate.busy) == (0, 0)
        it.ledger.check()

    virtually(main)


def test_45_strategies_that_go_round_in_a_circle_are_no_configuration():
    text = CONFIG + "  a: {fallback: [b, first]}\n  b: {fallback: [a]}\n"
    with pytest.raises(ConfigError, match="a → b → a"):
        VirtualGateway(text)
