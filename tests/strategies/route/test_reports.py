"""Signs that an answer was not what was wanted: asked again, or its code does not work. And what is no such sign."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate.dialects.jsonio import encode
from headgate.providers.registry import dialect_of
from headgate.strategies.route import Route
from headgate.strategies.route.beliefs import ASSUMED, Prior
from headgate.strategies.route.reports import READ, reports_failure
from support.virtual import VirtualGateway, answer, streamed, virtually

CODE = "Here it is:\n```python\ndef double(x):\n    return x + x\n```"
ASKED = [{"role": "user", "content": "Fix this bug: double is wrong."}]
ANSWERED = [*ASKED, {"role": "assistant", "content": CODE}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "run_tests", "arguments": "{}"}}


def reports(messages: list[dict[str, Any]]) -> bool:
    return reports_failure(dialect_of("openai_chat").parse_request(encode({"model": "m", "messages": messages})))


@pytest.mark.parametrize(
    "said",
    [
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\nNameError: name 'y' is not defined",
        "FAILED tests/test_double.py::test_zero - assert 1 == 0",
        "===== 1 failed, 11 passed in 0.12s =====",
        "Tests:       2 failed, 3 passed, 5 total",
        "  3 passing\n  1 failing",
        "--- FAIL: TestDouble (0.00s)\nFAIL\texample.com/double\t0.003s",
        "test result: FAILED. 3 passed; 1 failed; 0 ignored",
        "thread 'main' panicked at src/main.rs:4:5:",
        "error[E0382]: borrow of moved value: `x`",
        "Tests run: 7, Failures: 1, Errors: 0, Skipped: 0",
        'Exception in thread "main" java.lang.NullPointerException',
        "TypeError: x is not a function\n    at Object.<anonymous> (/app/a.js:3:1)",
        "System.InvalidOperationException: Sequence contains no elements\n   at System.Linq.Enumerable.First",
        "AssertionError: expected 4 to equal 5",
        "npm ERR! Test failed.  See above for more details.",
        "it crashes: Segmentation fault (core dumped)",
        "x" * 3 * READ + "\n1 failed, 2 passed",
    ],
)
def test_a_report_of_code_that_fails_is_seen(said: str):
    assert reports([*ANSWERED, {"role": "user", "content": said}])
    called = {"role": "assistant", "content": CODE, "tool_calls": [CALL]}
    assert reports([*ASKED, called, {"role": "tool", "tool_call_id": "call_1", "content": said}]), "as a tool gives it"
    assert not reports([{"role": "user", "content": said}]), "nothing was answered"
    prose = {"role": "assistant", "content": "Try turning it off and on again."}
    assert not reports([*ASKED, prose, {"role": "user", "content": said}]), "no code was answered"
    first = {"role": "user", "content": said}
    assert not reports([first, {"role": "assistant", "content": CODE}, {"role": "user", "content": "Thanks!"}])


@pytest.mark.parametrize(
    "said",
    [
        "Thanks, all 12 passed.",
        "12 passed, 0 failed",
        "Tests run: 7, Failures: 0, Errors: 0",
        "test result: ok. 4 passed; 0 failed",
        "Now raise a ValueError where x is None, and explain why an AssertionError would be worse.",
        "My last attempt failed because the interview was short.",
        "Write the tests for it, please.",
    ],
)
def test_what_is_no_such_report(said: str):
    assert not reports([*ANSWERED, {"role": "user", "content": said}])


CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  m: {provider: openai, upstream: gpt-4.1, price: {input: 1, output: 1}}
  n: {provider: openai, upstream: gpt-4.1-mini, price: {input: 1, output: 1}}
  auto:
    route:
      classifier: keyword
      keywords: {code: [bug]}
      tasks: {code: m}
      otherwise: n
      learn: {implicit: true}
"""


def learned(turns: list[list[dict[str, Any]]], config: str = CONFIG) -> tuple[float, list[str | None]]:
    """What is believed of `m` in code after these requests, the others' answers being liked; and the sign in each trace."""
    out: list[tuple[float, list[str | None]]] = []

    async def main() -> None:
        it = VirtualGateway(config)
        it.fake.on("gpt-4.1", answer(CODE))
        it.fake.on("gpt-4.1-mini", answer("Yes."))
        for number in range(8):  # other conversations, that go on as they should
            first = [{"role": "user", "content": f"How high is hill {number}?"}]
            await it.ask("auto", messages=first)
            more = [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And the next?"}]
            await it.ask("auto", messages=[*first, *more])
        signs = []
        for messages in turns:
            assert (await it.ask("auto", messages=messages)).status == 200
            signs.append(it.house.recent(1)[0][0].facts["route"].get("before"))
        route = it.house.snapshot.entries["auto"]
        assert isinstance(route, Route)
        out.append((route.learning.beliefs.quality("code", "m", Prior(0.7, ASSUMED)).mean, signs))

    virtually(main)
    return out[0]


FAILS = [*ANSWERED, {"role": "user", "content": "pytest says:\nFAILED tests/test_double.py::test_zero"}]
GOES_ON = [*ANSWERED, {"role": "user", "content": "Thanks. Now name the bug."}]


def test_code_that_fails_counts_against_its_model():
    fine, signs = learned([ASKED, GOES_ON])
    assert signs == [None, None]
    worse, signs = learned([ASKED, FAILS])
    assert signs == [None, "code_failed"]
    assert worse < fine
    again, signs = learned([ASKED, ASKED])
    assert signs == [None, "asked_again"]
    assert again < fine


def test_implicit_signs_can_be_switched_off():
    kept, signs = learned([ASKED, FAILS], CONFIG.replace("implicit: true", "implicit: false"))
    fine, _ = learned([ASKED], CONFIG.replace("implicit: true", "implicit: false"))
    assert signs == [None, None]
    assert kept == fine


def test_a_loop_of_tool_calls_is_not_the_same_question_again():
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    step = [*ASKED, called, {"role": "tool", "tool_call_id": "call_1", "content": "12 passed"}]
    _, signs = learned([ASKED, step, [*step, called, {"role": "tool", "tool_call_id": "call_1", "content": "ok"}]])
    assert signs == [None, None, None]


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}


def believed(it: VirtualGateway, model: str, task: str = "code") -> tuple[float, float]:
    """(quality, answers whose worth is known)."""
    route = it.house.snapshot.entries["auto"]
    assert isinstance(route, Route)
    beliefs = route.learning.beliefs
    return beliefs.quality(task, model, Prior(0.7, ASSUMED)).mean, beliefs.answers(task, model)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_breaks_the_clients_schema_counts_against_its_model(stream: bool):
    """In full, whatever is said of implicit signs: the client asked for a form and did not get it."""

    async def main() -> None:
        it = VirtualGateway(CONFIG.replace("tasks: {code: m}", "tasks: {code: {models: [m, n]}}"))
        say = streamed if stream else answer
        it.fake.on("gpt-4.1", say("There are seven."))
        it.fake.on("gpt-4.1-mini", say('{"n": 7}'))
        heard = await it.ask("auto", messages=ASKED, response_format=FORM, stream=stream)
        if stream:
            assert heard.error is not None, "it had been said already"
        else:
            assert heard.headers["x-headgate-model"] == "n"
        quality, answers = believed(it, "m")
        assert answers == 1
        assert quality < 0.7
        assert believed(it, "n") == (0.7, 0)

    virtually(main)


def test_an_answer_that_the_client_does_not_wait_for_counts_against_its_model():
    async def after(leaves: bool) -> float:
        it = VirtualGateway(CONFIG)
        it.fake.on("gpt-4.1", streamed("Water ", "is ", "let ", "in.", every=1.0))
        it.fake.on("gpt-4.1-mini", answer("Yes."))
        for number in range(8):
            await it.ask("auto", messages=[{"role": "user", "content": f"How high is hill {number}?"}])
        gone = (lambda heard: b"is " in heard.body) if leaves else None
        if leaves:
            with pytest.raises(asyncio.CancelledError):
                await it.ask("auto", messages=ASKED, stream=True, leaves=gone)
        else:
            await it.ask("auto", messages=ASKED, stream=True)
        assert it.house.recent(1)[0][1].error == ("client_left" if leaves else None)
        quality, answers = believed(it, "m")
        assert answers == 0, "a hint, no score"
        return quality

    async def main() -> None:
        assert await after(True) < await after(False)

    virtually(main)
