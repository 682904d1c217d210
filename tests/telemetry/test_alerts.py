"""Fault 42: an alert webhook that fails, hangs, redirects or is where it must not be. It never keeps a request waiting."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time

import pytest

from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from headgate.net.egress import GuardedResolver
from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.protocol import EgressRefused
from headgate.server.alerting import open_alerts
from headgate.simulator import script as s
from headgate.simulator.scripted import FakeUpstream
from headgate.telemetry import alerts as telling
from headgate.telemetry.alerts import Alerts, Webhook
from support.gateway import ENV, Loop
from support.served import ServedGateway

LOOPBACK = ("127.0.0.0/8",)
OPEN = {"deployment": "openai/gpt", "was": "closed", "state": "open", "because": "5 failures in a row"}
FINE = s.reply_json(200, {})


class Ticking:
    """Time that only passes when somebody waits."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_800_000_000.0 + self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class Listener:
    """A webhook on a real port, and alerts that go to it."""

    def __init__(self, *answers, secret: str | None = None, networks=LOOPBACK) -> None:
        self.fake = FakeUpstream()
        self.fake.on("*", *answers)
        self._secret, self._networks = secret, networks

    async def __aenter__(self) -> Listener:
        await self.fake.start()
        hook = Webhook(url=f"{self.fake.base_url}/hook?team=a", secret=self._secret, networks=self._networks)
        self.clock = Ticking()
        self.transport = H1Transport(resolver=GuardedResolver(hook.policy))
        self.alerts = Alerts(hook, frozenset({"health", "shed"}), self.transport, self.clock)
        self._running = asyncio.ensure_future(self.alerts.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await self.transport.aclose()
        await self.fake.aclose()

    async def asked(self) -> None:
        """Somebody has called."""
        await self._that(lambda: bool(self.fake.calls))

    async def until(self, **counts: int) -> None:
        await self._that(lambda: all(self.alerts.counts[name] >= count for name, count in counts.items()))

    async def _that(self, is_so) -> None:
        for _ in range(3000):
            if is_so():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(self.alerts.counts)


async def test_an_alert_is_posted_signed_and_says_what_happened():
    async with Listener(FINE, secret="s3cret") as it:
        it.alerts.event("health", OPEN)
        it.alerts.event("failover", {"model": "m"})  # not asked for
        await it.until(sent=1)
        (call,) = it.fake.calls
        assert (call.method, call.path, call.query) == ("POST", "/hook", {"team": "a"})
        assert json.loads(call.body) == {"alert": "health", "at": 1_800_000_000.0, "facts": OPEN}
        signed = hmac.new(b"s3cret", call.body, hashlib.sha256).hexdigest()
        assert call.headers["x-headgate-signature"] == f"sha256={signed}"


async def test_the_same_alert_is_told_once_in_a_while_and_says_how_often_it_came():
    async with Listener(FINE) as it:
        for _ in range(5):
            it.alerts.event("health", OPEN)
        it.alerts.event("health", {**OPEN, "deployment": "other"})
        it.alerts.event("health", {**OPEN, "state": "closed"})
        await it.until(sent=3)
        it.clock.now += 61
        it.alerts.event("health", OPEN)
        await it.until(sent=4)
        told = [json.loads(call.body) for call in it.fake.calls]
        assert [alert.get("repeated") for alert in told] == [None, None, None, 4]


async def test_two_chains_that_move_on_are_two_alerts():
    async with Listener(FINE) as it:
        for chosen, over in (("b", ["a"]), ("b", ["a"]), ("d", ["c"]), ("d", ["a"])):
            it.alerts.event("shed", {"trace": "tr", "chosen": chosen, "over": over, "because": "timeout"})
        await it.until(sent=3)
        assert [json.loads(call.body)["facts"]["over"] for call in it.fake.calls] == [["a"], ["c"], ["a"]]


async def test_a_webhook_that_fails_is_asked_three_times_and_one_that_recovers_is_heard():
    broken = s.reply_json(500, {})
    async with Listener(broken) as it:
        it.alerts.event("health", OPEN)
        await it.until(failed=1)
        assert len(it.fake.calls) == 3
        assert it.clock.now == pytest.approx(3.0)  # 1 s, then 2 s
    async with Listener(broken, [s.Reset()], FINE) as it:
        it.alerts.event("health", OPEN)
        await it.until(sent=1)
        assert len(it.fake.calls) == 3
        assert it.alerts.counts["failed"] == 0


@pytest.mark.parametrize("answer", [s.redirect("http://127.0.0.1:9/"), s.reply_json(403, {})])
async def test_a_refusal_or_a_redirect_is_no_delivery_and_is_not_followed(answer):
    async with Listener(answer) as it:
        why: list[str] = []
        it.alerts.on_failure = why.append
        it.alerts.event("health", OPEN)
        await it.until(failed=1)
        assert len(it.fake.calls) == 1
        assert why[0].startswith("it answered")


async def test_an_address_that_is_not_public_is_not_called():
    async with Listener(FINE, networks=()) as it:
        it.alerts.event("health", OPEN)
        await it.until(failed=1)
        assert it.fake.calls == []


async def test_a_webhook_that_hangs_costs_alerts_and_nothing_else(monkeypatch):
    monkeypatch.setattr(telling, "SECONDS", 0.2)
    monkeypatch.setattr(telling, "QUEUE", 10)
    async with Listener([s.Hang()]) as it:
        it.alerts.event("health", OPEN)
        await it.asked()
        for number in range(1000):
            it.alerts.event("shed", {"reason": "lag", "model": str(number)})  # never awaits, never raises
        assert it.alerts.counts["dropped"] == 990
        await it.until(failed=2)
        assert it.alerts.counts["sent"] == 0


def test_what_may_not_be_configured():
    for text, why in (
        ("alerts: {webhook: {url: 'ftp://example.org'}}", "only https and http"),
        ("alerts: {webhook: {url: 'http://user:pw@example.org'}}", "credentials"),
    ):
        with pytest.raises(ConfigError, match=why):
            open_alerts(load_text(text, "t", ENV).config.alerts)
    for text in (
        "alerts: {webhook: {url: 'https://a.b', secret: ''}}",
        "alerts: {on: [everything]}",
        "alerts: {webhook: {url: 'https://a.b', networks: [mine]}}",
    ):
        with pytest.raises(ConfigError):
            load_text(text, "t", ENV)
    assert open_alerts(load_text("alerts: {}", "t", ENV).config.alerts) is None


def test_the_webhooks_address_is_shown_nowhere():
    text = "alerts: {webhook: {url: 'https://hooks.example.org/services/T0/canary'}}\n"
    config = load_text(text, "alerts", {}).config
    assert "canary" not in repr(config)
    assert "canary" not in config.model_dump_json()


def test_a_process_tells_of_a_breaker_and_serves_on_while_the_webhook_hangs(tmp_path):
    elsewhere = Loop()
    fake = elsewhere.call(FakeUpstream)
    elsewhere.run(fake.start())
    fake.on("*", [s.Hang()], FINE)
    hook = f"alerts: {{webhook: {{url: '{fake.base_url}/hook', networks: [127.0.0.0/8]}}}}\n"
    served = ServedGateway(tmp_path, hook)
    try:
        served.loop.run(served.sim.break_model("claude-4.7", "500"))
        deadline = time.monotonic() + 30
        while not fake.calls and time.monotonic() < deadline:
            served.chat(None)
        assert json.loads(fake.calls[0].body)["alert"] == "health"
        assert [served.chat(None, "gpt-5.5")[0] for _ in range(20)] == [200] * 20  # the alert is still under way
    finally:
        served.close()
        elsewhere.run(fake.aclose())
        elsewhere.close()


def test_a_process_tells_of_a_soft_budget_and_refuses_nothing(tmp_path):
    elsewhere = Loop()
    fake = elsewhere.call(FakeUpstream)
    elsewhere.run(fake.start())
    fake.on("*", FINE)
    hook = f"alerts: {{webhook: {{url: '{fake.base_url}/hook', networks: [127.0.0.0/8]}}}}\n"
    served = ServedGateway(tmp_path, hook)
    try:
        made = served.ask_admin("/keys", {"name": "soft", "budgets": {"daily": {"limit": 0.005, "hard": False}}})
        deadline = time.monotonic() + 60
        seen: list[dict] = []
        while [one["alert"] for one in seen] != ["budget_near", "budget_reached"] and time.monotonic() < deadline:
            assert served.chat(made["secret"])[0] == 200
            time.sleep(0.05)
            seen = [json.loads(call.body) for call in list(fake.calls)]
        assert [one["alert"] for one in seen][-1] == "budget_reached"
        for one in seen:
            facts = one["facts"]
            assert (facts["scope"], facts["period"], facts["hard"]) == (f"key:{made['id']}", "daily", False)
            assert float(facts["spent_usd"]) >= facts["share"] * float(facts["limit_usd"])
    finally:
        served.close()
        elsewhere.run(fake.aclose())
        elsewhere.close()


def test_a_name_that_is_refused_is_an_error_of_egress():
    hook = Webhook(url="http://127.0.0.1 /", networks=())
    with pytest.raises(EgressRefused):
        Alerts(hook, frozenset(), H1Transport(), Ticking())
