"""What only the whole tells of a route: rules that nothing would ever reach are errors, never silent."""

from __future__ import annotations

from collections.abc import Iterator

from headgate.config.document import Document, Path
from headgate.config.errors import Problem
from headgate.config.explain import did_you_mean
from headgate.config.model import Config
from headgate.config.routing import Route, TaskRule
from headgate.core.tasks import LABELS, UNKNOWN


def route_problems(config: Config, document: Document) -> list[Problem]:
    return [
        document.problem(("models", name, "route", *path), message)
        for name, entry in config.models.items()
        if entry.route is not None
        for path, message in (*_labels(entry.route), *_rules(entry.route, config))
    ]


def _labels(route: Route) -> Iterator[tuple[Path, str]]:
    """Rules for labels that the classifier never gives."""
    own = list(route.keywords) if route.classifier == "keyword" else list(LABELS)
    for label in route.tasks:
        if label in own or label == UNKNOWN:
            continue
        if route.classifier == "keyword":
            yield ("tasks", label), f"no request is ever named {label!r}: it has no words under `keywords:`"
        else:
            meant = did_you_mean(label.lower(), LABELS)
            yield (
                ("tasks", label),
                f"no request is ever named {label!r}{meant}: tasks are {', '.join(LABELS)} and {UNKNOWN}. Labels of your "
                "own need `classifier: keyword` and their `keywords:`",
            )


def _rules(route: Route, config: Config) -> Iterator[tuple[Path, str]]:
    zones = {entry.zone for entry in config.models.values()} | {one.zone for one in config.providers.values()}
    for label, rules in route.tasks.items():
        at: Path = ("tasks", label)
        for place, rule in enumerate(rules):
            if place < len(rules) - 1 and not (rule.tags or rule.keys or rule.hours):
                yield (
                    at,
                    f"rule {place + 1} of {label!r} holds for every request (it has no tags, keys or hours), so that those "
                    "after it never count. Candidates of one rule are written `models: [...]`",
                )
            if rule.zone is not None and rule.zone not in zones:
                known = sorted(zone for zone in zones if zone)
                there_are = f"there are {', '.join(known)}" if known else "no model or provider has a `zone:`"
                yield at, f"no model is in the zone {rule.zone!r}{did_you_mean(rule.zone, known)}: {there_are}"
            yield from ((at, message) for message in _named(rule, config))


def _named(rule: TaskRule, config: Config) -> Iterator[str]:
    """Of the models that a rule names, what would be without effect."""
    own = rule.models or [rule.model or ""]
    for name in rule.downgrade:
        entry = config.models.get(name)
        if own == [name]:
            yield f"`downgrade` names {name!r}, the rule's only model: name cheaper ones"
        elif entry is not None and entry.strategy is not None:
            yield f"`downgrade` names {name!r}, a strategy, whose cost is not its own: name models"
    entries = [config.models.get(name) for name in own]
    written = [entry.capabilities for entry in entries if entry is not None and entry.strategy is None]
    if len(written) < len(own) or not all(written):
        return  # what the catalogue says is not known here, nor what a strategy's models have
    for capability in rule.capabilities:
        known = sorted({one for capabilities in written for one in capabilities})
        if capability not in known:
            yield f"no model of the rule has the capability {capability!r}{did_you_mean(capability, known)}"
