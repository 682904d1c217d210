"""What was used and spent, as it is shown: budgets and sums, the same for commands, programs and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate.config.values import moment
from headgate.core.clock import SYSTEM, Clock
from headgate.core.money import dollars
from headgate.core.ports import Store
from headgate.core.records import BudgetSpec, KeyRecord, UsageRow
from headgate.governance.budgets import day_of, since_of
from headgate.governance.keys import state_of
from headgate.governance.rules import Rules, defined_teams

if TYPE_CHECKING:
    from headgate.governance.governor import KeyedGovernor

SUMS = ("attempts", "failed", "input", "output", "cached", "cost_usd", "unknown_cost")
"""`unknown_cost` counts attempts without a price."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "|")


class Spending:
    """What was spent, and how far budgets are used: read only. All methods raise StorageUnavailable. `governor`: what this
    process has reserved is told too."""

    def __init__(
        self,
        store: Store,
        *,
        rules: Callable[[], Rules] = Rules,
        governor: KeyedGovernor | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._store = store
        self._rules = rules
        self._governor = governor
        self._clock = clock

    async def budgets(self) -> list[dict[str, Any]]:
        """Every budget with what is booked in its window now, and what this process has reserved in it."""
        now = self._clock.time()
        day = day_of(now)
        budgets = await self._all_budgets()
        spent: dict[tuple[str, str], int] = {}
        kinds = {(scope.partition(":")[0], since_of(spec.period, day)) for scope, spec, _ in budgets}
        for kind, since in kinds:
            start = 0.0 if not since else datetime.fromisoformat(since).replace(tzinfo=UTC).timestamp()
            by = () if kind == "all" else (kind,)
            for row in await self._store.usage(since=start, until=now + 86_400.0, by=by, where={}):
                spent[":".join((kind, *row.group)), since] = row.cost
        book = self._governor.book if self._governor is not None else None
        out: list[dict[str, Any]] = []
        for scope, spec, name in budgets:
            since = since_of(spec.period, day)
            window = book.windows.get((scope, since)) if book is not None else None
            used = spent.get((scope, since), 0)
            out.append(
                {
                    "scope": scope,
                    "name": name,
                    "period": spec.period,
                    "hard": spec.hard,
                    "since": since or None,
                    "limit_usd": dollars(spec.limit),
                    "spent_usd": dollars(used),
                    "reserved_usd": dollars(window.reserved if window is not None else 0),
                    "share": round(used / spec.limit, 4) if spec.limit else 1.0,
                }
            )
        return out

    async def _all_budgets(self) -> list[tuple[str, BudgetSpec, str]]:
        """(scope, budget, display name), each once."""
        rules, now = self._rules(), self._clock.time()
        lines: dict[str, KeyRecord] = {}
        for key in sorted(await self._store.keys(), key=lambda key: key.created):
            if state_of(key, now) in ("active", "ending"):
                lines[key.line or key.id] = key
        found: dict[tuple[str, BudgetSpec], str] = {("all", spec): "the gateway" for spec in rules.all_budgets}
        for team in defined_teams(await self._store.teams(), rules).values():
            found |= {(f"team:{team.id}", spec): team.name for spec in team.budgets}
        for line, key in lines.items():
            found |= {(f"key:{line}", spec): key.name for spec in key.budgets or rules.key_budgets}
            if key.user is not None:
                found |= {(f"user:{key.user}", spec): key.user for spec in rules.users(key.user)}
        for kind, named in (("model", rules.model_budgets), ("tag", rules.tag_budgets)):
            found |= {(f"{kind}:{name}", spec): name for name, specs in named.items() for spec in specs}
        return [(scope, spec, name) for (scope, spec), name in found.items()]

    async def activity(self, *, days: int = 30) -> dict[str, Any]:
        """Who spent what: by day, and by key, user, team, model and tag, the dearest first."""
        now = self._clock.time()
        names = {key.line or key.id: key.name for key in await self._store.keys()}
        since = (int(now // 86_400) - max(1, min(days, 366)) + 1) * 86_400.0
        spend: dict[str, list[dict[str, Any]]] = {}
        for by in ("key", "user", "team", "model", "tag"):
            rows = await self._store.usage(since=since, until=now + 86_400.0, by=(by,), where={})
            spend[by] = [
                {by: row.group[0], "name": names.get(row.group[0], row.group[0]) if by == "key" else row.group[0]}
                | _sums(row)
                for row in sorted(rows, key=lambda row: -row.cost)[:100]
                if row.group[0]
            ]
        found = await self._store.usage(since=since, until=now + 86_400.0, by=("day",), where={})
        dearest = max((row.cost for row in found), default=0) or 1
        daily = [
            {"day": row.group[0], "share": round(row.cost / dearest, 4)} | _sums(row)
            for row in sorted(found, key=lambda row: row.group[0], reverse=True)
        ]
        return {"days": days, "daily": daily, "spend": spend}

    async def usage(self, *, by: list[str], since: str, until: str, where: dict[str, str]) -> list[dict[str, Any]]:
        """Attempts, tokens and US$ by any dimensions. Raises ValueError for what is no time or no dimension."""
        now = self._clock.time()
        start, end = moment(since, now), moment(until, now) + (1.0 if until == "now" else 0.0)
        return usage_rows(by, await self._store.usage(since=start, until=end, by=by, where=where))


def _sums(row: UsageRow) -> dict[str, Any]:
    return {
        "attempts": row.attempts,
        "failed": row.failed,
        "tokens_in": row.input,
        "tokens_out": row.output,
        "cost_usd": dollars(row.cost),
    }


def usage_rows(by: Sequence[str], found: Iterable[UsageRow]) -> list[dict[str, Any]]:
    """The dimensions asked for, then SUMS."""
    return [
        {
            **dict(zip(by, row.group, strict=True)),
            "attempts": row.attempts,
            "failed": row.failed,
            "input": row.input,
            "output": row.output,
            "cached": row.cached,
            "cost_usd": dollars(row.cost),
            "unknown_cost": row.unknown_cost,
        }
        for row in found
    ]


def csv_text(heads: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow([inert(row[head]) for head in heads])
    return out.getvalue()


def inert(cell: Any) -> Any:
    """What a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
