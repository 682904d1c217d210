"""Recorded exchanges, served as they were recorded: status, headers and body bytes, streams cut where one likes.

A row is addressed by a key, in either of two ways: a base path of its own (`/replay/KEY`, whatever follows), or the
model name `replay-KEY` in the request (in the body or, for Gemini, in the path), so that one provider entry with direct
addressing reaches thousands of rows without any configuration of their own.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Literal

import msgspec

from headgate.simulator import script as steps
from headgate.simulator.wire import Call

Packets = Literal["whole", "frames", "random", "bytes"] | int | Sequence[int]
_MODEL = re.compile(rb'"model"\s*:\s*"(?:models/)?replay-([A-Za-z0-9_.-]+)"')
_PATH = re.compile(r"/replay/([A-Za-z0-9_.-]+)(?:/|$)|/models/replay-([A-Za-z0-9_.-]+?)(?::|/|$)")
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_STREAMS = ("sse", "ndjson", "json_array", "eventstream")
_OWN_HEADERS = ("content-length", "transfer-encoding", "connection", "content-encoding")


class Recording(msgspec.Struct):
    """One registered answer and the calls that it answered, in order."""

    key: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    chunked: bool
    packets: Packets = "whole"
    received: list[Call] = []

    @property
    def model(self) -> str:
        return f"replay-{self.key}"

    @property
    def path(self) -> str:
        return f"/replay/{self.key}"


class Replay:
    """The register. Registering costs a dict entry; nothing is listened on."""

    def __init__(self, seed: int = 0) -> None:
        self.recordings: dict[str, Recording] = {}
        self._seed = seed

    def register(self, row: Mapping[str, Any], *, packets: Packets = "whole", key: str | None = None) -> Recording:
        """A row of the recorded traffic (see its README). `packets` says how a body is cut into writes: whole, frames
        (at blank lines), random (by the seed), bytes, every N bytes, or at these offsets. Same key: replaced."""
        response = row["response"]
        raw = response.get("body_base64")
        body = base64.b64decode(raw) if raw is not None else _text(response.get("body")).encode()
        return self.add(
            key or str(row["id"]),
            response["status"],
            list(response["headers"].items()),
            body,
            chunked=response["kind"] in _STREAMS,
            packets=packets,
        )

    def add(
        self,
        key: str,
        status: int,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        chunked: bool = False,
        packets: Packets = "whole",
    ) -> Recording:
        kept = [(name, value) for name, value in headers if name.lower() not in _OWN_HEADERS]
        recording = Recording(key, status, kept, body, chunked, packets)
        self.recordings[key] = recording
        return recording

    def forget(self, key: str) -> None:
        self.recordings.pop(key, None)

    def find(self, call: Call) -> Recording | None:
        """The recording that this call asks for, by path or by model name; None if it asks for none."""
        match = _PATH.search(call.path)
        key = (match.group(1) or match.group(2)) if match else None
        if key is None:
            named = _MODEL.search(call.body)
            key = named.group(1).decode() if named else None
        return self.recordings.get(key) if key is not None else None

    def respond(self, call: Call) -> steps.Script:
        recording = self.find(call)
        if recording is None:
            return steps.reply_json(404, {"error": {"message": "no recording of that key", "type": "not_found"}})
        recording.received.append(call)
        return self.script(recording)

    def script(self, recording: Recording) -> steps.Script:
        """The recording's answer as a script."""
        body = recording.body
        framing: Literal["chunked", "length"] = "chunked" if recording.chunked else "length"
        yield steps.Head(recording.status, tuple(recording.headers), framing, len(body))
        yield from steps.sliced(body, cuts(body, recording.packets, Random(f"{self._seed}:{recording.key}")))
        yield steps.End()


def cuts(body: bytes, packets: Packets, luck: Random) -> Sequence[int] | int:
    """The offsets at which `packets` cuts this body."""
    if not isinstance(packets, str):
        return packets
    how: dict[str, Callable[[], Sequence[int]]] = {
        "whole": lambda: (),
        "frames": lambda: [match.end() for match in _BLANK_LINE.finditer(body)],
        "random": lambda: [luck.randrange(len(body) + 1) for _ in range(luck.randint(1, 12))],
        "bytes": lambda: range(1, len(body)),
    }
    return how[packets]()


def _text(body: Any) -> str:
    if body is None:
        return ""
    return body if isinstance(body, str) else msgspec.json.encode(body).decode()
