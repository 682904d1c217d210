"""Yesterday's log against another configuration: which choices would differ, at what cost, and how good they would be.

Prompts are not kept, so nothing is classified anew: a request has the task that the log gives it. Both files are asked on
what the log keeps of each request (task, needs, size, tags, key, hour, limits), with every model well and with the same
knowledge, without exploring; what differs then is what the file changes.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from headgate.config.model import Config
from headgate.core.answer import Answer
from headgate.core.chat import ChatRequest, Message, Text
from headgate.core.clock import Clock
from headgate.core.dialect import Peek
from headgate.core.envelope import Envelope
from headgate.core.errors import HeadgateError
from headgate.core.money import cost_of, dollars
from headgate.core.principal import Principal
from headgate.core.records import KeyRecord, LearnedRow
from headgate.core.request import Options, Request
from headgate.core.strategy import Aside, Beside, ModelInfo, Plan, Strategy
from headgate.core.trace import Trace
from headgate.engine.compile import Compiler
from headgate.engine.snapshot import check_allowed, info_of, seen_by
from headgate.governance.keys import principal_of
from headgate.insight.estimate import Estimate, Seen, difference
from headgate.insight.log import Logged
from headgate.providers.registry import Registry, dialect_of
from headgate.strategies.route import Route
from headgate.strategies.route.classify import Task
from headgate.strategies.route.neighbours import Neighbours
from headgate.strategies.route.strengths import Strengths

DEEPEST = 8
EXAMPLES = 3
COMPOSITE = ("cascade", "ensemble", "agent", "experiment")
"""What such a strategy answers with is not its plan's to say: the choice is the entry itself."""


class _Then:
    """The hour of the request."""

    def __init__(self, at: float) -> None:
        self._at = at

    def time(self) -> float:
        return self._at

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise RuntimeError("a replay does not wait")


class _Run:
    """As much of core.strategy.Run as plans need; nothing is asked through it."""

    def __init__(self, side: Side, row: Logged) -> None:
        record = row.record
        self._side = side
        self.principal = side.principal(record.key_id)
        self.envelope = Envelope(1e9, money=row.room)
        self.clock: Clock = _Then(record.at)
        self.rng = random.Random(0)
        self.trace = Trace(record.trace, requested=record.requested, started=0.0, started_at=record.at)
        self.trace.tags = record.tags

    def strategy(self, name: str) -> Strategy:
        return self._side.snapshot.strategy(name)

    def model(self, name: str) -> ModelInfo | None:
        found = self._side.snapshot.model(name)
        return None if found is None else seen_by(self.principal, info_of(found))

    def models(self) -> Sequence[ModelInfo]:
        return [seen_by(self.principal, info_of(model)) for model in self._side.snapshot.models()]

    def child(self, *, envelope: Envelope | None = None, role: str | None = None, keep: bool = False) -> _Run:
        return self

    def plan(self, name: str, request: Request) -> Plan:
        return self.strategy(name).plan(request, self)

    async def ask(
        self, name: str, request: Request, *, role: str | None = None, envelope: Envelope | None = None
    ) -> Answer:
        raise RuntimeError("a replay asks no model")

    async def aside(self, name: str, request: Request, aside: Aside) -> Beside:
        raise RuntimeError("a replay asks no model")

    async def attempt(self, model: str, request: Request, *, policy: Any = None) -> Answer:
        raise RuntimeError("a replay asks no model")

    def client_left(self) -> bool:
        return False

    def decide(self, kind: str, chosen: Any, *, over: Sequence[Any] = (), because: str, **numbers: Any) -> None:
        return None

    async def progress(self, text: str, **facts: Any) -> None:
        return None


class Side:
    """One configuration, ready to be asked what it would choose. `callers`: who asked, by the key id of the log: for rules
    that name keys, and for what their zone keeps from them."""

    def __init__(
        self,
        config: Config,
        *,
        learned: Sequence[LearnedRow] = (),
        callers: Mapping[str, Principal] | None = None,
        strengths: Strengths | None = None,
    ) -> None:
        """Raises ConfigError. Every provider counts as having a key: the log says that they had. `strengths`: in the place
        of what the routes' `learn: {strengths: ...}` name."""
        compiler = Compiler({name: "replay" for profile in Registry() for name in profile.key_env})
        self.config = config
        self.snapshot = compiler.compile(config)
        self._callers = callers or {}
        for entry, knowledge in compiler.memory.known().items():
            packs = [row.body for row in learned if row.entry == entry]
            knowledge.hear(packs)
        for strategy in self.snapshot.entries.values():
            if isinstance(strategy, Route):
                strategy.settings = msgspec.structs.replace(strategy.settings, explore=0.0)
                if strengths is not None:
                    strategy.strengths = strengths
        for learning in compiler.memory.learnings.values():
            learning.neighbours = Neighbours()  # nothing to compare them with

    def believing(self, strengths: Strengths) -> Side:
        """The same configuration with other figures of what models are worth, and nothing learned since."""
        return Side(self.config, callers=self._callers, strengths=strengths)

    def principal(self, key_id: str) -> Principal:
        return self._callers.get(key_id) or Principal(key_id=key_id, name=key_id)

    def choice(self, row: Logged) -> str:
        """The model that would be asked first, or the entry that answers in its own way. Raises HeadgateError where the
        configuration has no answer for the request; Unknowable where the prompt itself would be needed."""
        run = _Run(self, row)
        resolved = self.snapshot.resolve(row.record.requested)
        check_allowed(run.principal, resolved.name, self.snapshot)
        return self._first_of(resolved.name, _request(row, resolved.prefer), row, run)

    def chosen(self, row: Logged) -> str | None:
        """What the log says was chosen, told as `choice` tells it: an entry that a route went to (its `otherwise`, say) by
        the model that it would ask first."""
        if row.action is None:
            return None
        try:
            return self._first_of(row.action, _request(row, None), row, _Run(self, row))
        except (HeadgateError, Unknowable):
            return row.action  # it is not in this file any more, or never says what it asks

    def seen(self, row: Logged, default: str) -> Seen:
        """A scored request as the estimator takes it. `default`: what was chosen, where no route chose."""
        assert row.score is not None
        action = self.chosen(row) or default
        chances = row.propensities if action in row.propensities else {action: 1.0}
        return Seen(id=row.record.trace, task=row.task or "", action=action, propensities=chances, score=row.score)

    def _first_of(self, name: str, request: Request, row: Logged, run: _Run) -> str:
        for _ in range(DEEPEST):
            strategy = self.snapshot.strategy(name)
            if isinstance(strategy, Route) and row.body is None:
                if row.task is None:
                    raise Unknowable(f"{name} would have to read the prompt")
                task = Task(row.task, row.confidence, row.labels, ())
                name = strategy.planned(task, request, run).order[0]
            elif strategy.kind == "single" or strategy.kind in COMPOSITE:
                return name
            else:
                order = strategy.plan(request, run).order
                if not order:
                    raise Unknowable(f"no model of {name} could be used")
                name = order[0]
        raise Unknowable("the strategies are nested too deeply")

    def cost(self, row: Logged, choice: str) -> int | None:
        """Nano-US$, had it read and written as many tokens as the answer that was served (of a recorded request: a middling
        answer); None for what is no model."""
        found = self.snapshot.model(choice)
        if row.body is not None and found is not None:
            return _Run(self, row).plan(choice, _request(row, None)).predicted_cost
        if found is None or found.price is None or row.usage is None:
            return None
        return cost_of(row.usage, found.price)


def callers_of(keys: Iterable[KeyRecord]) -> dict[str, Principal]:
    """By the id that the ledger has: of a line of rotations the newest key."""
    found = [principal_of(key, None) for key in sorted(keys, key=lambda key: key.created)]
    return {principal.key_id: principal for principal in found}


class Unknowable(Exception):
    """What the log does not keep."""


def _request(row: Logged, prefer: str | None) -> Request:
    requested, dialect = row.record.requested, dialect_of("openai_chat")
    if row.body is not None:
        peek = dialect.peek(row.body, model=None, stream=None)
        return Request(op="chat", dialect=dialect, body=row.body, peek=peek, options=Options(prefer=prefer))
    peek = Peek(model=requested, max_tokens=row.max_tokens, needs=row.needs, input_bound=row.input_bound)
    return Request(
        op="chat",
        dialect=dialect,
        body=b"",
        peek=peek,
        options=Options(prefer=prefer),
        content=ChatRequest(model=requested, messages=[Message(role="user", content=[Text(text="")])]),
        is_edited=True,
    )


# -- the comparison ------------------------------------------------------------------------------------------------------
class Change(msgspec.Struct, kw_only=True):
    """Requests of one task that would go elsewhere. Costs are of the same tokens at either's price."""

    task: str
    before: str
    after: str
    requests: int = 0
    cost_before: int = 0
    cost_after: int = 0
    unpriced: int = 0
    """Requests of them whose cost at either is not known: in neither sum."""
    traces: list[str] = []


class Replay(msgspec.Struct, kw_only=True):
    """`as_logged`: requests where the present file, asked now, chooses what was chosen then: the rest was explored, kept in
    its conversation, or is affected by what was learned or changed since."""

    requests: int
    compared: int
    as_logged: int
    unknowable: dict[str, int]
    changes: list[Change]
    cost: int
    """Nano-US$ that the compared requests cost."""
    cost_change: int
    quality: Estimate


def replay(rows: Sequence[Logged], before: Side, after: Side) -> Replay:
    changes: dict[tuple[str, str, str], Change] = {}
    unknowable: dict[str, int] = defaultdict(int)
    pairs: list[tuple[Logged, str, str]] = []
    for row in rows:
        try:
            pair = before.choice(row), after.choice(row)
        except (Unknowable, HeadgateError) as error:
            unknowable[str(error)] += 1
            continue
        pairs.append((row, *pair))
        if pair[0] != pair[1]:
            _note(changes, row, *pair, before, after)
    found = sorted(changes.values(), key=lambda change: -change.requests)
    scored = [(before.seen(row, old), old, new) for row, old, new in pairs if row.score is not None]
    return Replay(
        requests=len(rows),
        compared=len(pairs),
        as_logged=sum(old == (before.chosen(row) or old) for row, old, _ in pairs),
        unknowable=dict(unknowable),
        changes=found,
        cost=sum(row.record.cost or 0 for row, _, _ in pairs),
        cost_change=sum(change.cost_after - change.cost_before for change in found),
        quality=difference([row for row, _, _ in scored], [old for _, old, _ in scored], [new for *_, new in scored]),
    )


def _note(
    changes: dict[tuple[str, str, str], Change], row: Logged, old: str, new: str, before: Side, after: Side
) -> None:
    key = (row.task or "", old, new)
    change = changes.setdefault(key, Change(task=key[0], before=old, after=new, traces=[]))
    change.requests += 1
    if len(change.traces) < EXAMPLES:
        change.traces.append(row.record.trace)
    was, would = before.cost(row, old), after.cost(row, new)
    if was is None or would is None:
        change.unpriced += 1
    else:
        change.cost_before += was
        change.cost_after += would


def shown(found: Replay) -> dict[str, Any]:
    """As JSON: money in US$."""
    out: dict[str, Any] = msgspec.to_builtins(found)
    out["cost_usd"], out["cost_change_usd"] = dollars(out.pop("cost")), dollars(out.pop("cost_change"))
    for change in out["changes"]:
        for name in ("cost_before", "cost_after"):
            change[f"{name}_usd"] = dollars(change.pop(name))
    return out
