"""Samples of what routes answered, scored by a judge once the client has its answer: `learn: {judge: ...}`.

A sampled answer goes out as any other; its words are overheard. The judge is asked beside it (engine/aside.py: principal,
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
from headgate.core.chat import text_of
from headgate.core.errors import HeadgateError, PermissionDenied
from headgate.core.principal import Principal
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.strategy import Aside
from headgate.core.trace import Trace, share_of
from headgate.engine.aside import SPENT, ask_aside
from headgate.engine.overheard import Overheard
from headgate.engine.pipeline import Exchange
from headgate.engine.snapshot import check_zone, info_of
from headgate.strategies.ensemble.judge import question, read_score
from headgate.strategies.route import Route
from headgate.strategies.route.route import Sampling

if TYPE_CHECKING:
    from headgate.engine.house import House

JUDGE = "judge"
"""Whose questions they are: the principal of their rows, and a tag."""
WAITING = 200
"""Answers that wait for the judge; more are not judged."""


class _Sample(msgspec.Struct):
    answer: Overheard
    request: Request
    wanted: Sampling
    principal: Principal
    """Who asked: the judge reads its words, so it is confined to its zone too, whatever strategy it is."""
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
        self._open[trace.id] = _Sample(heard, exchange.request, wanted, exchange.principal)
        if len(self._open) > WAITING:
            self._open.popitem(last=False)
        return heard

    def _wanted(self, trace: Trace, principal: Principal) -> Sampling | None:
        entry = (trace.facts.get("route") or {}).get("entry")
        if entry is None or principal.key_id == JUDGE:
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
        """Raises HeadgateError where the answer cannot be read."""
        record, trace, wanted = sample.record, sample.trace, sample.wanted
        text = sample.answer.text()
        if record is None or trace is None or text is None or "feedback" in trace.facts:
            return
        house = self._house
        aside = Aside(
            purpose=JUDGE,
            because=f"scores {record.trace}",
            tags=(_account(wanted.model),),
            timeout=wanted.timeout,
            daily=wanted.daily,
        )
        model = house.snapshot.model(wanted.model)
        info = None if model is None else info_of(model)
        asked = question(sample.request, wanted.model, info, text, house.rng)
        found = await ask_aside(house, house.snapshot, sample.principal, wanted.model, asked, aside)
        if found.answer is None:
            if found.error != SPENT:  # that was told
                self._on_event("judge_failed", {"code": found.error, "trace": found.trace})
            return
        score = read_score(text_of(found.answer.choices[0].parts)) if found.answer.choices else None
        if score is None:
            self._on_event("judge_unreadable", {"model": wanted.model, "trace": trace.id})
        elif "feedback" not in trace.facts:
            await house.keep_feedback(trace, record, score, "", by=JUDGE)


def _account(model: str) -> str:
    """The tag that a judge's money is counted by: a judge may be a chain, whose attempts are of other models, and judges of
    experiments, which have a sum of their own, are asked under the same key."""
    return f"judge:{model}"
