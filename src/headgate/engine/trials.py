"""Experiments as operators handle them: results, stop, start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from headgate.core.errors import InvalidRequest, NotFound
from headgate.core.records import AuditRecord, LearnedRow
from headgate.engine.build import Memory
from headgate.engine.house import House
from headgate.engine.snapshot import Snapshot
from headgate.strategies.experiment import Experiment
from headgate.strategies.experiment.report import results


class Trials:
    """Use it on the serving loop. `keep`: carries what was changed to the store, so that replicas and later lives know."""

    def __init__(self, house: House, keep: Callable[[], Awaitable[None]] | None = None) -> None:
        self._house = house
        self._keep = keep

    async def all(self) -> list[dict[str, Any]]:
        return all_results(self._house.snapshot)

    async def one(self, name: str) -> dict[str, Any]:
        """Raises NotFound."""
        return results(self._find(name))

    async def stop(self, name: str, actor: str, *, arm: str | None = None, because: str = "") -> dict[str, Any]:
        """Everybody gets one arm (the control if none is named), on the other replicas within a minute. Raises NotFound,
        InvalidRequest."""
        found = self._find(name)
        if found.trial.stopped is not None:
            raise InvalidRequest(f"{name!r} is stopped already: {found.trial.stopped.because}")
        try:
            stop = found.stop(because=because or "asked for", by=actor, at=self._house.clock.time(), arm=arm)
        except ValueError as error:
            raise InvalidRequest(str(error), param="arm") from error
        await self._done(actor, "experiment.stop", name, f"everybody gets {stop.arm}: {stop.because}")
        return results(found)

    async def start(self, name: str, actor: str) -> dict[str, Any]:
        """Anew: what was counted so far counts no more, and a stop is over. Raises NotFound."""
        found = self._find(name)
        found.start(by=actor, at=self._house.clock.time())
        await self._done(actor, "experiment.start", name, "anew")
        return results(found)

    def _find(self, name: str) -> Experiment:
        found = self._house.snapshot.entries.get(name)
        if not isinstance(found, Experiment):
            known = [entry.name for entry in experiments(self._house.snapshot)]
            there_are = f"there are {', '.join(known)}" if known else "there is none"
            raise NotFound(f"there is no experiment {name[:100]!r}: {there_are}")
        return found

    async def _done(self, actor: str, action: str, name: str, detail: str) -> None:
        if self._keep is not None:
            await self._keep()
        if self._house.archive is not None:
            at = self._house.clock.time()
            await self._house.archive.audit(
                AuditRecord(at=at, actor=actor, action=action, target=name, detail=detail[:500])
            )


def recall(memory: Memory, rows: Sequence[LearnedRow]) -> None:
    """What the store has, where no gateway runs that would know better."""
    for entry, knowledge in memory.known().items():
        knowledge.hear([row.body for row in rows if row.entry == entry])


def experiments(snapshot: Snapshot) -> list[Experiment]:
    return [entry for entry in snapshot.entries.values() if isinstance(entry, Experiment)]


def all_results(snapshot: Snapshot) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(results(entry)) for entry in experiments(snapshot)]
