"""What the admin API and the pages show: plain values, made from the house's own state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from headgate.core.errors import StorageUnavailable
from headgate.core.fleet import Member
from headgate.core.money import NANO, dollars
from headgate.core.records import RequestRecord
from headgate.engine.house import House


class Admin:
    """The admin API's functions. `reload` swaps the configuration and returns what is wrong with it, or None. `members`:
    the processes of a fleet."""

    def __init__(
        self,
        house: House,
        *,
        version: str,
        config: Callable[[], dict[str, Any]],
        reload: Callable[[], Awaitable[str | None]],
        members: Callable[[], Awaitable[Sequence[Member]]] | None = None,
    ) -> None:
        self._members = members
        self.house = house
        self._version = version
        self._config = config
        self._reload = reload

    async def status(self) -> dict[str, Any]:
        """Of the process that answers. Of its recent requests, `failed` (5xx) is our fault or the providers', `refused`
        (4xx) could not be served as asked (limits, budgets, what was asked), `left` are those whose client went. `fleet`
        are all that share its stores, None where it is alone, empty where the shared store does not say."""
        recent = self.house.recent(1000)
        failed = sum(record.status >= 500 for _, record in recent)
        left = sum(record.status == 499 for _, record in recent)
        refused = sum(record.status >= 400 for _, record in recent) - failed - left
        cost = sum(record.cost or 0 for _, record in recent)
        return {
            "version": self._version,
            "config": self.house.snapshot.hash,
            "draining": self.house.draining,
            "inflight": self.house.inflight,
            "open": self.house.governor.open,
            "recent": {
                "requests": len(recent),
                "failed": failed,
                "refused": refused,
                "left": left,
                "cost_usd": dollars(cost),
            },
            "fleet": await self._fleet(),
        }

    async def _fleet(self) -> list[dict[str, Any]] | None:
        if self._members is None:
            return None
        try:
            members = await self._members()
        except StorageUnavailable:
            return []
        rows = [(member, member.about) for member in members if member.about is not None]
        return [
            {
                "id": member.holder,
                "host": about.host,
                "worker": about.worker,
                "pid": about.pid,
                "version": about.version,
                "config": about.config,
                "up_s": about.up,
                "silent_s": round(member.silent, 1),
                "inflight": about.inflight,
                "requests_held": about.requests_held,
                "places_held": about.places_held,
                "held_usd": dollars(about.money_held),
            }
            for member, about in sorted(rows, key=lambda row: (row[1].host, row[1].worker or 0, row[1].pid))
        ]

    def models(self) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        snapshot = self.house.snapshot
        for name, strategy in snapshot.entries.items():
            model = snapshot.model(name)
            row: dict[str, Any] = {"name": name, "display": snapshot.display.get(name, name), "kind": strategy.kind}
            if model is None:
                row["members"] = list(dict.fromkeys(ref.name for ref in strategy.refs()))
            else:
                price = model.price
                row |= {
                    "missing": model.missing,
                    "context": model.max_context,
                    "capabilities": list(model.capabilities),
                    "features": sorted(model.features or ()),
                    "zone": model.zone,
                    "input_usd_per_mtok": None if price is None else price.input / NANO,
                    "output_usd_per_mtok": None if price is None else price.output / NANO,
                    "beside_tokens_usd": None if price is None else price.beside_tokens(),
                    "price_version": None if price is None else price.version,
                    "deployments": [
                        {
                            "name": d.name,
                            "provider": d.provider,
                            "health": msgspec.to_builtins(d.vitals.health.view()),
                            "outstanding": d.vitals.outstanding,
                            "waiting": d.vitals.gate.waiting,
                            "limit": int(d.vitals.gate.limit),
                            "shed": d.vitals.gate.shed,
                            "headroom": round(d.vitals.headroom_now(), 3),
                            "latency_ms": None if d.vitals.latency is None else round(d.vitals.latency * 1000, 1),
                        }
                        for d in model.deployments
                    ],
                }
            out.append(row)
        return out

    async def requests(self, *, limit: int = 100, where: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """The newest first, of earlier lives of the gateway too. `where` as in Store.requests."""
        return [_row(record) for _, record in await self.house.history(max(1, min(limit, 500)), where or {})]

    async def trace(self, id: str) -> dict[str, Any] | None:
        found = await self.house.find(id, None)
        if found is None:
            return None
        trace, record = found
        out = trace.details(overhead_ms=record.overhead * 1000)
        out["request"] = _row(record)
        out["decisions"] = [msgspec.to_builtins(decision) for decision in trace.decisions]
        out["lossy"] = list(trace.lossy)
        if (bodies := await self.house.bodies_of(id)) is not None:
            out["bodies"] = bodies
        return out

    def config(self) -> dict[str, Any]:
        """The configuration in force; secrets are ***."""
        return self._config()

    async def reload(self) -> str | None:
        return await self._reload()


def _row(record: RequestRecord) -> dict[str, Any]:
    return {
        "trace": record.trace,
        "id": record.id,
        "at": record.at,
        "door": record.door,
        "requested": record.requested,
        "strategy": record.strategy,
        "task": record.task,
        "model": record.model,
        "provider": record.provider,
        "key": record.key_id,
        "tags": list(record.tags),
        "stream": record.stream,
        "status": record.status,
        "error": record.error,
        "attempts": record.attempts,
        "tokens_in": record.usage.input if record.usage else None,
        "tokens_out": record.usage.output if record.usage else None,
        "cost_usd": None if record.cost is None else dollars(record.cost),
        "saved_usd": None if record.saved is None else dollars(record.saved),
        "ttft_ms": None if record.ttft is None else round(record.ttft * 1000, 1),
        "latency_ms": round(record.latency * 1000, 1),
        "overhead_ms": round(record.overhead * 1000, 2),
    }
