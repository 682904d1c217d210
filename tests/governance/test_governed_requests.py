"""Keys, limits and budgets as requests meet them: through every door and strategy, to the simulated providers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from headgate.config.load import load_text
from headgate.core.errors import BudgetExceeded, HeadgateError
from headgate.core.principal import LOCAL
from headgate.core.records import BudgetSpec, KeyRecord, LimitSpec, TeamRecord
from headgate.engine.compile import Compiler
from headgate.engine.pipeline import Exchange
from headgate.governance.governor import KeyedGovernor
from headgate.governance.keys import make_key
from headgate.governance.rules import Rules
from headgate.server import doors
from headgate.simulator.app import Simulator
from headgate.stores.memory import MemoryStore
from server.test_bad_inputs import raw
from support.at_rest import held
from support.gateway import ENV, EXAMPLE, Loop, RunningGateway
from support.polling import until
from support.sim import INSTANT

CENT = 10_000_000
ASK = [{"role": "user", "content": "What is 12*12?"}]
CHAT = {"messages": ASK, "max_tokens": 100}
DOORS = {
    "/v1/chat/completions": {"model": "claude-4.7", **CHAT},
    "/v1/responses": {"model": "claude-4.7", "input": "What is 12*12?", "max_output_tokens": 100},
    "/v1/messages": {"model": "claude-4.7", **CHAT},
    "/v1beta/models/claude-4.7:generateContent": {
        "contents": [{"role": "user", "parts": [{"text": "What is 12*12?"}]}],
        "generationConfig": {"maxOutputTokens": 100},
    },
    "/v1beta/models/claude-4.7:streamGenerateContent": {
        "contents": [{"role": "user", "parts": [{"text": "What is 12*12?"}]}],
        "generationConfig": {"maxOutputTokens": 100},
    },
}


class Stage:
    """The example's gateway behind a governor, over instant models. `key(...)` makes a key that works at once."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        self.store = MemoryStore()
        self.governor = KeyedGovernor(self.store, holder="h")
        urls = self.loop.run(self.sim.start(0))
        text = EXAMPLE.read_text(encoding="utf-8")
        self.gateway = self.loop.call(lambda: RunningGateway(text, urls, env=ENV, governor=self.governor))
        self.loop.run(self.gateway.start())
        self.url = self.gateway.url

    def key(self, **fields: Any) -> tuple[str, str]:
        """(secret, id)"""
        made = make_key(KeyRecord(**{"id": "", "hash": "", "hint": "", "name": "k", "created": 0.0, **fields}))
        self.loop.run(self.store.put_key(made.record))
        self.loop.run(self.governor.refresh())
        return made.secret, made.record.id

    def rules(self, rules: Rules) -> None:
        self.loop.call(lambda: self.governor.configure(rules))

    def ask(self, path: str, body: Any, key: str | None = None, **headers: str) -> tuple[int, dict[str, str], Any]:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        given = {"content-type": "application/json", **{n.replace("_", "-"): v for n, v in headers.items()}}
        if key is not None:
            given["authorization"] = f"Bearer {key}"
        if isinstance(body, bytes):
            given["content-type"] = "multipart/form-data; boundary=B"
        data = body if body is None or isinstance(body, bytes | Written) else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, data, given)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        lower = {name.lower(): value for name, value in answer.getheaders()}
        if "event-stream" in lower.get("content-type", ""):
            return answer.status, lower, data
        return answer.status, lower, json.loads(data)

    def heal(self) -> None:
        """Well models, and nothing remembered of when they were not."""
        self.loop.run(self.sim.mend())

        def forget() -> None:
            self.gateway.house.snapshot = Compiler(ENV).compile(self.gateway.config)

        self.loop.call(forget)

    def chat(self, key: str | None, model: str = "claude-4.7", **more: Any) -> tuple[int, dict[str, str], Any]:
        return self.ask("/v1/chat/completions", {"model": model, **CHAT, **more}, key)

    def window(self, key_id: str) -> Any:
        return next(w for (scope, _), w in self.governor.book.windows.items() if scope == f"key:{key_id}")

    def booked(self, key_id: str) -> int:
        """What the ledger says this key has cost."""
        ledger = self.gateway.ledger
        mine = {i.id for i in ledger.intents if i.key_id == key_id}
        return sum(o.cost or 0 for id, o in ledger.outcomes.items() if id in mine)

    def at_rest(self, key_id: str) -> bool:
        window = self.window(key_id)
        return window.reserved == 0 and window.settled == self.booked(key_id)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    found = Stage()
    yield found
    found.loop.run(found.gateway.stop())
    found.loop.run(found.sim.aclose())
    found.loop.close()


@pytest.fixture(autouse=True)
def no_rules(stage: Stage) -> Iterator[None]:
    yield
    stage.rules(Rules())
    stage.heal()


def dollars(cents: float) -> BudgetSpec:
    return BudgetSpec(limit=int(cents * CENT))


@pytest.mark.parametrize("path", DOORS)
def test_a_spent_budget_is_402_in_every_doors_own_words_and_nothing_is_asked(stage, path):
    key, key_id = stage.key(budgets=(dollars(0.0001),))
    before = len(stage.sim.log)
    status, headers, body = stage.ask(path, DOORS[path], key)
    assert (status, headers["x-should-retry"]) == (402, "false")
    error = body[0]["error"] if isinstance(body, list) else body["error"]
    assert "monthly budget of this key" in error["message"]
    assert "retry-after" not in headers
    assert len(stage.sim.log) == before
    assert stage.window(key_id).reserved == 0


ASKING = {path: door for path, door in doors._EXACT.items() if door.what == "ask"}
TAKE_FORMS = ("images_edits", "images_variations", "transcriptions", "translations")
FORM = (
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-5.5\r\n'
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nxx\r\n--B--\r\n'
)


@pytest.mark.parametrize("path", ASKING)
def test_no_door_passes_a_spent_budget_by(stage, path):
    """All that ask a model, whatever they are for."""
    key, key_id = stage.key(budgets=(dollars(0.00001),))
    before = len(stage.sim.wire.calls)
    said = {"model": "gpt-5.5", "messages": ASK, "max_tokens": 100}
    if path not in ("/chat/completions", "/messages"):
        said = {
            "model": "gpt-5.5",
            "input": "What is 12*12?",
            "prompt": "What is 12*12?",
            "query": "q",
            "documents": ["d"],
        }
    body: Any = FORM if ASKING[path].op in TAKE_FORMS else said
    status, headers, found = stage.ask(f"/v1{path}", body, key)
    assert (status, headers.get("x-should-retry")) == (402, "false"), found
    assert len(stage.sim.wire.calls) == before
    assert stage.window(key_id).reserved == 0


def test_a_batch_is_not_for_who_is_bounded_by_a_budget_or_confined_to_models(stage):
    """What it asks of which model, and at what cost, nobody here can see."""
    body = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    bounded, _ = stage.key(budgets=(dollars(5000),))
    assert stage.ask("/v1/batches", body, bounded)[0] == 402
    for fields in ({"models": ("gpt-*",)}, {"zone": "private"}):
        status, _, found = stage.ask("/v1/batches", body, stage.key(**fields)[0])
        assert (status, found["error"]["code"]) == (403, "model_not_allowed")
    free, _ = stage.key(budgets=(BudgetSpec(limit=CENT, hard=False),))
    assert stage.ask("/v1/batches", body, free)[0] == 404, "no such file: it is asked for"
    stage.rules(Rules(model_budgets={"gpt-5.5": (dollars(100),)}))
    assert stage.ask("/v1/batches", body, free)[0] == 402
    stage.rules(Rules(teams={"red": TeamRecord(id="red", name="red", created=0.0, models=("gpt-*",))}))
    assert stage.ask("/v1/batches", body, stage.key(team="red")[0])[0] == 403


def test_counting_tokens_is_a_request_like_any_other_for_limits(stage):
    key, key_id = stage.key(limits=LimitSpec(requests_per_minute=2, tokens_per_minute=1000))
    body = {"model": "claude-4.7", "messages": ASK}
    asked = [stage.ask("/v1/messages/count_tokens", body, key) for _ in range(3)]
    assert [status for status, _, _ in asked] == [200, 200, 429]
    assert asked[0][1]["x-ratelimit-remaining-requests"] == "1"
    assert tokens_taken(stage, key_id) == 0


def test_counting_keeps_to_the_limits_of_a_deployment_and_bounds_what_it_may_not_ask(stage):
    stage.rules(Rules(deployment_limits={"anthropic/claude-opus-4-7": LimitSpec(requests_per_minute=1)}))
    body, before = {"model": "claude-4.7", "messages": ASK}, len(stage.sim.wire.calls)
    asked = [stage.ask("/v1/messages/count_tokens", body, stage.key()[0]) for _ in range(3)]
    assert [status for status, _, _ in asked] == [200] * 3
    assert [headers.get("x-headgate-lossy") for _, headers, _ in asked] == [None, *["count_is_an_upper_bound"] * 2]
    assert len(stage.sim.wire.calls) == before + 1
    assert stage.governor._limiters["deployment:anthropic/claude-opus-4-7"].running == 0


def test_looking_at_a_response_is_a_request_like_any_other_for_limits(stage):
    key, key_id = stage.key(limits=LimitSpec(requests_per_minute=3, tokens_per_minute=60))
    _, _, made = stage.ask("/v1/responses", {**DOORS["/v1/responses"], "model": "gpt-5.5"}, key)
    bucket = stage.governor._limiters[f"key:{key_id}"].tokens
    bucket.tat = stage.gateway.house.clock.monotonic() + 60.0
    before = len(stage.sim.wire.calls)
    asked = [stage.ask(f"/v1/responses/{made['id']}", None, key) for _ in range(3)]
    assert [status for status, _, _ in asked] == [200, 200, 429], (
        "its tokens are those of the answer, which were counted"
    )
    assert asked[0][1]["x-ratelimit-remaining-requests"] == "1"
    assert len(stage.sim.wire.calls) == before + 2
    assert stage.governor._limiters[f"key:{key_id}"].running == 0


def test_what_a_stored_response_refers_to_is_reserved_for_too(stage):
    """The provider reads the whole conversation again, and nothing of it is in the request."""
    key, key_id = stage.key(budgets=(dollars(100),))
    body = {"model": "gpt-5.5", "input": "What is 12*12? " * 2000, "max_output_tokens": 16}
    for _ in range(3):
        status, _, made = stage.ask("/v1/responses", body, key)
        assert status == 200
        intent = stage.gateway.ledger.intents[-1]
        outcome = stage.gateway.ledger.outcomes[intent.id]
        assert outcome.usage.input > 7000, "all of it is read"
        assert outcome.cost <= intent.reserved
        body = {**body, "input": "And 13*13?", "previous_response_id": made["id"]}
    assert stage.at_rest(key_id)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {"service_tier": "priority"}),
        ("/v1/responses", {"service_tier": "priority"}),
        ("/v1/messages", {"speed": "fast"}),
    ],
)
def test_a_service_at_another_price_is_not_for_who_is_bounded_by_a_budget(stage, path, more):
    bounded, _ = stage.key(budgets=(dollars(100),))
    before = len(stage.sim.wire.calls)
    status, headers, found = stage.ask(path, {**DOORS[path], **more}, bounded)
    assert (status, headers["x-should-retry"]) == (402, "false")
    assert next(iter(more)) in found["error"]["message"]
    assert len(stage.sim.wire.calls) == before
    assert stage.ask(path, {**DOORS[path], **more}, stage.key()[0])[0] == 200


@pytest.mark.parametrize("field", ["requests_per_minute", "tokens_per_minute"])
def test_who_may_never_come_is_told_no_time_to_come_again(stage, field):
    status, headers, _ = stage.chat(stage.key(limits=LimitSpec(**{field: 0}))[0])
    assert (status, headers["x-should-retry"]) == (429, "false")
    assert "retry-after" not in headers


class Written(str):
    """A body as it is sent."""

    __slots__ = ()


def named(form: str, id: str) -> tuple[str, Any]:
    """(path, body) of a request that names a file."""
    part = {"type": "file", "file": {"file_id": id}}
    said = {"type": "input_file", "file_id": id}
    tool = {"type": "code_interpreter", "container": {"type": "auto", "file_ids": [id]}}
    responses = {"model": "gpt-5.5", "max_output_tokens": 50}
    return {
        "chat": ("/v1/chat/completions", {"model": "gpt-5.5", "messages": [{"role": "user", "content": [part]}]}),
        "responses": ("/v1/responses", {**responses, "input": [{"role": "user", "content": [said]}]}),
        "tool": ("/v1/responses", {**responses, "input": "sum it", "tools": [tool]}),
    }[form]


@pytest.mark.parametrize("form", ["chat", "responses", "tool"])
@pytest.mark.parametrize("spelled", ["file_id", "fi\\u006ce_id", "file\\u005fid"])
def test_another_keys_file_does_not_exist_in_a_body_either(stage, form, spelled):
    mine, my_id = stage.key()
    other, _ = stage.key()
    homes = stage.gateway.house.homes
    deployment = stage.gateway.house.snapshot.model("gpt-5.5").deployments[0]
    stage.loop.call(lambda: homes.remember(my_id, "file-mine", "gpt-5.5", deployment))
    for id, key, status in (
        ("file-mine", other, 404), ("file-mine", mine, None), ("file-of-the-operator", other, None),
    ):  # fmt: skip
        path, body = named(form, id)
        before = len(stage.sim.wire.calls)
        found, _, answer = stage.ask(path, Written(json.dumps(body).replace("file_id", spelled)), key)
        assert (found == 404) == (status == 404), answer
        assert (len(stage.sim.wire.calls) == before) == (status == 404)


def test_a_key_in_the_query_goes_no_further(stage):
    key, _ = stage.key()
    _, _, made = stage.ask("/v1/responses", {**DOORS["/v1/responses"], "model": "gpt-5.5"}, key)
    assert stage.ask(f"/v1/responses/{made['id']}?key={key}&include[]=usage&empty=", None)[0] == 200
    assert stage.loop.call(lambda: stage.sim.wire.calls[-1].query) == {"include[]": "usage", "empty": ""}


def test_a_budget_that_only_tells_cuts_no_answer_short(stage):
    stage.rules(Rules(model_budgets={"claude-4.7": (BudgetSpec(limit=CENT, hard=False),)}))
    key, _ = stage.key()
    assert stage.ask("/v1/chat/completions", {"model": "claude-4.7", "messages": ASK}, key)[0] == 200
    assert json.loads(stage.sim.served("claude-4.7")[-1].call.body)["max_tokens"] > 4096


def test_an_agent_that_may_cost_anything_is_refused_by_what_to_do_about_it(stage):
    secret, _ = stage.key(budgets=(BudgetSpec(limit=100 * CENT),))
    found = Compiler(ENV).compile(load_text(EXAMPLE.read_text(encoding="utf-8").replace("max_cost: 2.00, ", "")).config)
    before = stage.gateway.house.snapshot
    stage.gateway.house.snapshot = found
    try:
        status, _, body = stage.ask("/v1/chat/completions", {"model": "agent", **CHAT}, secret)
    finally:
        stage.gateway.house.snapshot = before
    assert (status, body["error"]["code"]) == (402, "price_unknown")
    assert "an agent a budget with max_cost" in body["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["claude-4.7", "reliable", "auto", "careful", "agent"])
def test_what_a_request_cost_is_what_its_budget_moved(stage, model, stream):
    stage.rules(Rules(teams={"red": TeamRecord(id="red", name="red", created=0.0)}))
    key, key_id = stage.key(budgets=(dollars(5000),), user="ann", team="red")
    for _ in range(3):
        status, _, body = stage.chat(key, model, stream=stream)
        assert status == 200, body
    assert stage.booked(key_id) > 0
    assert stage.at_rest(key_id)


@pytest.mark.parametrize("mode", ["500", "auth", "empty", "hang_up", "error_in_200", "429"])
def test_failed_attempts_are_settled_too(stage, mode):
    key, key_id = stage.key(budgets=(dollars(5000),))
    mode = "refuse" if mode == "hang_up" else mode
    stage.loop.run(stage.sim.break_model("claude-4.7", mode))
    assert stage.chat(key, "reliable")[0] == 200
    assert stage.chat(key, "claude-4.7")[0] >= 400
    assert stage.at_rest(key_id)


def leave_early(stage: Stage) -> str:
    """A client that goes away in the middle of a stream."""
    key, key_id = stage.key(budgets=(dollars(5000),), limits=LimitSpec(concurrent=1))
    stage.loop.run(stage.sim.break_model("claude-4.7", "stall"))
    connection = HTTPConnection(urlsplit(stage.url).netloc, timeout=20)
    body = json.dumps({"model": "claude-4.7", "stream": True, **CHAT})
    connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {key}"})
    connection.getresponse().read(10)
    assert stage.window(key_id).reserved > 0
    connection.close()
    return key_id


def settles_in_time(stage: Stage, key_id: str) -> bool:
    async def wait() -> bool:
        for _ in range(150):
            if stage.at_rest(key_id):
                return True
            await asyncio.sleep(0.01)
        return False

    return stage.loop.run(wait())


def test_a_cancelled_stream_is_settled_and_its_place_is_free(stage):
    key_id = leave_early(stage)
    assert settles_in_time(stage, key_id)
    assert stage.booked(key_id) > 0
    limiter = stage.governor._limiters[f"key:{key_id}"]
    assert limiter.running == 0


def test_mutant_no_settlement_on_disconnect_is_caught(stage, monkeypatch):
    whole = Exchange.close

    async def close(self: Exchange, error: HeadgateError | None = None, *, cancelled: bool = False) -> None:
        if cancelled and not self._closed:
            self._closed = True
            self.house.inflight -= 1
            if self.answer is not None:
                await self.answer.aclose()
            return
        await whole(self, error, cancelled=cancelled)

    monkeypatch.setattr(Exchange, "close", close)
    key_id = leave_early(stage)
    assert not settles_in_time(stage, key_id)
    assert any(key_id in line for line in stage.loop.call(lambda: held(stage.gateway, stage.sim)))
    book, limiters = stage.governor.book, stage.governor._limiters
    for window in [w for (scope, _), w in book.windows.items() if scope == f"key:{key_id}"]:
        window.reserved = 0
    limiters[f"key:{key_id}"].running = 0


@pytest.mark.parametrize("path", [path for path in DOORS if path != "/v1/messages"])  # there the client must say
def test_a_hard_budget_bounds_an_answer_that_names_no_maximum(stage, path):
    key, _ = stage.key(budgets=(dollars(5000),))
    free, _ = stage.key()
    body = {name: value for name, value in DOORS[path].items() if "max" not in name and name != "generationConfig"}
    seen = []
    for one in (key, free):
        assert stage.ask(path, body, one)[0] == 200
        seen.append(json.loads(stage.sim.served("claude-4.7")[-1].call.body)["max_tokens"])
    assert seen[0] == 4096
    assert seen[1] > 4096, "without a hard budget nothing is cut short"


def test_the_bound_is_lowered_to_what_the_budget_still_covers(stage):
    key, key_id = stage.key(budgets=(dollars(2),))
    status, _, body = stage.ask(
        "/v1/chat/completions", {"model": "claude-4.7", "messages": ASK, "headgate": {"details": True}}, key
    )
    assert status == 200, body
    trace = body["headgate"]["trace"]
    decided = [d for d in stage.ask(f"/v1/traces/{trace}", None, key)[2]["decisions"] if d["kind"] == "max_tokens"]
    assert [d["chosen"] for d in decided] == [1024]
    assert json.loads(stage.sim.served("claude-4.7")[-1].call.body)["max_tokens"] == 1024
    assert stage.at_rest(key_id)


def test_a_plan_that_a_retry_outgrows_is_covered_or_stopped(stage):
    """A chain whose first target answers nothing is charged for it: the next one still fits only if the budget says so."""
    key, key_id = stage.key(budgets=(dollars(5000),))
    stage.loop.run(stage.sim.break_model("claude-4.7", "cut_stream"))
    assert stage.chat(key, "reliable", stream=True)[0] == 200
    assert stage.at_rest(key_id)


def test_limits_answer_429_with_a_true_wait_and_openais_headers(stage):
    key, _ = stage.key(limits=LimitSpec(requests_per_minute=2, tokens_per_minute=100_000))
    _, first, _ = stage.chat(key)
    assert (first["x-ratelimit-limit-requests"], first["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert first["x-ratelimit-reset-requests"].endswith("s")
    assert 0 < int(first["x-ratelimit-remaining-tokens"]) < 100_000
    stage.chat(key, stream=True)
    status, headers, body = stage.chat(key)
    assert (status, body["error"]["type"], body["error"]["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert 28 <= int(headers["retry-after"]) <= 30
    assert headers["x-ratelimit-remaining-requests"] == "0"


def tokens_taken(stage, key_id: str) -> int:
    """Tokens that a key's limit of one a second holds as taken, to the nearest one."""
    bucket = stage.governor._limiters[f"key:{key_id}"].tokens
    return round(max(bucket.tat - stage.gateway.house.clock.monotonic(), 0.0) / bucket.interval)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["claude-4.7", "careful"])
def test_tokens_are_counted_as_they_were_used(stage, model, stream):
    """Not as they were estimated: by all attempts of the request together."""
    key, key_id = stage.key(limits=LimitSpec(tokens_per_minute=6000))  # 100 come back each second
    before = len(stage.gateway.ledger.intents)
    began = time.monotonic()
    assert stage.chat(key, model, stream=stream, max_tokens=3000)[0] == 200
    ledger = stage.gateway.ledger
    used = sum(ledger.outcomes[intent.id].usage.total for intent in list(ledger.intents)[before:])
    assert 0 < used < 1000
    came_back = 100 * (time.monotonic() - began)
    assert used - came_back - 1 <= tokens_taken(stage, key_id) <= used + 1


def test_what_goes_on_in_the_background_counts_when_its_provider_has_said_what_it_used(stage):
    key, key_id = stage.key(limits=LimitSpec(tokens_per_minute=60))  # one comes back each second
    stage.loop.run(stage.sim.break_model("gpt-5.5", "slow_first_token", delay=1.0))
    began = time.monotonic()
    body = {"model": "gpt-5.5", "input": "What is 12*12?", "max_output_tokens": 3000, "background": True}
    status, _, _ = stage.ask("/v1/responses", body, key)
    assert status == 200
    attempt = stage.gateway.ledger.intents[-1].id
    assert attempt not in stage.gateway.ledger.outcomes
    assert tokens_taken(stage, key_id) >= 59 - (time.monotonic() - began), "until then the estimate stays"
    until(lambda: attempt in stage.gateway.ledger.outcomes)
    used = stage.gateway.ledger.outcomes[attempt].usage.total
    assert 20 < used < 50
    assert used - (time.monotonic() - began) - 1 <= tokens_taken(stage, key_id) <= used + 1


def test_what_a_provider_never_counted_keeps_its_estimate(stage):
    """A client that never waits for answers is not one that uses no tokens."""
    stage.rules(Rules(deployment_limits={"anthropic/claude-opus-4-7": LimitSpec(tokens_per_minute=6000)}))
    key, key_id = stage.key(limits=LimitSpec(tokens_per_minute=6000))  # 100 come back each second
    stage.loop.run(stage.sim.break_model("claude-4.7", "hang"))
    began = time.monotonic()
    status, _, _ = stage.ask("/v1/chat/completions", {"model": "claude-4.7", **CHAT, "max_tokens": 3000}, key,
                             x_headgate_timeout="0.3s")  # fmt: skip
    assert status == 504
    came_back = 100 * (time.monotonic() - began) + 1
    assert tokens_taken(stage, key_id) >= 3000 - came_back
    bucket = stage.governor._limiters["deployment:anthropic/claude-opus-4-7"].tokens
    assert (bucket.tat - stage.gateway.house.clock.monotonic()) / bucket.interval >= 3000 - came_back


def test_a_team_has_limits_that_its_keys_share(stage):
    stage.rules(
        Rules(teams={"red": TeamRecord(id="red", name="red", created=0.0, limits=LimitSpec(requests_per_minute=2))})
    )
    keys = [stage.key(team="red")[0] for _ in range(3)]
    assert [stage.chat(key)[0] for key in keys] == [200, 200, 429]
    status, headers, body = stage.chat(keys[0])
    assert (status, headers["x-ratelimit-limit-requests"]) == (429, "2")
    assert "'red'" in body["error"]["message"]


def test_a_full_deployment_moves_to_the_next_and_is_a_429_with_the_time_where_there_is_none(stage):
    first, second = (deployment.name for deployment in stage.gateway.house.snapshot.model("gpt-5.5").deployments)
    stage.rules(Rules(deployment_limits=dict.fromkeys((first, second), LimitSpec(requests_per_minute=1))))
    key, key_id = stage.key()
    asked = [stage.chat(key, "gpt-5.5")[0] for _ in range(2)]
    mine = {intent.deployment for intent in stage.gateway.ledger.intents if intent.key_id == key_id}
    assert (asked, mine) == ([200, 200], {first, second})
    status, headers, _ = stage.chat(key, "gpt-5.5")
    assert status == 429
    assert 30 < int(headers["retry-after"]) <= 60


def test_a_client_that_waits_as_long_as_it_was_told_is_let_in(stage):
    key, _ = stage.key(limits=LimitSpec(requests_per_minute=40))
    while (last := stage.chat(key))[0] == 200:
        pass
    assert last[0] == 429
    time.sleep(int(last[1]["retry-after"]))
    assert stage.chat(key)[0] == 200


def test_a_full_model_budget_moves_a_chain_on_and_ends_a_single_request(stage):
    stage.rules(Rules(model_budgets={"claude-4.7": (dollars(0.0001),)}))
    key, _ = stage.key()
    status, headers, body = stage.chat(key)
    assert (status, headers["x-should-retry"], body["error"]["code"]) == (402, "false", "budget_exceeded")
    status, headers, _ = stage.chat(key, "reliable")
    assert (status, headers["x-headgate-model"]) == (200, "gpt-5.5")


def test_a_full_model_limit_moves_a_chain_on(stage):
    stage.rules(Rules(model_limits={"claude-4.7": LimitSpec(requests_per_minute=1)}))
    key, _ = stage.key()
    assert stage.chat(key, "reliable")[1]["x-headgate-model"] == "claude-4.7"
    assert stage.chat(key, "reliable")[1]["x-headgate-model"] == "gpt-5.5"
    status, headers, body = stage.chat(key)
    assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(headers["retry-after"]) > 50


def test_bad_keys_are_401_at_every_door_before_the_body_is_looked_at(stage):
    stage.key()
    for path in DOORS:
        for key in (None, "nonsense", "' OR 1=1 --", "hg-" + "x" * 10_000):
            status, _, body = stage.ask(path, {"not": "looked at"}, key)
            assert status == 401, (path, body)
    for path in ("/v1/models", "/v1/traces/tr_1", "/v1/models/auto", "/v1/responses/resp_1"):
        assert stage.ask(path, None)[0] == 401


@pytest.mark.parametrize(
    "lines",
    [
        b"Authorization: Bearer",
        b"Authorization: Bearer ",
        b"Authorization: Basic KEY",
        b"Authorization: Bearer Basic KEY",
        b"Authorization: Bearer KEY\r\nAuthorization: Bearer hg-other",
        b"Authorization: Bearer KEY, Bearer hg-other",
        b"Authorization: Bearer KEY\r\nx-api-key: ",
        "Authorization: Bearer sch\u00fcssel".encode("latin-1"),
        "Authorization: Bearer \u9375KEY".encode(),
        b"x-api-key: \xff\xfe",
    ],
)
def test_keys_that_are_none_or_two_are_401_on_the_wire(stage, lines):
    key = stage.key()[0].encode()
    body = json.dumps({"model": "claude-4.7", **CHAT}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
    port = int(stage.url.rpartition(":")[2])
    before = len(stage.sim.log)
    status, _, answer = raw(port, head + lines.replace(b"KEY", key) + b"\r\n\r\n" + body)
    assert status == 401, answer
    assert key not in answer
    assert len(stage.sim.log) == before


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
def test_24_no_spelling_of_a_path_passes_without_a_key(stage, path):
    stage.key()
    port = int(stage.url.rpartition(":")[2])
    body = json.dumps({"model": "claude-4.7", **CHAT}).encode()
    method = b"POST" if "chat" in path else b"GET"
    before = len(stage.sim.log)
    for spelt in (
        *(f"http://localhost{path}", f"http://evil.example{path}", f"/{path}", f"{path}/", path.removeprefix("/v1")),
        *(path.replace("/v1/", "/v1%2f"), path.replace("/v1", "/%76%31"), f"/livez/..{path}", f"/livez/%2e%2e{path}"),
        *(
            f"{path};x",
            f"{path};/livez",
            f"{path}?/livez",
            f"/livez;{path}",
            path.upper(),
            path.replace("v1/", "v1/./"),
        ),
    ):
        head = b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        status = raw(port, head % (method, spelt.encode(), len(body)) + body)[0]
        assert status in (400, 401, 404), spelt
    assert len(stage.sim.log) == before


def test_two_different_keys_are_401(stage):
    one, two = stage.key()[0], stage.key()[0]
    status, _, body = stage.ask("/v1/chat/completions", {"model": "auto", **CHAT}, one, x_api_key=two)
    assert (status, "two different keys" in body["error"]["message"]) == (401, True)
    assert stage.ask("/v1/chat/completions", {"model": "auto", **CHAT}, one, x_api_key=one)[0] == 200
    assert stage.ask(f"/v1/chat/completions?key={two}", {"model": "auto", **CHAT}, one)[0] == 401


def test_models_and_doors_of_a_key(stage):
    key, _ = stage.key(models=("claude-*",), doors=("chat",))
    assert stage.chat(key)[0] == 200
    status, _, body = stage.chat(key, "gpt-5.5")
    assert (status, body["error"]["code"]) == (403, "model_not_allowed")
    status, _, body = stage.ask("/v1/messages", DOORS["/v1/messages"], key)
    assert (status, body["error"]["type"]) == (403, "permission_error")
    assert [m["id"] for m in stage.ask("/v1/models", None, key)[2]["data"]] == ["claude-4.7"]


def test_keys_of_one_user_and_requests_of_one_tag_spend_one_budget(stage):
    (one, _), (two, _), (other, _) = stage.key(user="ann"), stage.key(user="ann"), stage.key(user="bob", tags=("web",))
    stage.rules(Rules(user_budgets={"ann": (dollars(1),)}, tag_budgets={"web": (dollars(1),)}))
    while stage.chat(one)[0] == 200:
        pass
    status, _, body = stage.chat(two)
    assert (status, "of the user 'ann'" in body["error"]["message"]) == (402, True)
    while stage.ask("/v1/chat/completions", {"model": "claude-4.7", **CHAT}, other, x_headgate_tags="b")[0] == 200:
        pass
    status, _, body = stage.chat(other)
    assert (status, "of the tag 'web'" in body["error"]["message"]) == (402, True), "a key's tags are its requests'"
    free, _ = stage.key(user="eve")
    assert stage.chat(free)[0] == 200
    asked = {"model": "claude-4.7", **CHAT}
    assert stage.ask("/v1/chat/completions", asked, free, x_headgate_tags="a,web")[0] == 402


def test_a_key_of_a_zone_never_leaves_it_whatever_strategy_leads_there(stage):
    key, id = stage.key(zone="private")
    status, _, body = stage.chat(key)
    assert (status, body["error"]["code"]) == (403, "model_not_allowed")
    assert stage.chat(key, "openai/gpt-5.5")[0] == 403
    assert stage.chat(key, "llama-4")[0] == 200
    for name in ("reliable", "auto"):  # somewhere down their chain is a model of the zone
        status, headers, _ = stage.chat(key, name)
        assert (status, headers["x-headgate-model"]) == (200, "llama-4"), name
    for path, given in DOORS.items():
        if "model" in given:
            status, _, body = stage.ask(path, {**given, "model": "careful"}, key)
            assert status == 403, "its judge is of the zone, but none of its members: nothing about that is temporary"
            assert "zone" in str(body)
            assert stage.ask(path, {**given, "model": "agent"}, key)[0] == 403, "its planner is outside"
    listed = {one["id"] for one in stage.ask("/v1/models", None, key)[2]["data"]}
    assert {"llama-4", "reliable", "auto"} <= listed
    assert not listed & {"careful", "agent", "claude-4.7", "gpt-5.5"}
    ledger = stage.gateway.ledger
    assert {i.model for i in ledger.intents if i.key_id == id} == {"llama-4"}


def test_what_one_key_asked_does_not_exist_for_another(stage):
    mine, other = stage.key()[0], stage.key()[0]
    _, headers, _ = stage.chat(mine)
    trace = headers["x-headgate-trace"]
    assert stage.ask(f"/v1/traces/{trace}", None, mine)[0] == 200
    status, _, body = stage.ask(f"/v1/traces/{trace}", None, other)
    assert (status, body["error"]["code"]) == (404, "not_found")
    assert stage.ask("/v1/feedback", {"trace": trace, "score": 1}, other)[0] == 404
    assert stage.ask("/v1/feedback", {"trace": trace, "score": 1}, mine)[0] == 200
    _, _, made = stage.ask("/v1/responses", {**DOORS["/v1/responses"], "model": "gpt-5.5"}, mine)
    again = {"model": "gpt-5.5", "input": "and more?", "previous_response_id": made["id"]}
    assert stage.ask("/v1/responses", again, other)[0] == 404
    assert stage.ask(f"/v1/responses/{made['id']}", None, other)[0] == 404
    assert stage.ask("/v1/responses", again, mine)[0] == 200


def test_hundreds_at_once_through_the_pipeline_keep_to_the_budget(stage):
    """The worst case of one request is known; a budget for exactly 20 of them lets exactly 20 begin at a time, and what
    they leave over lets more in afterwards, but never more than the budget."""
    key, _ = stage.key()
    worst = stage.ask("/v1/explain", {"model": "claude-4.7", **CHAT}, key)[2]["predicted"]["worst_case_usd"]
    limit = int(float(worst) * 1e9) * 20
    key, key_id = stage.key(budgets=(BudgetSpec(limit=limit),))

    async def many() -> list[int]:
        async def one() -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.url.rpartition(":")[2]))
            body = json.dumps({"model": "claude-4.7", **CHAT}).encode()
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
            )
            writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            data = await reader.read()
            writer.close()
            return int(data.split(b" ", 2)[1])

        return await asyncio.gather(*(one() for _ in range(300)))

    statuses = stage.loop.run(many())
    assert set(statuses) == {200, 402}
    assert stage.at_rest(key_id)
    assert stage.booked(key_id) <= limit
    while stage.chat(key)[0] == 200:
        assert stage.booked(key_id) <= limit
    worst_nano = limit // 20
    assert limit - stage.booked(key_id) < worst_nano, "refused only when the next one would not have fitted"


async def test_an_open_plane_is_governed_by_the_rules_alone():
    governor = KeyedGovernor(MemoryStore(), rules=Rules(all_budgets=(dollars(1),)))
    await governor.refresh()
    assert governor.authenticate([]) is LOCAL
    with pytest.raises(BudgetExceeded):
        await governor.admit(
            msgspec.structs.replace(LOCAL),
            model="m",
            door="chat",
            tags=(),
            input_tokens=1,
            output_tokens=1,
            worst_case=2 * CENT,
            at=0.0,
        )


def test_a_key_of_a_zone_sends_nothing_out_of_it_to_be_counted_or_kept(stage):
    """What is only counted, or kept as a file, is read by its provider all the same."""
    key, _ = stage.key(zone="private")
    outside = [model.spec.name for model in stage.sim.models.values() if model.spec.provider != "meta"]

    def seen() -> list[str]:
        return [call.path for call in stage.sim.wire.calls if not call.path.startswith(("/meta/", "/_sim/"))]

    before = stage.loop.call(seen)
    for name in (*outside, *stage.gateway.house.snapshot.entries):
        asked = {"model": name, "messages": ASK}
        for path, body in (
            ("/v1/messages/count_tokens", asked),
            (f"/v1beta/models/{name}:countTokens", {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}),
        ):
            assert stage.ask(path, body, key)[0] in (200, 403, 503), name
    status, _, answer = stage.ask("/v1/files?provider=openai", FORM, key)
    assert (status, answer["error"]["code"]) == (403, "model_not_allowed")
    assert stage.ask("/v1/files?provider=openai", None, key)[0] == 403
    assert stage.loop.call(seen) == before
