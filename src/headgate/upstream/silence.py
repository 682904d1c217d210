"""How long a stream has said nothing while we waited for it."""

from __future__ import annotations

from headgate.core.clock import Clock
from headgate.core.errors import fault
from headgate.dialects.sse import data_of, event_of


class Silence:
    """Pings, comments and blank lines keep the connection alive, not the answer: silence counts through them. Only seconds
    in which we waited count, from the first content on: not those in which the client did not read."""

    __slots__ = ("_asked", "_limit", "_now", "_silent", "_spoke")

    def __init__(self, limit: float, clock: Clock) -> None:
        self._limit = limit
        self._now = clock.monotonic
        self._asked = 0.0
        self._silent = 0.0
        self._spoke = False

    def begin(self) -> None:
        """The first content has come. Before it the limit for that is all there is."""
        self._spoke = True

    def ask(self) -> None:
        """From now on we wait."""
        self._asked = self._now()

    def hear_part(self) -> None:
        """A piece of a frame: the rest of it tells whether that was silence."""
        now = self._now()
        if self._spoke:
            self._silent += now - self._asked
        self._asked = now

    def hear(self, frames: list[bytes]) -> None:
        """What we waited for: whole frames, or only blank lines. From now on we wait for more. Raises the timeout."""
        now = self._now()
        if frames and frames[-1].startswith(b"data:"):  # the common case
            self._silent = 0.0
        else:
            self._look_closer(frames, now - self._asked)
        self._asked = now

    def _look_closer(self, frames: list[bytes], waited: float) -> None:
        self._silent = self._silent + waited if self._spoke and all(map(_is_idle, frames)) else 0.0
        if self._silent > self._limit:
            raise fault("timeout", "the provider sent only keep-alives for too long")


def _is_idle(frame: bytes) -> bool:
    """A ping, or a frame without data (a comment may also stand before data)."""
    if frame.startswith((b"data:", b"event:")):
        return frame.startswith((b"event: ping", b"event:ping"))
    return data_of(frame) is None or event_of(frame) == "ping"
