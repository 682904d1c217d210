"""A ledger that lives and dies with the process: for the library without a store, and for tests."""

from __future__ import annotations

from collections import deque

from headgate.core.records import AttemptIntent, AttemptOutcome, RequestRecord


class VolatileLedger:
    """Keeps the last `keep` rows of each kind. Nothing is promised beyond the process's life."""

    def __init__(self, keep: int = 1000) -> None:
        self.intents: deque[AttemptIntent] = deque(maxlen=keep)
        self.outcomes: dict[str, AttemptOutcome] = {}
        self.requests: deque[RequestRecord] = deque(maxlen=keep)
        self._keep = keep

    def intend(self, intent: AttemptIntent) -> None:
        self.intents.append(intent)

    def settle(self, outcome: AttemptOutcome) -> None:
        if outcome.id not in self.outcomes:
            self.outcomes[outcome.id] = outcome
            if len(self.outcomes) > self._keep:
                del self.outcomes[next(iter(self.outcomes))]

    def record(self, record: RequestRecord) -> None:
        self.requests.append(record)

    async def durable(self) -> None:
        return None
