"""Answers that tests and demos put into a simulated model's mouth, word for word."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from headgate.core.chat import ChatRequest


class Said(msgspec.Struct, forbid_unknown_fields=True):
    """One scripted answer. `text` may stand beside tool calls; `mode` is a break mode that hits this one call.

    tool_calls  [{"name": ..., "arguments": {...} or text}]
    output      output tokens to report; None: counted
    delay       seconds until the first token; None: the model's own
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = []
    finish: str | None = None
    refusal: str = ""
    mode: str | None = None
    after: int = 0
    output: int | None = None
    delay: float | None = None


Answer = str | dict[str, Any] | Said
Chooser = Callable[[str, ChatRequest], Answer | None]
"""(model, request) -> what it says, or None where this chooser has nothing to say."""


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """`match` is looked for in the whole conversation's text (`where` all), the system text, or the last user text; as
    it is, or as a pattern. Each call takes the next answer; the last one stays, unless `times` is over."""

    match: str = ""
    answers: list[Any] = []
    model: str | None = None
    where: str = "all"
    regex: bool = False
    times: int | None = None
    used: int = 0

    def fits(self, model: str, texts: dict[str, str]) -> bool:
        if self.model is not None and self.model != model:
            return False
        if self.times is not None and self.used >= self.times:
            return False
        text = texts[self.where if self.where in texts else "all"]
        return bool(re.search(self.match, text, re.DOTALL)) if self.regex else self.match in text


class Scripts:
    """What was registered. Exact prompts first, then choosers, then rules, later ones before earlier ones."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], Answer] = {}
        self._choosers: list[Chooser] = []
        self._rules: list[Rule] = []

    def exact(self, model: str, prompt: str, answer: Answer) -> None:
        """`model` says this to whoever's last user text is `prompt`. Made for thousands of entries."""
        self._exact[model, prompt] = answer

    def chooser(self, chooser: Chooser) -> None:
        self._choosers.insert(0, chooser)

    def on(
        self,
        match: str,
        *answers: Answer,
        model: str | None = None,
        where: str = "all",
        regex: bool = False,
        times: int | None = None,
    ) -> None:
        """Whoever's conversation holds `match` gets these answers in order; the last one stays."""
        self.add(Rule(match, list(answers), model, where, regex, times))

    def add(self, rule: Rule) -> None:
        for answer in rule.answers:
            said(answer)  # a malformed answer fails here, not in the middle of a test
        self._rules.insert(0, rule)

    def clear(self) -> None:
        self._exact.clear()
        self._choosers.clear()
        self._rules.clear()

    def find(self, names: Sequence[str], request: ChatRequest, texts: dict[str, str]) -> Said | None:
        """What is scripted for this call of the model known by any of `names`; None: the mind makes something up."""
        for name in names:
            exact = self._exact.get((name, texts["user"]))
            if exact is not None:
                return said(exact)
            for chooser in self._choosers:
                chosen = chooser(name, request)
                if chosen is not None:
                    return said(chosen)
        for rule in self._rules:
            if rule.answers and any(rule.fits(name, texts) for name in names):
                answer = rule.answers[min(rule.used, len(rule.answers) - 1)]
                rule.used += 1
                return said(answer)
        return None


def said(answer: Answer) -> Said:
    """Raises msgspec.ValidationError where `answer` is none."""
    if isinstance(answer, Said):
        return answer
    return Said(text=answer) if isinstance(answer, str) else msgspec.convert(answer, Said)
