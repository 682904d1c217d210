"""Asking a model for words, with others of the team standing in; conversations as every model can read them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headgate.core.chat import Message, Part, Reasoning, Text, ToolCall, ToolResult, text_of
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.agent.team import Team
from headgate.strategies.resuming import ask

STEP_TOKENS = 4096
"""Bound of one step's answer: without one its worst case is the model's longest, and no budget would cover a plan."""


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
