"""What a conversation asks, in words."""

from __future__ import annotations

import msgspec

from headgate.core.chat import ChatRequest, text_of

SYSTEM = ("system", "developer")


class Asked(msgspec.Struct, frozen=True):
    """The text of the user's turns, oldest first, and of the system; `messages`: how many there are of every role."""

    turns: tuple[str, ...]
    system: str = ""
    messages: int = 1

    @property
    def last(self) -> str:
        return self.turns[-1] if self.turns else ""


def asked_of(content: ChatRequest) -> Asked:
    turns = tuple(text_of(message.content) for message in content.messages if message.role == "user")
    system = next((text_of(m.content) for m in content.messages if m.role in SYSTEM), "")
    return Asked(turns, system, len(content.messages))
