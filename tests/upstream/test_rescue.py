"""Streams that break after content: continued, begun anew, or ended with an error, and the client can tell which."""

from __future__ import annotations

import asyncio

import pytest

from headgate.config.load import load_text
from headgate.simulator import script as s
from headgate.upstream.answers import TAIL_GRACE
from support.gateway import ENV
from support.virtual import SSE_HEAD, VirtualGateway, answer, chunk, either, streamed, virtually

CONFIG = """
providers: {{openai: {{base_url: "http://one/v1"}}}}
models:
  first: {{provider: openai, upstream: one}}
  second: {{provider: openai, upstream: two}}
  third: {{provider: openai, upstream: three}}
  chain: {{fallback: {{order: [first, second, third], rescue: {rescue}}}}}
"""
TAKES_IT = {"x-headgate-restart": "true"}


def gateway(rescue: str) -> VirtualGateway:
    return VirtualGateway(CONFIG.format(rescue=rescue))


def restarts(heard) -> list[str]:
    return [c["headgate"]["restart"]["model"] for c in heard.chunks if "restart" in c.get("headgate", {})]


def after_restart(heard) -> str:
    text = ""
    for frame in heard.chunks:
        if "restart" in frame.get("headgate", {}):
            text = ""
        text += "".join(c["delta"].get("content") or "" for c in frame.get("choices", []))
    return text


def test_a_client_that_takes_it_gets_a_fresh_answer():
    async def main() -> None:
        it = gateway("restart")
        it.fake.on("one", streamed("Half an ", "answ", ending=s.Reset(), model="one-1"))
        it.fake.on("two", streamed("A whole one.", model="two-2"))
        heard = await it.ask("chain", stream=True, headers=TAKES_IT)
        assert restarts(heard) == ["two-2"]
        assert after_restart(heard) == "A whole one."
        assert heard.finished
        assert len({c["id"] for c in heard.chunks}) == 1
        asked = it.fake.calls_of("two")[0].body
        assert b"Half an" not in asked
        it.ledger.check()

    virtually(main)


def test_it_may_restart_more_than_once():
    async def main() -> None:
        it = gateway("restart")
        it.fake.on("one", streamed("Half an ", "answ", ending=s.Reset(), model="one-1"))
        it.fake.on("two", streamed("Again ha", ending=s.Close(), model="two-2"))
        it.fake.on("three", streamed("A whole one.", model="three-3"))
        heard = await it.ask("chain", stream=True, headers=TAKES_IT)
        assert restarts(heard) == ["two-2", "three-3"]
        assert after_restart(heard) == "A whole one."
        assert heard.finished
        assert [a["outcome"] for a in heard.details["attempts"]] == ["failed", "failed", "ok"]

    virtually(main)


def test_a_tool_call_that_broke_is_begun_anew():
    call = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a'}}]}
    again = {"tool_calls": [{"index": 0, "id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}

    async def main() -> None:
        it = gateway("restart")
        it.fake.on("one", [SSE_HEAD, s.Body(chunk(call)), s.Reset()])
        it.fake.on(
            "two",
            [SSE_HEAD, s.Body(chunk(again)), s.Body(chunk({}, "tool_calls")), s.Body(b"data: [DONE]\n\n"), s.End()],
        )
        heard = await it.ask("chain", stream=True, headers=TAKES_IT)
        calls = [
            c["delta"]["tool_calls"][0] for f in heard.chunks for c in f["choices"] if c["delta"].get("tool_calls")
        ]
        assert [(one["index"], one["id"]) for one in calls if "id" in one] == [(0, "c1"), (0, "c2")]
        assert heard.finished

    virtually(main)


def test_other_clients_are_told_in_band():
    async def main() -> None:
        it = gateway("restart")
        it.fake.on("one", streamed("Half an ", "answ", ending=s.Reset()))
        it.fake.on("two", streamed("A whole one."))
        heard = await it.ask("chain", stream=True)
        assert (heard.text, heard.finished) == ("Half an answ", False)
        assert heard.error is not None
        assert len(it.fake.calls_of("two")) == 0

    virtually(main)


@pytest.mark.parametrize("rescue", ["continue", "restart"])
def test_reasoning_alone_is_no_answer_yet(rescue):
    async def main() -> None:
        it = gateway(rescue)
        it.fake.on("one", [SSE_HEAD, s.Body(chunk({"reasoning_content": "Let me see"})), s.Reset()])
        it.fake.on("two", streamed("A whole one.", model="two-2"))
        heard = await it.ask("chain", stream=True)
        assert (heard.text, heard.finished, heard.error) == ("A whole one.", True, None)
        assert restarts(heard) == []
        assert b"Let me see" not in it.fake.calls_of("two")[0].body

    virtually(main)


def test_an_operator_who_wants_errors_gets_errors():
    async def main() -> None:
        it = gateway("error")
        it.fake.on("one", [SSE_HEAD, s.Body(chunk({"reasoning_content": "Let me see"})), s.Reset()])
        heard = await it.ask("chain", stream=True, headers=TAKES_IT)
        assert heard.error is not None
        assert not heard.finished

    virtually(main)


def test_a_continued_stream_names_the_model_that_speaks_now():
    async def main() -> None:
        it = gateway("continue")
        it.fake.on("one", streamed("Half an ", "answ", ending=s.Reset(), model="one-1"))
        it.fake.on("two", streamed("er.", " Done.", model="two-2"))
        heard = await it.ask("chain", stream=True)
        assert (heard.text, heard.finished) == ("Half an answer. Done.", True)
        models = [c["model"] for c in heard.chunks if c["choices"]]
        assert models == sorted(models) == ["one-1"] * 3 + ["two-2"] * (len(models) - 3)
        assert len(models) > 4
        assert len({c["id"] for c in heard.chunks}) == 1

    virtually(main)


def test_both_halves_of_a_rescued_stream_are_on_the_books_and_told_of():
    """What the first one had said is estimated and paid for; the second one is sent it and tells what that was."""

    async def main() -> None:
        text = CONFIG.format(rescue="continue").replace(
            "upstream: one}", "upstream: one, price: {input: 1, output: 2}}"
        )
        it = VirtualGateway(text.replace("upstream: two}", "upstream: two, price: {input: 3, output: 4}}"))
        it.fake.on("one", streamed("Half an ", "answ", ending=s.Reset()))
        it.fake.on("two", streamed("er.", " Done."))
        heard = await it.ask("chain", stream=True)
        assert heard.finished
        broken, whole = (it.ledger.outcomes[intent.id] for intent in it.ledger.intents)
        assert (broken.outcome, broken.usage.estimated, whole.outcome, whole.usage.estimated) == (
            "failed", True, "ok", False,
        )  # fmt: skip
        assert broken.usage.input > 0
        assert broken.usage.output > 0
        assert broken.cost == (broken.usage.input + 2 * broken.usage.output) * 1000  # nano-US$
        assert whole.cost == (3 * 10 + 4 * 5) * 1000
        [record] = it.ledger.requests
        assert (record.attempts, record.cost) == (2, broken.cost + whole.cost)
        attempts = heard.details["attempts"]
        assert [(one["model"], one["outcome"], one.get("role")) for one in attempts] == [
            ("first", "failed", None), ("second", "ok", "rescue"),
        ]  # fmt: skip
        assert [one["usage"]["output"] for one in attempts] == [broken.usage.output, 5]
        trace = it.house.trace(heard.details["trace"], None)
        assert trace is not None
        assert [one.chosen for one in trace[0].decisions if one.kind == "rescue"] == ["second"]

    virtually(main)


def test_a_continuation_that_breaks_is_continued():
    async def main() -> None:
        it = gateway("continue")
        it.fake.on("one", streamed("Half an ", "answ", ending=s.Reset(), model="one-1"))
        it.fake.on("two", streamed("er, and", ending=s.Hang(), model="two-2"))
        it.fake.on("three", streamed(" more.", model="three-3"))
        heard = await it.ask("chain", stream=True)
        assert (heard.text, heard.finished) == ("Half an answer, and more.", True)
        assert [c["model"] for c in heard.chunks][-1] == "three-3"
        it.ledger.check()

    virtually(main)


def test_the_wish_must_be_a_truth_value():
    async def main() -> None:
        it = gateway("restart")
        heard = await it.ask("chain", headers={"x-headgate-restart": "perhaps"})
        assert heard.status == 400
        assert heard.json()["error"]["param"] == "headgate.restart"

    virtually(main)


@pytest.mark.parametrize("rescue", ["continue", "restart"])
def test_a_chain_whose_last_stream_breaks_too_is_over(rescue):
    async def main() -> None:
        it = gateway(rescue)
        for name in ("one", "two", "three"):
            it.fake.on(name, streamed(f"{name} says ", ending=s.Reset()))
        heard = await it.ask("chain", stream=True, headers=TAKES_IT)
        assert heard.error is not None
        assert not heard.finished
        assert [len(it.fake.calls_of(name)) for name in ("one", "two", "three")] == [1, 1, 1]
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("model", ["first", "chain"])
@pytest.mark.parametrize("ending", [s.Reset(), s.Close(), s.End(), s.Hang()])
def test_what_has_said_its_finish_is_complete_whatever_becomes_of_its_connection(ending, model):
    """No other model adds to it; usage and the end mark are waited for no longer than a moment."""

    async def main() -> None:
        it = gateway("continue")
        said = [SSE_HEAD, s.Body(chunk({"content": "A whole one."})), s.Body(chunk({}, "stop")), s.Pause(0.1), ending]
        it.fake.on("one", said)
        it.fake.on("two", streamed(" And more."))
        heard = await it.ask(model, stream=True)
        assert (heard.text, heard.error) == ("A whole one.", None)
        assert [c["finish_reason"] for f in heard.chunks for c in f["choices"] if c["finish_reason"]] == ["stop"]
        assert heard.took <= TAIL_GRACE + 0.1
        assert not it.fake.calls_of("two")
        [outcome] = it.ledger.outcomes.values()
        assert (outcome.outcome, outcome.usage.estimated) == ("ok", True)
        assert it.transport.open == 0
        it.ledger.check()

    virtually(main)


def test_a_routes_stream_goes_on_with_what_it_has_otherwise():
    """A rule with one model is no less available than a chain: also after its first words."""
    text = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  first: {provider: openai, upstream: one}
  second: {provider: openai, upstream: two}
  auto: {route: {otherwise: second, tasks: {code: first}}}
"""

    async def main() -> None:
        it = VirtualGateway(text)
        it.fake.on("one", streamed("Water is ", ending=s.Reset()))
        it.fake.on("two", streamed("let in."))
        asked = [{"role": "user", "content": "Write a Python function that reverses a linked list."}]
        heard = await it.ask("auto", stream=True, messages=asked)
        assert heard.finished
        assert heard.text == "Water is let in."
        assert [a["outcome"] for a in heard.details["attempts"]] == ["failed", "ok"]
        it.ledger.check()

    virtually(main)


# What may happen to a request while its stream is being rescued: it breaks at 2 s, and the next model speaks from 7 s on.
def rescued() -> VirtualGateway:
    it = gateway("continue")
    it.fake.on("one", streamed("Half an ", "answ", every=1, ending=s.Reset()))
    it.fake.on("two", streamed("er.", " Done.", after=5, every=1))
    return it


@pytest.mark.parametrize("without", ["first", "second"])
def test_a_reload_in_the_middle_changes_nothing_for_who_is_being_answered(without):
    async def main() -> None:
        it = rescued()
        asking = asyncio.ensure_future(it.ask("chain", stream=True))
        for _ in range(4):
            await asyncio.sleep(1.5)
            left = [line for line in CONFIG.format(rescue="error").splitlines() if f"{without}: {{" not in line]
            text = "\n".join(left).replace(f"{without}, ", "")
            it.house.snapshot = it.compiler.compile(load_text(text, "test.yaml", ENV).config)
        heard = await asking
        assert (heard.text, heard.finished) == ("Half an answer. Done.", True)
        assert it.house.snapshot.model(without) is None
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("at", [0.5, 1.0, 2.0, 2.000001, 5.0, 7.0, 8.0])
def test_a_client_that_leaves_in_the_middle_ends_the_one_who_speaks_and_the_one_who_is_asked(at):
    async def main() -> None:
        it = rescued()
        asking = asyncio.ensure_future(it.ask("chain", stream=True))
        await asyncio.sleep(at)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert (it.transport.open, it.house.inflight) == (0, 0)
        assert not it.fake.calls_of("three")
        it.ledger.check()
        [record] = it.ledger.requests
        assert (record.status, record.attempts) == (499, len(it.ledger.intents))

    virtually(main)


def test_a_drain_whose_time_is_over_ends_it_in_good_form():
    async def main() -> None:
        it = rescued()
        asking = asyncio.ensure_future(it.ask("chain", stream=True))
        await asyncio.sleep(3)
        await it.plane.drain(1)
        heard = await asking
        assert (heard.text, heard.finished, heard.took) == ("Half an answ", False, 4)
        assert heard.error is not None
        assert "shut down" in heard.error["message"]
        assert (it.transport.open, it.house.inflight) == (0, 0)
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("seconds", "status", "calls"), [(1, 503, 1), (10, 200, 2)])
def test_a_drain_waits_for_a_retry_as_long_as_it_may(seconds, status, calls, stream):
    async def main() -> None:
        it = gateway("continue")
        it.fake.on("one", s.reply_json(503, {"error": {"message": "down"}}, (("retry-after", "4"),)))
        asking = asyncio.ensure_future(it.ask("first", stream=stream))
        await asyncio.sleep(1)
        it.fake.on("one", either(answer("back"), streamed("back")))
        await it.plane.drain(seconds)
        heard = await asking
        assert (heard.status, heard.whole, len(it.fake.calls)) == (status, True, calls)
        it.ledger.check()

    virtually(main)
