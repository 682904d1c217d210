"""A request's way through the house, on one screen. Doors and the library both go through `open_exchange`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from headgate.core import failpoints
from headgate.core.answer import Answer
from headgate.core.dialect import Dialect, Op, View
from headgate.core.envelope import Envelope
from headgate.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    HeadgateError,
    InternalError,
    Overloaded,
    UpstreamFault,
    http_status,
)
from headgate.core.ids import new_id
from headgate.core.money import cost_of, dollars
from headgate.core.ports import Grant
from headgate.core.principal import Principal
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.strategy import Plan
from headgate.core.trace import Trace
from headgate.core.usage import Usage
from headgate.engine.affinity import affinity_of
from headgate.engine.homes import UnknownHome
from headgate.engine.house import House
from headgate.engine.named import files_in
from headgate.engine.options import read_options
from headgate.engine.overheard import Overheard, kept
from headgate.engine.reserve import capped, reserve
from headgate.engine.run import Progress, RequestRun, Shared
from headgate.engine.snapshot import Snapshot, check_allowed, check_background, check_door

LONGEST_HEADER = 1000
"""Characters of one of our response headers."""
_value_of = itemgetter(1)


class Inbound(msgspec.Struct, kw_only=True):
    """A request as a door received it. `headers` have lower-case names; `forward` are those that a provider of the same
    dialect may see."""

    door: str
    dialect: Dialect
    body: bytes
    headers: Mapping[str, str]
    credentials: Sequence[str] = ()
    op: Op = "chat"
    model: str | None = None
    stream: bool | None = None
    array: bool = False
    forward: Mapping[str, str] = {}
    request_id: str = ""
    listen: Callable[[], Progress] | None = None
    """Called once, where the request asks for a stream: who is told of its progress from now on."""
    client_left: Callable[[], bool] | None = None
    """As core.strategy.Run's; None where the asker does not tell."""
    principal: Principal | None = None
    """Who asks, where that is we ourselves: no key is looked at."""


class Prepared(msgspec.Struct, kw_only=True):
    """Identified, parsed, resolved and planned; nothing spent."""

    principal: Principal
    snapshot: Snapshot
    request: Request
    run: RequestRun
    plan: Plan
    name: str
    cap: int | None = None
    """Output tokens that we have set: the client named no maximum, and a hard budget needs one."""


async def open_exchange(house: House, inbound: Inbound) -> Exchange:
    """identify → parse → resolve → plan → reserve → answer. Returns at first content or complete; the caller relays the
    answer and closes the exchange. Raises HeadgateError, with everything settled and recorded."""
    started, started_at = house.clock.monotonic(), house.clock.time()
    principal = inbound.principal or house.governor.authenticate(inbound.credentials)
    if house.draining:
        raise Overloaded("the gateway is shutting down", retry_after=1.0)
    if house.pulse.sheds(principal.priority):
        house.event("shed", {"reason": "lag", "lag_s": round(house.pulse.lag, 3), "priority": principal.priority})
        raise Overloaded("the gateway is too busy to take more", retry_after=1.0)
    return await enter(house, inbound, await prepare_anywhere(house, inbound, principal, started, started_at))


async def enter(house: House, inbound: Inbound, prepared: Prepared) -> Exchange:
    """reserve → answer. Raises HeadgateError, with everything settled and recorded."""
    exchange = Exchange(house, inbound, prepared)
    house.inflight += 1
    try:
        exchange.grant = await reserve(house, inbound, prepared)
        exchange.request, exchange.plan = prepared.request, prepared.plan
        if exchange.grant.is_purse:
            prepared.run.envelope.purse = exchange.grant

        failpoints.reached("admitted")
        strategy = prepared.snapshot.strategy(prepared.name)
        answer = await strategy.answer(prepared.request, prepared.run, prepared.plan)
        exchange.answer = Overheard(answer, inbound.dialect) if house.bodies else answer
        if house.overhear is not None:
            exchange.answer = house.overhear(exchange)
    except HeadgateError as error:
        error.trace_id = exchange.trace.id
        error.attempted = exchange.trace.calls > 0
        _spare_the_client(error)
        await exchange.close(error)
        raise
    except asyncio.CancelledError:
        await exchange.close(cancelled=True)
        raise
    except Exception as error:
        failed = InternalError("the gateway failed on this request", detail=repr(error))
        failed.trace_id = exchange.trace.id
        failed.attempted = exchange.trace.calls > 0
        await exchange.close(failed)
        raise failed from error
    return exchange


def _spare_the_client(error: HeadgateError) -> None:
    """What we have tried, the client's SDK need not try again: attempts would be multiplied by it."""
    spent = isinstance(error, DeadlineExceeded) or (
        isinstance(error, UpstreamFault) and error.retryable and error.kind != "rate_limit"
    )
    if spent and error.attempted:
        error.should_retry = False


async def prepare_anywhere(
    house: House, inbound: Inbound, principal: Principal, started: float, started_at: float
) -> Prepared:
    """As `prepare`, and the store is asked where a stored response is that this process has not seen, and whose the files
    are that are named."""
    if named := files_in(inbound.body):
        await house.homes.check(named, principal.key_id)
    try:
        return prepare(house, inbound, principal, started, started_at)
    except UnknownHome as missing:
        if await house.homes.find(missing.object_id, principal.key_id) is None:
            raise
    return prepare(house, inbound, principal, started, started_at)


def prepare(house: House, inbound: Inbound, principal: Principal, started: float, started_at: float) -> Prepared:
    """Everything that needs no model and no money: also what `explain` is made of."""
    check_door(principal, inbound.door)
    snapshot = house.snapshot
    peek = inbound.dialect.peek(inbound.body, model=inbound.model, stream=inbound.stream)
    options = read_options(inbound.headers, peek.options, stream=peek.stream)
    resolved = snapshot.resolve(peek.model, principal)
    home = house.homes.of(peek.state, principal.key_id) if peek.state is not None else None
    if peek.state is not None and home is None:
        raise UnknownHome(
            f"there is no response {peek.state[:100]!r}", object_id=peek.state, param="previous_response_id"
        )
    if peek.state is not None and (size := house.homes.size(peek.state, principal.key_id)):
        peek = msgspec.structs.replace(peek, input_bound=peek.input_bound + size)  # the provider reads it all again
    check_allowed(principal, resolved.name, snapshot)
    if resolved.prefer or snapshot.sticky:
        affinity = affinity_of(principal.key_id, inbound.body) if snapshot.sticky else None
        options = msgspec.structs.replace(options, prefer=resolved.prefer, affinity=affinity)
    if home is not None:
        options = msgspec.structs.replace(options, pin=home[1].key)
    trace = Trace(
        new_id("tr"),
        requested=peek.model[:200],
        started=started,
        started_at=started_at,
        request_id=inbound.request_id,
        key_id=principal.key_id,
        parent=inbound.headers.get("traceparent", ""),
        tags=(*principal.tags, *options.tags),
    )
    if options.tags:
        booked = house.tagging.booked(principal.key_id, options.tags, started_at, snapshot.tags)
        if booked is not options.tags:
            trace.booked = (*principal.tags, *booked)
    request = Request(
        op=inbound.op,
        dialect=inbound.dialect,
        body=inbound.body,
        peek=peek,
        headers=inbound.forward if peek.media_type is None else {**inbound.forward, "content-type": peek.media_type},
        options=options,
        array=inbound.array,
    )
    seconds = min(options.timeout or snapshot.deadline, snapshot.deadline)
    told = inbound.listen() if peek.stream and inbound.listen is not None else None
    shared = Shared(house, snapshot, principal, trace, told, inbound.client_left)
    run = RequestRun(shared, Envelope(started + seconds, money=options.max_cost))
    name = resolved.name if home is None else home[0]
    if peek.background:
        check_background(snapshot, name, inbound.door)
    return planned(house, request, run, snapshot, name)


def planned(house: House, request: Request, run: RequestRun, snapshot: Snapshot, name: str) -> Prepared:
    """The plan of an entry for this request, and what it says for the trace."""
    principal, trace, strategy = run.principal, run.trace, snapshot.strategy(name)
    trace.strategy = strategy.kind
    cap = None
    if (dearer := request.peek.dearer) is not None and house.governor.output_cap(principal, trace.tags) is not None:
        raise BudgetExceeded(
            f"A hard budget applies, and what `{dearer}` costs above the model's price is not known here: leave it out.",
            code="price_unknown",
        )
    if request.peek.max_tokens is None and request.op == "chat":
        cap = house.governor.output_cap(principal, trace.tags)
        if cap is not None:
            request = capped(request, run, cap)
    plan = strategy.plan(request, run)
    trace.facts.update(plan.facts)
    trace.tags += plan.tags
    if trace.booked is not None:
        trace.booked += plan.tags
    return Prepared(principal=principal, snapshot=snapshot, request=request, run=run, plan=plan, name=name, cap=cap)


class Exchange:
    """An answered request until its last byte. `close` is idempotent and must be called, however it ends."""

    def __init__(self, house: House, inbound: Inbound, prepared: Prepared) -> None:
        self.house = house
        self.inbound = inbound
        self.request = prepared.request
        self.run = prepared.run
        self.trace = prepared.run.trace
        self.principal = prepared.principal
        self.plan = prepared.plan
        self.name = prepared.name
        self.grant: Grant | None = None
        self.answer: Answer | None = None
        self._closed = False
        self._saved: tuple[int, int] | None = None
        """What the request had cost when `saved` was worked out, and what that was."""

    def overhead_ms(self) -> float:
        """Our own share of the time so far, in milliseconds."""
        elapsed = (self.house.clock.monotonic() - self.trace.started) * 1000
        return max(0.0, elapsed - self.trace.waited_ms(elapsed))

    def headers(self) -> list[tuple[str, str]]:
        """What was chosen, for the response's head."""
        trace, answer = self.trace, self.answer
        out = [("x-request-id", trace.request_id), ("x-headgate-trace", trace.id)]
        if answer is not None:
            out += [
                ("x-headgate-model", answer.model),
                ("x-headgate-provider", answer.provider),
                ("x-headgate-strategy", trace.strategy),
                ("x-headgate-attempts", str(trace.calls)),
                ("x-headgate-overhead-ms", f"{self.overhead_ms():.2f}"),
            ]
            if answer.settled and not trace.cost_unknown:
                out.append(("x-headgate-cost-usd", dollars(trace.cost)))
                if (saved := self.saved()) is not None:
                    out.append(("x-headgate-saved-usd", dollars(saved)))
        if trace.lossy:
            out.append(("x-headgate-lossy", _listed(trace.lossy)))
        if self.grant is not None:
            out += self.grant.headers
        if _is_header("".join(map(_value_of, out))):
            return out
        return [(name, _header_safe(value)) for name, value in out]

    def details(self) -> dict[str, Any]:
        """The `headgate` object."""
        if self.trace.chosen is None and self.answer is not None:
            self.trace.chosen = self._chosen(self.answer)
        self._tell_saved()
        return self.trace.details(overhead_ms=self.overhead_ms())

    def saved(self) -> int | None:
        """Nano-US$ against the strategy's "always best" baseline: what the tokens of the answer that was served would have
        cost there, less all that this request cost. Below nothing where the choice was the dearer one. None where there
        is no baseline or a price or the usage is not known."""
        trace, answer = self.trace, self.answer
        baseline = trace.facts.get("baseline")
        if baseline is None or answer is None or trace.cost_unknown:
            return None
        cost = trace.cost
        if self._saved is not None and self._saved[0] == cost:
            return self._saved[1]
        info = self.run.model(baseline)
        served = next((a for a in reversed(trace.attempts) if a.model == answer.model and a.usage is not None), None)
        if info is None or info.price is None or served is None or served.usage is None:
            return None
        self._saved = cost, cost_of(served.usage, info.price) - cost
        return self._saved[1]

    def _tell_saved(self) -> int | None:
        saved = self.saved() if self.answer is not None and self.answer.settled else None
        if saved is not None:
            self.trace.facts["saved_usd"] = dollars(saved)
        return saved

    def _chosen(self, answer: Answer) -> dict[str, Any]:
        return {
            "model": answer.model,
            "provider": answer.provider,
            "deployment": answer.deployment,
            "because": self._because(answer.model),
        }

    def _because(self, model: str) -> str:
        """What was decided for it, else what was planned with it; else why an entry was chosen that leads to it."""
        decided = [d for d in self.trace.decisions if isinstance(d.chosen, str) and d.kind != "classify"]
        for decision in reversed(decided):
            if decision.chosen == model:
                return decision.because
        if (because := self.plan.reasons.get(model)) is not None:
            return because
        for decision in reversed(decided):
            if self.run.model(decision.chosen) is None:
                return f"{decision.chosen}: {decision.because}"
        return "asked for by name"

    async def close(self, error: HeadgateError | None = None, *, cancelled: bool = False) -> None:
        """Ends the answer if it still speaks, settles what was reserved, writes the request's row: also when the one who
        waits for it is cancelled meanwhile."""
        if self._closed:
            return
        self._closed = True
        self.house.inflight -= 1
        if self.answer is None or self.answer.settled:
            await self._end(error, cancelled)  # nothing is under way: it will not wait
        else:
            await asyncio.shield(self._end(error, cancelled))

    async def _end(self, error: HeadgateError | None, cancelled: bool) -> None:
        trace = self.trace
        try:
            if self.answer is not None:
                await self.answer.aclose()
        finally:
            usage = trace.usage
            if self.grant is not None:
                pending = trace.unheard or trace.is_open
                self.grant.settle(cost=trace.cost, tokens=usage.total if usage else 0, pending=pending)
                self.run.settled(self.grant)
        if self.answer is not None and trace.chosen is None:
            trace.chosen = self._chosen(self.answer)
        self.house.request_over(self._record(error, cancelled, usage), trace)
        if error is None and not cancelled:
            await self.house.ledger.durable()  # before the client sees the end
            failpoints.reached("answer.end")

    def _record(self, error: HeadgateError | None, cancelled: bool, usage: Usage | None) -> RequestRecord:
        trace, answer, principal = self.trace, self.answer, self.principal
        first = None
        for attempt in trace.attempts:
            if attempt.ttft_ms is not None and attempt.role in (None, "hedge"):
                first = attempt.at_ms + attempt.ttft_ms
                break
        elapsed = self.house.clock.monotonic() - trace.started
        return RequestRecord(
            id=trace.request_id,
            trace=trace.id,
            at=trace.started_at,
            door=self.inbound.door,
            requested=trace.requested,
            strategy=trace.strategy,
            model=answer.model if answer else None,
            provider=answer.provider if answer else None,
            key_id=principal.key_id,
            user=principal.user,
            team=principal.team,
            tags=trace.tags if trace.booked is None else trace.booked,
            task=(trace.facts.get("task") or {}).get("label"),
            stream=self.request.stream,
            status=499 if cancelled else http_status(error) if error else 200,
            error="client_left" if cancelled else error.code if error else None,
            attempts=trace.calls,
            usage=usage,
            cost=None if trace.cost_unknown else trace.cost,
            saved=self._tell_saved(),
            ttft=None if first is None else first / 1000,
            latency=elapsed,
            overhead=self.overhead_ms() / 1000,
            trace_json=self.house.packed(trace, self._bodies() if self.house.bodies else None),
        )

    def _bodies(self) -> dict[str, str]:
        """What the client sent and was answered, as they may be kept."""
        out = {"request": kept(self.inbound.body)}
        if isinstance(self.answer, Overheard):
            view = View(
                model=self.answer.model,
                stream=False,
                include_usage=True,
                id=self.trace.id,
                created=int(self.trace.started_at),
                request=self.request.content(),
                array=False,
            )
            with contextlib.suppress(HeadgateError):  # it broke where nothing can be made of it
                out["answer"] = self.answer.kept(view)
        return out


def _is_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and len(value) <= LONGEST_HEADER


def _listed(names: list[str]) -> str:
    """All of them, or as many as a header holds and how many more there are (the trace has them)."""
    kept = len(names)
    while kept and len(", ".join(names[:kept])) > LONGEST_HEADER - 20:
        kept -= 1
    return ", ".join(names if kept == len(names) else [*names[:kept], f"and {len(names) - kept} more"])


def _header_safe(value: str) -> str:
    """Names come from files and providers: whatever they hold, a header is one line of visible latin-1."""
    if _is_header(value):
        return value
    return "".join(c if " " <= c <= "~" else "?" for c in value)[:LONGEST_HEADER]
