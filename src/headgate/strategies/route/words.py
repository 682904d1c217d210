"""What a route says of its choice: reasons in words, and its part of the `headgate` object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.core.money import dollars
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.route.choose import Candidate
from headgate.strategies.route.classify import Task


def circumstances(request: Request, run: Run) -> dict[str, Any]:
    """What a choice depends on besides the task: so that it can be looked at again without the prompt."""
    peek, room = request.peek, run.envelope.room()
    asked: dict[str, Any] = {"input_bound": peek.input_bound, "needs": sorted(peek.needs)}
    if peek.max_tokens is not None:
        asked["max_tokens"] = peek.max_tokens
    if room is not None:
        asked["room_usd"] = dollars(room)
    return asked


def who_bounds(pressed: int | None) -> str:
    return "the request may spend" if pressed is None else f"budgets cover (${dollars(pressed)})"


def next_because(row: Candidate | None) -> str:
    """`row` None: of a strategy, which is not ranked."""
    if row is not None and row.behind is not None:
        return f"no better than {row.behind} in anything"
    return "the task's next candidate"


def default_because(task: Task, has_rule: bool, order: Sequence[str], out: str | None) -> str:
    """Of `otherwise`, where it stands as the safe default and not by the rule: `out` is what keeps it out of the rule."""
    if len(order) > 1:
        return "if the others fail"
    if not has_rule:
        return f"no rule for {task.label!r}"
    return f"the default: none of the rule's models for {task.label!r} fits" + (f" (of this one: {out})" if out else "")


def because(task: Task, note: str | None) -> str:
    """Why, in words: `math (0.75): digits, an equation`. Its figure is the one that `shown` gives."""
    words = f"{task.label} ({round(task.confidence, 3):.2f})"
    if note is not None:
        words = f"{words}, {note}"
    return f"{words}: {', '.join(task.signals[:3])}" if task.signals else words


def shown(task: Task) -> dict[str, Any]:
    """The `task` part of the `headgate` object: the likely labels only."""
    likely = sorted(((label, p) for label, p in task.labels.items() if p >= 0.03), key=lambda row: -row[1])
    return {
        "label": task.label,
        "confidence": round(task.confidence, 3),
        "labels": {label: round(p, 3) for label, p in likely},
        "signals": list(task.signals),
    }
