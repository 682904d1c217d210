"""What a route's plans can cost at most, and which of them a sum covers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headgate.core.errors import BudgetExceeded
from headgate.core.money import dollars
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.single import outlook


class Costs:
    """Of one request, in nano-US$; None where a price is unknown. Each entry is planned once."""

    def __init__(self, request: Request, run: Run) -> None:
        self._request = request
        self._run = run
        self._known: dict[str, int | None] = {}

    def note(self, name: str, worst: int | None) -> None:
        """What has been found already."""
        self._known[name] = worst

    def of(self, name: str) -> int | None:
        if name not in self._known:
            self._known[name] = outlook(name, self._run.model(name), self._request, self._run).worst
        return self._known[name]

    def total(self, order: Iterable[str]) -> int | None:
        """Of everything that may be called."""
        return total(self.of(name) for name in order)

    def covered(self, order: Sequence[str], room: int) -> list[str]:
        """Of an order what fits together into `room`, the first ones first."""
        out: list[str] = []
        for name in order:
            worst = self.of(name)
            if worst is not None and worst <= room:
                out.append(name)
                room -= worst
        return out


def total(costs: Iterable[int | None]) -> int | None:
    out = 0
    for cost in costs:
        if cost is None:
            return None
        out += cost
    return out


def fits(worst: int | None, room: int) -> bool:
    return worst is not None and worst <= room


def not_covered(task: str, worst: int | None, room: int) -> BudgetExceeded:
    """After a model has named the task, with money for other tasks set aside."""
    most = "an amount that is not known" if worst is None else f"up to ${dollars(worst)}"
    return BudgetExceeded(
        f"The task was named {task!r}: it may cost {most}, the hard budgets that apply cover ${dollars(max(room, 0))}, and "
        f"the rule of {task!r} has no `downgrade` that fits. A lower max_tokens makes it less.",
        left=max(room, 0),
    )
