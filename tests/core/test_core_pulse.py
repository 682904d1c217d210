"""How long a process that did not run turns clients away afterwards."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

from headgate.core.pulse import EVERY, Pulse


def beat(pulse: Pulse, late: float) -> None:
    loop = Mock(spec=asyncio.AbstractEventLoop)
    loop.time.return_value = pulse._due + late
    pulse._beat(loop)


def test_an_hours_sleep_is_over_within_a_second_of_waking() -> None:
    pulse = Pulse()
    beat(pulse, 3600.0)
    assert pulse.lag == 3600.0
    assert pulse.sheds(0), "what is due at once comes first"
    beats = 0
    while pulse.sheds(0):
        beat(pulse, 0.0)
        beats += 1
    assert 0 < beats * EVERY <= 1.0


def test_a_loop_that_lags_on_and_on_sheds_the_ordinary_and_then_all() -> None:
    pulse = Pulse()
    for _ in range(8):
        beat(pulse, 0.8)
    assert pulse.sheds(0)
    assert not pulse.sheds(1)
    for _ in range(8):
        beat(pulse, 5.0)
    assert pulse.sheds(1)
