"""What answers were worth, the mix of tasks, and what processes have learned: kept by every store."""

from __future__ import annotations

import pytest

from headgate.core.ports import Store
from headgate.core.records import FeedbackRecord, LearnedRow
from support.books import NOON, record

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
