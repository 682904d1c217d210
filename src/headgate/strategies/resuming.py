"""What a strategy does with a stream that breaks off: who goes on, how, and what the trace says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Literal

from headgate.core.answer import Answer
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.events import Event
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.failed import FINAL
from headgate.strategies.schema import asks_for_json, misfit_of
from headgate.upstream.rescue import (
    Continued,
    Rescued,
    Resumption,
    may_continue,
    may_restart,
    was_heard,
    words_of,
)

Rescue = Literal["continue", "restart", "error"]
Asked = Request | Continued
GoOn = Callable[[Asked, UpstreamFault], Awaitable[Answer]]
"""Asks those that are left, for what is to follow."""


def asked_of(asked: Asked, run: Run, name: str) -> Request:
    """In the form that the entry of this name takes."""
    return asked.of(run.model(name)) if isinstance(asked, Continued) else asked


def resuming(
    answer: Answer,
    asked: Asked,
    run: Run,
    rest: Sequence[str],
    go_on: GoOn,
    *,
    rescue: Rescue = "continue",
    move_on: Collection[str] | None = None,
) -> Answer:
    """A streamed answer that goes on with `rest` where it breaks off; the answer itself where it cannot. It must have been
    asked for through a run that keeps what is said. `move_on`: the faults from which it may (None: all)."""
    base, before = (asked.base, asked.spoken) if isinstance(asked, Continued) else (asked, "")
    if not base.stream or rescue == "error" or not rest:
        return answer

    async def resume(error: UpstreamFault, said: list[Event] | None) -> Resumption | None:
        broke = f"{answer.model}'s stream broke ({error.kind})"
        if move_on is not None and error.kind not in move_on:
            run.decide("rescue", None, over=[answer.model], because=f"{broke}; nobody is moved on to from that")
            return None
        if said is None:
            run.decide("rescue", None, because=f"{broke}; it had said more than is kept to continue from")
            return None
        heard = was_heard(said)
        if not heard or (rescue == "restart" and may_restart(base)):
            how = "restarted, as the client allows" if heard else "nothing was heard of it: begun anew"
            run.decide("rescue", rest[0], over=[answer.model], because=f"{broke}; {how}")
            return Resumption(await go_on(base if heard else asked, error), anew=True, restarted=heard)
        if rescue == "restart":
            run.decide("rescue", None, because=f"{broke}; the client has not said that it takes a restart")
            return None
        if error.kind == "invalid_output":
            run.decide("rescue", None, over=[answer.model], because=f"{broke}; it was complete, and the client has it")
            return None
        if base.peek.n > 1 or not may_continue(said):
            kinds = "tool call, refusal, several answers or nothing"
            run.decide("rescue", None, because=f"what was said cannot be continued ({kinds})")
            return None
        following = Continued(base, before + words_of(said))
        how = "prefill" if following.takes_prefill(run.model(rest[0])) else "instruction"
        run.decide("rescue", rest[0], over=[answer.model], because=f"{broke}; continued by {how}")
        return Resumption(await go_on(following, error), sequel=following)

    problem = None if before or not asks_for_json(base) else partial(misfit_of, base.content())
    return Rescued(answer, resume=resume, problem=problem)


async def ask(run: Run, names: Sequence[str], asked: Asked, *, role: str) -> Answer:
    """The answer of the first that gives one. A model's stream that breaks off goes on with those that come after it; an
    entry that is a strategy has its own rule for that. Raises the last one's HeadgateError."""
    for place, name in enumerate(names, 1):
        try:
            answer = await run.child(keep=True).ask(name, asked_of(asked, run, name), role=role)
            return answer if run.model(name) is None else stood_in(answer, asked, run, names[place:])
        except HeadgateError as error:
            if isinstance(error, FINAL) or place == len(names):
                raise
            run.decide("stand_in", names[place], over=[name], because=f"{role}: {name} failed ({error.code})")
    raise ValueError("nobody to ask")


def stood_in(answer: Answer, asked: Asked, run: Run, others: Sequence[str]) -> Answer:
    """A streamed answer that the first of `others` who can goes on with where it breaks off."""

    async def go_on(following: Asked, error: UpstreamFault) -> Answer:
        return await ask(run, others, following, role="rescue")

    return resuming(answer, asked, run, others, go_on)
