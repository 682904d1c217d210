"""Tags of clients' own making cannot make the sums as long as the rows."""

from __future__ import annotations

import pytest

from headgate.engine import tagging
from headgate.engine.tagging import DAY, OTHER, TagBook
from support.virtual import VirtualGateway, answer, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models: {m: {provider: openai, upstream: m, cost_per_1k: 0.01}}
budgets: {tags: {poor: {daily: 5}}}
"""


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging, "MOST", 3)


def test_beyond_the_most_of_a_day_only_what_is_known_keeps_its_name() -> None:
    book = TagBook()
    assert [book.booked("k", (f"id-{n}", "poor"), 5.0, {"poor"}) for n in range(5)] == [
        ("id-0", "poor"), ("id-1", "poor"), ("id-2", "poor"), ("poor", OTHER), ("poor", OTHER),
    ]  # fmt: skip
    assert book.booked("k", ("id-1", "poor"), 6.0, ()) == ("id-1", "poor"), "what was there before keeps its name"
    assert book.booked("another", ("id-9",), 6.0, ()) == ("id-9",), "each key has its own"
    assert book.booked("k", ("id-9",), DAY + 1.0, ()) == ("id-9",), "and each day"


def test_rows_are_booked_so_and_traces_say_what_was_sent() -> None:
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("m", lambda call: answer())
        for n in range(5):
            assert (await it.ask("m", headgate={"tags": [f"id-{n}", "poor"]})).status == 200
        booked = [("id-0", "poor"), ("id-1", "poor"), ("id-2", "poor"), ("poor", OTHER), ("poor", OTHER)]
        assert [intent.tags for intent in it.ledger.intents] == booked
        assert [record.tags for record in it.ledger.requests] == booked
        _, trace, _ = list(it.house._traces.values())[-1]
        assert trace.tags == ("id-4", "poor")

    virtually(main)
