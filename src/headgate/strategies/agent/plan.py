"""The plan of an agent: what a planner may write, and what is checked before anything runs.

    {"steps": [{"name": "s1", "model": "...", "query": "..."},
               {"name": "s2", "tool": "read_file", "args": {"path": "$s1"}, "needs": ["s1"],
                "check": {"contains": "text", "excludes": "text", "min_chars": 1, "max_chars": 100, "schema": {...},
                          "python": "int(result) > 0"}}]}

`name` (or `id`), `model` or `capability`, `query`, `tool`, `args`, `needs` and `check` are all a step may hold; `$name` in
a query or an argument stands for that step's result. The minimal form has name, model and query only. There is no code in
a plan but a check's expression and the arguments of `python`, which run in the sandbox. docs/agent.md has it as a schema.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from headgate.core.fits import deeper, misfit

_NAME = re.compile(r"[A-Za-z_]\w*(?:-\w+)*")
REFERENCE = re.compile(rf"\$({_NAME.pattern})")
"""`$a-$b` is a difference: a name ends in no hyphen."""
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
DEEPEST = 50
"""Levels of objects and arrays in a step's arguments or schema. All that walks through them does so by recursion."""


class BadPlan(Exception):
    """The planner's words are no plan, or one that must not run; the message is told to the planner."""


class Check(msgspec.Struct, forbid_unknown_fields=True):
    """All that are given must hold; lengths in characters."""

    schema: dict[str, Any] | None = None
    contains: str | None = None
    excludes: str | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    python: str | None = None


class Step(msgspec.Struct):
    name: str
    model: str | None = None
    capability: str | None = None
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
    capability: str | None = None
    query: str | None = None
    tool: str | None = None
    args: dict[str, Any] | None = None
    needs: list[str] | None = None
    check: Check | None = None


class _WirePlan(msgspec.Struct):
    steps: list[_Wire]


def parse_plan(text: str) -> Plan:
    """Raises BadPlan."""
    wire = _wire_of(text)
    steps = [
        Step(
            name=(s.name or s.id or f"s{number}").strip(),
            model=s.model,
            capability=s.capability,
            query=s.query,
            tool=s.tool,
            args=s.args or {},
            needs=s.needs or [],
            check=s.check,
        )
        for number, s in enumerate(wire.steps, 1)
    ]
    return Plan(steps)


def _wire_of(text: str) -> _WirePlan:
    """The object in a planner's words: all of it, or what a code fence holds (a query may hold fences too)."""
    problem: Exception | None = None
    for said in (text, *_FENCE.findall(text)):
        try:
            return msgspec.json.decode(said[said.find("{") : said.rfind("}") + 1].encode(), type=_WirePlan)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            problem = error if problem is None or isinstance(error, msgspec.ValidationError) else problem
    raise BadPlan(f"not a plan: {str(problem)[:200]}") from problem


def check_plan(
    plan: Plan,
    *,
    models: Collection[str],
    capabilities: Collection[str],
    tools: Mapping[str, Any],
    max_steps: int,
    kept: Collection[str] = (),
) -> None:
    """Acyclic, references resolve (to steps of this plan or of one before, `kept`), tools, models and capabilities known
    and allowed, checks that can be made, not too long or deep. Raises BadPlan with all reasons."""
    for step in plan.steps:
        if deeper(step.args, DEEPEST) or (step.check is not None and deeper(step.check.schema, DEEPEST)):
            raise BadPlan(f"{step.name}: it is nested too deeply")
    problems: list[str] = []
    names = [step.name for step in plan.steps]
    if not names:
        problems.append("a plan needs at least one step")
    if len(names) > max_steps:
        problems.append(f"{len(names)} steps are more than the {max_steps} allowed")
    for name in {name for name in names if names.count(name) > 1}:
        problems.append(f"two steps are called {name!r}")
    for name in {name for name in names if name in kept}:
        problems.append(f"{name!r} has been done: a new step needs a new name")
    for step in plan.steps:
        missing = sorted(step.references() - set(names) - set(kept))
        if missing:
            problems.append(f"{step.name}: there is no step {missing[0]!r}")
        if step.name in step.references():
            problems.append(f"{step.name}: it needs itself")
        problems += [f"{step.name}: {problem}" for problem in _wrong(step, models, capabilities, tools)]
    if problems:
        raise BadPlan("; ".join(problems))
    plan.ordered()


def _wrong(
    step: Step, models: Collection[str], capabilities: Collection[str], tools: Mapping[str, Any]
) -> Iterable[str]:
    if not _NAME.fullmatch(step.name):
        yield "a name has letters, digits, _ and single - within, and begins with a letter"
    if step.tool is not None and step.tool not in tools:
        yield f"there is no tool {step.tool!r}; there are: {', '.join(tools) or 'none'}"
    if step.tool is None and step.model is not None and step.model not in models:
        yield f"the model {step.model!r} is not allowed; there are: {', '.join(models)}"
    if step.tool is None and step.model is None and step.capability is not None and step.capability not in capabilities:
        known = ", ".join(sorted(capabilities)) or "none"
        yield f"no model has the capability {step.capability!r}; there are: {known}"
    if step.check is not None and step.check.schema is not None and (problem := _no_schema(step.check.schema)):
        yield f"its schema cannot be checked: {problem}"


def _no_schema(schema: dict[str, Any]) -> str | None:
    """Why a planner's schema is refused. Patterns are: one that backtracks for ever would stop the whole process."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator

    text = msgspec.json.encode(schema)
    if any(word in text for word in (b'"pattern"', b'"patternProperties"', b'"$ref"', b'"$dynamicRef"')):
        return "it may hold no patterns and no references"
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return error.message[:100]
    return None


def arguments(args: Mapping[str, Any], results: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's, with `$name` replaced. Results are text: where an argument is nothing but a reference and `schema` wants
    something else than text there (a number, a list), it is what the text says as JSON."""
    out = fill(dict(args), results)
    wanted = schema.get("properties")
    for name, value in args.items():
        of_name = wanted.get(name) if isinstance(wanted, Mapping) else None
        if isinstance(of_name, Mapping) and isinstance(value, str) and REFERENCE.fullmatch(value):
            out[name] = _as_wanted(of_name, out[name])
    return out


def _as_wanted(schema: Mapping[str, Any], text: str) -> Any:
    if misfit(schema, text) is None:
        return text
    try:
        said = msgspec.json.decode(text.strip().encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text
    return said if misfit(schema, said) is None else text


def fill(value: Any, results: Mapping[str, str]) -> Any:
    """`$name` replaced by results, in strings at any depth."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: results.get(match[1], match[0]), value)
    if isinstance(value, dict):
        return {key: fill(inner, results) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, results) for inner in value]
    return value
