"""Asking a model for words, with others of the team standing in; conversations as every model can read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from headgate.core.answer import Answer
from headgate.core.chat import Message, Part, Reasoning, Text, ToolCall, ToolResult, text_of
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.agent.team import Team
from headgate.strategies.failed import FINAL
from headgate.strategies.resuming import resuming

STEP_TOKENS = 4096
"""Bound of one step's answer: without one its worst case is the model's longest, and no budget would cover a plan."""


async def ask(run: Run, names: Sequence[str], request: Request, *, role: str) -> Answer:
    """The answer of the first that gives one. A model's stream that breaks off goes on with those that come after it; an
    entry that is a strategy has its own rule for that. Raises the last one's HeadgateError."""
    run = run.child(keep=True)
    for place, name in enumerate(names, 1):
        try:
            answer = await run.ask(name, request, role=role)
            return answer if run.model(name) is None else _rescuable(answer, run, names[place:], request)
        except HeadgateError as error:
            if isinstance(error, FINAL) or place == len(names):
                raise
            run.decide("stand_in", names[place], over=[name], because=f"{role}: {name} failed ({error.code})")
    raise ValueError("nobody to ask")


def _rescuable(answer: Answer, run: Run, rest: Sequence[str], request: Request) -> Answer:
    async def go_on(following: Request, error: UpstreamFault) -> Answer:
        return await ask(run, rest, following, role="rescue")

    return resuming(answer, request, run, rest, go_on)


async def ask_text(
    run: Run, team: Team, name: str, request: Request, *, role: str, capability: str | None = None
) -> str:
    """A model's words, or those of one that stands in for it. Raises HeadgateError."""
    asked = request.edited(stream=False)
    answer = await ask(run, team.stand_ins(name, asked, capability=capability), asked, role=role)
    try:
        found = await answer.read()
    finally:
        await answer.aclose()
    return text_of(found.choices[0].parts) if found.choices else ""


def plain(messages: Iterable[Message]) -> list[Message]:
    """The conversation without calls and thinking: a model that is given no tools must not see them as tools'. What was
    called and what came back is told as text."""
    out: list[Message] = []
    for message in messages:
        parts = [said for part in message.content if (said := _plain(part)) is not None]
        if parts:
            role = "user" if message.role == "tool" else message.role
            out.append(msgspec.structs.replace(message, role=role, content=parts, extensions={}))
    return out


def _plain(part: Part) -> Part | None:
    match part:
        case Reasoning():
            return None
        case ToolCall():
            return Text(text=f"[called {part.name}: {part.arguments}]")
        case ToolResult():
            return Text(text=f"[{part.name or 'a tool'} gave: {text_of(part.content)}]")
        case _:
            return part
