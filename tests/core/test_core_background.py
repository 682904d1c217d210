"""What works for later stands behind the serving loop, which keeps its place."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from headgate.core.background import BEHIND, give_way

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux only")


def test_a_thread_gives_way_and_the_others_stay() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    seen: list[int] = []

    def work() -> None:
        give_way()
        give_way()  # not once more
        seen.append(os.getpriority(os.PRIO_PROCESS, 0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [min(before + BEHIND, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
