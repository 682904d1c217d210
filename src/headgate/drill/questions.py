"""What the drill asks, when, and what became of it. The right answer to each question is known: all simulated models
that are right say the same."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Literal

import msgspec

from headgate.simulator.minds import MARK, tasks

Fate = Literal["ok", "error", "late", "truncated", "wrong"]
FATES: tuple[Fate, ...] = ("ok", "error", "late", "truncated", "wrong")
_PROGRAMS = (
    "reverses a string",
    "returns the n-th fibonacci number",
    "checks whether a number is prime",
    "computes a factorial",
    "checks for a palindrome",
    "does a merge sort",
)


class Question(msgspec.Struct, frozen=True):
    """`at` seconds after the beginning; `keys` must all be in a right answer, in order, and `whole` is the answer that a
    single right model gives."""

    at: float
    prompt: str
    stream: bool
    whole: str
    keys: tuple[str, ...]


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Users come in bursts: `burst` requests on average, `within` seconds apart, so that one comes every `gap` seconds
    all in all. With a `burst` of 1 they come each on its own."""

    gap: float = 13.0
    burst: float = 10.0
    within: float = 0.5


def questions(count: int, *, seed: int, traffic: Traffic = Traffic()) -> list[Question]:
    """The same for the same seed. Half of them are streamed; half are sums, half ask for a program."""
    luck = Random(f"{seed}:questions")
    between = (traffic.gap - traffic.within) * traffic.burst + traffic.within
    at, out = 0.0, list[Question]()
    for _ in range(count):
        at += luck.expovariate(1 / (between if luck.random() < 1 / traffic.burst else traffic.within))
        out.append(_question(at, _prompt(luck), luck.random() < 0.5))
    return out


def _prompt(luck: Random) -> str:
    if luck.random() < 0.5:
        return f"Calculate {luck.randint(2, 99)} * {luck.randint(2, 99)} + {luck.randint(2, 999)} step by step."
    return f"Write a Python function that {luck.choice(_PROGRAMS)}."


def _question(at: float, prompt: str, stream: bool) -> Question:
    whole = tasks.answer(prompt, tasks.task_of(prompt), True, Random(0))
    return Question(at, prompt, stream, whole, tuple(line for line in whole.splitlines() if len(line) > 12))


class Answered(msgspec.Struct):
    """What a client got. `whole` is True where the answer's transport ended in good order."""

    status: int = 0
    body: bytes = b""
    stream: bool = False
    whole: bool = False
    took: float = 0.0


def fate_of(question: Question, answered: Answered, *, limit: float, exact: bool) -> Fate:
    """`exact`: the answer must be what one right model says, to the letter, wherever it was continued; else all that
    matters must be in it (an agent writes its own words around it). What took longer than `limit` is late."""
    if answered.took > limit:
        return "late"
    if answered.status != 200 or not answered.whole:
        return "error"
    said = _streamed(answered.body) if answered.stream else _complete(answered.body)
    if said is None:
        return "error"
    text, finish = said[0].replace(MARK, ""), said[1]
    if finish == "length":
        return "truncated"
    if text == question.whole or (not exact and _in_order(question.keys, text)):
        return "ok"
    return "truncated" if question.whole.startswith(text) else "wrong"


def _in_order(keys: tuple[str, ...], text: str) -> bool:
    place = 0
    for key in keys:
        place = text.find(key, place)
        if place < 0:
            return False
        place += len(key)
    return True


def _complete(body: bytes) -> tuple[str, str] | None:
    """(text, finish) of a whole answer; None where it is an error."""
    try:
        choice = json.loads(body)["choices"][0]
        return choice["message"]["content"] or "", choice["finish_reason"]
    except (ValueError, LookupError, TypeError):
        return None


def _streamed(body: bytes) -> tuple[str, str] | None:
    """(text, finish) of a stream; None where it told of an error or did not end as a finished one does."""
    if not body.endswith(b"data: [DONE]\n\n"):
        return None
    text, finish = "", ""
    for frame in body.split(b"\n\n"):
        if not frame.startswith(b"data: {"):
            continue
        chunk: dict[str, Any] = json.loads(frame[6:])
        if "error" in chunk:
            return None
        for choice in chunk.get("choices", []):
            text += choice["delta"].get("content") or ""
            finish = choice.get("finish_reason") or finish
    return (text, finish) if finish else None
