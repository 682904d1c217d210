"""What kind of work a request asks for: the vocabulary and the protocol that every classifier speaks.

Three levels, one protocol: `keyword` (a table in the configuration), `learned` (signals, lexicon and a linear model,
shipped) and `model` (a cheap model is asked). Each of them turns what was asked (`Asked`) into a `Task`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from headgate.core.asked import Asked
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.core.tasks import LABELS, UNKNOWN

__all__ = ["LABELS", "UNKNOWN", "Asked", "AskingClassifier", "Classifier", "Level", "Task"]
Level = Literal["keyword", "learned", "model"]


class Task(msgspec.Struct, frozen=True):
    """`labels` sum to 1 over LABELS; `label` is `unknown` where none is sure enough."""

    label: str
    confidence: float
    labels: Mapping[str, float]
    signals: Sequence[str]


class Classifier(Protocol):
    """`classify` is pure, never waits, never fails: it is what `plan` and explain use."""

    level: Level

    def classify(self, asked: Asked) -> Task: ...


class AskingClassifier(Classifier, Protocol):
    """A classifier that may call a model when the request is answered; its `classify` is what holds where it does not."""

    async def ask(self, asked: Asked, request: Request, run: Run) -> Task:
        """Within its own deadline, on the run's envelope; falls back to `classify` instead of raising."""
        ...
