"""What a chain may ask, in which order, and how long it listens to silence. On virtual time, counted at the providers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.server.http import Request
from headgate.simulator import script as s
from support.virtual import DONE, SSE_HEAD, USAGE, Heard, VirtualGateway, answer, chunk, either, streamed, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  first: {provider: openai, upstream: one, features: [json_schema], max_context: 1000}
  second: {provider: openai, upstream: two, features: [tools], max_context: 100_000,
    timeout: {first_token: 5s, idle: 7s, total: 100s}}
  third: {provider: openai, upstream: three}
  chain: {fallback: [first, second, third]}
  around: {fallback: {order: [first, third], move_on: [content_policy]}}
  badly: {fallback: {order: [first, third], move_on: [bad_request]}}
  quick: {fallback: {order: [{model: second, timeout: 2s}, third]}}
  talks: {fallback: [second, third]}
  any: {fallback: [third, second]}
"""
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PING = b": keep-alive\n\n"
POLICY = s.reply_json(400, {"error": {"message": "flagged by content policy", "code": "content_policy_violation"}})
NO = s.reply_json(400, {"error": {"message": "top_k is no parameter", "type": "invalid_request_error"}})
DOWN = s.reply_json(503, {"error": {"message": "down"}})


def gateway(**says: Any) -> VirtualGateway:
    it = VirtualGateway(CONFIG)
    for name in ("one", "two", "three"):
        it.fake.on(name, says.get(name, either(answer(name), streamed(name))))
    return it


def asked(it: VirtualGateway) -> list[str]:
    return [json.loads(call.body)["model"] for call in it.fake.calls]


def skipped(it: VirtualGateway, heard: Heard) -> dict[str, str]:
    trace = it.house.trace(heard.headers["x-headgate-trace"], None)
    assert trace is not None
    return {one.chosen: one.because for one in trace[0].decisions if one.kind == "skip"}


@pytest.mark.parametrize("stream", [False, True])
def test_who_cannot_serve_a_request_is_left_out_before_anything_is_sent_and_the_trace_says_why(stream):
    async def main() -> None:
        it = gateway()
        heard = await it.ask("chain", stream=stream, tools=[TOOL])
        assert heard.text == "two"
        assert asked(it) == ["two"]
        assert skipped(it, heard) == {"first": "first does not support tools"}

    virtually(main)


def test_who_has_no_room_is_left_out_too():
    async def main() -> None:
        it = gateway()
        heard = await it.ask("chain", messages=[{"role": "user", "content": "word " * 20_000}])
        assert (heard.text, asked(it)) == ("two", ["two"])
        assert "longer than first's context of 1000 tokens" in skipped(it, heard)["first"]

    virtually(main)


def test_where_nobody_can_serve_it_that_is_the_clients_error_and_nobody_is_asked():
    text = CONFIG + "  alone: {fallback: [first]}\n"

    async def main() -> None:
        it = VirtualGateway(text)
        heard = await it.ask("alone", tools=[TOOL])
        assert (heard.status, heard.json()["error"]["code"]) == (400, "unsupported_feature")
        assert it.fake.calls == []

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_routed_around_only_where_the_chain_asks_for_it(stream):
    async def main() -> None:
        it = gateway(one=POLICY)
        assert (await it.ask("around", stream=stream)).text == "three"
        it = gateway(one=POLICY)
        heard = await it.ask("chain", stream=stream)
        assert (heard.status, heard.json()["error"]["code"]) == (400, "content_policy_violation")
        assert asked(it) == ["one"]

    virtually(main)


def _breaks_with(code: str) -> list[s.Step]:
    """Some words, and then an error of the provider's own within the stream."""
    told = {"error": {"message": "no more of this", "code": code, "type": "invalid_request_error"}}
    frame = b"data: " + json.dumps(told).encode() + b"\n\n"
    return [SSE_HEAD, s.Body(chunk({"content": "Half an "})), s.Pause(0.1), s.Body(frame), s.End()]


@pytest.mark.parametrize(
    ("move_on", "said", "rescued"),
    [
        ("", _breaks_with("content_policy_violation"), False),  # a refusal is the provider's answer, in the middle too
        ("content_policy", _breaks_with("content_policy_violation"), True),
        ("", streamed("Half an ", ending=s.Reset()), True),
        ("timeout", streamed("Half an ", ending=s.Reset()), False),
        ("timeout", streamed("Half an ", ending=s.Hang()), True),
        ("unavailable", streamed("Half an ", ending=s.Hang()), False),
    ],
)
def test_a_stream_that_breaks_moves_on_from_what_the_chain_moves_on_from(move_on, said, rescued):
    listed = f", move_on: [{move_on}]" if move_on else ""
    text = CONFIG + f"  mine: {{fallback: {{order: [second, third]{listed}}}}}\n"

    async def main() -> None:
        it = VirtualGateway(text)
        it.fake.on("two", said)
        it.fake.on("three", streamed("answer."))
        heard = await it.ask("mine", stream=True)
        assert asked(it) == (["two", "three"] if rescued else ["two"])
        assert (heard.text, heard.finished) == ("Half an answer." if rescued else "Half an ", rescued)
        assert (heard.error is None) is rescued
        it.ledger.check()

    virtually(main)


def test_a_stream_that_ran_out_of_context_is_continued_only_where_there_is_more():
    text = CONFIG + "  mine: {fallback: [second, first, third, fourth]}\n"
    text = text.replace("upstream: three}", "upstream: three, max_context: 100_000}")
    text = text.replace("  chain:", "  fourth: {provider: openai, upstream: four, max_context: 200_000}\n  chain:")

    async def main() -> None:
        it = VirtualGateway(text)
        it.fake.on("two", _breaks_with("context_length_exceeded"))
        it.fake.on("*", streamed("answer."))
        heard = await it.ask("mine", stream=True)
        assert (heard.text, heard.finished, asked(it)) == ("Half an answer.", True, ["two", "four"])

    virtually(main)


def test_a_bad_request_is_the_clients_own_unless_the_chain_says_otherwise():
    async def main() -> None:
        it = gateway(one=NO)
        assert (await it.ask("chain")).status == 400
        assert asked(it) == ["one"]
        it = gateway(one=NO)
        assert (await it.ask("badly")).text == "three"
        it = gateway(one=DOWN)
        assert (await it.ask("badly")).status == 503  # not listed: not moved on for
        assert asked(it) == ["one"]

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_a_targets_own_time_ends_its_attempt_and_not_the_request(stream):
    async def main() -> None:
        it = gateway(two=either(answer("two", after=3), streamed("two", after=3)))
        heard = await it.ask("quick", stream=stream)
        assert heard.text == "three"
        assert 2 <= heard.took < 2.1
        assert it.transport.open == 0

    virtually(main)


def test_a_stream_that_only_keeps_its_connection_alive_is_silent():
    async def main() -> None:
        pings = [step for _ in range(60) for step in (s.Pause(1), s.Body(PING))]
        it = gateway(two=[SSE_HEAD, s.Body(chunk({"role": "assistant", "content": ""})), *pings, s.End()])
        heard = await it.ask("talks", stream=True)
        assert heard.text == "three"
        assert 5 <= heard.took < 5.1  # its limit for the first content
        it = gateway(two=[SSE_HEAD, s.Body(chunk({"content": "Half an"})), *pings, s.End()])
        heard = await it.ask("talks", stream=True)
        assert heard.finished
        assert heard.text.startswith("Half an")
        assert 7 <= heard.took < 8.1  # its limit for silence, told by the next ping
        assert asked(it) == ["two", "three"]

    virtually(main)


@pytest.mark.parametrize(
    "ping", [PING, b"event: ping\ndata: {}\n\n", b"event:ping\ndata:{}\n\n", b"\n\n", b"retry: 9\n\n"]
)
def test_whatever_keeps_a_connection_alive_is_silence(ping):
    async def main() -> None:
        pings = [step for _ in range(60) for step in (s.Pause(1.5), s.Body(ping))]
        it = gateway(two=[SSE_HEAD, s.Body(chunk({"content": "Half an"})), *pings, s.End()])
        heard = await it.ask("talks", stream=True)
        assert heard.finished
        assert 7 <= heard.took < 8.6
        assert asked(it) == ["two", "three"]

    virtually(main)


def test_a_comment_before_the_data_of_a_frame_makes_no_silence_of_it():
    async def main() -> None:
        words = [b": still here\n" + chunk({"content": "on "}) for _ in range(12)]
        said = [step for word in words for step in (s.Body(word), s.Pause(1))]
        it = gateway(two=[SSE_HEAD, *said, s.Body(chunk({}, "stop")), s.Body(USAGE), s.Body(DONE), s.End()])
        heard = await it.ask("talks", stream=True)
        assert (heard.body.count(words[0]), heard.finished, asked(it)) == (12, True, ["two"])

    virtually(main)


@pytest.mark.parametrize("between", [[], [s.Body(PING)]])
def test_the_limit_for_the_first_content_is_its_own_also_where_that_for_silence_is_shorter(between):
    """Who thinks in silence may be given minutes before the first word and seconds between two."""
    text = CONFIG.replace("{first_token: 5s, idle: 7s, total: 100s}", "{first_token: 20s, idle: 3s, total: 100s}")

    async def main() -> None:
        it = VirtualGateway(text)
        thinks = [step for _ in range(15) for step in (s.Pause(1), *between)]
        begun = [SSE_HEAD, s.Body(chunk({"role": "assistant", "content": ""})), *thinks]
        it.fake.on(
            "two", [*begun, s.Body(chunk({"content": "Thought."})), s.Body(chunk({}, "stop")), s.Body(DONE), s.End()]
        )
        it.fake.on("three", streamed(" And said."))
        heard = await it.ask("talks", stream=True)
        assert (heard.text, heard.finished, asked(it)) == ("Thought.", True, ["two"])
        assert heard.took == 15
        it.fake.on("two", [*begun, s.Body(chunk({"content": "Thought."})), *thinks, s.Hang()])
        heard = await it.ask("talks", stream=True)
        assert (heard.text, heard.finished) == ("Thought. And said.", True)
        assert 18 <= heard.took <= 19.1

    virtually(main)


def test_who_thinks_aloud_is_not_silent():
    async def main() -> None:
        thoughts = [step for _ in range(15) for step in (s.Pause(4), s.Body(chunk({"reasoning_content": "Hm. "})))]
        said = [s.Body(chunk({"content": "Thought."})), s.Body(chunk({}, "stop")), s.Body(USAGE), s.Body(DONE), s.End()]
        it = gateway(two=[SSE_HEAD, *thoughts, *said])
        heard = await it.ask("talks", stream=True)
        assert (heard.text, heard.finished, asked(it)) == ("Thought.", True, ["two"])
        assert heard.took == 60

    virtually(main)


def test_before_the_first_content_a_client_hears_nothing_but_heartbeats():
    """A target fails after the stream was opened: who reads it cannot tell."""

    async def main() -> None:
        it = gateway(three=[s.Pause(25), *DOWN], two=either(answer("two"), streamed("Here ", "it is.", after=3)))
        heard = await it.ask("any", stream=True)
        assert (heard.status, heard.text, heard.finished) == (200, "Here it is.", True)
        before = heard.body[: heard.body.index(b"data: ")]
        assert before == b": ping\n\n" * 2
        assert "x-headgate-model" not in heard.headers  # it was not known when they were sent: the last chunk tells
        assert heard.details["chosen"]["model"] == "second"
        assert [a["outcome"] for a in heard.details["attempts"]] == ["failed", "ok"]

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rest", [[s.Hang()], [step for _ in range(50) for step in (s.Pause(0.5), s.Body(b" "))]])
def test_an_error_whose_words_do_not_come_is_known_by_its_status(rest, stream):
    async def main() -> None:
        it = gateway(one=[s.Head(503, (("content-type", "application/json"), ("retry-after", "30"))), *rest])
        heard = await it.ask("chain", stream=stream)
        assert heard.text == "two"
        assert heard.took == pytest.approx(2.0, abs=0.1)
        assert heard.details["attempts"][0]["error"] == "overloaded"
        assert it.vitals("first").health.view().recovers_in == pytest.approx(30, abs=0.1)
        assert it.transport.open == 0
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("door", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
def test_a_whole_answer_in_the_place_of_a_stream_is_none(content_type, door):
    async def main() -> None:
        whole = list(s.with_headers(answer("two"), {"content-type": content_type}))
        it = gateway(two=whole)
        said = {"model": "talks", "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        given = {"host": "localhost"}
        heard = Heard()
        await it.plane(Request("POST", door, "", given, list(given.items()), json.dumps(said).encode()), heard)
        assert (heard.status, heard.headers["x-headgate-model"]) == (200, "third")
        assert b"three" in heard.body
        assert heard.body.startswith((b"data: ", b"event: "))
        assert heard.body.rstrip().endswith((b"data: [DONE]", b'{"type":"message_stop"}'))
        assert [outcome.error for outcome in it.ledger.outcomes.values()] == ["invalid_answer", None]
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_last_frame_without_its_blank_line_is_one_all_the_same(end):
    async def main() -> None:
        frames = [chunk({"content": "Said."}), chunk({}, "stop"), USAGE, DONE.rstrip() + end]
        it = gateway(two=[SSE_HEAD, *map(s.Body, frames), s.End()])
        heard = await it.ask("talks", stream=True)
        assert (heard.text, heard.finished, heard.details["attempts"][0]["outcome"]) == ("Said.", True, "ok")
        said = {"model": "talks", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        said["stream_options"] = {"include_usage": True}
        given, plain = {"host": "localhost"}, Heard()
        body = json.dumps(said).encode()
        await it.plane(Request("POST", "/v1/chat/completions", "", given, list(given.items()), body), plain)
        assert plain.body == b"".join(frames), "byte for byte"

    virtually(main)


def test_the_error_after_a_cut_frame_without_its_blank_line_is_a_frame_of_its_own():
    async def main() -> None:
        it = gateway(
            two=[SSE_HEAD, s.Body(chunk({"content": "Sa"})), s.Body(chunk({"content": "id"}).rstrip()), s.End()]
        )
        said = {"model": "second", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        given, heard = {"host": "localhost"}, Heard()
        body = json.dumps(said).encode()
        await it.plane(Request("POST", "/v1/chat/completions", "", given, list(given.items()), body), heard)
        frames = [json.loads(frame.removeprefix(b"data: ")) for frame in heard.body.split(b"\n\n") if frame.strip()]
        assert [next(iter(frame)) for frame in frames] == ["id", "id", "error"], heard.body

    virtually(main)
