"""What lives as long as the process: the snapshot in force and the implementations of the ports."""

from __future__ import annotations

import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from headgate.core.answer import Answer
from headgate.core.clock import SYSTEM, Clock
from headgate.core.errors import StorageUnavailable
from headgate.core.ports import Governor, Ledger, Store
from headgate.core.pulse import Pulse
from headgate.core.records import FeedbackRecord, RequestRecord
from headgate.core.trace import AttemptView, Trace
from headgate.engine.archive import bodies_of, pack, unpack
from headgate.engine.daily import Daily
from headgate.engine.homes import Homes
from headgate.engine.snapshot import Snapshot
from headgate.engine.tagging import TagBook
from headgate.net.transport.protocol import Transport
from headgate.stores.rows import matches
from headgate.upstream.background import Background
from headgate.upstream.deployment import Deployment

if TYPE_CHECKING:
    from headgate.engine.keeping import Keeper
    from headgate.engine.pipeline import Exchange

TRACES = 2000
UNPRICED = 1000


class House:
    """`snapshot` is the only thing that changes: a reload swaps it, requests under way keep their own."""

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        transport: Transport,
        ledger: Ledger,
        governor: Governor,
        clock: Clock = SYSTEM,
        rng: random.Random | None = None,
        pulse: Pulse | None = None,
        charge_unknown: bool = True,
        archive: Store | None = None,
        contents: bool = False,
        bodies: bool = False,
        is_fleet: bool = False,
    ) -> None:
        """`archive`: where requests of earlier lives are found; `contents`: keep what agents' steps said there;
        `bodies`: and what clients sent and were answered; `is_fleet`: other processes write there too."""
        self.snapshot = snapshot
        self.transport = transport
        self.ledger = ledger
        self.governor = governor
        self.clock = clock
        self.rng = rng or random.Random()
        self.pulse = pulse or Pulse()
        self.charge_unknown = charge_unknown
        self.archive = archive
        self._contents = contents
        self.bodies = bodies and archive is not None
        self.on_attempt: list[Callable[[AttemptView, Trace], None]] = []
        self.on_request: list[Callable[[RequestRecord, Trace], None]] = []
        self.on_event: list[Callable[[str, dict[str, object]], None]] = []
        self.inflight = 0
        self.draining = False
        self.daily = Daily(archive, clock)
        self.tagging = TagBook()
        self.background = Background(clock)
        self.homes = Homes(archive, lambda: self.snapshot, shared=is_fleet, clock=clock)
        self.overhear: Callable[[Exchange], Answer] | None = None
        """Given each answered exchange: what is passed on in the place of its answer."""
        self.keeper: Keeper | None = None
        """Of what strategies learn, where there is a store."""
        self.on_feedback: list[Callable[[Trace, RequestRecord, float, str], None]] = []
        self._traces: OrderedDict[str, tuple[str, Trace, RequestRecord]] = OrderedDict()
        self._unpriced: set[str] = set()
        """Models of unknown price that somebody has been told of."""

    def attempt_closed(self, view: AttemptView, trace: Trace, deployment: Deployment, upstream_id: str | None) -> None:
        if upstream_id is not None and upstream_id.startswith("resp_"):
            size = view.usage.total if view.usage is not None else 0
            self.homes.remember(trace.key_id, upstream_id, view.model, deployment, size=size)
        if view.cost is None and view.model not in self._unpriced and len(self._unpriced) < UNPRICED:
            self._unpriced.add(view.model)
            self.event("price_unknown", {"model": view.model, "deployment": view.deployment})
        for listener in self.on_attempt:
            listener(view, trace)

    def event(self, kind: str, facts: dict[str, object]) -> None:
        for listener in self.on_event:
            listener(kind, facts)

    def health_changed(self, deployment: str, old: str, new: str, reason: str) -> None:
        """For `Compiler.on_health`: the event of a deployment that is cooling from now on, or well again."""
        self.event("health", {"deployment": deployment, "was": old, "state": new, "because": reason})

    def request_over(self, record: RequestRecord, trace: Trace) -> None:
        """The ledger first: telemetry may fail, money may not."""
        self.ledger.record(record)
        if self.bodies:
            record = replace(record, trace_json=None)  # bodies are large, and memory is not where they are kept
        self._traces[trace.id] = (record.key_id, trace, record)
        if len(self._traces) > TRACES:
            self._traces.popitem(last=False)
        for learner in self.snapshot.learners:
            learner.saw(record, trace)
        for listener in self.on_request:
            listener(record, trace)

    def packed(self, trace: Trace, bodies: Mapping[str, str] | None = None) -> bytes | None:
        """The trace as the store keeps it; None where there is no store."""
        return None if self.archive is None else pack(trace, contents=self._contents, bodies=bodies)

    async def bodies_of(self, id: str) -> Mapping[str, str] | None:
        """What was kept of a request's bodies, for operators; a few tenths of a second after its end."""
        if self.archive is None:
            return None
        record = await self.archive.request(id, key_id=None)
        return None if record is None else bodies_of(record)

    async def keep_feedback(
        self, trace: Trace, record: RequestRecord, score: float, comment: str, *, by: str | None = None
    ) -> None:
        """As `feedback`, and for other processes and later lives too. `by`: whose word it is, if not that of the request's
        key: such a word never takes the place of another, also of one that a replica was told; without it the word is a
        client's, and what was learned of it is in the store when this returns. Raises StorageUnavailable: it may be said
        again."""
        keeper = self.keeper if by is None else None
        if keeper is not None:
            await keeper.ready()
        if self.archive is not None:
            said = FeedbackRecord(
                trace=trace.id,
                at=self.clock.time(),
                score=score,
                key_id=by or record.key_id,
                task=record.task,
                model=record.model,
                comment=comment if self._contents else "",
            )
            if not await self.archive.put_feedback(said, replace=by is None):
                return
        self.feedback(trace, record, score, comment)
        if keeper is not None:
            await keeper.kept()

    def feedback(self, trace: Trace, record: RequestRecord, score: float, comment: str) -> None:
        """What an answer was worth, 0 to 1. The last word counts."""
        trace.facts["feedback"] = {"score": score, "comment": comment}
        for learner in self.snapshot.learners:
            learner.told(trace, record, score)
        for listener in self.on_feedback:
            listener(trace, record, score, comment)

    def trace(self, id: str, key_id: str | None) -> tuple[Trace, RequestRecord] | None:
        """One of this key's own recent requests; any key's for an operator (None)."""
        found = self._traces.get(id)
        if found is None or (key_id is not None and found[0] != key_id):
            return None
        return found[1], found[2]

    async def find(self, id: str, key_id: str | None) -> tuple[Trace, RequestRecord] | None:
        """As `trace`, and before this process's memory too."""
        found = self.trace(id, key_id)
        if found is None and self.archive is not None and id not in self._traces:
            record = await self.archive.request(id, key_id=key_id)
            found = None if record is None else (unpack(record), record)
        return found

    async def history(self, limit: int, where: dict[str, str]) -> list[tuple[Trace | None, RequestRecord]]:
        """The newest requests that match, of this life and earlier ones. `where` as in Store.requests. Where the store
        cannot be read: of this life."""
        stored: Sequence[RequestRecord] = ()
        if self.archive is not None:
            with contextlib.suppress(StorageUnavailable):  # the ledger's tail has said so already
                stored = await self.archive.requests(limit=limit, where=where)
        found: dict[str, tuple[Trace | None, RequestRecord]] = {record.trace: (None, record) for record in stored}
        for trace, record in self.recent(TRACES):
            if matches(record, where):
                found[record.trace] = (trace, record)
        return sorted(found.values(), key=lambda pair: -pair[1].at)[:limit]

    def recent(self, limit: int = 100) -> list[tuple[Trace, RequestRecord]]:
        return [(trace, record) for _, trace, record in list(self._traces.values())[-limit:][::-1]]
