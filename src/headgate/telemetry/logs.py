"""Log lines as JSON, one per line, written in batches off the request's path. No bodies, no headers, no keys."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, TextIO

import msgspec

from headgate.core.records import RequestRecord

FLUSH_AFTER = 0.1
MOST_WAITING = 10_000
_encoder = msgspec.json.Encoder()
_TURNING = {c: f"\\u{c:04x}" for c in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""Marks that turn the direction of text: escaped, so that a log line reads as it is."""


class RequestLine(msgspec.Struct, omit_defaults=True):
    """The line of a request that is over: typed, since there is one for each."""

    at: float
    event: str
    id: str
    trace: str
    door: str
    requested: str
    strategy: str
    key: str
    status: int
    attempts: int
    latency_ms: float
    overhead_ms: float
    model: str | None = None
    provider: str | None = None
    error: str | None = None
    cost_nano_usd: int | None = None
    worker: int | None = None


def request_line(record: RequestRecord, worker: int | None = None) -> RequestLine:
    return RequestLine(
        round(record.at, 3),
        "request",
        record.id,
        record.trace,
        record.door,
        record.requested,
        record.strategy,
        record.key_id,
        record.status,
        record.attempts,
        round(record.latency * 1000, 2),
        round(record.overhead * 1000, 3),
        record.model,
        record.provider,
        record.error,
        record.cost,
        worker,
    )


class Log:
    """Lines are gathered and written every tenth of a second; `close` writes the rest. When the reader of the stream is
    too slow the oldest lines are kept and new ones are dropped and counted: a log never stops the gateway. `worker`
    stands in every line, where the process is one of several."""

    def __init__(self, stream: TextIO | None = None, *, worker: int | None = None) -> None:
        self.worker = worker
        self._stream = stream if stream is not None else sys.stderr
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0

    def write(self, event: str, at: float, **fields: Any) -> None:
        fields = {"worker": self.worker, **fields}
        self._add({"at": round(at, 3), "event": event, **{k: v for k, v in fields.items() if v is not None}})

    def request(self, record: RequestRecord) -> None:
        self._add(request_line(record, self.worker))

    def _add(self, line: RequestLine | dict[str, Any]) -> None:
        if len(self._lines) >= MOST_WAITING:
            self.dropped += 1
            return
        self._lines.append(_encoder.encode(line))
        if self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER, self.flush)
            except RuntimeError:
                self.flush()  # no loop: a command, not the server

    def flush(self) -> None:
        self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            # ensure no escape sequence of a client's choosing reaches a terminal: JSON has escaped all control characters
            self._stream.write(b"\n".join(lines).decode().translate(_TURNING) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += len(lines)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.flush()
