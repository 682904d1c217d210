"""What a simulated model is, and what the log keeps of a call that one served."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.usage import Usage
from headgate.simulator.wire import Call


class SimModel(msgspec.Struct, frozen=True, kw_only=True):
    """A scripted model, as a test or the demo describes it.

    name, upstream      our name for it, and the id that its provider knows
    ttft, jitter        seconds to the first token, and the share by which it varies
    tokens_per_second   0: as fast as it goes
    skill               chance of a good answer per task (0 to 1); "general" for the rest, 0.9 unless said
    thinks              reasons unasked; `shows` whether its chat format shows what it thought
    rpm, capacity       429 above so many requests a minute; overloaded above so many at a time
    checks_signatures   refuses thinking whose signature it did not give
    """

    name: str
    provider: str
    upstream: str
    ttft: float = 0.0
    jitter: float = 0.0
    tokens_per_second: float = 0.0
    skill: dict[str, float] = {}
    context: int = 200_000
    max_output: int = 32_000
    supports: frozenset[str] = frozenset({"tools", "vision", "json_schema", "reasoning"})
    thinks: bool = False
    shows: bool = True
    rpm: int | None = None
    capacity: int | None = None
    checks_signatures: bool = True


class Served(msgspec.Struct, kw_only=True):
    """One call in the log. `call` has the bytes; `outcome` is complete, broken, refused or left."""

    number: int
    model: str
    provider: str
    dialect: str
    stream: bool
    attempt: str | None
    call: Call
    mode: str | None = None
    usage: Usage | None = None
    text: str = ""

    def as_json(self) -> dict[str, Any]:
        call = self.call
        return {
            "number": self.number, "at": call.at, "model": self.model, "provider": self.provider,
            "dialect": self.dialect, "path": call.path, "stream": self.stream, "attempt": self.attempt,
            "request_bytes": len(call.body), "sent_bytes": call.sent, "status": call.status, "mode": self.mode,
            "usage": msgspec.to_builtins(self.usage), "complete": call.complete, "left_after": call.left,
            "ended": call.ended.is_set(), "connection": call.connection, "text": self.text,
        }  # fmt: skip
