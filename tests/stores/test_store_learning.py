"""What answers were worth, the mix of tasks, and what processes have learned: kept by every store."""

from __future__ import annotations

import pytest

from headgate.core.ports import Store
from headgate.core.records import FeedbackRecord, LearnedRow
from headgate.insight.taskmix import task_mix
from support.books import NOON, intent, outcome, record

DAY = 86400.0


def said(trace: str, score: float, **more) -> FeedbackRecord:
    return FeedbackRecord(**{"trace": trace, "at": NOON, "score": score, "key_id": "k1", **more})


def row(holder: str, body: bytes = b"{}", *, entry: str = "route:auto", at: float = NOON) -> LearnedRow:
    return LearnedRow(entry=entry, holder=holder, at=at, body=body)


async def test_the_last_word_on_a_trace_counts_and_outlives_the_process(open_store) -> None:
    store = await open_store()
    await store.put_feedback(said("tr_1", 0.2, comment="meh"))
    await store.put_feedback(said("tr_2", 1.0, at=NOON + 1))
    await store.put_feedback(said("tr_1", 0.9, task="code", model="claude", at=NOON + 2))
    assert [(f.trace, f.score) for f in await store.feedback(limit=9)] == [("tr_1", 0.9), ("tr_2", 1.0)]
    assert not await store.put_feedback(said("tr_1", 0.0), replace=False)
    assert await store.put_feedback(said("tr_3", 0.3, at=NOON - 1), replace=False)
    assert [(f.trace, f.score) for f in await store.feedback(limit=9)] == [("tr_1", 0.9), ("tr_2", 1.0), ("tr_3", 0.3)]
    assert [f.trace for f in await store.feedback(limit=1)] == ["tr_1"]
    assert [f.trace for f in await store.feedback(limit=9, since=NOON + 2)] == ["tr_1"]
    await store.prune(NOON + DAY)  # nothing of that day is left


async def test_the_mix_of_tasks_sums_requests_and_scores(store: Store) -> None:
    await store.apply(
        [
            record("tr_1", task="code", saved=50, at=NOON),
            record("tr_2", task="code", saved=-20, status=502, cost=None, at=NOON + 1),
            record("tr_3", task=None, model="gpt", at=NOON + DAY),
        ],
        holder="h1",
    )
    await store.put_feedback(said("tr_1", 0.5))
    rows = await store.mix(since=0, until=NOON + 9 * DAY, by=("task", "model"), where={})
    assert [r.group for r in rows] == [("", "gpt"), ("code", "claude")]
    code = rows[1]
    assert (code.requests, code.failed, code.cost, code.unknown_cost, code.saved) == (2, 1, 300, 1, 30)
    assert (code.scored, code.score, code.input, code.output) == (1, 0.5, 20, 10)
    assert code.latency == pytest.approx(1.0)
    days = await store.mix(since=0, until=NOON + 9 * DAY, by=("day",), where={"requested": "auto"})
    assert [(r.group[0], r.requests) for r in days] == [("2026-11-24", 2), ("2026-11-25", 1)]
    (whole,) = await store.mix(since=NOON, until=NOON + 1, by=(), where={"key": "k1", "strategy": "route"})
    assert (whole.requests, whole.saved) == (1, 50)
    assert await store.mix(since=0, until=NOON, by=("task",), where={}) == []
    with pytest.raises(ValueError, match="dimension"):
        await store.mix(since=0, until=NOON, by=("prompt",), where={})


async def test_calls_are_counted_for_the_task_of_their_request(store: Store) -> None:
    await store.apply(
        [
            *(intent("at_1"), outcome("at_1", outcome="failed", error="timeout")),
            *(intent("at_2", model="gpt", role="rescue"), outcome("at_2")),
            *(intent("at_3", model="gpt", role="judge"), outcome("at_3")),
            *(intent("at_4", role="hedge"), outcome("at_4", outcome="cancelled")),
            record("tr_1", task="code", model="gpt", team="red"),
            *(intent("at_5", trace="tr_2"), outcome("at_5", outcome="truncated")),
            record("tr_2", task=None, at=NOON + DAY),
            intent("at_6", trace="tr_2"),  # not over yet
        ],
        holder="h1",
    )
    rows = await store.calls(since=0, until=NOON + 9 * DAY, where={})
    expected = [(("", "claude"), 1, 1), (("code", "claude"), 1, 1), (("code", "gpt"), 1, 0)]
    assert [(row.group, row.calls, row.failed) for row in rows] == expected
    assert [r.group for r in await store.calls(since=0, until=NOON + 1, where={})] == [r[0] for r in expected[1:]]
    assert [r.group for r in await store.calls(since=0, until=NOON + 1, where={"model": "gpt"})] == [("code", "gpt")]
    assert [r.group[0] for r in await store.calls(since=0, until=NOON * 2, where={"team": "red"})] == ["code", "code"]
    with pytest.raises(ValueError, match="dimension"):
        await store.calls(since=0, until=NOON, where={"prompt": "x"})


async def test_the_mix_of_tasks_by_model_with_quality_and_failure(store: Store) -> None:
    """insight/taskmix.py on every store."""
    rows = [record(f"tr_{i}", task="code", at=NOON + i * DAY / 8, saved=50, cost=1_000_000) for i in range(10)]
    rows += [record("tr_x", task="math", model="gpt", cost=None, saved=None, at=NOON)]
    rows += [record("tr_y", task="math", model=None, status=503, error="all_models_unavailable", cost=0, at=NOON)]
    calls = [x for i in range(3) for x in (intent(f"at_{i}", trace="tr_y"), outcome(f"at_{i}", outcome="failed"))]
    await store.apply([*rows, *calls], holder="h1")
    for i in range(4):
        await store.put_feedback(said(f"tr_{i}", float(i > 0)))
    found = await task_mix(store, since=0, until=NOON + 9 * DAY)
    code, math = found.tasks
    assert (found.requests, code.requests, code.share, math.requests, math.failed) == (12, 10, 0.8333, 2, 1)
    assert [(day.day, day.tasks) for day in found.days] == [
        ("2026-11-24", {"code": 4, "math": 2}),
        ("2026-11-25", {"code": 6}),
    ]
    (claude,) = code.models
    assert (claude.cost_usd, claude.scored, claude.latency_ms) == ("0.001000", 4, 500.0)
    assert claude.quality is not None
    # Wilson's interval of 3 in 4, by hand: (0.75 + 0.4802 +- 1.96 sqrt(0.046875 + 0.060025)) / 1.9604
    assert (claude.quality.mean, claude.quality.low, claude.quality.high) == (0.75, 0.3006, 0.9544)
    asked = {m.model: m for m in math.models}
    assert (asked["gpt"].cost_usd, asked["gpt"].quality, asked["gpt"].requests) == (None, None, 1)
    assert (asked["claude"].requests, asked["claude"].calls, asked["claude"].calls_failed) == (0, 3, 3)
    only = await task_mix(store, since=0, until=NOON + 9 * DAY, where={"task": "math"})
    assert [task.task for task in only.tasks] == ["math"]
    assert (await task_mix(store, since=0, until=1.0)).tasks == []
    with pytest.raises(ValueError, match="filter"):
        await task_mix(store, since=0, until=NOON, where={"prompt": "x"})


async def test_learned_rows_are_swapped_all_or_nothing(open_store) -> None:
    store = await open_store()
    assert await store.swap_learned(row("a", b"1"), over=[])
    assert await store.swap_learned(row("b", b"2"), over=[])
    assert await store.swap_learned(row("a", b"3", entry="cascade:x"), over=[])
    assert await store.swap_learned(row("a", b"1+"), over=["a"])
    assert not await store.swap_learned(row("c", b"9"), over=["a", "gone"])
    assert [(r.holder, r.body) for r in await store.learned() if r.entry == "route:auto"] == [("a", b"1+"), ("b", b"2")]
    assert await store.swap_learned(row("c", b"1+2", at=0.0), over=["a", "b"])
    assert not await store.swap_learned(row("a", b"late"), over=["a"])
    other = await open_store() if type(store).__name__ != "SqliteStore" else store
    assert [(r.entry, r.holder, r.at, r.body) for r in await other.learned()] == [
        ("cascade:x", "a", NOON, b"3"),
        ("route:auto", "c", 0.0, b"1+2"),
    ]
