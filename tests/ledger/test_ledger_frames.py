"""Frames: whatever is torn, damaged or split, whole entries are read and nothing else."""

from __future__ import annotations

import random

import pytest

from headgate.core.usage import Usage
from headgate.ledger.frames import frame, read_frames
from support.books import intent, outcome, record

ENTRIES = [
    intent(tags=("a", "ü"), user="ann"),
    outcome(usage=Usage(input=1, reasoning=2, estimated=True)),
    record(trace_json=b'{"x": "\xabH"}'),
    intent("at_2", reserved=None),
]
DATA = b"".join(map(frame, ENTRIES))


def test_entries_come_back_as_they_were() -> None:
    read = read_frames(DATA, most=99, ended=False)
    assert read.entries == ENTRIES
    assert (read.used, read.skipped) == (len(DATA), 0)


def test_a_batch_is_bounded() -> None:
    first = read_frames(DATA, most=3, ended=False)
    assert first.entries == ENTRIES[:3]
    assert read_frames(DATA[first.used :], most=3, ended=False).entries == ENTRIES[3:]


@pytest.mark.parametrize("cut", range(1, len(frame(ENTRIES[-1]))))
def test_a_torn_tail_waits_while_the_file_grows_and_is_skipped_when_it_has_ended(cut: int) -> None:
    torn = DATA[:-cut]
    growing = read_frames(torn, most=99, ended=False)
    assert (growing.entries, growing.skipped) == (ENTRIES[:3], 0)
    ended = read_frames(torn, most=99, ended=True)
    assert (ended.entries, ended.used) == (ENTRIES[:3], len(torn))
    assert ended.skipped == len(torn) - growing.used


def test_any_damage_costs_only_the_entries_it_touches() -> None:
    luck = random.Random(7)
    for _ in range(500):
        damaged = bytearray(DATA)
        place = luck.randrange(len(damaged))
        damaged[place] ^= luck.randrange(1, 256)
        read = read_frames(bytes(damaged), most=99, ended=True)
        assert len(read.entries) >= 3
        assert all(entry in ENTRIES for entry in read.entries)
        assert read.used == len(DATA)


def test_noise_is_no_entry() -> None:
    luck = random.Random(8)
    noise = luck.randbytes(5000)
    read = read_frames(noise + DATA + noise, most=99, ended=True)
    assert read.entries == ENTRIES
    assert read.skipped == 10_000
