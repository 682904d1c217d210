"""Labelled points at which a test can make the process die, stop or fail. Off unless armed; then costs one look."""

from __future__ import annotations

import errno
import os
import signal

POINTS = (
    "admitted",
    "journal.intent.before",
    "journal.intent.torn",
    "journal.intent.after",
    "attempt.sent",
    "attempt.content",
    "journal.outcome.before",
    "journal.outcome.after",
    "journal.request.after",
    "answer.end",
    "tail.read",
    "store.booked",
    "store.committed",
    "segment.done",
    "replay.half",
)
"""In the order in which a request passes them; the last five are the background's."""
_armed: dict[str, tuple[str, int]] = {}


def arm(spec: str) -> None:
    """`point=action:n,...`: the nth time that the point is reached: `kill` (SIGKILL), `stop` (SIGSTOP) or, from then on,
    `full` (no space left on the device). Raises ValueError for what is no point."""
    _armed.clear()
    for part in filter(None, (part.strip() for part in spec.split(","))):
        point, _, rest = part.partition("=")
        action, _, count = rest.partition(":")
        if point not in POINTS or action not in ("kill", "stop", "full"):
            raise ValueError(f"not a fail-point: {part!r}")
        _armed[point] = (action, int(count or 1))


def reached(point: str) -> None:
    """Raises OSError (ENOSPC) where the point is armed with `full`."""
    if _armed and point in _armed:
        _act(point)


def is_due(point: str) -> bool:
    """Whether the next `reached` acts: for points that need preparation."""
    return bool(_armed) and point in _armed and _armed[point][1] <= 1


def _act(point: str) -> None:
    action, left = _armed[point]
    if left > 1:
        _armed[point] = (action, left - 1)
    elif action == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    else:
        del _armed[point]
        os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)
