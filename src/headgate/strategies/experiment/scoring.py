"""Judge samples: on a share of the requests a model scores what was served, after it was served, not knowing which arm it
came from. On an account of its own; nothing waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headgate.core.chat import text_of
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.strategy import Aside, Run
from headgate.core.trace import Trace, share_of
from headgate.strategies.ensemble.candidates import Candidate
from headgate.strategies.ensemble.judge import question, read_score
from headgate.strategies.experiment.mirror import Backstage
from headgate.strategies.experiment.watch import LARGEST, Waiting, Watched

CONCURRENT = 4
"""Answers under a judge's eyes at a time; further ones are left out."""
Scored = Callable[[dict[str, Any], RequestRecord, float], None]
"""Called with the request's part in the experiment, its row and its score, 0 to 1."""


class Scoring(msgspec.Struct, frozen=True, kw_only=True):
    """`share` of the requests, 0 to 1; `timeout` in seconds; `daily` in nano-US$."""

    model: str
    daily: int | None = None
    share: float = 0.1
    timeout: float = 30.0


class Sampler:
    def __init__(self, name: str, scoring: Scoring, scored: Scored, backstage: Backstage | None = None) -> None:
        self.scoring = scoring
        self._name = name
        self._scored = scored
        self._backstage = backstage or Backstage()
        self.waiting = Waiting()
        self._running = 0

    def takes(self, request: Request, trace: str) -> bool:
        """By the trace's id."""
        if request.op != "chat" or len(request.body) > LARGEST:
            return False
        return share_of(trace, "experiment judge") < self.scoring.share

    def over(self, record: RequestRecord, trace: Trace) -> None:
        """The client has its answer: now it is scored, if it was one."""
        if (kept := self.waiting.take(record)) is None:
            return
        request, run, watched = kept
        if self._running < CONCURRENT:
            self._running += 1
            self._backstage.begin(self._ask(request, run, watched, trace.facts["experiment"], record))

    async def _ask(
        self, request: Request, run: Run, watched: Watched, facts: dict[str, Any], record: RequestRecord
    ) -> None:
        aside = Aside(
            purpose="judge",
            because=f"scores {record.trace}",
            tags=(f"experiment:{self._name}/judge",),
            timeout=self.scoring.timeout,
            daily=self.scoring.daily,
        )
        try:
            whole = watched.said_whole()
            text = "" if whole is None else Candidate("", 1.0, True, answer=whole).text
            if not text:
                return  # nothing that can be read: tool calls, or another form than the door's
            model = self.scoring.model
            found = await run.aside(model, question(request, model, run.model(model), text, run.rng), aside)
        finally:
            self._running -= 1
        if found.answer is not None and found.answer.choices:
            score = read_score(text_of(found.answer.choices[0].parts))
            if score is not None:
                self._scored(facts, record, score)
