"""When the same deployment is asked again, and when somebody else must be told: times that providers name. Virtual time."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from headgate.simulator import script as s
from headgate.upstream.retry import BASE_DELAY
from support.virtual import VirtualGateway, answer, either, streamed, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  first: {provider: openai, upstream: one}
  second: {provider: openai, upstream: two}
  pair: {fallback: [first, second]}
"""


def no(status: int, **headers: str) -> list[s.Step]:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return s.reply_json(status, {"error": {"message": "no"}}, named)


def once(refusal: list[s.Step]) -> Any:
    """A provider that refuses once."""
    told: list[object] = []

    def say(call: Any) -> s.Script:
        if not told:
            told.append(call)
            return refusal
        return either(answer("back"), streamed("back"))(call)

    return say


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
@pytest.mark.parametrize(("header", "seconds"), [({"retry_after": "2"}, 2.0), ({"retry_after_ms": "300"}, 0.3)])
def test_a_short_wait_that_is_named_is_waited_and_the_request_is_answered(status, header, seconds, stream):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", once(no(status, **header)))
        heard = await it.ask("first", stream=stream)
        assert (heard.status, heard.text) == (200, "back")
        assert seconds < heard.took < seconds + 0.01
        assert len(it.fake.calls) == 2
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_a_wait_that_only_the_message_of_a_rate_limit_names_is_kept_to(stream):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", s.reply_json(429, {"error": {"message": "Rate limit reached. Please try again in 0m40s."}}))
        for _ in range(2):
            heard = await it.ask("first", stream=stream)
            assert (heard.status, heard.headers["retry-after"], heard.took) == (429, "40", 0)
        assert len(it.fake.calls) == 1
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_long_one_is_told_at_once_and_kept_to_by_the_next_request(status):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", once(no(status, retry_after="40")))
        for _ in range(2):
            heard = await it.ask("first")
            assert heard.status in (429, 502, 503)
            assert heard.took == 0
            assert 0 < float(heard.headers["retry-after"]) <= 40
        assert len(it.fake.calls) == 1
        view = it.vitals("first").health.view()
        assert (view.state, view.recovers_in) == ("open", 40)

    virtually(main)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_in_a_chain_nobody_waits_where_the_next_is_well(status):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", once(no(status, retry_after="2")))
        it.fake.on("two", answer("second"))
        heard = await it.ask("pair")
        assert (heard.text, heard.took) == ("second", 0)
        heard = await it.ask("pair")  # and before its time the first is not asked again
        assert heard.text == "second"
        assert len(it.fake.calls_of("one")) == 1

    virtually(main)


def test_a_wait_that_does_not_fit_into_the_deadline_is_not_begun():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", no(503, retry_after="3"))
        heard = await it.ask("first", headers={"x-headgate-timeout": "2s"})
        assert (heard.status, heard.took) == (503, 0)
        assert heard.headers["x-should-retry"] == "false"

    virtually(main)


def test_an_open_breaker_is_not_tried_again_by_the_request_that_opened_it():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", no(500))
        for _ in range(2):
            await it.ask("first")
        assert it.vitals("first").health.state == "open"
        assert len(it.fake.calls) == 5  # three, and then the two that made five in a row
        await it.ask("first")
        assert len(it.fake.calls) == 6

    virtually(main)


def test_a_deadline_that_passed_after_an_attempt_is_not_multiplied_by_the_sdk():
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", [s.Hang()])
        heard = await it.ask("first", headers={"x-headgate-timeout": "2s"})
        assert (heard.status, heard.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert heard.headers["x-should-retry"] == "false"

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("headers", "field", "seconds"),
    [
        ({"x-headgate-timeout": "3s"}, None, 3),
        ({}, "4s", 4),
        ({"x-headgate-timeout": "3s"}, "4s", 3),  # the header wins
        ({"x-headgate-timeout": "500ms", "x-stainless-read-timeout": "2"}, None, 0.5),
        ({"x-headgate-timeout": "1h"}, None, 20),  # never longer than the operator allows
        ({}, None, 20),
    ],
)
def test_a_requests_time_is_what_its_client_or_the_operator_gives_it(headers, field, seconds, stream):
    async def main() -> None:
        it = VirtualGateway(CONFIG + "server: {deadline: 20s}\n")
        it.fake.on("one", [s.Hang()])
        more = {} if field is None else {"headgate": {"timeout": field, "details": True}}
        heard = await it.ask("first", stream=stream, headers=headers, **more)
        assert heard.error is not None
        assert heard.error["code"] == "deadline_exceeded"
        assert heard.took == pytest.approx(seconds, abs=0.01)
        assert it.transport.open == 0
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_who_names_no_time_is_asked_again_after_pauses_that_grow_and_differ(stream):
    async def main() -> None:
        pauses: list[tuple[float, float]] = []
        for seed in range(40):
            it = VirtualGateway(CONFIG, seed=seed)
            it.fake.on("one", no(500))
            await it.ask("first", stream=stream)
            at = [call.at for call in it.fake.calls]
            assert len(at) == 3
            pauses.append((at[1] - at[0], at[2] - at[1]))
        for number, longest in enumerate((BASE_DELAY, 2 * BASE_DELAY)):
            drawn = sorted(pause[number] for pause in pauses)
            assert 0 <= drawn[0] < longest / 4  # full jitter: anywhere from nothing
            assert longest * 3 / 4 < drawn[-1] <= longest + 0.01

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_retries_draw_on_their_deployments_budget_and_a_move_does_not(stream):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("one", no(500))
        it.fake.on("two", either(answer("second"), streamed("second")))
        budget = it.vitals("first").retries
        while budget.spend():
            pass
        assert (await it.ask("first", stream=stream)).status == 503
        assert len(it.fake.calls) == 1
        assert (await it.ask("pair", stream=stream)).text == "second"
        assert len(it.fake.calls_of("two")) == 1
        it.fake.on("two", once(no(500)))
        assert (await it.ask("second", stream=stream)).text == "back"  # its own budget has not been touched
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("named", ["0", "-5", "0.0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_who_names_a_time_that_is_over_is_not_asked_again_in_the_same_breath(named, status, stream):
    async def main() -> None:
        shortest: list[float] = []
        for seed in range(20):
            it = VirtualGateway(CONFIG, seed=seed)
            it.fake.on("one", no(status, retry_after=named))
            assert (await it.ask("first", stream=stream)).error is not None
            at = [call.at for call in it.fake.calls]
            assert len(at) == 3
            shortest.append(at[2] - at[0])
        assert sum(shortest) / 20 > 0.2  # of 0.375 s that full jitter makes of two pauses on average

    virtually(main)


@pytest.mark.parametrize("status", [429, 500, 503, 504])
@pytest.mark.parametrize("dated", [True, False])
def test_a_date_is_a_time_to_wait_too_also_where_the_answer_has_no_date_of_its_own(dated, status):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        now = it.clock.time()
        # What counts is how far apart the two are: the provider's clock may be wrong.
        wrong = -3600 if dated else 0
        headers = {"retry_after": formatdate(now + wrong + 40, usegmt=True)}
        if dated:
            headers["date"] = formatdate(now + wrong, usegmt=True)
        it.fake.on("one", no(status, **headers))
        for _ in range(3):
            heard = await it.ask("first")
            assert heard.headers["retry-after"] == "40"
        assert len(it.fake.calls) == 1
        assert it.vitals("first").health.view().recovers_in == 40

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("nonsense", ["nan", "soon", "", "2, 3"])
@pytest.mark.parametrize("header", ["retry-after", "retry-after-ms", "x-ratelimit-reset-requests"])
def test_what_is_no_time_is_no_time_and_the_error_is_a_clean_one(header, nonsense, stream):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        used_up = (("x-ratelimit-limit-requests", "9"), ("x-ratelimit-remaining-requests", "0"), (header, nonsense))
        it.fake.on("one", s.reply_json(429, {"error": {"message": "no"}}, used_up))
        heard = await it.ask("first", stream=stream)
        assert (heard.status, heard.error and heard.error["message"]) == (429, "no")
        assert heard.headers["retry-after"] == "1"
        assert it.vitals("first").health.view().recovers_in == 1
        it.fake.on("one", lambda call: s.with_headers(answer("fine"), dict(used_up)))
        await it.clock.sleep(1)
        assert (await it.ask("first")).text == "fine"
        it.ledger.check()

    virtually(main)
