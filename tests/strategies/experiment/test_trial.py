"""What a trial keeps: added up over processes, carried over lives, begun anew and stopped for all."""

from __future__ import annotations

import random

from headgate.strategies.experiment.trial import BITS, Seen, Stop, Trial

STOP = Stop(5.0, "too many errors", "guard", "old")


def unit(number: int) -> str:
    return f"{random.Random(number).getrandbits(96):024x}"


def grown(first: int, last: int) -> Trial:
    trial = Trial()
    for number in range(first, last):
        values = {"errors": float(number % 2)}
        if trial.is_first(unit(number)):
            values["unit:errors"] = values["errors"]
        trial.note("p", "new" if number % 3 else "old", values, at=100.0 + number)
    return trial


def counted(trial: Trial) -> dict[str, tuple[float, float]]:
    return {arm: (sums["errors"].n, sums["errors"].total) for arm, sums in trial.cells["p"].items()}


def test_processes_add_up_and_a_unit_counts_once_among_them():
    one, two, whole = grown(0, 40), grown(40, 90), grown(0, 90)
    one.hear([two.pack()])
    two.hear([one.pack()])
    assert counted(one) == counted(two) == counted(whole)
    assert one.began == whole.began
    assert not one.is_first(unit(60))
    assert not two.is_first(unit(3))
    assert one.is_first(unit(1000))


def test_what_a_dead_process_knew_is_adopted_once():
    heir, whole = grown(40, 90), grown(0, 90)
    left = grown(0, 40).pack()
    heir.hear([left])
    heir.adopt([left])
    heir.hear([])
    assert counted(heir) == counted(whole)
    later = Trial()
    later.adopt([heir.pack()])
    assert counted(later) == counted(whole)
    heir.forget()
    heir.hear([later.pack()])
    assert counted(heir) == counted(whole)


def test_a_stop_and_a_new_beginning_reach_the_others():
    one, two = grown(0, 40), grown(40, 90)
    one.stop(STOP)
    assert one.stop(Stop(9.0, "again", "guard", "new")) == STOP
    two.hear([one.pack()])
    assert two.stopped == STOP
    later = Trial()
    later.adopt([two.pack()])
    assert later.stopped == STOP

    one.begin_anew(1000.0)
    one.note("p", "new", {"errors": 0.0}, at=1001.0)
    two.hear([one.pack()])
    assert (two.stopped, two.epoch, counted(two)) == (None, 1000.0, {"new": (1, 0)})
    one.hear([grown(0, 40).pack()])  # one that has not heard of it yet
    assert counted(one) == {"new": (1, 0)}
    assert two.is_first(unit(41))


def test_the_filter_takes_few_units_for_others():
    seen = Seen()
    first = sum(seen.add(unit(number)) for number in range(20_000))
    assert first > 19_980  # of 524,288 bits some 11 % are set: one in 700 is taken for another, at the end
    assert not any(seen.add(unit(number)) for number in range(2_000))
    other = Seen()
    other.join(seen.pack())
    assert not any(other.add(unit(number)) for number in range(2_000))
    assert BITS == 2**19
