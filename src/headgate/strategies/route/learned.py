"""What kind of work a request asks for: structural signals, an ordered lexicon, and where they are unsure, `unknown`.

The scores are added log-odds by judgement, the probabilities their softmax; nothing was fitted to the labelled prompts
that measure it (scripts/measure_tasks.py; docs/quality.md).
"""

from __future__ import annotations

import math
import re

import msgspec

from headgate.strategies.route.classify import LABELS, Asked, Level, Task
from headgate.strategies.route.lexicon import COMPILED

HEAD, TAIL = 600, 400
"""Characters that are read: the instruction stands at the beginning or the end."""
TEMPERATURE = 1.0
THRESHOLD = 0.28
_CODE = re.compile(
    r"```|^ *(def |class |import |from \w+ import|#include|public (static|class)"
    r"|function \w+\(|const \w+ =|<\?php|<html|package \w+;)"
    r"|SELECT .{1,200} FROM|[;{}] *$",
    re.MULTILINE,
)
_TABLE = re.compile(
    r"\|[^|\n]*\|[^\n]*\n[^|\n]*\|[^|\n]*\||\t[^\t\n]*\t[^\n]*\n[^\t\n]*\t|\n[^,\n]+,[^,\n]+,[^\n]*\n[^,\n]+,[^,\n]+,"
)
_SQL_SCHEMA = re.compile(r"\bcreate table\b|\btables?:\s*\w+\s*\(|\bprimary key\b|\bforeign key\b", re.IGNORECASE)
_HOW_MUCH = re.compile(r"\bhow (many|much|far|long|old)\b|\bwhat is the (total|probability|value)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


def classify(text: str, *, threshold: float = THRESHOLD) -> Task:
    """The task of one user turn. Pure; reads at most HEAD + TAIL characters of instruction and the material's shape."""
    scores, signals = score(text)
    top = max(scores.values())
    weights = {label: math.exp((value - top) / TEMPERATURE) for label, value in scores.items()}
    total = sum(weights.values())
    labels = {label: weight / total for label, weight in weights.items()}
    best = max(labels, key=lambda label: labels[label])
    sure = labels[best] >= threshold and (signals or labels[best] > 0.5)
    return Task(best if sure else "unknown", labels[best], labels, signals)


def score(text: str) -> tuple[dict[str, float], list[str]]:
    """(log-odds per label, the signals that spoke)."""
    stripped = text.strip()
    window = stripped if len(stripped) <= HEAD + TAIL else f"{stripped[:HEAD]}\n{stripped[-TAIL:]}"
    scores: dict[str, float] = dict.fromkeys(LABELS, 0.0)
    signals: list[str] = []
    for label, patterns in COMPILED.items():
        found = sorted((w for w, pattern in patterns if pattern.search(window)), reverse=True)
        if found:
            # One clear sign decides; more of them add ever less.
            scores[label] += found[0] + sum(0.35 * w for w in found[1:3])
            signals.append(f"{label} words")
    _structure(stripped, window, scores, signals)
    return scores, signals


def _structure(text: str, window: str, scores: dict[str, float], signals: list[str]) -> None:
    def sign(name: str, **added: float) -> None:
        signals.append(name)
        for label, weight in added.items():
            scores[label] += weight

    if _CODE.search(window):
        sign("code in the text", code=2.5, qa=-0.5)
    if _SQL_SCHEMA.search(text[:1200]):
        sign("database schema", analysis=2.5, code=-1.0)
    elif _TABLE.search(text[:1200]):
        sign("table", analysis=2.2, qa=-0.5, math=-0.5)
    if _HOW_MUCH.search(window) and len(_NUMBER.findall(window)) >= 2:
        sign("word problem", math=1.5, qa=-0.8)
    digits = sum(character.isdigit() for character in window)
    if window and digits / len(window) > 0.08:
        sign("many digits", math=0.7)
    if len(text) > 1200:
        sign("long material", summary=0.6, extraction=0.3, chat=-2.5)
    elif len(text) < 60:
        sign("short", chat=0.6, qa=0.2)
    if text.endswith("?") and len(text) < 300:
        sign("question", qa=0.8)


class Learned:
    """The last user turn counts; where it says too little, the turn before it is read too."""

    level: Level = "learned"

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = THRESHOLD if threshold is None else threshold

    def classify(self, asked: Asked) -> Task:
        task = classify(asked.last, threshold=self.threshold)
        if task.label in ("unknown", "chat") and len(asked.turns) > 1 and len(asked.last) < 200:
            before = classify(asked.turns[-2], threshold=self.threshold)
            if before.label not in ("unknown", "chat"):
                return msgspec.structs.replace(before, signals=[*before.signals, "goes on from the turn before"])
        return task
