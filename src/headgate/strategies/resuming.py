"""What a strategy does with a stream that breaks off: who goes on, how, and what the trace says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from headgate.core.answer import Answer
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.events import Event
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.failed import FINAL
from headgate.upstream.rescue import Rescued, Resumption, continuation, may_continue, may_restart, was_heard

Rescue = Literal["continue", "restart", "error"]
GoOn = Callable[[Request, UpstreamFault], Awaitable[Answer]]
"""Asks those that are left, for what is to follow."""


def resuming(
    answer: Answer, request: Request, run: Run, rest: Sequence[str], go_on: GoOn, *, rescue: Rescue = "continue"
) -> Answer:
    """A streamed answer that goes on with `rest` where it breaks off; the answer itself where it cannot. It must have been
    asked for through a run that keeps what is said."""
    if not request.stream or rescue == "error" or not rest:
        return answer

    async def resume(error: UpstreamFault, said: list[Event] | None) -> Resumption | None:
        broke = f"{answer.model}'s stream broke ({error.kind})"
        if said is None:
            run.decide("rescue", None, because=f"{broke}; it had said more than is kept to continue from")
            return None
        heard = was_heard(said)
        if not heard or (rescue == "restart" and may_restart(request)):
            how = "restarted, as the client allows" if heard else "nothing was heard of it: begun anew"
            run.decide("rescue", rest[0], over=[answer.model], because=f"{broke}; {how}")
            return Resumption(await go_on(request, error), anew=True, restarted=heard)
        if rescue == "restart":
            run.decide("rescue", None, because=f"{broke}; the client has not said that it takes a restart")
            return None
        if not may_continue(said):
            run.decide("rescue", None, because="what was said cannot be continued (tool call, refusal or nothing)")
            return None
        info = next((i for i in (run.model(name) for name in rest) if i is not None), None)
        prefill = info is not None and "prefill" in info.features
        following = continuation(request, said, prefill=prefill)
        how = "prefill" if prefill else "instruction"
        run.decide("rescue", rest[0], over=[answer.model], because=f"{broke}; continued by {how}")
        return Resumption(await go_on(following, error))

    return Rescued(answer, resume=resume)


async def ask(run: Run, names: Sequence[str], request: Request, *, role: str) -> Answer:
    """The answer of the first that gives one. A model's stream that breaks off goes on with those that come after it; an
    entry that is a strategy has its own rule for that. Raises the last one's HeadgateError."""
    for place, name in enumerate(names, 1):
        try:
            answer = await run.child(keep=True).ask(name, request, role=role)
            return answer if run.model(name) is None else stood_in(answer, request, run, names[place:])
        except HeadgateError as error:
            if isinstance(error, FINAL) or place == len(names):
                raise
            run.decide("stand_in", names[place], over=[name], because=f"{role}: {name} failed ({error.code})")
    raise ValueError("nobody to ask")


def stood_in(answer: Answer, request: Request, run: Run, others: Sequence[str]) -> Answer:
    """A streamed answer that the first of `others` who can goes on with where it breaks off."""

    async def go_on(following: Request, error: UpstreamFault) -> Answer:
        return await ask(run, others, following, role="rescue")

    return resuming(answer, request, run, others, go_on)
