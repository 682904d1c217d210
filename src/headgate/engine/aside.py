"""Questions of the house's own, beside those of clients: mirrored requests, samples for a judge. Each is a request like any
other, with its own row, trace, envelope and budget line."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from msgspec.structs import replace

from headgate.core.envelope import Envelope
from headgate.core.errors import BudgetExceeded, HeadgateError
from headgate.core.events import ChatAnswer
from headgate.core.ids import new_id
from headgate.core.money import dollars
from headgate.core.principal import Principal
from headgate.core.request import Options, Request
from headgate.core.strategy import Aside, Beside
from headgate.core.trace import Trace
from headgate.engine.house import House
from headgate.engine.pipeline import Exchange, Inbound, Prepared, enter, planned
from headgate.engine.run import RequestRun, Shared
from headgate.engine.snapshot import Snapshot

SPENT = "daily_spent"
"""The error of a question that the day's sum does not cover; told once a day as the event PURPOSE_spent."""


async def ask_aside(
    house: House, snapshot: Snapshot, principal: Principal, name: str, request: Request, aside: Aside
) -> Beside:
    """As core.strategy.Run.aside. `principal`: whose zone it is confined to; it is not charged."""
    if house.draining or house.pulse.sheds(0):
        return Beside(error="overloaded")
    started, started_at = house.clock.monotonic(), house.clock.time()
    trace = Trace(new_id("tr"), requested=name, started=started, started_at=started_at, request_id=new_id("req"))
    own = Principal(key_id=aside.purpose, name=aside.purpose, tags=(aside.purpose,), zone=principal.zone)
    trace.key_id, trace.tags = own.key_id, (aside.purpose, *aside.tags)
    run = RequestRun(Shared(house, snapshot, own, trace), Envelope(started + aside.timeout, money=aside.max_cost))
    run.decide(aside.purpose, name, because=aside.because)
    asked = _plain(request)
    answer, error = None, None
    try:
        async with _within(house, aside) as bounded:
            prepared = planned(house, asked, run, snapshot, name)
            bounded(prepared)
            exchange = await enter(
                house, Inbound(door=aside.purpose, dialect=asked.dialect, body=b"", headers={}), prepared
            )
            answer = await read_whole(exchange)
    except HeadgateError as failed:
        error = failed.code
    cost = None if trace.cost_unknown else trace.cost
    latency = house.clock.monotonic() - started
    return Beside(answer=answer, error=error, cost=cost, latency=latency, trace=trace.id)


@contextlib.asynccontextmanager
async def _within(house: House, aside: Aside) -> AsyncIterator[Callable[[Prepared], None]]:
    """What is yielded takes what the plan may cost at most from the day's sum; it raises BudgetExceeded where that does not
    cover it; what it did cost is booked at the end."""
    if aside.daily is None:
        yield lambda prepared: None
        return
    daily, account = house.daily, (aside.purpose, aside.tags[0])
    left = await daily.left(*account, aside.daily)
    taken: list[tuple[int, Trace]] = []

    def bounded(prepared: Prepared) -> None:
        worst = prepared.plan.worst_case
        if worst is None or worst > left:
            if daily.is_news(*account):
                house.event(f"{aside.purpose}_spent", {"tag": account[1], "daily_usd": dollars(aside.daily or 0)})
            raise BudgetExceeded("the day's sum does not cover it", code=SPENT)
        daily.hold(*account, worst)
        taken.append((worst, prepared.run.trace))

    try:
        yield bounded
    finally:
        for worst, trace in taken:
            daily.settle(*account, held=worst, cost=worst if trace.cost_unknown else trace.cost)


async def read_whole(exchange: Exchange) -> ChatAnswer:
    """The answer to a request of our own; the exchange is closed, however it ends. Raises HeadgateError."""
    assert exchange.answer is not None
    try:
        answer = await exchange.answer.read()
        await exchange.close()
    except HeadgateError as error:
        await exchange.close(error)
        raise
    finally:
        await exchange.close(cancelled=True)  # does nothing where it was closed in good order
    return answer


def _plain(request: Request) -> Request:
    """Whole, and without what the client asked of us: its deadline, its money and its retries are not these."""
    options = Options(prefer=request.options.prefer)
    asked = request.edited(stream=False)
    asked.options = options
    asked.peek = replace(asked.peek, options=None, include_usage=False)
    return asked
