"""The rule table that a log suggests, as a change of the file: only where chance made the choices comparable, and only what
the estimate bears out.

For each task with one rule, each model that chance gave a share of it is tried in the rule's place. A change is suggested
where the interval of the difference in quality (Bonferroni over all that were tried) is above nothing, or where it excludes
more than MARGIN of loss and the change saves at least LEAST_SAVING of the cost.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import msgspec
import yaml

from headgate.config.load import load_text
from headgate.core.errors import HeadgateError
from headgate.core.principal import Principal
from headgate.core.records import LearnedRow
from headgate.insight.estimate import LEVEL, Estimate, Seen, difference
from headgate.insight.log import Logged
from headgate.insight.replay import Replay, Side, Unknowable, replay

MARGIN = 0.02
LEAST_SAVING = 0.05
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    entry: str
    task: str
    model: str
    quality: Estimate
    """Of the change, per scored request of the task."""
    saving: float | None
    """Share of the task's cost, had the new model written as much as the others did; below nothing: dearer."""
    because: str


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """`diff`: unified, of the file; `` where nothing is suggested. `silent`: "entry.task" → why nothing can be said."""

    suggestions: list[Suggestion]
    silent: dict[str, str]
    diff: str
    text: str
    """The file with the changes."""
    replay: Replay | None


class _Tried(msgspec.Struct, frozen=True):
    entry: str
    task: str
    model: str
    rows: list[Logged]
    before: list[str]


def suggest(
    rows: Sequence[Logged],
    text: str,
    file: str,
    env: Mapping[str, str],
    *,
    learned: Sequence[LearnedRow] = (),
    callers: Mapping[str, Principal] | None = None,
) -> Advice:
    """Raises ConfigError where the file is not valid."""
    before = Side(load_text(text, file, env).config, learned=learned, callers=callers)
    silent: dict[str, str] = {}
    tried = _trials(rows, before, silent)
    level = 1 - (1 - LEVEL) / max(len(tried), 1)
    found: dict[tuple[str, str], Suggestion] = {}
    reasons: dict[tuple[str, str], list[str]] = {}
    for trial in tried:
        key = trial.entry, trial.task
        judged = _judged(trial, before, level)
        if isinstance(judged, str):
            reasons.setdefault(key, []).append(f"{trial.model}: {judged}")
        elif key not in found or _rank(judged) > _rank(found[key]):
            found[key] = judged
    silent |= {f"{e}.{t}": "; ".join(why) for (e, t), why in reasons.items() if (e, t) not in found}
    changed = text
    for suggestion in found.values():
        changed = with_rule(changed, suggestion.entry, suggestion.task, suggestion.model)
    if not found:
        return Advice(suggestions=[], silent=silent, diff="", text=text, replay=None)
    after = Side(load_text(changed, file, env).config, learned=learned, callers=callers)
    lines = difflib.unified_diff(
        text.splitlines(keepends=True), changed.splitlines(keepends=True), file, f"{file} (suggested)"
    )
    return Advice(
        suggestions=list(found.values()),
        silent=silent,
        diff="".join(line if line.endswith("\n") else f"{line}\n" for line in lines),
        text=changed,
        replay=replay(rows, before, after),
    )


def _trials(rows: Sequence[Logged], side: Side, silent: dict[str, str]) -> list[_Tried]:
    out: list[_Tried] = []
    for entry, section in side.config.models.items():
        if section.route is None:
            continue
        for task, rules in section.route.tasks.items():
            mine = [row for row in rows if row.route == entry and row.task == task and row.action is not None]
            name = f"{entry}.{task}"
            if len(rules) > 1:
                silent[name] = "its rules have conditions: which of them to change is yours to say"
                continue
            chances = {model for row in mine if len(row.propensities) > 1 for model in row.propensities}
            models = sorted(model for model in chances if side.snapshot.model(model) is not None)
            if not mine:
                silent[name] = "no request of it is in the log"
            elif not models:
                silent[name] = (
                    "no choice was left to chance, so what another model would have been worth cannot be known: "
                    "give the rule several `models` and set `learn: {explore: 0.03}`"
                )
            before = _choices(mine, side)
            kept = [(row, old) for row, old in zip(mine, before, strict=True) if old is not None]
            out += [_Tried(entry, task, m, [r for r, _ in kept], [old for _, old in kept]) for m in models]
    return out


def _choices(rows: Sequence[Logged], side: Side) -> list[str | None]:
    out: list[str | None] = []
    for row in rows:
        try:
            out.append(side.choice(row))
        except (HeadgateError, Unknowable):
            out.append(None)
    return out


def _judged(trial: _Tried, side: Side, level: float) -> Suggestion | str:
    scored: list[tuple[Seen, str]] = []
    was = would = 0
    priced = True
    for row, old in zip(trial.rows, trial.before, strict=True):
        if row.score is not None:
            scored.append((side.seen(row, old), old))
        costs = side.cost(row, old), side.cost(row, trial.model)
        if row.usage is not None and None in costs:
            priced = False
        was, would = was + (costs[0] or 0), would + (costs[1] or 0)
    quality = difference(
        [seen for seen, _ in scored], [old for _, old in scored], [trial.model] * len(scored), level=level
    )
    saving = 1 - would / was if priced and was else None
    gain = f"quality {quality.low:+.3f} to {quality.high:+.3f}" if quality.low is not None else ""
    cost = "" if saving is None else f", cost {-saving:+.0%}"
    if not quality.changed:
        return "it is what the rule chooses"
    if not quality.is_known or quality.low is None:
        return quality.verdict
    if quality.low > 0:
        because = f"better: {gain}{cost}"
    elif quality.low >= -MARGIN and saving is not None and saving >= LEAST_SAVING:
        because = f"cheaper, and at most {MARGIN:.2f} worse: {gain}{cost}"
    else:
        return f"not borne out: {gain}{cost}"
    return Suggestion(
        entry=trial.entry, task=trial.task, model=trial.model, quality=quality, saving=saving, because=because
    )


def _rank(suggestion: Suggestion) -> tuple[bool, float]:
    quality = suggestion.quality
    is_better = quality.low is not None and quality.low > 0
    return is_better, (quality.mean or 0.0) if is_better else (suggestion.saving or 0.0)


# -- the file ------------------------------------------------------------------------------------------------------------
def with_rule(text: str, entry: str, task: str, model: str) -> str:
    """The file with this model in the place of those that the task's rule names; all else stays as it was written."""
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    for step in ("models", entry, "route", "tasks", task):
        node = _in(node, step)
    name = model if _PLAIN.fullmatch(model) else msgspec.json.encode(model).decode()
    if isinstance(node, yaml.ScalarNode):
        return _spliced(text, node, name)
    if (single := _in(node, "model")) is not None:
        return _spliced(text, single, name)
    several = _in(node, "models")
    assert several is not None
    return _spliced(text, several, f"[{name}]")


def _in(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _spliced(text: str, node: yaml.Node, new: str) -> str:
    last = node.value[-1] if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value else node
    return text[: node.start_mark.index] + new + text[last.end_mark.index :]
