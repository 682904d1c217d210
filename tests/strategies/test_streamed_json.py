"""A streamed answer that has to be JSON: given as it comes, and ended as finished only where it fits. On virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.server.http import Request
from headgate.simulator import script as s
from support.virtual import DONE, SSE_HEAD, USAGE, Heard, VirtualGateway, chunk, streamed, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  first: {provider: openai, upstream: one}
  second: {provider: openai, upstream: two}
  chain: {fallback: [first, second]}
  restarts: {fallback: {order: [first, second], rescue: restart}}
  told: {fallback: {order: [first, second], rescue: error}}
  lenient: {fallback: {order: [first, second], move_on: [timeout, unavailable]}}
  auto: {route: {tasks: {code: first}, otherwise: second}}
"""
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
JSON = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
OBJECT = {"type": "json_object"}
BAD = ['{"n": ', '"twelve"', "}"]
GOOD = ['{"n": ', "12", "}"]


def gateway(*words: str, finish: str = "stop") -> VirtualGateway:
    it = VirtualGateway(CONFIG)
    frames = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": word}) for word in words)]
    it.fake.on("one", [SSE_HEAD, *map(s.Body, [*frames, chunk({}, finish), USAGE, DONE]), s.End()])
    it.fake.on("two", streamed(*GOOD))
    return it


@pytest.mark.parametrize("model", ["chain", "restarts", "told", "lenient"])
def test_one_that_fits_passes_byte_for_byte(model):
    async def main() -> None:
        heard = await gateway(*GOOD).ask(
            model, stream=True, response_format=JSON, stream_options={"include_usage": True}
        )
        assert (json.loads(heard.text), heard.finished) == ({"n": 12}, True)
        sent = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": word}) for word in GOOD)]
        assert heard.body.startswith(b"".join([*sent, chunk({}, "stop")]))

    virtually(main)


@pytest.mark.parametrize("model", ["chain", "restarts", "told"])
@pytest.mark.parametrize(
    ("words", "form"), [(BAD, JSON), (["It is 12."], JSON), (["12"], OBJECT), (["Well, ", '{"n": 12}'], OBJECT)]
)
def test_one_that_does_not_fit_ends_with_an_error_in_the_place_of_its_finish(model, words, form):
    async def main() -> None:
        it = gateway(*words)
        heard = await it.ask(model, stream=True, response_format=form)
        assert heard.text == "".join(words)  # as it came
        assert not any(c.get("finish_reason") for f in heard.chunks for c in f.get("choices", []))
        assert b"[DONE]" not in heard.body
        assert heard.error is not None
        assert "first's answer does not fit the requested schema" in heard.error["message"]
        assert not it.fake.calls_of(
            "two"
        )  # the client has the words of another, and has not said that it takes new ones
        assert it.vitals("first").health.well
        [record] = it.ledger.requests
        assert record.status == 502
        assert it.transport.open == 0
        it.ledger.check()

    virtually(main)


def test_a_client_that_takes_a_restart_is_given_the_next_models_answer():
    async def main() -> None:
        it = gateway(*BAD)
        heard = await it.ask("restarts", stream=True, response_format=JSON, headers={"x-headgate-restart": "true"})
        assert heard.finished
        assert heard.text == "".join([*BAD, *GOOD])
        restarts = [f for f in heard.chunks if "restart" in f.get("headgate", {})]
        assert len(restarts) == 1
        assert len(it.fake.calls_of("two")) == 1
        it.ledger.check()

    virtually(main)


def test_where_a_chain_does_not_move_on_for_it_it_is_not_looked_at():
    async def main() -> None:
        heard = await gateway(*BAD).ask("lenient", stream=True, response_format=JSON)
        assert (heard.finished, heard.error) == (True, None)

    virtually(main)


def test_a_routes_answer_is_checked_as_a_chains():
    async def main() -> None:
        asked = [{"role": "user", "content": "Write a Python function that reverses a linked list."}]
        heard = await gateway(*BAD).ask("auto", stream=True, response_format=JSON, messages=asked)
        assert heard.error is not None
        assert not heard.finished

    virtually(main)


@pytest.mark.parametrize("finish", ["length", "content_filter", "tool_calls"])
def test_an_answer_that_says_itself_how_it_ended_is_given(finish):
    async def main() -> None:
        heard = await gateway('{"n": ', finish=finish).ask("chain", stream=True, response_format=JSON)
        assert (heard.finished, heard.error) == (True, None)

    virtually(main)


def test_in_another_doors_format_too():
    async def main() -> None:
        for words, fits in ((GOOD, True), (BAD, False)):
            it = gateway(*words)
            body: dict[str, Any] = {
                "model": "chain", "max_tokens": 50, "stream": True, "messages": [{"role": "user", "content": "hi"}],
                "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
            }  # fmt: skip
            given = {"host": "localhost"}
            heard = Heard()
            data = json.dumps(body).encode()
            await it.plane(Request("POST", "/v1/messages", "", given, list(given.items()), data), heard)
            ended = (heard.body.count(b"event: message_stop"), heard.body.count(b"event: error"))
            assert ended == ((1, 0) if fits else (0, 1)), heard.body
            it.ledger.check()

    virtually(main)


def test_of_several_answers_in_one_stream_none_is_cut_while_it_speaks():
    def of(choice: int, delta: dict[str, Any], finish: str | None = None) -> s.Step:
        return s.Body(chunk(delta, finish).replace(b'"index": 0', b'"index": %d' % choice))

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        began = [of(0, {"content": '{"n": 1}'}), of(1, {"content": '{"n": '}), of(0, {}, "stop")]
        ended = [of(1, {"content": "2}"}), of(1, {}, "stop"), s.Body(USAGE), s.Body(DONE), s.End()]
        it.fake.on("one", [SSE_HEAD, *began, s.Pause(5.0), *ended])
        heard = await it.ask("chain", stream=True, n=2, response_format=JSON)
        choices = [choice for frame in heard.chunks for choice in frame["choices"]]
        said = ["".join(c["delta"].get("content", "") for c in choices if c["index"] == of) for of in (0, 1)]
        assert said == ['{"n": 1}', '{"n": 2}']
        assert heard.body.endswith(DONE)

    virtually(main)


@pytest.mark.parametrize("model", ["chain", "restarts", "told"])
@pytest.mark.parametrize(
    ("first", "second", "finish", "fits"),
    [
        ('{"n": 1}', '{"n": 2}', "stop", True),
        ('{"n": 1}', '{"n": "two"}', "stop", False),
        ('{"n": "one"}', '{"n": 2}', "stop", False),
        ('{"n": 1}', '{"n": ', "length", True),
    ],
    ids=["both", "the second does not", "the first does not", "one says that it was cut"],
)
def test_of_several_answers_in_one_stream_each_is_looked_at(model, first, second, finish, fits):
    def of(choice: int, delta: dict[str, Any], finish: str | None = None) -> s.Step:
        return s.Body(chunk(delta, finish).replace(b'"index": 0', b'"index": %d' % choice))

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        said = [of(1, {"content": second}), of(0, {"content": first}), of(1, {}, finish), of(0, {}, "stop")]
        it.fake.on("one", [SSE_HEAD, *said, s.Body(USAGE), s.Body(DONE), s.End()])
        heard = await it.ask(model, stream=True, n=2, response_format=JSON)
        assert (heard.body.endswith(DONE), heard.error is None) == (fits, fits), heard.body
        assert fits or "does not fit" in heard.error["message"]
        assert not it.fake.calls_of("two"), "several answers are continued by nobody"
        it.ledger.check()

    virtually(main)


def test_a_stream_without_a_form_is_not_looked_at():
    async def main() -> None:
        heard = await gateway(*BAD).ask("chain", stream=True)
        assert (heard.finished, heard.error) == (True, None)

    virtually(main)
