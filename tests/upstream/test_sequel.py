"""How the next model is asked for the rest of a stream that broke, and how the two are put together. On virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.catalog.catalog import lookup
from headgate.simulator import script as s
from support.virtual import DONE, SSE_HEAD, VirtualGateway, chunk, streamed, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  first: {provider: openai, upstream: one}
  takes: {provider: openai, upstream: two, features: [prefill, json_schema, json_object, reasoning]}
  plain: {provider: openai, upstream: three, features: [json_schema, json_object, reasoning]}
  to_takes: {fallback: [first, takes]}
  to_plain: {fallback: [first, plain]}
  both: {fallback: [first, takes, plain]}
  turned: {fallback: [first, plain, takes]}
"""
DOWN = s.reply_json(503, {"error": {"message": "down"}})
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "of": {"type": "string"}},
    "required": ["n", "of"],
    "additionalProperties": False,
}
JSON = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}


def asked(it: VirtualGateway, name: str) -> list[tuple[str, Any]]:
    """The turns of the one call to a provider, after the user's own."""
    [call] = it.fake.calls_of(name)
    return [(one["role"], one["content"]) for one in json.loads(call.body)["messages"][1:]]


def test_each_is_asked_in_the_form_that_it_takes():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", streamed("Half an ", "answ", ending=s.Reset()))
        it.fake.on("two", DOWN)
        it.fake.on("three", streamed("er."))
        heard = await it.ask("both", stream=True)
        assert (heard.text, heard.finished) == ("Half an answer.", True)
        assert asked(it, "two") == [("assistant", "Half an answ")]
        [said, instruction] = asked(it, "three")
        assert said == ("assistant", "Half an answ")
        assert instruction[0] == "user"
        assert "Continue it exactly" in instruction[1]

    virtually(main)


def test_what_is_repeated_is_trimmed_also_where_another_form_had_been_asked_for_and_said_nothing():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", streamed("Water is wet, ", "as all know, ", ending=s.Reset()))
        thought = chunk({"role": "assistant", "reasoning_content": "Well."})
        it.fake.on("two", [SSE_HEAD, s.Body(thought), s.Pause(1.0), s.Reset()])
        it.fake.on("three", streamed("as all know, ", "and blue."))
        heard = await it.ask("both", stream=True)
        assert (heard.text, heard.finished) == ("Water is wet, as all know, and blue.", True)
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize(("model", "then", "last"), [("both", "two", "three"), ("turned", "three", "two")])
def test_who_comes_third_is_given_all_that_was_said_once(model, then, last):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", streamed("Half an ", "answ", ending=s.Reset()))
        it.fake.on(then, streamed("er, ", "and", ending=s.Close()))
        it.fake.on(last, streamed(" more."))
        heard = await it.ask(model, stream=True)
        assert (heard.text, heard.finished) == ("Half an answer, and more.", True)
        turns = asked(it, last)
        assert turns[0] == ("assistant", "Half an answer, and")
        assert len(turns) == (2 if last == "three" else 1)

    virtually(main)


@pytest.mark.parametrize(
    ("said", "more", "whole"),
    [
        (["0, 0, 0, 0, 0, "], ["0, 0, 0, 0, 0."], "0, 0, 0, 0, 0, 0, 0, 0, 0, 0."),
        (["A line.\n\n"], ["\n", "\nAnother."], "A line.\n\nAnother."),
        (["A line.\n\n"], ["\nAnother."], "A line.\n\nAnother."),
        (["A line.\n\n"], ["Another."], "A line.\n\nAnother."),
        (["A word "], ["and", " more"], "A word and more"),
        (["A word"], [" and more"], "A word and more"),
    ],
)
def test_after_a_prefill_nothing_is_taken_for_a_repetition_but_the_white_space_that_was_not_sent(said, more, whole):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", streamed(*said, ending=s.Reset()))
        it.fake.on("two", streamed(*more))
        heard = await it.ask("to_takes", stream=True)
        assert (heard.text, heard.finished) == (whole, True)
        assert not asked(it, "two")[0][1].endswith((" ", "\n"))

    virtually(main)


@pytest.mark.parametrize(
    ("said", "more", "whole"),
    [
        (["Water is let ", "into the field."], ["into the ", "field. Then it stops."], None),
        (["Water is let ", "into the field."], ["Water is let into the field.", " Then it stops."], None),
        (["Water is let ", "into the field."], [" Then it stops."], None),
        (["One, two, "], ["three."], "One, two, three."),
        (["One, two, "], ["two, three."], "One, two, two, three."),  # too short to be certain of
    ],
)
def test_after_an_instruction_what_is_repeated_is_heard_once(said, more, whole):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", streamed(*said, ending=s.Reset()))
        it.fake.on("three", streamed(*more))
        heard = await it.ask("to_plain", stream=True)
        assert heard.text == (whole or "Water is let into the field. Then it stops.")
        assert heard.finished

    virtually(main)


def test_who_is_to_think_first_is_not_given_the_beginning_of_its_answer():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", streamed("Half an ", "answ", ending=s.Reset()))
        it.fake.on("two", streamed("er."))
        await it.ask("to_takes", stream=True, reasoning_effort="high")
        assert [role for role, _ in asked(it, "two")] == ["assistant", "user"]

    virtually(main)


@pytest.mark.parametrize(
    ("id", "takes"),
    [
        ("claude-opus-4-20250514", True),
        ("claude-opus-4-5-20251101", True),
        ("claude-sonnet-4-5", True),
        ("claude-haiku-4-5", True),
        ("claude-opus-4-6", False),  # 4.6 and later answer 400
        ("claude-opus-4-7", False),
        ("claude-sonnet-4-6", False),
    ],
)
def test_which_of_anthropics_models_take_a_prefill(id, takes):
    assert ("prefill" in (lookup("anthropic", id).features or ())) is takes


@pytest.mark.parametrize("model", ["to_takes", "to_plain"])
@pytest.mark.parametrize(
    ("more", "fits"),
    [
        (['12, "of": "them"}'], True),
        (['{"n": 12, "of": "them"}'], False),  # begun anew where it should have gone on
        (["12"], False),
        (['12, "of": 3}'], False),
    ],
)
def test_json_is_gone_on_with_as_text_and_ends_as_finished_only_where_the_whole_fits(model, more, fits):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", streamed('{"n"', ": ", ending=s.Reset()))
        for name in ("two", "three"):
            it.fake.on(name, streamed(*more))
        heard = await it.ask(model, stream=True, response_format=JSON)
        [call] = [call for name in ("two", "three") for call in it.fake.calls_of(name)]
        assert "response_format" not in json.loads(call.body)  # a form that is enforced would begin anew
        assert heard.finished is fits
        if fits:
            assert json.loads(heard.text) == {"n": 12, "of": "them"}
        else:
            assert heard.error is not None
            assert "does not fit" in heard.error["message"]
            assert b"[DONE]" not in heard.body
        assert it.transport.open == 0
        it.ledger.check()

    virtually(main)


def test_json_whose_rest_is_cut_at_the_clients_maximum_is_given_and_says_so():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", streamed('{"n"', ": ", ending=s.Reset()))
        rest = [SSE_HEAD, s.Body(chunk({"content": '12, "o'})), s.Body(chunk({}, "length")), s.Body(DONE), s.End()]
        for name in ("two", "three"):
            it.fake.on(name, rest)
        heard = await it.ask("to_plain", stream=True, response_format=JSON)
        assert (heard.text, heard.error) == ('{"n": 12, "o', None)
        assert [c["finish_reason"] for f in heard.chunks for c in f["choices"] if c.get("finish_reason")] == ["length"]
        it.ledger.check()

    virtually(main)


def test_a_tool_call_that_comes_after_the_words_is_no_json_that_does_not_fit():
    call = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

    async def main() -> None:
        it = VirtualGateway(CONFIG.replace("features: [", "features: [tools, "))
        it.fake.on("one", streamed("I look ", ending=s.Reset()))
        frames = [chunk({"role": "assistant", "content": "it up."}), chunk(call), chunk({}, "tool_calls")]
        it.fake.on("three", [streamed()[1], *map(s.Body, frames), s.Body(b"data: [DONE]\n\n"), s.End()])
        heard = await it.ask("to_plain", stream=True, response_format=JSON, tools=[tool])
        assert heard.error is None
        assert heard.finished

    virtually(main)
