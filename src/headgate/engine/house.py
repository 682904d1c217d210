"""What lives as long as the process: the snapshot in force and the implementations of the ports."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable

from headgate.core.clock import SYSTEM, Clock
from headgate.core.ports import Governor, Ledger
from headgate.core.records import RequestRecord
from headgate.core.trace import AttemptView, Trace
from headgate.engine.snapshot import Snapshot
from headgate.net.transport.protocol import Transport

TRACES = 2000


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
        charge_unknown: bool = True,
    ) -> None:
        self.snapshot = snapshot
        self.transport = transport
        self.ledger = ledger
        self.governor = governor
        self.clock = clock
        self.rng = rng or random.Random()
        self.charge_unknown = charge_unknown
        self.on_attempt: list[Callable[[AttemptView, Trace], None]] = []
        self.on_request: list[Callable[[RequestRecord, Trace], None]] = []
        self.on_event: list[Callable[[str, dict[str, object]], None]] = []
        self.inflight = 0
        self.draining = False
        self._traces: OrderedDict[str, tuple[str, Trace, RequestRecord]] = OrderedDict()

    def attempt_closed(self, view: AttemptView, trace: Trace) -> None:
        for listener in self.on_attempt:
            listener(view, trace)

    def event(self, kind: str, facts: dict[str, object]) -> None:
        for listener in self.on_event:
            listener(kind, facts)

    def request_over(self, record: RequestRecord, trace: Trace) -> None:
        """The ledger first: telemetry may fail, money may not."""
        self.ledger.record(record)
        self._traces[trace.id] = (record.key_id, trace, record)
        if len(self._traces) > TRACES:
            self._traces.popitem(last=False)
        for listener in self.on_request:
            listener(record, trace)

    def trace(self, id: str, key_id: str | None) -> tuple[Trace, RequestRecord] | None:
        """One of this key's own recent requests; any key's for an operator (None)."""
        found = self._traces.get(id)
        if found is None or (key_id is not None and found[0] != key_id):
            return None
        return found[1], found[2]

    def recent(self, limit: int = 100) -> list[tuple[Trace, RequestRecord]]:
        return [(trace, record) for _, trace, record in list(self._traces.values())[-limit:][::-1]]
