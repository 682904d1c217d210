"""Waiting for what must come, as long as a loaded machine may need."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Returns once it holds; fails where it does not in time."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.01)
