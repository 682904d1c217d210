"""What is handed over in memory, and what has to be read from the file."""

from __future__ import annotations

from headgate.core.records import AttemptOutcome
from headgate.ledger.recent import Recent


def entry(number: int) -> AttemptOutcome:
    return AttemptOutcome(id=f"at_{number}", at=0.0, state="settled", outcome="ok")


def names(entries: list) -> list[str]:
    return [each.id for each in entries]


def put(recent: Recent, number: int, start: int, name: int) -> None:
    recent.put(number, start, start + 10, entry(name))


def test_what_follows_is_taken_in_order_up_to_the_most() -> None:
    recent = Recent()
    for name in range(5):
        put(recent, 1, name * 10, name)
    entries, end = recent.take(1, 0, 3)
    assert (names(entries), end) == (["at_0", "at_1", "at_2"], 30)
    entries, end = recent.take(1, end, 3)
    assert (names(entries), end) == (["at_3", "at_4"], 50)
    assert recent.take(1, end, 3) == ([], 50)


def test_after_a_gap_nothing_is_taken_until_the_file_was_read_so_far() -> None:
    recent = Recent()
    put(recent, 1, 0, 0)
    put(recent, 1, 20, 2)
    put(recent, 1, 30, 3)
    entries, end = recent.take(1, 0, 9)
    assert (names(entries), end) == (["at_0"], 10)
    assert recent.take(1, end, 9) == ([], 10), "what stands at 10 is only in the file"
    entries, end = recent.take(1, 30, 9)
    assert (names(entries), end) == (["at_3"], 40), "2 was read from the file"


def test_the_next_segment_waits_until_this_one_is_put_away() -> None:
    recent = Recent()
    put(recent, 1, 0, 0)
    put(recent, 2, 0, 1)
    assert names(recent.take(1, 0, 9)[0]) == ["at_0"]
    assert recent.take(1, 10, 9) == ([], 10)
    assert names(recent.take(2, 0, 9)[0]) == ["at_1"]


def test_too_many_are_left_to_the_file() -> None:
    recent = Recent(most=2)
    for name in range(4):
        put(recent, 1, name * 10, name)
    entries, end = recent.take(1, 0, 9)
    assert (names(entries), end) == (["at_0", "at_1"], 20)
    assert recent.take(1, end, 9) == ([], 20)
    put(recent, 1, 40, 4)
    assert recent.take(1, end, 9) == ([], 20), "2 and 3 were not kept"
    assert names(recent.take(1, 40, 9)[0]) == ["at_4"]


def test_too_many_bytes_are_left_to_the_file_until_others_are_taken() -> None:
    recent = Recent(most_bytes=20)
    for name in range(4):
        put(recent, 1, name * 10, name)
    entries, end = recent.take(1, 0, 9)
    assert (names(entries), end) == (["at_0", "at_1"], 20)
    put(recent, 1, 40, 4)
    assert names(recent.take(1, 40, 9)[0]) == ["at_4"]
