"""What kind of work a request asks for: the vocabulary and the protocol that every classifier speaks.

Three levels, one protocol: `keyword` (a table in the configuration), `learned` (signals, lexicon and a linear model,
shipped) and `model` (a cheap model is asked). Each of them turns what was asked (`Asked`) into a `Task`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from headgate.core.chat import ChatRequest, text_of
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.core.tasks import LABELS, UNKNOWN

__all__ = ["LABELS", "UNKNOWN", "Asked", "AskingClassifier", "Classifier", "Level", "Task", "asked_of"]
Level = Literal["keyword", "learned", "model"]


class Task(msgspec.Struct, frozen=True):
    """`labels` sum to 1 over LABELS; `label` is `unknown` where none is sure enough."""

    label: str
    confidence: float
    labels: Mapping[str, float]
    signals: Sequence[str]


class Asked(msgspec.Struct, frozen=True):
    """A conversation as a classifier reads it: the text of the user's turns, oldest first, and of the system."""

    turns: tuple[str, ...]
    system: str = ""

    @property
    def last(self) -> str:
        return self.turns[-1] if self.turns else ""


class Classifier(Protocol):
    """`classify` is pure, never waits, never fails: it is what `plan` and explain use."""

    level: Level

    def classify(self, asked: Asked) -> Task: ...


class AskingClassifier(Classifier, Protocol):
    """A classifier that may call a model when the request is answered; its `classify` is what holds where it does not."""

    async def ask(self, asked: Asked, request: Request, run: Run) -> Task:
        """Within its own deadline, on the run's envelope; falls back to `classify` instead of raising."""
        ...


def asked_of(content: ChatRequest) -> Asked:
    turns = tuple(text_of(message.content) for message in content.messages if message.role == "user")
    system = next((text_of(m.content) for m in content.messages if m.role in ("system", "developer")), "")
    return Asked(turns, system)
