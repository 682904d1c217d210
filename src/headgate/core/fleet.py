"""What replicas tell each other through a shared store. Times are seconds from now: no two clocks need agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """A slice of a limit per minute that is asked for. `debt` is what was used beyond earlier slices, or, below 0, what is
    given back: booked whatever is left. `level` is what a store that was emptied is told: seconds, at least, until the
    bucket is full again. `want` is granted as far as it goes, and nothing where that is below `least`."""

    bucket: str
    limit: int
    debt: int = 0
    level: float = 0.0
    want: int = 0
    least: int = 1


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """`ahead`: seconds until the bucket is full again, this grant included. `born` names the bucket since it was last full,
    or since the store forgot it; `store` the store's own present life (Pulse)."""

    granted: int
    ahead: float
    born: str = ""
    store: str = ""


class Seating(msgspec.Struct, frozen=True, kw_only=True):
    """Places for requests at a time. `held` is what the holder has now, whatever the store thinks; it keeps `held` and what
    is granted of `want` for `seconds`, unless it asks again. `alone`: the seconds for which a store that was emptied grants
    nothing, so that all holders can say what they have."""

    bucket: str
    limit: int
    held: int
    want: int = 0
    least: int = 1
    seconds: float = 20.0
    alone: float = 2.0


class Seated(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the places wanted were `granted`; `store` names the store's present life (Pulse)."""

    granted: int
    store: str = ""


NoticeState = Literal["open", "wait", "closed"]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica has learned of a deployment. open: its breaker, after failures. wait: the provider named a time, or
    refuses us. closed: it answers again. `seconds` until it may be asked; `kind` is the fault's."""

    state: NoticeState
    seconds: float = 0.0
    reason: str = ""
    kind: str = "unavailable"


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A notice as others find it: `seconds` that are left of it, `age` since it was told."""

    by: str
    notice: Notice
    seconds: float
    age: float


class Pulse(msgspec.Struct, frozen=True, kw_only=True):
    """Who lives, sorted by name, and what they have told of deployments, by name. `store` names the store's present life:
    it is another one after the store was emptied."""

    replicas: tuple[str, ...] = ()
    heard: Mapping[str, Heard] = {}
    store: str = ""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says of itself, twice a second."""

    version: str
    host: str
    pid: int
    worker: int | None = None
    up: float
    """Seconds since it began to serve."""
    inflight: int = 0
    config: str = ""
    """Hash of the configuration in force."""
    requests_held: int = 0
    """Requests that it has drawn from limits per minute ahead of use."""
    places_held: int = 0
    """Places of limits on requests at a time that it holds."""
    money_held: int = 0
    """Nano-US$ of budgets that are leased to it and not spent; what is reserved is in it."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A process that lives. `silent`: seconds since it was heard; None where it is of another release."""

    holder: str
    silent: float
    about: About | None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """mine: nobody has run it, the caller has to. running: somebody does. done: `kept` is what came of it. other: the name
    was used for something else."""

    state: Literal["mine", "running", "done", "other"]
    kept: bytes = b""
