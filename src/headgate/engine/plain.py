"""Strategies as plain objects, for programs that have no file:

    Gateway.from_environment(models={"mine": Fallback("anthropic/claude-opus-4-7", "openai/gpt-5.5")})

They say the same as their section of the file, under the same names and with the same defaults, and are checked like it:
each raises ConfigError at once for settings that are wrong. What they name may be entries, other plain objects' names or
direct addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from headgate.config.errors import ConfigError, Problem
from headgate.config.explain import said
from headgate.config.model import Entry


class Plain:
    """One strategy. `entry` is what a file's entry of the same words is."""

    kind = ""

    def __init__(self, **settings: Any) -> None:
        try:
            self.entry = Entry.model_validate({self.kind: settings})
        except ValidationError as error:
            problems = [self._problem(item) for item in error.errors()]
            raise ConfigError(problems) from error

    def _problem(self, error: Any) -> Problem:
        path, message = said(error, Entry)
        where = ".".join(str(step) for step in path[1:])
        return Problem(f"{where}: {message}" if where else message, type(self).__name__)

    def __repr__(self) -> str:
        given = self.entry.model_dump(exclude_unset=True, by_alias=True)[self.kind]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


class Fallback(Plain):
    """In this order, until one answers."""

    kind = "fallback"

    def __init__(self, *models: str | Mapping[str, Any], **settings: Any) -> None:
        super().__init__(order=list(models), **settings)


class Route(Plain):
    """By the task of each request: `Route({"code": "claude-4.7"}, otherwise="reliable")`."""

    kind = "route"

    def __init__(self, tasks: Mapping[str, Any], *, otherwise: str, **settings: Any) -> None:
        super().__init__(tasks=dict(tasks), otherwise=otherwise, **settings)


class Cascade(Plain):
    """From the cheapest on, until an answer is accepted."""

    kind = "cascade"

    def __init__(self, *models: str, **settings: Any) -> None:
        super().__init__(**{"try": list(models)}, **settings)


class Ensemble(Plain):
    """Several at once: names, or one mapping of names to weights."""

    kind = "ensemble"

    def __init__(self, *members: str | Mapping[str, Any], **settings: Any) -> None:
        weights = len(members) == 1 and isinstance(members[0], Mapping) and "model" not in members[0]
        super().__init__(members=members[0] if weights else list(members), **settings)


class Agent(Plain):
    """Plans, executes with models and tools, checks, writes."""

    kind = "agent"
