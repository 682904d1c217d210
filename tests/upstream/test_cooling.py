"""What is asked when deployments cool down: chains, single models, recovery after an outage. On virtual time."""

from __future__ import annotations

import asyncio

import pytest

from headgate.simulator import script as s
from support.virtual import VirtualGateway, answer, either, streamed, virtually

CONFIG = """
providers: {{openai: {{base_url: "http://one/v1"}}}}
models:
  first: {{provider: openai, upstream: one}}
  second: {{provider: openai, upstream: two}}
  third: {{provider: openai, upstream: three}}
  pair: {{fallback: {{order: [first, second], when_all_cooling: {cooling}}}}}
  alone: {{fallback: {{order: [first], when_all_cooling: {cooling}, retries: 0}}}}
  inner: {{fallback: [second]}}
  outer: {{fallback: {{order: [{{model: inner, timeout: 2s}}, third]}}}}
"""
DOWN = s.reply_json(503, {"error": {"message": "down"}})


def gateway(cooling: str = "ask") -> VirtualGateway:
    return VirtualGateway(CONFIG.format(cooling=cooling))


def well(text: str = "well", after: float = 0.0):
    return either(answer(text, after=after), streamed(text, after=after))


async def opened(it: VirtualGateway, *models: str) -> None:
    """Breakers opened by failures; the counters begin after it."""
    for model in models:
        while it.vitals(model).health.state == "closed":
            await it.ask(model)


@pytest.mark.parametrize("stream", [False, True])
def test_twenty_requests_across_an_outage_are_all_answered_and_the_primary_is_back_within_a_probe_interval(stream):
    async def main() -> None:
        it = gateway()
        outage = (10.0, 70.0)
        it.fake.on("one", lambda call: DOWN if outage[0] <= it.clock.monotonic() < outage[1] else well()(call))
        it.fake.on("two", well("second"))
        began = it.clock.monotonic()
        served: list[tuple[float, str]] = []
        for number in range(20):
            await asyncio.sleep(began + number * 6.0 - it.clock.monotonic())
            heard = await it.ask("pair", stream=stream)
            assert (heard.status, heard.error) == (200, None)
            served.append((it.clock.monotonic(), heard.headers["x-headgate-model"]))
        during = [model for at, model in served if outage[0] <= at < outage[1]]
        assert set(during) == {"second"}
        back = min(at for at, model in served if model == "first" and at >= outage[1])
        # The cool-down had grown to 40 s by then at most; requests come every 6 s.
        longest = it.vitals("first").health
        assert longest.state == "closed"
        assert back - outage[1] <= 40 + 6
        asked = [call for call in it.fake.calls_of("one") if outage[0] <= call.at < outage[1]]
        assert len(asked) <= 5 + 4  # five failures in a row, then the probes at 5, 10, 20 and 40 s
        it.ledger.check()

    virtually(main)


def test_a_recovering_primary_gets_one_probe_at_a_time_while_the_rest_is_served_elsewhere():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", DOWN)
        it.fake.on("two", well("second"))
        await opened(it, "first")
        it.fake.on("one", well("first", after=3.0))
        await asyncio.sleep(it.vitals("first").health.ready_in())
        before = len(it.fake.calls_of("one"))
        heard = await asyncio.gather(*(it.ask("pair") for _ in range(50)))
        assert {h.status for h in heard} == {200}
        assert [h.text for h in heard].count("first") == 1
        assert len(it.fake.calls_of("one")) == before + 1
        assert (await it.ask("pair")).text == "first"

    virtually(main)


def test_ask_the_one_that_recovers_first_is_asked_once_when_nothing_else_is_left():
    async def main() -> None:
        it = gateway("ask")
        it.fake.on("one", DOWN)
        it.fake.on("two", DOWN)
        await opened(it, "first")
        await asyncio.sleep(1)
        await opened(it, "second")
        counts = len(it.fake.calls_of("one")), len(it.fake.calls_of("two"))
        heard = await it.ask("pair")
        assert (heard.status, heard.json()["error"]["code"]) == (503, "all_models_unavailable")
        assert heard.headers["x-should-retry"] == "false"
        assert (len(it.fake.calls_of("one")), len(it.fake.calls_of("two"))) == (counts[0] + 1, counts[1])
        it.fake.on("one", well("first"))
        assert (await it.ask("pair")).text == "first"
        assert it.vitals("first").health.state == "closed"

    virtually(main)


def test_fail_nobody_is_asked_before_its_time():
    async def main() -> None:
        it = gateway("fail")
        it.fake.on("one", DOWN)
        it.fake.on("two", DOWN)
        await opened(it, "first", "second")
        counts = len(it.fake.calls)
        heard = await asyncio.gather(*(it.ask("pair") for _ in range(100)))
        assert {h.status for h in heard} == {503}
        assert all(0 < float(h.headers["retry-after"]) <= 5 for h in heard)
        assert max(h.took for h in heard) == 0
        assert len(it.fake.calls) == counts
        await asyncio.sleep(5)
        it.fake.on("one", well("first"))
        assert (await it.ask("pair")).text == "first"

    virtually(main)


def test_wait_all_wait_for_one_probe_and_are_then_answered():
    async def main() -> None:
        it = gateway("wait")
        it.fake.on("one", DOWN)
        await opened(it, "first")
        it.fake.on("one", well("first", after=1.0), well("first", after=0.1))
        before = len(it.fake.calls_of("one"))
        asking = [asyncio.ensure_future(it.ask("alone")) for _ in range(30)]
        await asyncio.sleep(5.5)
        assert len(it.fake.calls_of("one")) == before + 1  # the probe
        heard = await asyncio.gather(*asking)
        assert {(h.status, h.text) for h in heard} == {(200, "first")}
        assert all(5 < h.took < 8 for h in heard)
        short = gateway("wait")
        short.fake.on("one", DOWN)
        await opened(short, "first")
        told = await short.ask("alone", headers={"x-headgate-timeout": "2s"})
        assert (told.status, told.took) == (503, 0)  # it would be too late: no need to wait for that
        it.ledger.check()

    virtually(main)


def test_a_named_wait_is_kept_to_even_by_the_last_target():
    async def main() -> None:
        it = gateway("ask")
        limited = s.reply_json(429, {"error": {"message": "slow down"}}, (("retry-after", "30"),))
        it.fake.on("one", limited)
        it.fake.on("two", limited)
        await it.ask("pair")
        counts = len(it.fake.calls)
        for _ in range(10):
            heard = await it.ask("pair")
            assert heard.status == 429
            assert 0 < float(heard.headers["retry-after"]) <= 30
        assert len(it.fake.calls) == counts

    virtually(main)


def test_a_rate_limit_without_a_time_is_over_when_the_headers_say_so():
    async def main() -> None:
        it = gateway()
        headers = (
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "42s"),
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-tokens", "900"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        )
        it.fake.on("one", s.reply_json(429, {"error": {"message": "slow down"}}, headers))
        heard = await it.ask("first")
        assert heard.status == 429
        assert it.vitals("first").health.view().recovers_in == 42

    virtually(main)


def test_a_wait_that_a_good_answer_names_means_nothing():
    async def main() -> None:
        it = gateway()
        steps = answer("fine")
        it.fake.on("one", s.with_headers(steps, {"retry-after": "60"}))
        assert (await it.ask("first")).text == "fine"
        assert it.vitals("first").health.well

    virtually(main)


def test_a_nested_strategy_has_its_own_time_in_a_chain():
    async def main() -> None:
        it = gateway()
        it.fake.on("two", [s.Hang()])
        it.fake.on("three", well("third"))
        heard = await it.ask("outer")
        assert (heard.text, heard.headers["x-headgate-model"]) == ("third", "third")
        assert 2.0 <= heard.took < 2.1

    virtually(main)


def test_a_model_that_its_provider_does_not_know_moves_a_chain_on():
    async def main() -> None:
        it = gateway()
        told = {"error": {"message": "The model `one` does not exist", "code": "model_not_found", "type": "x"}}
        it.fake.on("one", s.reply_json(404, told))
        it.fake.on("two", well("second"))
        assert (await it.ask("pair")).text == "second"
        assert (await it.ask("first")).status == 404

    virtually(main)


def test_what_we_have_tried_the_sdk_is_told_not_to_try_again():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", DOWN)
        heard = await it.ask("first")
        assert (heard.status, heard.headers["x-should-retry"]) == (503, "false")
        assert len(it.fake.calls_of("one")) == 3

    virtually(main)


def test_a_streams_read_timeout_is_no_deadline_and_a_whole_answers_is():
    async def main() -> None:
        it = gateway()
        words = either(answer("slow", after=20), streamed("a", "b", "c", every=8))
        it.fake.on("one", words)
        for header in ("x-stainless-read-timeout", "x-stainless-timeout", "x-server-timeout"):
            streaming = await it.ask("first", stream=True, headers={header: "10"})
            assert (streaming.text, streaming.finished) == ("abc", True)
            whole = await it.ask("first", headers={header: "10"})
            assert (whole.status, whole.took) == (504, 10)
        ours = await it.ask("first", stream=True, headers={"x-headgate-timeout": "10s"})
        assert (ours.error or {}).get("code") in ("deadline_exceeded", "upstream_timeout")
        assert not ours.finished

    virtually(main)


def test_every_move_is_an_event_a_decision_and_an_attempt():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", DOWN)
        it.fake.on("two", well("second"))
        for _ in range(5):
            heard = await it.ask("pair")
        moves = [facts for kind, facts in it.events if kind == "fallback"]
        assert len(moves) == 5
        assert all(move["chosen"] == "second" and move["over"] == ["first"] and move["trace"] for move in moves)
        assert [a["outcome"] for a in heard.details["attempts"]] == ["failed", "ok"]
        trace = it.house.trace(moves[0]["trace"], None)
        assert trace is not None
        [decided] = [one for one in trace[0].decisions if one.kind == "fallback"]
        assert (decided.chosen, decided.over, decided.because) == ("second", ["first"], "first: overloaded")
        opened_once = [facts for kind, facts in it.events if kind == "health"]
        assert [(one["deployment"], one["state"]) for one in opened_once] == [("openai/one", "open")]

    virtually(main)


def test_who_is_passed_over_because_it_cools_down_is_told_with_the_reason():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", DOWN)
        it.fake.on("two", well("second"))
        await opened(it, "first")
        heard = await it.ask("pair")
        assert (heard.text, len(heard.details["attempts"])) == ("second", 1)
        trace = it.house.trace(heard.details["trace"], None)
        assert trace is not None
        [skipped] = [one for one in trace[0].decisions if one.kind == "skip"]
        assert skipped.chosen == "first"
        assert "cooling down" in skipped.because
        assert "overloaded: 5 failures in a row; 5.0 s more" in skipped.because
        it.fake.on("one", well("first"))
        await asyncio.sleep(5)
        heard = await it.ask("pair")
        trace = it.house.trace(heard.details["trace"], None)
        assert trace is not None
        assert (heard.text, trace[0].decisions) == ("first", [])

    virtually(main)


def test_where_nobody_is_left_to_move_to_that_is_an_event_of_its_own_and_no_move():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", DOWN)
        it.fake.on("two", DOWN)
        await it.ask("pair")
        assert [kind for kind, _ in it.events] == ["fallback", "gave_up"]
        assert it.events[1][1]["over"] == ["second"]
        it.events.clear()
        it.fake.on("one", streamed("Half an ", "answ", ending=s.Reset()))
        heard = await it.ask("alone", stream=True)
        assert heard.error is not None
        assert not heard.finished
        assert "rescue" not in [kind for kind, _ in it.events]

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_no_later_attempt_starts_that_the_time_left_would_not_do_for(stream):
    config = CONFIG.format(cooling="ask") + "  three: {fallback: [first, second, third]}\n"

    async def main() -> None:
        it = VirtualGateway(config)
        it.fake.on("two", well("slow", after=2.0))
        it.fake.on("three", well("quick", after=0.2))
        for _ in range(20):
            await it.ask("second", stream=stream)
            await it.ask("third", stream=stream)
        it.fake.on("one", lambda call: [s.Pause(1.5), *DOWN])
        it.fake.forget()
        heard = await it.ask("three", stream=stream, headers={"x-headgate-timeout": "3s"})
        assert (heard.status, heard.text) == (200, "quick")  # 1.5 s were left, and `second` usually takes 2
        assert not it.fake.calls_of("two")
        heard = await it.ask("three", stream=stream, headers={"x-headgate-timeout": "6s"})
        assert heard.text == "slow"
        it.fake.on("two", well("faster", after=0.1))
        heard = await it.ask("second", stream=stream, headers={"x-headgate-timeout": "1s"})
        assert heard.text == "faster"  # a first attempt always starts
        it.ledger.check()

    virtually(main)


def test_where_one_deployment_has_no_time_left_the_models_quicker_one_is_asked():
    config = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  first: {provider: openai, upstream: one}
  slow: {provider: openai, upstream: two}
  both:
    balance: weighted
    deployments: [{provider: openai, upstream: two, weight: 999}, {provider: openai, upstream: three, weight: 1}]
  pair: {fallback: [first, both]}
"""

    async def main() -> None:
        it = VirtualGateway(config)
        it.fake.on("two", well("slow", after=2.0))
        it.fake.on("three", well("quick", after=0.2))
        for _ in range(25):
            await it.ask("both")
        it.fake.on("one", lambda call: [s.Pause(1.5), *DOWN])
        it.fake.forget()
        heard = await it.ask("pair", headers={"x-headgate-timeout": "3s"})
        assert (heard.status, heard.text) == (200, "quick")
        assert not it.fake.calls_of("two")
        it.ledger.check()

    virtually(main)


def test_a_firewall_that_refuses_one_request_cools_nobody_down():
    async def main() -> None:
        it = gateway()
        it.fake.on("one", lambda call: s.html(403, "Blocked") if b"DROP TABLE" in call.body else well("first")(call))
        it.fake.on("two", well("second"))
        for _ in range(3):
            heard = await it.ask("pair", messages=[{"role": "user", "content": "What does DROP TABLE do?"}])
            assert heard.text == "second"
            assert (await it.ask("pair")).text == "first"
        assert not [kind for kind, _ in it.events if kind == "misconfigured"]
        it.fake.on("one", s.reply_json(403, {"error": {"message": "no access"}}))  # the API's own word
        assert (await it.ask("pair")).text == "second"
        assert it.vitals("first").health.view().error == "auth"

    virtually(main)


def test_no_words_of_a_client_that_a_provider_repeats_cool_anybody_down():
    async def main() -> None:
        it = gateway()
        told = {
            "message": "Invalid schema for function 'get_billing_info': None is not an object",
            "type": "invalid_request_error",
        }
        it.fake.on("*", s.reply_json(400, {"error": told}))
        heard = await it.ask("pair")
        assert (heard.status, len(it.fake.calls)) == (400, 1)
        it.fake.on("*", well())
        assert (await it.ask("pair")).headers["x-headgate-model"] == "first"

    virtually(main)
