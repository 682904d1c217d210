"""Under which tags a request is booked."""

from __future__ import annotations

from collections.abc import Container

DAY = 86_400
MOST = 1000
"""Combinations of its own tags that one key may bring to one process in a day. Sums are kept for each, and for ever."""
OTHER = "other"


class TagBook:
    """What clients say of their requests is theirs to choose: an id in each would make the sums as long as the rows."""

    def __init__(self) -> None:
        self._day = 0
        self._seen: dict[str, set[tuple[str, ...]]] = {}

    def booked(self, key_id: str, given: tuple[str, ...], at: float, known: Container[str]) -> tuple[str, ...]:
        """`given` as it is, or what is `known` of it (it has a budget, say) and OTHER, beyond MOST combinations of the day
        (UTC) of `at`."""
        day = int(at // DAY)
        if day != self._day:
            self._day = day
            self._seen.clear()
        seen = self._seen.setdefault(key_id, set())
        if given in seen:
            return given
        if len(seen) < MOST:
            seen.add(given)
            return given
        return (*(tag for tag in given if tag in known), OTHER)
