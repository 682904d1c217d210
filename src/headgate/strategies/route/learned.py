"""The shipped classifier: notions and shape through one linear layer, calibrated on sources that it had not seen.

`scripts/tasks/train.py` fits it; docs/quality.md has what it reaches. Nothing is downloaded and numpy is all it needs.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources
from io import BytesIO
from math import exp

import msgspec
import numpy as np

from headgate.strategies.route.classify import LABELS, UNKNOWN, Asked, Level, Task
from headgate.strategies.route.features import WORDS, Features, features_of, known_words
from headgate.strategies.route.lexicon import in_words, notions_in
from headgate.strategies.route.meaning import Meaning

FILE = "tasks.npz"
REMEMBERED = 2048
"""Turns whose task is remembered: the earlier turns of a conversation come again with each request."""
READ = 8000
"""Characters of a turn that are read: the first half of it from its beginning, the rest from its end."""
TURNS = 12
SWITCH = 0.55
"""A later turn changes a conversation's task only when it is at least this sure of another one."""
SHOWN = 4


class Model(msgspec.Struct, frozen=True):
    weights: np.ndarray
    """(WORDS, labels); (SIZE, labels) of a fit to own labels, which reads words too."""
    bias: np.ndarray
    temperature: float
    threshold: float
    version: str
    meaning: Meaning | None = None
    """Of a fit with an embedder (`headgate train --embedder`): the shipped model has none."""

    @property
    def reads_words(self) -> bool:
        return len(self.weights) > WORDS

    def rows(self, features: Features) -> np.ndarray:
        """What each of them says for each label."""
        return self.weights.take(features.ids, axis=0)

    def logits(self, features: Features, rows: np.ndarray) -> np.ndarray:
        named = len(features.names)
        out = np.add.reduce(rows[:named]) + self.bias
        return out + features.word * np.add.reduce(rows[named:]) if len(rows) > named else out

    def shares(self, logits: np.ndarray) -> list[float]:
        """The labels' probabilities."""
        heights = logits.tolist()  # for so few numbers Python's own arithmetic is the faster one
        highest = max(heights)
        weights = [exp((height - highest) / self.temperature) for height in heights]
        total = sum(weights)
        return [weight / total for weight in weights]

    def why(self, features: Features, rows: np.ndarray, label: int) -> list[str]:
        """The named features that spoke most for the label against the mean of the others; a notion once, though many
        features hold it."""
        push = rows[: len(features.names)] @ _AGAINST_ALL[label]
        told: set[str] = set()
        out: list[str] = []
        for at in (-push).argsort(kind="stable").tolist():
            if push[at] <= 0 or len(out) == SHOWN:
                break
            notions = notions_in(features.names[at])
            if not notions or not notions <= told:
                told |= notions
                out.append(in_words(features.names[at]))
        return out


_AGAINST_ALL = np.eye(len(LABELS), dtype=np.float32) - np.float32(1 / len(LABELS))
"""Row by row: a label's weight against the mean of all."""


@cache
def model() -> Model:
    """Read once, at first use."""
    return load_model(resources.files("headgate.strategies.route").joinpath(FILE).read_bytes())


def load_model(data: bytes) -> Model:
    with np.load(BytesIO(data), allow_pickle=False) as stored:
        if tuple(stored["labels"]) != LABELS:
            raise ValueError("the task model was trained for other labels")
        return Model(
            stored["weights"].astype(np.float32),
            stored["bias"],
            float(stored["temperature"]),
            float(stored["threshold"]),
            str(stored["version"]),
        )


def classify(text: str, *, threshold: float | None = None) -> Task:
    """The task of one turn. Pure."""
    if len(text) > READ:
        text = f"{text[: READ // 2]}\n{text[-READ // 2 :]}"
    task = _classified(text)
    if task.confidence < (model().threshold if threshold is None else threshold) and task.label != UNKNOWN:
        return msgspec.structs.replace(task, label=UNKNOWN)
    return task


@lru_cache(maxsize=REMEMBERED)
def _classified(text: str) -> Task:
    used, features = model(), features_of(text)
    rows = used.rows(features)
    return named(used, features, rows, used.logits(features, rows), known_words(features))


def named(used: Model, features: Features, rows: np.ndarray, logits: np.ndarray, knows: bool) -> Task:
    """The task that the logits name; `knows`: the text says something to whoever reads it."""
    shares = used.shares(logits)
    best = shares.index(max(shares))
    label = LABELS[best] if knows else UNKNOWN
    return Task(label, shares[best], dict(zip(LABELS, shares, strict=True)), used.why(features, rows, best))


class Learned:
    """Reads the user's turns in order: a turn that clearly asks for something else changes the task, others keep it."""

    level: Level = "learned"

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = threshold

    def classify(self, asked: Asked) -> Task:
        turns = [turn for turn in asked.turns if turn.strip()]
        if not turns:
            return Task(UNKNOWN, 0.0, {}, [])
        task = self.turn(turns[0])
        for turn in turns[1:][-TURNS:]:
            task = self._next(task, self.turn(turn))
        return task

    def turn(self, text: str) -> Task:
        """The task of one turn by itself."""
        return classify(text, threshold=self.threshold)

    def _next(self, before: Task, now: Task) -> Task:
        if before.label in (UNKNOWN, "chat") or now.label == before.label:
            return now if now.label != UNKNOWN else before
        if now.label in (UNKNOWN, "chat", "qa") or now.confidence < SWITCH:
            return msgspec.structs.replace(before, signals=["goes on from an earlier turn", *before.signals])
        return now
