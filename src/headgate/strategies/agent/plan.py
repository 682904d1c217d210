"""The plan of an agent: what a planner may write, and what is checked before anything runs.

    {"steps": [{"name": "s1", "model": "...", "query": "..."},
               {"name": "s2", "tool": "read_file", "args": {"path": "$s1"}, "needs": ["s1"],
                "check": {"schema": {...}} | {"contains": "text"} | {"python": "int(result) > 0"}}]}

`name` (or `id`), `model`, `query`, `tool`, `args`, `needs` and `check` are all a step may hold; `$name` in a query or an
argument stands for that step's result. The minimal form has name, model and query only. There is no code in a plan but
a check's expression, which runs in the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

REFERENCE = re.compile(r"\$([A-Za-z_][\w-]*)")
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


class BadPlan(Exception):
    """The planner's words are no plan, or one that must not run; the message is told to the planner."""


class Check(msgspec.Struct, forbid_unknown_fields=True):
    schema: dict[str, Any] | None = None
    contains: str | None = None
    python: str | None = None


class Step(msgspec.Struct):
    name: str
    model: str | None = None
    query: str | None = None
    tool: str | None = None
    args: dict[str, Any] = {}
    needs: list[str] = []
    check: Check | None = None

    def references(self) -> set[str]:
        """Steps whose results this one uses, said in `needs` or by `$name`."""
        text = (self.query or "") + msgspec.json.encode(self.args).decode()
        return set(self.needs) | set(REFERENCE.findall(text))


class Plan(msgspec.Struct):
    steps: list[Step]

    def ordered(self) -> list[Step]:
        """Steps so that each comes after what it needs. Raises BadPlan where they go round in a circle."""
        known = {step.name for step in self.steps}
        done: set[str] = set()
        out: list[Step] = []
        while len(out) < len(self.steps):
            ready = [s for s in self.steps if s.name not in done and s.references() & known <= done]
            if not ready:
                raise BadPlan("the steps need each other in a circle")
            out += ready
            done |= {step.name for step in ready}
        return out


class _Wire(msgspec.Struct):
    name: str | None = None
    id: str | None = None
    model: str | None = None
    query: str | None = None
    tool: str | None = None
    args: dict[str, Any] | None = None
    needs: list[str] | None = None
    check: Check | None = None


class _WirePlan(msgspec.Struct):
    steps: list[_Wire]


def parse_plan(text: str) -> Plan:
    """Raises BadPlan."""
    fenced = _FENCE.search(text)
    body = fenced[1] if fenced else text[text.find("{") : text.rfind("}") + 1]
    try:
        wire = msgspec.json.decode(body.encode(), type=_WirePlan)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise BadPlan(f"not a plan: {str(error)[:200]}") from error
    steps = [
        Step(
            name=(s.name or s.id or f"s{number}").strip(),
            model=s.model,
            query=s.query,
            tool=s.tool,
            args=s.args or {},
            needs=s.needs or [],
            check=s.check,
        )
        for number, s in enumerate(wire.steps, 1)
    ]
    return Plan(steps)


def check_plan(plan: Plan, *, models: Collection[str], tools: Mapping[str, Any], max_steps: int) -> None:
    """Acyclic, references resolve, tools and models known and allowed, not too long. Raises BadPlan with all reasons."""
    problems: list[str] = []
    names = [step.name for step in plan.steps]
    if not names:
        problems.append("a plan needs at least one step")
    if len(names) > max_steps:
        problems.append(f"{len(names)} steps are more than the {max_steps} allowed")
    for name in {name for name in names if names.count(name) > 1}:
        problems.append(f"two steps are called {name!r}")
    for step in plan.steps:
        missing = sorted(step.references() - set(names))
        if missing:
            problems.append(f"{step.name}: there is no step {missing[0]!r}")
        if step.name in step.references():
            problems.append(f"{step.name}: it needs itself")
        if step.tool is not None and step.tool not in tools:
            problems.append(f"{step.name}: there is no tool {step.tool!r}; there are: {', '.join(tools) or 'none'}")
        if step.tool is None and step.model is not None and step.model not in models:
            problems.append(f"{step.name}: the model {step.model!r} is not allowed; there are: {', '.join(models)}")
    if problems:
        raise BadPlan("; ".join(problems))
    plan.ordered()


def fill(value: Any, results: Mapping[str, str]) -> Any:
    """`$name` replaced by results, in strings at any depth; a string that is nothing but a reference becomes the result."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: results.get(match[1], match[0]), value)
    if isinstance(value, dict):
        return {key: fill(inner, results) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, results) for inner in value]
    return value
