"""The order of the work: models, chains, limits and budgets; then what was left over is told, with its reason."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import yaml

from headgate.config.document import Path
from headgate.config.importers.litellm.models import Models
from headgate.config.importers.litellm.reasons import reason_for
from headgate.config.importers.litellm.source import Note, Source, value_of

SETTINGS = ("router_settings", "litellm_settings", "general_settings")
"""Where LiteLLM looks for a setting of its router, the first that has it."""
BALANCE = {
    "simple-shuffle": "weighted",
    "least-busy": "least_outstanding",
    "latency-based-routing": "latency",
    "usage-based-routing": "rate_limit",
    "usage-based-routing-v2": "rate_limit",
}
RATES = {
    "rpm_limit": "requests_per_minute",
    "tpm_limit": "tokens_per_minute",
    "max_parallel_requests": "concurrent",
}
MOST_RETRIES = 10
_DURATION = re.compile(r"(\d+)(s|m|h|d|w|mo)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 2_592_000}


class Imported(msgspec.Struct, frozen=True):
    """`text` is a file of ours. `lost`: what it cannot say; `changed`: what it says in another way."""

    text: str
    lost: list[Note]
    changed: list[Note]


def import_litellm(text: str, file: str) -> Imported:
    """Raises ConfigError where `text` is no configuration of LiteLLM."""
    source = Source(text, file)
    out = _Conversion(source).run()
    for path in list(source.rest()):
        source.lose(path, reason_for(path))
    lost, changed = (sorted(notes, key=lambda note: note.line) for notes in (source.lost, source.changed))
    head = "# Made from a configuration of LiteLLM by `headgate import litellm`.\n"
    tail = _comments("Not carried over:", lost) + _comments("Said in another way:", changed)
    body = yaml.safe_dump(out, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    return Imported(head + body + tail, lost, changed)


def _comments(title: str, notes: list[Note]) -> str:
    # `repr` of what is no plain text: a name with a line break in it would go on outside of the comment.
    lines = [title, *(f"  {note}" for note in notes)]
    return "".join(f"# {line if line.isprintable() else repr(line)[1:-1]}\n" for line in lines) if notes else ""


class _Conversion:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._models = Models(source)
        self._budgets: dict[str, Any] = {}
        self._limits: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        source, models = self._source, self._models
        models.read()
        if not models.entries and not models.providers:
            source.lose(("model_list",), "no model of it can be carried over")
        self._balance()
        self._timeouts()
        chains = self._chains()
        models.renamed = frozenset(chains)
        aliases = self._aliases()
        self._deployment_budgets()
        self._money()
        self._rates()
        out: dict[str, Any] = {"providers": models.providers, "models": models.named(chains)}
        store, server = self._store(), self._server()
        sections = {
            "aliases": aliases,
            "limits": self._limits,
            "budgets": self._budgets,
            "store": store,
            "server": server,
        }
        return out | {name: section for name, section in sections.items() if section}

    # -- settings --------------------------------------------------------------------------------------------------------
    def _setting(self, name: str) -> tuple[Any, Path]:
        """The first section's that has it; the others are taken too: they say the same, or less."""
        found, where = None, ()
        for section in SETTINGS:
            value = self._source.section(section).get(name)
            if value is not None:
                self._source.take(section, name)
                if found is None:
                    found, where = value, (section, name)
        return found, where

    def _amount(self, name: str) -> tuple[float | None, Path]:
        value, path = self._setting(name)
        if value is None:
            return None, path
        return self._source.number(*path), path

    def _balance(self) -> None:
        wanted, path = self._setting("routing_strategy")
        several = [entry for entry in self._models.entries.values() if len(entry.get("deployments", ())) > 1]
        balance = BALANCE.get(wanted or "simple-shuffle")
        if balance is None:
            self._source.lose(path, f"deployments are not chosen by {wanted!r}; they share by weight")
        elif balance != "weighted":  # as it is where nothing is said
            for entry in several:
                entry["balance"] = balance

    def _timeouts(self) -> None:
        total = self._amount("timeout")[0] or self._amount("request_timeout")[0]
        silence, _ = self._amount("stream_timeout")
        for entry in self._models.entries.values():
            given = {"first_token": silence, "idle": silence, "total": total}
            said = {name: f"{seconds:g}s" for name, seconds in given.items() if seconds}
            if said:
                entry["timeout"] = said | entry.get("timeout", {})

    # -- fallbacks -------------------------------------------------------------------------------------------------------
    def _chains(self) -> dict[str, dict[str, Any]]:
        """Entry → its `fallback`, which begins with the model itself."""
        source = self._source
        plain = self._listed("fallbacks")
        context = self._listed("context_window_fallbacks")
        policy = self._listed("content_policy_fallbacks")
        others, _ = self._setting("default_fallbacks")
        retries, path = self._amount("num_retries")
        chains: dict[str, dict[str, Any]] = {}
        for name in self._models.entries:
            own = [*plain.get(name, ()), *([] if name in plain else self._known(others or [], name))]
            order = list(dict.fromkeys([*own, *context.get(name, ()), *policy.get(name, ())]))
            if not order:
                continue
            chain: dict[str, Any] = {"order": [name, *order]}
            if not own:
                kinds = {"context_length": name in context, "content_policy": name in policy}
                chain["move_on"] = [kind for kind, wanted in kinds.items() if wanted]
            elif name in policy:
                chain["move_on"] = ["timeout", "unavailable", "rate_limit", "context_length", "content_policy"]
            if retries is not None:
                chain["retries"] = min(int(retries), MOST_RETRIES)
            chains[name] = chain
        if retries is not None and not chains:
            source.lose(
                path, "retries belong to chains (`fallback: {retries: …}`); a model on its own is asked twice more"
            )
        return chains

    def _listed(self, name: str) -> dict[str, list[str]]:
        """`[{a: [b, c]}]`, of models that there are."""
        given, path = self._setting(name)
        out: dict[str, list[str]] = {}
        for index, one in enumerate(given if isinstance(given, list) else []):
            for model, targets in one.items() if isinstance(one, dict) else ():
                if model == "*":
                    self._source.lose((*path, index), "chains are per model: write it out for each")
                elif model not in self._models.entries:
                    self._source.lose((*path, index, model), f"the model {model!r} was not carried over")
                else:
                    known = self._known(
                        targets if isinstance(targets, list) else [targets], model, (*path, index, model)
                    )
                    out.setdefault(model, []).extend(known)
        return out

    def _known(self, targets: list[Any], model: str, path: Path | None = None) -> list[str]:
        out = []
        for target in targets:
            if not isinstance(target, str) or target not in self._models.entries:
                if path is not None:
                    self._source.lose(path, f"falls back to {target!r}, which was not carried over")
            elif target != model:
                out.append(target)
        return out

    def _aliases(self) -> dict[str, str]:
        given, path = self._setting("model_group_alias")
        out: dict[str, str] = {}
        for alias, target in given.items() if isinstance(given, dict) else ():
            name = target.get("model") if isinstance(target, dict) else target
            if alias in self._models.entries or name not in self._models.entries:
                self._source.lose((*path, alias), f"{name!r} was not carried over, or {alias!r} is a model itself")
            else:
                out[alias] = name
        return out

    # -- money -----------------------------------------------------------------------------------------------------------
    def _money(self) -> None:
        self._budget("all", "litellm_settings", "max_budget", "budget_duration")
        keys = ("litellm_settings", "default_key_generate_params")
        self._budget("keys", *keys, "max_budget", "budget_duration")
        found = self._budget(
            "users", "litellm_settings", "default_internal_user_params", "max_budget", "budget_duration"
        )
        if not found:
            names = ("max_internal_user_budget", "internal_user_budget_duration")
            self._budget("users", "litellm_settings", *names)
        tags = ("litellm_settings", "tag_budget_config")
        for tag in self._source.section(*tags):
            periods = self._periods((*tags, tag), "max_budget", "budget_duration") or self._periods(
                (*tags, tag), "budget_limit", "time_period"
            )
            if periods:
                self._budgets.setdefault("tags", {})[tag] = periods

    def _budget(self, scope: str, *path: str) -> bool:
        *section, amount, duration = path
        periods = self._periods(tuple(section), amount, duration)
        if periods:
            self._budgets[scope] = {"*": periods} if scope == "users" else periods
        return bool(periods)

    def _deployment_budgets(self) -> None:
        for name, path, several in self._models.budgeted:
            if several:
                self._source.lose((*path, "max_budget"), "a budget holds for a model, not for one of its deployments")
                self._source.take(*path, "budget_duration")
            elif periods := self._periods(path, "max_budget", "budget_duration"):
                self._budgets.setdefault("models", {})[self._models.physical(name)] = periods

    def _periods(self, section: Path, amount: str, duration: str) -> dict[str, float]:
        source = self._source
        most = source.number(*section, amount)
        if most is None:
            return {}
        asked = source.take(*section, duration)
        period = period_of(asked)
        if period is None:
            source.lose((*section, amount), f"budgets are daily, weekly, monthly or total, not for {asked!r}")
            return {}
        if asked in ("30d", "7d", "1mo"):
            what = "calendar month" if period == "monthly" else "week from Monday"
            source.change((*section, duration), f"a budget for {asked} becomes one for each {what} (UTC)")
        return {period: _plain(most)}

    def _rates(self) -> None:
        source = self._source
        defaults = ("litellm_settings", "default_key_generate_params")
        for theirs, ours in RATES.items():
            most = source.number(*defaults, theirs)
            if most is not None:
                self._limits.setdefault("keys", {})[ours] = int(most)
        at_once = source.number("general_settings", "global_max_parallel_requests")
        if at_once is not None:
            self._limits["all"] = {"concurrent": int(at_once)}
        each = source.number("general_settings", "max_parallel_requests")
        if each is None:
            each = source.number("router_settings", "default_max_parallel_requests")
        if each:
            for entry in self._models.entries.values():
                entry.setdefault("concurrency", int(each))
        for kind, limits in self._models.limits.items():
            self._limits.setdefault(kind, {}).update(
                {self._models.physical(name) if kind == "models" else name: rates for name, rates in limits.items()}
            )

    # -- the rest --------------------------------------------------------------------------------------------------------
    def _store(self) -> dict[str, Any]:
        path = ("general_settings", "maximum_spend_logs_retention_period")
        asked = value_of(self._source.look(*path))
        seconds = seconds_of(asked)
        if asked is None or seconds is None:
            return {}
        self._source.take(*path)
        if seconds < _SECONDS["d"]:
            self._source.change(path, "rows are kept for a day at least")
        return {"retention": f"{max(seconds // _SECONDS['d'], 1)}d"}

    def _server(self) -> dict[str, Any]:
        most = self._source.number("general_settings", "max_request_size_mb")
        return {} if not most else {"max_body": f"{most:g}MB"}


def _plain(amount: float) -> float | int:
    return int(amount) if amount == int(amount) else amount


def seconds_of(text: Any) -> int | None:
    match = _DURATION.fullmatch(str(text or ""))
    return None if match is None else int(match[1]) * _SECONDS[match[2]]


def period_of(duration: Any) -> str | None:
    """Our period for LiteLLM's `budget_duration`, None where there is none; a budget without one is for ever."""
    if duration is None:
        return "total"
    if duration in ("daily", "weekly", "monthly"):
        return str(duration)
    seconds = seconds_of(duration)
    if seconds is None:
        return None
    days = seconds / _SECONDS["d"]
    return {1: "daily", 7: "weekly"}.get(int(days) if days == int(days) else 0) or (
        "monthly" if 28 <= days <= 31 else None
    )
