"""What calls that are not made yet will cost."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headgate.core.errors import HeadgateError
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.single import LIKELY_OUTPUT

CHARS_PER_TOKEN = 4


class Cost(msgspec.Struct, frozen=True):
    """Nano-US$, likely and at most; None where a price is unknown."""

    likely: int | None
    most: int | None

    def __add__(self, other: Cost) -> Cost:
        return Cost(total((self.likely, other.likely)), total((self.most, other.most)))


def planned(run: Run, name: str, longest: Request, likely: Request, *, times: int = 1) -> Cost:
    """Of so many calls: no longer than `longest`, and such as `likely`; nothing where the entry cannot be asked."""
    try:
        most, some = run.plan(name, longest).worst_case, run.plan(name, likely).predicted_cost
    except HeadgateError:
        return Cost(0, 0)
    return Cost(None if some is None else some * times, None if most is None else most * times)


def unseen(max_tokens: int | None, cut: int) -> tuple[str, str]:
    """Answers that are not there yet, `cut` characters at most: (the longest that there can be, one of middling length)."""
    longest = min(cut, (max_tokens or cut) * CHARS_PER_TOKEN)
    return "x" * longest, "x" * min(longest, LIKELY_OUTPUT * CHARS_PER_TOKEN)


def total(amounts: Iterable[int | None]) -> int | None:
    """None where one of them is unknown."""
    out = 0
    for amount in amounts:
        if amount is None:
            return None
        out += amount
    return out
