"""The recorded exchanges of Anthropic's Messages format, and what the official SDK makes of a stream of it."""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from anthropic.lib.streaming._beta_messages import accumulate_event
from anthropic.types.beta import BetaRawMessageStreamEvent
from pydantic import TypeAdapter

from headgate.core.dialect import Quirks, View
from headgate.core.events import Event
from headgate.dialects import sse
from headgate.dialects.anthropic_messages import DIALECT
from support.corpus import select

_EVENTS: TypeAdapter[Any] = TypeAdapter(BetaRawMessageStreamEvent)


def recorded(*, kind: str | None = None, ok: bool | None = None, sample: int = 1) -> Iterator[dict[str, Any]]:
    yield from select("anthropic.messages", "vertexai.anthropic", kind=kind, ok=ok, sample=sample)


def frames_of(body: bytes, cuts: Iterable[int] = ()) -> list[bytes]:
    splitter = DIALECT.splitter()
    frames: list[bytes] = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(body)]):
        frames += splitter.feed(body[start:stop])
    rest = splitter.close()
    return [*frames, rest] if rest.strip() else frames


def events_in(frames: Iterable[bytes]) -> list[Event]:
    parser = DIALECT.event_parser(Quirks())
    return [event for frame in frames for event in parser.feed(frame)] + parser.close()


def rendered(events: Iterable[Event], cut: int = 0, details: Any = None, **view: Any) -> bytes:
    renderer = DIALECT.event_renderer(View(**{"stream": True, "id": "tr_1", "model": "shown", **view}))
    out, batch = b"", list(events)
    for start in range(0, len(batch), cut or len(batch) or 1):
        out += renderer.feed(batch[start : start + (cut or len(batch))])
    return out + renderer.finish(details)


def wire(body: bytes) -> list[dict[str, Any]]:
    """The data of all frames but pings and comments; the event's name must be the data's type."""
    out: list[dict[str, Any]] = []
    for frame in frames_of(body):
        data = sse.data_of(frame)
        if data is not None:
            raw = json.loads(data)
            assert sse.event_of(frame) == raw["type"]
            if raw["type"] != "ping":
                out.append(raw)
    return out


def accumulated(body: bytes, *, strict: bool = True) -> dict[str, Any]:
    """The message that the official SDK puts together. `strict`: each event must be one that it knows by type."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for raw in wire(body):
        if strict:
            _EVENTS.validate_python(raw)
        snapshot = accumulate_event(
            event=raw,  # type: ignore[arg-type]
            current_snapshot=snapshot,
            json_bufs=buffers,
            request_headers={},  # type: ignore[arg-type]
        )
    return snapshot.to_dict(warnings=False)
