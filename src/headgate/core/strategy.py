"""A strategy plans, then answers. Strategies see the rest of the house only through `Run`."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from headgate.core.answer import Answer
from headgate.core.clock import Clock
from headgate.core.envelope import Envelope
from headgate.core.events import ChatAnswer
from headgate.core.money import Price
from headgate.core.principal import Principal
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.trace import Trace


class Ref(msgspec.Struct, frozen=True):
    """An entry that a strategy may name, and in what role (member, judge, planner, target, ...)."""

    name: str
    role: str = "target"


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What strategies may know of a physical model: catalogue row plus live state."""

    name: str
    provider: str
    upstream: str
    features: frozenset[str] = frozenset()
    capabilities: tuple[str, ...] = ()
    max_context: int | None = None
    max_output: int | None = None
    price: Price | None = None
    zone: str | None = None
    usable: bool = True
    """False: no key, or every deployment is switched off; `reason` says why."""
    reason: str = ""
    """Why it cannot be used; or with `health` 0, what it is cooling down for."""
    health: float = 1.0
    """1 = all deployments closed (well), 0 = all cooling."""
    recovers_in: float = 0.0
    """Seconds until the first of its deployments may be asked again; 0 where one may be asked now."""
    strength: Mapping[str, float] = {}
    """Measured or published quality per task, 0 to 1."""
    latency: float | None = None
    """Recent time to first token in seconds."""


class Plan(msgspec.Struct, kw_only=True):
    """What will be done and why; `explain` is this and nothing more.

    order       entries in the order they would be tried
    reasons     entry -> why it stands there, or why it is left out
    worst_case  nano-US$ that the whole plan can cost at most; None where a price is unknown
    facts       the strategy's own part of the `headgate` object (task, ensemble, agent)
    tags        further tags of the request, for the ledger
    downgrades  whether the operator allows a cheaper plan where budgets do not cover this one (`Options.covered`)
    is_partial  a task is yet to be named, and budgets do not cover what some of them need: those would be refused
    data        for the strategy's own `answer`, opaque to others
    """

    strategy: str
    order: list[str] = []
    reasons: dict[str, str] = {}
    worst_case: int | None = 0
    facts: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    downgrades: bool = False
    is_partial: bool = False
    data: Any = None
    predicted_cost: int | None = None
    predicted_latency: float | None = None


class Strategy(Protocol):
    name: str
    """The entry's name."""
    kind: str
    """single | fallback | route | cascade | ensemble | agent | experiment"""

    def refs(self) -> Iterable[Ref]: ...
    def plan(self, request: Request, run: Run) -> Plan: ...
    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer: ...


@runtime_checkable
class Learner(Protocol):
    """A strategy that learns what its choices were worth. Called for every request of the house, whoever served it: the
    trace's facts tell whether it had a part in it. Never awaits, never raises."""

    def saw(self, record: RequestRecord, trace: Trace) -> None:
        """A request is over."""
        ...

    def told(self, trace: Trace, record: RequestRecord, score: float) -> None:
        """Somebody said what the answer was worth, 0 to 1. May come more than once for a trace; the last word counts."""
        ...


class Knowledge(Protocol):
    """What an entry has learned, as a store keeps it: what this process saw itself (`pack`), beside what others did. Packs
    are sums: those of several processes add up."""

    def pack(self) -> bytes: ...

    def merged(self, packs: Sequence[bytes]) -> bytes:
        """This process's own with those of `packs` added; changes nothing."""
        ...

    def adopt(self, packs: Sequence[bytes]) -> None:
        """Those of processes that are gone become this one's own."""
        ...

    def hear(self, packs: Sequence[bytes]) -> None:
        """All that the other living processes know, in the place of what was heard before."""
        ...

    def forget(self) -> None:
        """Another process has adopted what this one had: it begins anew, and hears the old from there."""
        ...


class Aside(msgspec.Struct, frozen=True, kw_only=True):
    """How a question of the house's own is asked. `purpose` (shadow, judge): who it is that asks, and a tag, which has the
    budget line. `because` is for its trace. `timeout` in seconds, `max_cost` in nano-US$. `daily`: nano-US$ that all such
    questions with the same first tag may cost a day."""

    purpose: str
    because: str
    timeout: float
    tags: tuple[str, ...] = ()
    max_cost: int | None = None
    daily: int | None = None


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: an answer, or the code of an error. `cost` in nano-US$, None where a price is unknown."""

    answer: ChatAnswer | None = None
    error: str | None = None
    cost: int | None = None
    latency: float = 0.0
    trace: str = ""


class Run(Protocol):
    """One request's life, as strategies see it."""

    principal: Principal
    envelope: Envelope
    trace: Trace
    clock: Clock
    rng: random.Random

    def strategy(self, name: str) -> Strategy:
        """The entry; ModelNotFound where there is none or the principal may not use it."""
        ...

    def model(self, name: str) -> ModelInfo | None:
        """None where `name` is not a physical model."""
        ...

    def models(self) -> Sequence[ModelInfo]: ...

    def child(self, *, envelope: Envelope | None = None, role: str | None = None, keep: bool = False) -> Run:
        """The same life under a narrower envelope; attempts made through it carry `role`. `keep`: streams that come through
        it remember what they have said (`Answer.said`), for whoever goes on with one that breaks off."""
        ...

    def plan(self, name: str, request: Request) -> Plan: ...

    async def ask(
        self, name: str, request: Request, *, role: str | None = None, envelope: Envelope | None = None
    ) -> Answer:
        """An entry's answer, at first content or complete. Raises HeadgateError."""
        ...

    async def aside(self, name: str, request: Request, aside: Aside) -> Beside:
        """Asks an entry in a life of its own, which may outlast this one: neither its money nor its time nor its failure
        are this request's. Not streamed. Confined to the same zone. Never raises but for cancellation."""
        ...

    async def attempt(self, model: str, request: Request, *, policy: Any = None) -> Answer:
        """The attempt loop over the deployments of one physical model: only strategies/single.py needs it."""
        ...

    def client_left(self) -> bool:
        """Asked from the request's own task: whether its client is gone, so that a cancellation means that. False in every
        other task: what a strategy cancels itself has no client."""
        ...

    def decide(self, kind: str, chosen: Any, *, over: Sequence[Any] = (), because: str, **numbers: Any) -> None: ...

    async def progress(self, text: str, **facts: Any) -> None:
        """Says what is going on before the answer has content; doors show it as heartbeats or reasoning."""
        ...
