"""Threads that work for later: they run while the serving loop has nothing to do."""

from __future__ import annotations

import os
import sys

BEHIND = 10
"""Steps of niceness: a tenth of the core that the serving loop wants too, all of it otherwise."""


def give_way() -> None:
    """Puts the calling thread behind the process's main one, wherever both want the same core: a batch of the ledger is
    then no wait for the requests that come in meanwhile. Linux only: elsewhere niceness is the whole process's."""
    if sys.platform == "linux":
        ours = os.getpriority(os.PRIO_PROCESS, os.getpid())
        os.setpriority(os.PRIO_PROCESS, 0, min(ours + BEHIND, 19))  # 0 is the calling thread
