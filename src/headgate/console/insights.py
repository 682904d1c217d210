"""What the ledger teaches: the admin API's functions and the pages that show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request

from headgate.console.views import Admin
from headgate.core.clock import SYSTEM, Clock
from headgate.core.money import dollars
from headgate.core.ports import Store
from headgate.core.records import FeedbackRecord
from headgate.engine.house import TRACES
from headgate.insight.taskmix import DIMENSIONS, TaskMix, task_mix
from headgate.stores.memory import MemoryStore

DAY = 86400.0
Make = Callable[[Request], Any]


class Insights:
    def __init__(self, admin: Admin, clock: Clock = SYSTEM) -> None:
        self._admin = admin
        self._clock = clock

    def readings(self) -> Mapping[str, Make]:
        return {"/admin/v1/insight/tasks": self._tasks}

    def pages(self) -> Mapping[str, tuple[str, Make]]:
        return {"/routes": ("routes.html", self._routes_page), "/tasks": ("tasks.html", self._tasks_page)}

    def _routes_page(self, request: Request) -> dict[str, Any]:
        entries = self._admin.house.snapshot.entries
        routes = [name for name, strategy in entries.items() if strategy.kind == "route"]
        models = self._admin.config()["models"]
        rules = [row for name in routes for row in _rules(name, (models.get(name) or {}).get("route") or {})]
        return {"names": list(entries), "first": routes[0] if routes else "", "rules": rules}

    async def saved(self) -> str | None:
        """US$ saved in 30 days, of the requests that are kept, against always asking the best model."""
        now = self._clock.time()
        rows = await (await self._store()).mix(since=now - 30 * DAY, until=now + 1.0, by=(), where={})
        return dollars(rows[0].saved) if rows else None

    async def _tasks(self, request: Request) -> Any:
        return msgspec.to_builtins(await self._mix(self._since(request), _where(request)))

    async def _tasks_page(self, request: Request) -> dict[str, Any]:
        found = await self._mix(self._since(request), _where(request))
        most = max((sum(day.tasks.values()) for day in found.days), default=0)
        names = [name for name, strategy in self._admin.house.snapshot.entries.items() if strategy.kind != "single"]
        return {
            "mix": msgspec.to_builtins(found),
            "most": most,
            "days": _days(request),
            "names": names,
            "requested": request.query_params.get("requested", ""),
        }

    def _since(self, request: Request) -> float:
        return self._clock.time() - _days(request) * DAY

    async def _mix(self, since: float, where: dict[str, str]) -> TaskMix:
        return await task_mix(await self._store(), since=since, until=self._clock.time() + 1.0, where=where)

    async def _store(self) -> Store:
        """The gateway's own; where it has none, what is in memory."""
        house = self._admin.house
        if house.archive is not None:
            return house.archive
        store = MemoryStore()
        for trace, record in house.recent(TRACES):
            await store.apply([record], holder="")
            said = trace.facts.get("feedback")
            if said is not None:
                await store.put_feedback(
                    FeedbackRecord(trace=trace.id, at=record.at, score=said["score"], key_id=record.key_id)
                )
        return store


def _rules(entry: str, section: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A route's table, line by line, as the configuration has it."""
    out = [
        {
            "task": task,
            "models": rule.get("models") or [rule.get("model")],
            "choose": _listed(rule.get("choose") or {}),
            "when": _listed({name: rule.get(name) for name in ("tags", "keys", "hours", "zone", "capabilities")}),
        }
        for task, rules in (section.get("tasks") or {}).items()
        for rule in rules
    ]
    out.append({"task": "anything else", "models": [section.get("otherwise")], "choose": "", "when": ""})
    return [{"entry": entry, "first": place == 0, **row} for place, row in enumerate(out)]


def _listed(given: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for name, value in given.items():
        if isinstance(value, Mapping):
            value = " ".join(" ".join(v) if isinstance(v, list) else str(v) for v in value.values() if v)
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        if value not in (None, ""):
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def _where(request: Request) -> dict[str, str]:
    return {name: value for name in DIMENSIONS if (value := request.query_params.get(name))}


def _days(request: Request) -> int:
    given = request.query_params.get("days", "")
    return int(given) if given.isdecimal() and 0 < len(given) < 5 else 7
