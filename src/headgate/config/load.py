"""A file, or nothing at all → Config. Every problem with its place and, where a name is wrong, a suggestion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import msgspec
from pydantic import ValidationError

from headgate.config import document as yaml_document
from headgate.config.document import Document, Path
from headgate.config.errors import ConfigError, Problem
from headgate.config.explain import did_you_mean, explain
from headgate.config.model import Config, Entry
from headgate.config.routed import route_problems

_NOT_BUILT = {"cache", "guards", "experiments"}
_TOOLS_NOT_BUILT = {"search", "database", "http", "vectors"}
BUILTIN_TOOLS = ("files", "python")


class Loaded(msgspec.Struct):
    """A valid configuration, and what its owner should know about it."""

    config: Config
    notices: list[Problem]
    file: str = ""


def load_file(path: str | FilePath, env: Mapping[str, str] | None = None) -> Loaded:
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError([Problem(f"cannot read the file: {reason}", str(path))]) from error
    return load_text(text, str(path), env)


def load_text(text: str, file: str = "", env: Mapping[str, str] | None = None) -> Loaded:
    """Raises ConfigError with all problems found."""
    document = yaml_document.read(text, file, yaml_document.environment() if env is None else env)
    data = document.data
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError([document.problem((), "the file must hold sections such as `models:`")])
    problems = _unbuilt(data, document)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(problems + [explain(item, document, Config) for item in error.errors()]) from error
    problems += _references(config, document)
    if problems:
        raise ConfigError(problems)
    return Loaded(config, _notices(config, document), file)


def check_references(config: Config) -> None:
    """Of a configuration that was put together in a program. Raises ConfigError: names of nothing, circles."""
    if problems := _references(config, Document("models")):
        raise ConfigError(problems)


def _unbuilt(data: dict[str, Any], document: Document) -> list[Problem]:
    problems: list[Problem] = []
    for name in [name for name in data if name in _NOT_BUILT]:
        del data[name]
        problems.append(document.problem((name,), f"`{name}:` is not built yet"))
    tools = data.get("tools")
    if isinstance(tools, dict):
        for name in [name for name in tools if name in _TOOLS_NOT_BUILT]:
            del tools[name]
            problems.append(document.problem(("tools", name), f"the tool `{name}` is not built yet"))
    return problems


# -- what only the whole tells ---------------------------------------------------------------------------------------
def references(entry: Entry) -> list[tuple[Path, str]]:
    """(path below the entry, name) of every entry that a strategy names."""
    out: list[tuple[Path, str]] = []
    if entry.fallback is not None:
        out += [(("fallback", "order", i), t.model) for i, t in enumerate(entry.fallback.order)]
    if entry.route is not None:
        out.append((("route", "otherwise"), entry.route.otherwise))
        if entry.route.model is not None:
            out.append((("route", "model"), entry.route.model))
        if entry.route.learn.judge is not None:
            out.append((("route", "learn", "judge"), entry.route.learn.judge.model))
        for task, rules in entry.route.tasks.items():
            for rule in rules:
                names = [*([rule.model] if rule.model is not None else rule.models or []), *rule.downgrade]
                out += [(("route", "tasks", task), name) for name in names]
    if entry.cascade is not None:
        cascade = entry.cascade
        out += [(("cascade", "try", i), name) for i, name in enumerate(cascade.attempts)]
        if cascade.accept.judge is not None:
            out.append((("cascade", "accept", "judge"), cascade.accept.judge.model))
        if cascade.measure is not None:
            out.append((("cascade", "measure"), cascade.measure.model))
    if entry.ensemble is not None:
        out += [(("ensemble", "members", i), member.model) for i, member in enumerate(entry.ensemble.members)]
        if entry.ensemble.judge is not None:
            out.append((("ensemble", "judge"), entry.ensemble.judge.model))
    if entry.agent is not None:
        agent = entry.agent
        roles = [(("agent", "planner"), agent.planner)]
        if agent.validator is not None:
            roles.append((("agent", "validator"), agent.validator))
        out += roles + [(("agent", "models", i), name) for i, name in enumerate(agent.models)]
    if entry.experiment is not None:
        out += [(("experiment", "arms", name), arm.model) for name, arm in entry.experiment.arms.items()]
        if entry.experiment.shadow is not None:
            out.append((("experiment", "shadow"), entry.experiment.shadow.model))
        if entry.experiment.judge is not None:
            out.append((("experiment", "judge"), entry.experiment.judge.model))
    return out


def _references(config: Config, document: Document) -> list[Problem]:
    problems: list[Problem] = []
    for name, entry in config.models.items():
        base: Path = ("models", name)
        for deployment in entry.deployments or []:
            problems += _provider(config, document, (*base, "deployments"), deployment.provider)
        if entry.provider is not None:
            problems += _provider(config, document, (*base, "provider"), entry.provider)
        for path, target in references(entry):
            if target not in config.models and "/" not in target:
                message = f"there is no model {target!r}" + did_you_mean(target, config.models)
                problems.append(document.problem((*base, *path), message))
        problems += _tools(config, document, base, entry) + _half_built(document, base, entry)
    for alias, target in config.aliases.items():
        if target not in config.models and "/" not in target:
            message = f"there is no model {target!r}" + did_you_mean(target, config.models)
            problems.append(document.problem(("aliases", alias), message))
        if alias in config.models:
            problems.append(document.problem(("aliases", alias), f"{alias!r} is already a model"))
    problems += _governed(config, document)
    problems += route_problems(config, document)
    return problems or _cycles(config, document) + _nested(config, document) + _within(config, document)


def _provider(config: Config, document: Document, path: Path, name: str) -> list[Problem]:
    if name in config.providers:
        return []
    return [document.problem(path, f"there is no provider {name!r}" + did_you_mean(name, config.providers))]


def _tools(config: Config, document: Document, base: Path, entry: Entry) -> list[Problem]:
    if entry.agent is None:
        return []
    known = [name for name in BUILTIN_TOOLS if getattr(config.tools, name) is not None]
    known += [f"mcp.{name}" for name in config.tools.mcp] + list(config.tools.mcp)
    return [
        document.problem(
            (*base, "agent", "tools", i), f"the tool {name!r} has no section under `tools:`" + did_you_mean(name, known)
        )
        for i, name in enumerate(entry.agent.tools)
        if name not in known
    ]


def _half_built(document: Document, base: Path, entry: Entry) -> list[Problem]:
    """Keys that are read and would change nothing: an error, never a silent no-op."""
    found: list[Path] = []
    if entry.ensemble is not None:
        for cap in ("max_calls", "max_steps"):
            if getattr(entry.ensemble.budget, cap) is not None:
                found.append(("ensemble", "budget", cap))
        for i, member in enumerate(entry.ensemble.members):
            if member.role == "cheap":
                found.append(("ensemble", "members", i, "role"))
    return [document.problem((*base, *path), f"`{path[-1]}` as it stands here is not built yet") for path in found]


def _governed(config: Config, document: Document) -> list[Problem]:
    """Limits and budgets of models that there are: on a strategy they would hold for nothing, since calls and money are
    counted where they go. (Deployments' names depend on profiles: not checked here.)"""
    problems: list[Problem] = []
    physical = [name for name, entry in config.models.items() if entry.strategy is None]
    for section, names in (("limits", config.limits.models), ("budgets", config.budgets.models)):
        for name in names:
            if name in config.models and name not in physical:
                message = f"{name!r} is a strategy: limit its models, or the keys that ask for it"
                problems.append(document.problem((section, "models", name), message))
            elif name not in physical and "/" not in name:
                message = f"there is no model {name!r}" + did_you_mean(name, physical)
                problems.append(document.problem((section, "models", name), message))
    return problems


def _cycles(config: Config, document: Document) -> list[Problem]:
    """A strategy that reaches itself could go on for ever."""
    done: set[str] = set()
    problems: list[Problem] = []

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            loop = " → ".join([*trail[trail.index(name) :], name])
            problems.append(document.problem(("models", trail[-1]), f"the strategies go round in a circle: {loop}"))
            return
        if name in done or name not in config.models:
            return
        for _, target in references(config.models[name]):
            visit(target, (*trail, name))
        done.add(name)

    for name in config.models:
        visit(name, ())
    return problems


def _nested(config: Config, document: Document) -> list[Problem]:
    """Ensembles inside ensembles multiply cost without end: refused, however deep they hide."""

    def reaches_ensemble(name: str) -> bool:
        entry = config.models.get(name)
        if entry is None:
            return False
        return entry.ensemble is not None or any(reaches_ensemble(target) for _, target in references(entry))

    return [
        document.problem(("models", name, *path), f"{target!r} leads to another ensemble: ensembles do not nest")
        for name, entry in config.models.items()
        if entry.ensemble is not None
        for path, target in references(entry)
        if reaches_ensemble(target)
    ]


def _within(config: Config, document: Document) -> list[Problem]:
    """An experiment inside another one could not tell whose difference it sees."""

    def reaches_experiment(name: str) -> bool:
        entry = config.models.get(name)
        if entry is None:
            return False
        return entry.experiment is not None or any(reaches_experiment(target) for _, target in references(entry))

    return [
        document.problem(("models", name, *path), f"{target!r} leads to another experiment: experiments do not nest")
        for name, entry in config.models.items()
        if entry.experiment is not None
        for path, target in references(entry)
        if reaches_experiment(target)
    ]


def _notices(config: Config, document: Document) -> list[Problem]:
    """What is valid, and may not be what was meant."""
    if "shadow" in config.budgets.tags:
        return []
    return [
        document.problem(
            ("models", name, "experiment", "shadow"),
            "nothing bounds what shadows spend: give them a budget, `budgets: {tags: {shadow: {daily: 5}}}`",
        )
        for name, entry in config.models.items()
        if entry.experiment is not None and entry.experiment.shadow is not None
    ]
