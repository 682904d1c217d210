"""Samples of what routes answered, scored by a judge once the client has its answer: `learn: {judge: ...}`.

A sampled answer goes out as any other; its words are overheard. The judge is asked in a request of its own (principal,
ledger row and trace of its own, tag `judge`), so that its money is nobody's answer's, and the score is learned from as
feedback is. It stops for the day where its budget ends, and never speaks over a client's own word.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from headgate.core.answer import Answer
from headgate.core.chat import ChatRequest, text_of
from headgate.core.errors import BudgetExceeded, HeadgateError, PermissionDenied
from headgate.core.ids import new_id
from headgate.core.money import dollars
from headgate.core.principal import Principal
from headgate.core.records import RequestRecord
from headgate.core.trace import Trace, share_of
from headgate.engine.aside import read_whole
from headgate.engine.overheard import Overheard
from headgate.engine.pipeline import Exchange, Inbound, open_exchange
from headgate.engine.snapshot import check_zone
from headgate.providers.registry import dialect_of
from headgate.strategies.ensemble.judge import THOUGHTS, WORDS, judged, read_score
from headgate.strategies.route import Route
from headgate.strategies.route.route import Sampling

if TYPE_CHECKING:
    from headgate.engine.house import House

JUDGE = Principal(key_id="judge", name="judge", tags=("judge",))
WAITING = 200
"""Answers that wait for the judge; more are not judged."""


class _Sample(msgspec.Struct):
    answer: Overheard
    content: ChatRequest
    wanted: Sampling
    zone: str | None
    """Of the key that asked: the judge reads its words, so it is confined to it too, whatever strategy it is."""
    record: RequestRecord | None = None
    trace: Trace | None = None


class Judging:
    """`overhear` and the listener on the serving loop; `run` there as a task."""

    def __init__(self, house: House, *, on_event: Callable[[str, dict[str, object]], None]) -> None:
        self._house = house
        self._on_event = on_event
        self._open: OrderedDict[str, _Sample] = OrderedDict()
        self._waiting: asyncio.Queue[_Sample] = asyncio.Queue(WAITING)
        house.overhear = self.overhear
        house.on_request.append(self._over)

    def overhear(self, exchange: Exchange) -> Answer:
        """The exchange's answer, overheard where it is one of the sample."""
        answer, trace = exchange.answer, exchange.trace
        assert answer is not None
        wanted = self._wanted(trace, exchange.principal)
        if wanted is None or exchange.request.op != "chat":
            return answer
        heard = answer if isinstance(answer, Overheard) else Overheard(answer, exchange.inbound.dialect)
        self._open[trace.id] = _Sample(heard, exchange.request.content(), wanted, exchange.principal.zone)
        if len(self._open) > WAITING:
            self._open.popitem(last=False)
        return heard

    def _wanted(self, trace: Trace, principal: Principal) -> Sampling | None:
        entry = (trace.facts.get("route") or {}).get("entry")
        if entry is None or JUDGE.key_id in (principal.key_id, *trace.tags):
            return None
        route = self._house.snapshot.entries.get(entry)
        wanted = route.settings.judge if isinstance(route, Route) else None
        if wanted is None or share_of(trace.id, "judge") >= wanted.share:
            return None
        model = self._house.snapshot.model(wanted.model)
        try:
            if model is not None:
                check_zone(principal, model)
        except PermissionDenied:
            return None  # what a key keeps in its zone, the judge may not read either
        return wanted

    def _over(self, record: RequestRecord, trace: Trace) -> None:
        sample = self._open.pop(trace.id, None)
        if sample is None or record.error is not None:
            return
        sample.record, sample.trace = record, trace
        if not self._waiting.full():
            self._waiting.put_nowait(sample)

    # -- in the background ---------------------------------------------------------------------------------------------
    async def run(self) -> None:
        while True:
            await self.next()

    async def next(self) -> None:
        """Waits for an answer to judge, and judges it."""
        sample = await self._waiting.get()
        try:
            await self._judge(sample)
        except HeadgateError as error:
            self._on_event("judge_failed", {"code": error.code, "message": error.message})
        except Exception as error:  # noqa: BLE001 - told; a defect here must not end the process that serves
            self._on_event("judge_failed", {"code": "internal_error", "message": repr(error)})

    async def _judge(self, sample: _Sample) -> None:
        """Raises HeadgateError."""
        record, trace, wanted = sample.record, sample.trace, sample.wanted
        text = sample.answer.text()
        if record is None or trace is None or text is None or "feedback" in trace.facts:
            return
        daily, account = self._house.daily, (JUDGE.key_id, _account(wanted.model))
        left = await daily.left(*account, wanted.daily)
        if left <= 0:
            self._tell_spent(wanted)
            return
        try:
            said, cost = await self._ask(sample, text, left)
        except BudgetExceeded:
            daily.settle(*account, held=0, cost=left)  # what is left covers none: it is not asked again today
            self._tell_spent(wanted)
            return
        daily.settle(*account, held=0, cost=cost)
        score = read_score(said)
        if score is None:
            self._on_event("judge_unreadable", {"model": wanted.model, "trace": trace.id})
        elif "feedback" not in trace.facts:
            await self._house.keep_feedback(trace, record, score, "", by=JUDGE.key_id)

    async def _ask(self, sample: _Sample, text: str, left: int) -> tuple[str, int]:
        wanted, content = sample.wanted, sample.content
        model = self._house.snapshot.model(wanted.model)
        thinks = model is None or "reasoning" in (model.features or ())
        messages = [{"role": role, "content": words} for role, words in judged(content, text, self._house.rng)]
        body = msgspec.json.encode(
            {
                "model": wanted.model,
                "messages": messages,
                "temperature": 0,
                "max_tokens": THOUGHTS if thinks else WORDS,
                "headgate": {"max_cost": dollars(left), "timeout": f"{wanted.timeout}s"},
            }
        )
        inbound = Inbound(
            door="library",
            dialect=dialect_of("openai_chat"),
            body=body,
            headers={},
            principal=msgspec.structs.replace(JUDGE, zone=sample.zone, tags=(*JUDGE.tags, _account(wanted.model))),
            request_id=new_id("req"),
        )
        exchange = await open_exchange(self._house, inbound)
        found = await read_whole(exchange)
        # Where the price is not known, neither is what is left: it counts as all of it.
        cost = left if exchange.trace.cost_unknown else exchange.trace.cost
        return text_of(found.choices[0].parts) if found.choices else "", cost

    def _tell_spent(self, wanted: Sampling) -> None:
        if self._house.daily.is_news(JUDGE.key_id, _account(wanted.model)):
            self._on_event("judge_spent", {"model": wanted.model, "daily_usd": dollars(wanted.daily)})


def _account(model: str) -> str:
    """The tag that a judge's money is counted by: a judge may be a chain, whose attempts are of other models, and judges of
    experiments, which have a sum of their own, are asked under the same key."""
    return f"judge:{model}"
