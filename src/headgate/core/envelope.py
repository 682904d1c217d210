"""What one request may still use: time, money, calls, depth. Children draw on their parents and cannot exceed them."""

from __future__ import annotations

from typing import Protocol

from headgate.core.errors import BudgetExceeded, DeadlineExceeded, InvalidRequest
from headgate.core.money import dollars

MAX_DEPTH = 8


class Purse(Protocol):
    """Where the money of a request really comes from: budgets that others share."""

    def commit(self, worst: int) -> None:
        """Raises BudgetExceeded where the budgets do not cover it; nothing changes then."""
        ...

    def spend(self, worst: int, actual: int) -> None: ...


class Envelope:
    """`deadline` is absolute, in the clock's monotonic seconds; money in nano-US$; None = no bound of its own.

    Money: `commit(worst)` before a call goes out, `settle(worst, actual)` when its cost is known. At any moment
    spent + committed <= money, for this envelope and each of its parents.
    """

    __slots__ = ("calls_left", "committed", "deadline", "depth", "money", "parents", "purse", "spent")

    def __init__(
        self,
        deadline: float,
        *,
        money: int | None = None,
        calls: int | None = None,
        depth: int = 0,
        parent: Envelope | None = None,
    ) -> None:
        self.deadline = deadline
        self.money = money
        self.calls_left = calls
        self.depth = depth
        self.parents: tuple[Envelope, ...] = () if parent is None else (parent, *parent.parents)
        """From the next one to the request's own."""
        self.purse: Purse | None = parent.purse if parent is not None else None
        self.spent = 0
        self.committed = 0

    def child(self, *, deadline: float | None = None, money: int | None = None, calls: int | None = None) -> Envelope:
        """An envelope inside this one. Raises InvalidRequest where strategies nest deeper than MAX_DEPTH."""
        if self.depth + 1 > MAX_DEPTH:
            raise InvalidRequest("the model's strategies are nested too deeply")
        ends = self.deadline if deadline is None else min(deadline, self.deadline)
        return Envelope(ends, money=money, calls=calls, depth=self.depth + 1, parent=self)

    def remaining(self, now: float) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline - now)

    @property
    def ends_with_the_request(self) -> bool:
        """Its deadline is the request's own, none that a strategy has set."""
        return not self.parents or self.deadline >= self.parents[-1].deadline

    def check_time(self, now: float) -> None:
        if now >= self.deadline:
            raise DeadlineExceeded("the request's deadline has passed")

    def room(self) -> int | None:
        """Nano-US$ that may still be committed; None where nothing bounds it."""
        rooms = [e.money - e.spent - e.committed for e in (self, *self.parents) if e.money is not None]
        return min(rooms) if rooms else None

    def commit(self, worst: int) -> None:
        """Sets `worst` aside and counts one call. Raises BudgetExceeded where it does not fit; nothing changes then."""
        chain = (self, *self.parents)
        for envelope in chain:
            if envelope.calls_left is not None and envelope.calls_left < 1:
                raise BudgetExceeded("the request has used all the calls it was given", code="calls_exhausted")
            if envelope.money is not None and envelope.spent + envelope.committed + worst > envelope.money:
                left = max(envelope.money - envelope.spent - envelope.committed, 0)
                raise BudgetExceeded(
                    f"the request's own cost limit does not cover this call: it may cost up to ${dollars(worst)}, "
                    f"${dollars(left)} is left; a lower max_tokens makes it less",
                    code="max_cost_exceeded",
                )
        if self.purse is not None:
            self.purse.commit(worst)
        for envelope in chain:
            envelope.committed += worst
            if envelope.calls_left is not None:
                envelope.calls_left -= 1

    def settle(self, worst: int, actual: int) -> None:
        if self.purse is not None:
            self.purse.spend(worst, actual)
        for envelope in (self, *self.parents):
            envelope.committed -= worst
            envelope.spent += actual
