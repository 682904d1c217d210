"""What calls that are not made yet will cost."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headgate.core.errors import HeadgateError
from headgate.core.request import Request
from headgate.core.strategy import Run


class Cost(msgspec.Struct, frozen=True):
    """Nano-US$, likely and at most; None where a price is unknown."""

    likely: int | None
    most: int | None

    def __add__(self, other: Cost) -> Cost:
        return Cost(total((self.likely, other.likely)), total((self.most, other.most)))


def planned(run: Run, name: str, request: Request, *, times: int = 1) -> Cost:
    """Of so many calls like this one; nothing where the entry cannot be asked."""
    try:
        plan = run.plan(name, request)
    except HeadgateError:
        return Cost(0, 0)
    likely, most = (None if one is None else one * times for one in (plan.predicted_cost, plan.worst_case))
    return Cost(likely, most)


def total(amounts: Iterable[int | None]) -> int | None:
    """None where one of them is unknown."""
    out = 0
    for amount in amounts:
        if amount is None:
            return None
        out += amount
    return out
