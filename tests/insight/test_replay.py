"""A log against another file: what differs, what it costs, its worth, what cannot be known; the table it suggests."""

from __future__ import annotations

import json
import random
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate.cli.main import run
from headgate.config.load import load_text
from headgate.core.principal import Principal
from headgate.core.records import FeedbackRecord, KeyRecord, RequestRecord
from headgate.core.trace import AttemptView, Trace
from headgate.core.usage import Usage
from headgate.engine.archive import pack
from headgate.insight.log import Logged, read_log
from headgate.insight.replay import Replay, Side, callers_of, replay
from headgate.insight.suggest import suggest, with_rule
from headgate.simulator.app import Simulator
from headgate.stores.memory import MemoryStore
from headgate.stores.sqlite import SqliteStore
from support.books import NOON
from support.gateway import ENV, EXAMPLE, Loop, RunningGateway
from support.sim import INSTANT

FILE = """\
providers: {anthropic: {}, deepseek: {}}
models:
  strong: {provider: anthropic, upstream: big, cost_per_1k: 0.015, capabilities: [math, code]}
  weak: {provider: deepseek, upstream: small, cost_per_1k: 0.001}
  both: {fallback: [strong, weak]}
  auto:
    route:
      tasks:
        code: strong                 # a word of the team's
        math: {models: [strong, weak], choose: {quality: 1, cost: 0.0}}
        summary:
          models:
            - strong   # first
            - weak     # then
          temperature: 0.3
        qa: [{model: strong, tags: [gold]}, weak]
      otherwise: both
      learn: {explore: 0.2}
"""
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SHARES = {"strong": 0.85, "weak": 0.15}


def request(
    trace: str, task: str | None, action: str, shares: Mapping[str, float] | None = None, **more: Any
) -> RequestRecord:
    """As the gateway writes it (the last test looks whether that is so)."""
    story = Trace(trace, requested="auto", started=0.0, started_at=NOON)
    usage = Usage(input=100, output=100)
    if task is not None:
        rows = [{"model": model, "propensity": share} for model, share in (shares or {}).items()]
        asked = {"needs": [], "input_bound": 130}
        story.facts["task"] = {"label": task, "confidence": 0.9, "labels": {task: 0.9}, "signals": []}
        story.facts["route"] = {"entry": "auto", "candidates": rows, "asked": asked}
        story.decide("route", action, because="x")
    story.attempts.append(AttemptView(action, "d", "p", outcome="ok", cost=3_000_000, usage=usage))
    fields: dict[str, Any] = {
        "id": f"req_{trace}", "trace": trace, "at": NOON, "door": "chat", "requested": "auto", "strategy": "route",
        "model": action, "provider": "p", "key_id": "k1", "task": task, "usage": usage, "cost": 3_000_000,
        "trace_json": pack(story),
    }  # fmt: skip
    return RequestRecord(**(fields | more))


async def log_of(records: list[RequestRecord], scores: Mapping[str, float] | None = None) -> list[Logged]:
    store = MemoryStore()
    await store.apply(records, holder="h")
    for trace, score in (scores or {}).items():
        await store.put_feedback(FeedbackRecord(trace=trace, at=NOON + 1, score=score, key_id="k1"))
    return await read_log(store, since=0, until=NOON * 2, limit=100_000)


def side(text: str = FILE, **more: Any) -> Side:
    return Side(load_text(text, "f.yaml", ENV).config, **more)


async def drawn(task: str, worth: Mapping[str, float], count: int, seed: int = 1) -> list[Logged]:
    """A log in which chance gave some of a task to each model."""
    luck = random.Random(seed)
    records, scores = [], {}
    for number in range(count):
        action = "strong" if luck.random() < SHARES["strong"] else "weak"
        trace = f"tr_{task}_{number}"
        records.append(request(trace, task, action, SHARES, at=NOON + number))
        scores[trace] = float(luck.random() < worth[action])
    return await log_of(records, scores)


def changed(before: str, after: str) -> str:
    assert before in FILE
    return FILE.replace(before, after)


async def test_what_differs_and_what_it_costs():
    rows = await log_of(
        [request(f"tr_{n}", "math", "strong", SHARES) for n in range(10)] + [request("tr_c", "code", "strong")]
    )
    found = replay(rows, side(), side(changed("models: [strong, weak], choose", "models: [weak], choose")))
    (change,) = found.changes
    assert (change.task, change.before, change.after, change.requests) == ("math", "strong", "weak", 10)
    # 200 tokens at 15 and at 1 US$ per million
    assert (change.cost_before, change.cost_after) == (10 * 3_000_000, 10 * 200_000)
    assert (found.compared, found.cost_change, found.cost) == (11, -28_000_000, 33_000_000)
    assert found.as_logged == 11
    assert found.quality.verdict.startswith("cannot be known: no answer was scored")


async def test_quality_is_known_where_chance_chose_and_not_where_it_did_not():
    rows = await drawn("math", {"strong": 0.9, "weak": 0.6}, 3000)
    found = replay(rows, side(), side(changed("models: [strong, weak], choose", "models: [weak], choose"))).quality
    assert found.is_known
    assert found.low < -0.3 < found.high < 0
    rows = await log_of([request(f"tr_{n}", "code", "strong") for n in range(50)], {f"tr_{n}": 1.0 for n in range(50)})
    found = replay(rows, side(), side(changed("code: strong", "code: weak"))).quality
    assert (found.mean, found.is_known, found.bounds) == (None, False, (-1.0, 0.0))


async def test_what_went_to_the_default_chain_is_as_logged_and_its_scores_count():
    """The route's choice was the entry `both`; replay follows it to the model that it asks first."""
    records = [request(f"tr_{n}", "creative", "both", model="strong") for n in range(20)]
    rows = await log_of(records, {row.trace: 1.0 for row in records})
    assert replay(rows, side(), side()).as_logged == 20
    found = replay(rows, side(), side(changed("        code: strong", "        creative: weak\n        code: strong")))
    assert [(c.before, c.after, c.requests) for c in found.changes] == [("strong", "weak", 20)]
    assert found.as_logged == 20
    assert found.quality.bounds == (-1.0, 0.0), (
        "what strong's answers were worth is known: they were the best there are"
    )


async def test_rules_conditions_are_those_of_the_request():
    rows = await log_of(
        [
            request("tr_1", "qa", "weak"),
            request("tr_2", "qa", "strong", tags=("gold",)),
            request("tr_3", "qa", "weak", key_id="k2"),
        ]
    )
    by_tag = side(changed("tags: [gold]", "tags: [silver]"))
    assert [c.requests for c in replay(rows, side(), by_tag).changes] == [1]
    by_key = side(changed("tags: [gold]", "keys: [ci]"), callers={"k2": Principal(key_id="k2", name="ci")})
    assert {(c.before, c.after): c.requests for c in replay(rows, side(), by_key).changes} == {
        ("weak", "strong"): 1,
        ("strong", "weak"): 1,
    }
    by_hour = side(changed("tags: [gold]", 'hours: "11:00-13:00"'))
    assert [by_hour.choice(row) for row in rows] == ["strong"] * 3  # NOON is in them
    assert [side(changed("tags: [gold]", 'hours: "13:00-11:00"')).choice(row) for row in rows] == ["weak"] * 3


async def test_a_key_that_is_confined_to_a_zone_stays_in_it():
    """And a key that was rotated goes by the id of the first of its line."""
    text = FILE.replace("cost_per_1k: 0.001}", "cost_per_1k: 0.001, zone: house}")
    rows = await log_of([request("tr_1", "code", "both", model="weak"), request("tr_2", "code", "strong", key_id="k2")])
    keys = [
        KeyRecord(id="k9", line="k1", hash="", hint="", name="ci", created=2.0, zone="house"),
        KeyRecord(id="k1", hash="", hint="", name="ci", created=1.0),
    ]
    here = {"callers": callers_of(keys)}
    assert replay(rows, side(text, **here), side(text, **here)).as_logged == 2
    other = side(text.replace("code: strong", "code: {models: [strong, weak], choose: {cost: 1.0}}"), **here)
    assert [(c.before, c.after, c.requests) for c in replay(rows, side(text, **here), other).changes] == [
        ("strong", "weak", 1)
    ]


async def test_what_a_file_refuses_a_key_is_no_choice_of_its():
    here = {"callers": callers_of([KeyRecord(id="k1", hash="", hint="", name="ci", created=1.0, zone="house")])}
    text = FILE.replace("cost_per_1k: 0.001}", "cost_per_1k: 0.001, zone: house}")
    rows = await log_of([request("tr_1", None, "weak", requested="weak")])
    assert replay(rows, side(text, **here), side(text, **here)).compared == 1
    found = replay(rows, side(text, **here), side(**here))
    assert (found.compared, found.changes) == (0, [])
    assert next(iter(found.unknowable)).startswith("This key is confined to models of the zone 'house'")


async def test_what_the_log_does_not_keep_is_said():
    rows = await log_of([request("tr_1", None, "strong", requested="both"), request("tr_2", "math", "strong", SHARES)])
    gone = replay(
        rows, side(), side(FILE.replace("  both:", "  every:").replace("otherwise: both", "otherwise: every"))
    )
    assert gone.compared == 1
    assert [reason for reason in gone.unknowable if "both" in reason]
    routed = FILE + "aliases: {gone: auto}\n"
    rows = await log_of([request("tr_1", None, "strong", requested="gone")])
    assert replay(rows, side(routed), side(routed)).unknowable == {"auto would have to read the prompt": 1}


async def test_a_fallback_is_replayed_by_its_order_and_suffixes_hold():
    rows = await log_of(
        [request("tr_1", None, "strong", requested="both"), request("tr_2", "code", "x", requested="auto:cheap")]
    )
    assert {row.record.trace: side().choice(row) for row in rows} == {"tr_1": "strong", "tr_2": "weak"}
    turned = side(changed("fallback: [strong, weak]", "fallback: [weak, strong]"))
    assert [(c.before, c.after) for c in replay(rows, side(), turned).changes] == [("strong", "weak")]


# -- the table ------------------------------------------------------------------------------------------------------------
async def test_a_rule_that_saves_at_no_loss_is_suggested_as_a_diff_that_loads():
    rows = await drawn("math", {"strong": 0.98, "weak": 0.98}, 6000)
    found = suggest(rows, FILE, "headgate.yaml", ENV)
    (one,) = found.suggestions
    assert (one.entry, one.task, one.model) == ("auto", "math", "weak")
    assert one.because.startswith("cheaper, and at most 0.02 worse")
    added = [line for line in found.diff.splitlines() if line[:1] == "+" and line[:3] != "+++"]
    assert added == ["+        math: {models: [weak], choose: {quality: 1, cost: 0.0}}"]
    assert found.replay is not None
    assert [c.after for c in found.replay.changes] == ["weak"]
    assert load_text(found.text, "f.yaml", ENV).config.models["auto"].route.tasks["math"][0].models == ["weak"]
    assert set(found.silent) == {"auto.code", "auto.summary", "auto.qa"}
    assert found.silent["auto.code"] == "no request of it is in the log"
    assert "conditions" in found.silent["auto.qa"]


async def test_a_better_model_is_suggested_and_a_worse_or_unproven_one_is_not():
    better = suggest(await drawn("math", {"strong": 0.6, "weak": 0.9}, 3000), FILE, "f", ENV)
    assert better.suggestions[0].because.startswith("better: quality +")
    worse = suggest(await drawn("math", {"strong": 0.9, "weak": 0.6}, 3000), FILE, "f", ENV)
    assert worse.suggestions == []
    assert worse.diff == ""
    assert "weak: not borne out" in worse.silent["auto.math"]
    few = suggest(await drawn("math", {"strong": 0.2, "weak": 1.0}, 60), FILE, "f", ENV)
    assert few.suggestions == []
    assert "effective answers" in few.silent["auto.math"]
    rows = await log_of([request(f"tr_{n}", "code", "strong") for n in range(99)], {f"tr_{n}": 0.0 for n in range(99)})
    assert "no choice was left to chance" in suggest(rows, FILE, "f", ENV).silent["auto.code"]


async def test_nothing_true_is_suggested_as_often_as_the_level_says():
    """Two models of the same worth and price: a suggestion is a false alarm."""
    even = FILE.replace("cost_per_1k: 0.001", "cost_per_1k: 0.015")
    alarms = 0
    for seed in range(20):
        rows = await drawn("math", {"strong": 0.8, "weak": 0.8}, 400, seed=seed)
        alarms += bool(suggest(rows, even, "f", ENV).suggestions)
    assert alarms <= 3


@pytest.mark.parametrize(
    ("task", "line"), [("code", "        code: weak                 # a word"), ("math", "{models: [weak], choose")]
)
def test_edits_keep_what_was_written(task: str, line: str):
    assert line in with_rule(FILE, "auto", task, "weak")


def test_edits_of_lists_in_lines_and_of_odd_names():
    text = with_rule(FILE, "auto", "summary", "weak")
    assert load_text(text, "f", ENV).config.models["auto"].route.tasks["summary"][0].models == ["weak"]
    assert "temperature: 0.3" in text
    odd = FILE.replace("weak", '"a: b"')
    assert (
        load_text(with_rule(odd, "auto", "code", "a: b"), "f", ENV).config.models["auto"].route.tasks["code"][0].model
        == "a: b"
    )


# -- as a user does it ----------------------------------------------------------------------------------------------------
async def fill(path: Path) -> None:
    store = SqliteStore(path)
    luck = random.Random(3)
    records: list[RequestRecord] = []
    for number in range(2000):
        action = "strong" if luck.random() < 0.85 else "weak"
        records.append(request(f"tr_{number}", "math", action, SHARES, at=NOON + number))
    await store.apply(records, holder="h")
    for number in range(600):
        worth = float(luck.random() < 0.8)
        await store.put_feedback(FeedbackRecord(trace=f"tr_{number}", at=NOON + number, key_id="k1", score=worth))
    await store.aclose()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        run(list(arguments))
    out = capsys.readouterr()
    assert not ended.value.code, out.err
    return out.out


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import asyncio

    monkeypatch.chdir(tmp_path)
    asyncio.run(fill(tmp_path / ".headgate" / "headgate.db"))
    Path("headgate.yaml").write_text(FILE, encoding="utf-8")
    Path("new.yaml").write_text(changed("models: [strong, weak], choose", "models: [weak], choose"), encoding="utf-8")
    shown = said(capsys, "replay", "new.yaml", "--since", "2026-11-01", "--until", "2026-12-31")
    assert "2000 would go elsewhere" in shown
    assert "strong → weak" in shown
    assert "cost: -$5.600000 on $6.00" in shown
    assert "known (600 scored, 600 of them changed)" in shown
    found = json.loads(said(capsys, "replay", "new.yaml", "--since", "2026-11-01", "--until", "2026-12-31", "--json"))
    assert found["quality"]["is_known"]
    assert found["cost_change_usd"] == "-5.600000"
    advice = said(capsys, "insight", "tasks", "--since", "2026-11-01", "--until", "2026-12-31", "--suggest")
    assert "auto.code: no request of it is in the log" in advice
    with pytest.raises(SystemExit) as ended:
        run(["replay", "missing.yaml"])
    assert ended.value.code == 1


def test_recorded_requests_are_classified_by_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    prompts = ["Write a Python function that reverses a list.", "Solve x^2 - 5x + 6 = 0.", "hello"]
    bodies = [{"model": "auto", "messages": [{"role": "user", "content": prompt}]} for prompt in prompts]
    Path("requests.jsonl").write_text("\n".join(map(json.dumps, bodies)) + "\n\n", encoding="utf-8")
    Path("headgate.yaml").write_text(FILE, encoding="utf-8")
    Path("new.yaml").write_text(changed("        code: strong", "        code: weak"), encoding="utf-8")
    words = "math: [python], code: [lambda], summary: [tldr], qa: [who is]"
    keyed = FILE.replace("    route:\n", f"    route:\n      classifier: keyword\n      keywords: {{{words}}}\n")
    Path("words.yaml").write_text(keyed, encoding="utf-8")
    found = json.loads(said(capsys, "replay", "new.yaml", "--requests", "requests.jsonl", "--json"))
    (change,) = found["changes"]
    assert (change["before"], change["after"], change["traces"]) == ("strong", "weak", ["line 1"])
    assert float(change["cost_after_usd"]) < float(change["cost_before_usd"])
    assert found["compared"] == 3
    assert "would go elsewhere" in said(capsys, "replay", "words.yaml", "--requests", "requests.jsonl")
    Path("requests.jsonl").write_text('{"model": 5}', encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        run(["replay", "new.yaml", "--requests", "requests.jsonl"])
    assert ended.value.code == 2
    assert "requests.jsonl:1:" in capsys.readouterr().err


def test_the_gateway_writes_what_is_read_here():
    """Explored choices with their chances, needs and sizes, through the real route."""
    text = EXAMPLE.read_text(encoding="utf-8").replace(
        "      otherwise: reliable", "      otherwise: reliable\n      learn: {explore: 0.2}"
    )
    loop, sim = Loop(), Simulator(INSTANT)
    urls = loop.run(sim.start(0, port_each=True))
    gateway = loop.call(lambda: RunningGateway(text, urls, env=ENV))
    loop.run(gateway.start())
    try:
        for number in range(12):
            prompt = {"role": "user", "content": f"Solve {number}x + 5 = 20 for x."}
            body = {"model": "auto", "max_tokens": 50, "messages": [prompt], "tools": [TOOL]}
            call = urllib.request.Request(f"{gateway.url}/v1/chat/completions", data=json.dumps(body).encode())
            urllib.request.urlopen(call, timeout=20).close()
        records = [
            msgspec.structs.replace(record, trace_json=pack(trace)) for trace, record in gateway.house.recent(50)
        ]
        rows = loop.run(log_of(records, {records[0].trace: 1.0}))
    finally:
        loop.run(gateway.stop())
        loop.run(sim.aclose())
        loop.close()
    assert len(rows) == 12
    for row in rows:
        assert (row.task, row.route, row.max_tokens, row.needs) == ("math", "auto", 50, {"tools"})
        assert set(row.propensities) == {"deepseek-v4", "claude-4.7"}
        assert sum(row.propensities.values()) == pytest.approx(1.0, abs=0.001)
        assert 0.8 < row.propensities["deepseek-v4"] < 1
        assert row.action in row.propensities
    assert [row.score for row in rows].count(None) == 11
    found: Replay = replay(rows, side(text), side(text))
    assert (found.compared, found.changes) == (12, [])
