"""Going on with a broken stream: the next model continues what was said, or starts again, or the client is told.

A stream that broke is never reported as finished. Where nothing but reasoning was heard, the next model simply begins.
`continue` gives the next model the words so far: as a prefilled assistant turn where the target takes one, otherwise as an
instruction, with the overlap that models like to repeat trimmed. Tool calls cannot be continued in the middle: a stream
that broke inside one ends with an error. JSON is continued as plain text (a form that is enforced would begin anew), and
the whole of it is checked before it may end as finished. `restart` begins anew, at clients that said they can take it
(docs/decisions/0005): a chunk tells them to throw away what they have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from headgate.core.answer import Answer, Passing, Piece, Push, read_events
from headgate.core.chat import Message, Text
from headgate.core.errors import HeadgateError, UpstreamFault, fault
from headgate.core.events import (
    ChatAnswer,
    Event,
    Finished,
    PartAdded,
    RefusalDelta,
    Resumed,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Used,
)
from headgate.core.request import Request
from headgate.core.strategy import ModelInfo

OVERLAP = 400
"""Characters of what was said in which a repetition by the next model is looked for."""
LEAST_OVERLAP = 8
INSTRUCTION = (
    "The assistant's last message was cut off by a transmission failure. Continue it exactly where it stops, in the same "
    "language, style and format. Do not repeat any of it, do not apologise, do not comment: write only what comes next."
)

RESTARTABLE = frozenset({"openai_chat"})
"""Doors with a frame that tells a client to begin anew and that no SDK stumbles over."""


class Continued(msgspec.Struct):
    """What is left of `base`, of whose answer `spoken` has been heard: asked of each model in the form that it takes."""

    base: Request
    spoken: str
    prefilled: bool = False
    """How it was asked for last."""

    def of(self, model: ModelInfo | None) -> Request:
        """The request that asks `model` for the rest; None: an entry that is a strategy."""
        self.prefilled = self.takes_prefill(model)
        return _continuation(self.base, self.spoken, prefill=self.prefilled)

    def takes_prefill(self, model: ModelInfo | None) -> bool:
        """Reasoning goes before an answer, not into the middle of one: Anthropic refuses the two together."""
        thinks = self.base.content().reasoning
        return model is not None and "prefill" in model.features and (thinks is None or thinks.enabled is False)


class Resumption(msgspec.Struct, frozen=True):
    """The answer that goes on. `anew`: it is a whole answer, not a sequel; `restarted`: what the client has is void;
    `sequel`: what it was asked for, as is whoever takes its place before it has said a word."""

    answer: Answer
    anew: bool = False
    restarted: bool = False
    sequel: Continued | None = None


def standing(said: list[Event]) -> list[Event]:
    """What was said since the last restart: what the client holds to be the answer."""
    for number in range(len(said) - 1, -1, -1):
        event = said[number]
        if isinstance(event, Resumed) and event.restarted:
            return said[number + 1 :]
    return said


def was_heard(said: list[Event]) -> bool:
    """Was anything said that a user sees? Reasoning alone is not."""
    return any(
        bool(event.text)
        if isinstance(event, TextDelta | RefusalDelta)
        else isinstance(event, ToolCallStarted | ToolCallDelta | PartAdded)
        for event in said
    )


def may_restart(request: Request) -> bool:
    """The client said that it takes a restart, and its format can tell it of one."""
    return request.options.restart and request.dialect.name in RESTARTABLE


def may_continue(said: list[Event]) -> bool:
    """Only plain text of a single choice can be continued."""
    spoken = any(isinstance(event, TextDelta) and event.text for event in said)
    return spoken and not any(
        isinstance(event, ToolCallStarted | ToolCallDelta | RefusalDelta | PartAdded) or getattr(event, "choice", 0)
        for event in said
    )


def words_of(said: list[Event]) -> str:
    return "".join(event.text for event in said if isinstance(event, TextDelta))


def _continuation(request: Request, spoken: str, *, prefill: bool) -> Request:
    content = request.content()
    words = spoken.rstrip() if prefill else spoken  # a prefill may not end in white space (Anthropic's rule)
    messages = [*content.messages, Message(role="assistant", content=[Text(text=words)])]
    if not prefill:
        messages.append(Message(role="user", content=[Text(text=INSTRUCTION)]))
    fields: dict = {"messages": messages}
    if content.output is not None:
        fields["output"] = None
    if content.max_tokens:
        fields["max_tokens"] = max(1, content.max_tokens - len(spoken) // 4)
    return request.edited(content, **fields)


def overlap(said: str, more: str) -> int:
    """How many leading characters of `more` repeat the end of `said` (0 below LEAST_OVERLAP)."""
    tail = said[-OVERLAP:]
    for length in range(min(len(tail), len(more)), LEAST_OVERLAP - 1, -1):
        if tail.endswith(more[:length]):
            return length
    return 0


class Rescued(Passing):
    """An answer that goes on with another model when the one that speaks breaks off."""

    def __init__(
        self,
        first: Answer,
        *,
        resume: Callable[[UpstreamFault, list[Event] | None], Awaitable[Resumption | None]],
        problem: Callable[[str], str | None] | None = None,
    ) -> None:
        """`resume` is given what was said; None where too much was said to be kept. `problem`: what is wrong with the
        whole text, where it was put together."""
        super().__init__(first)
        self._resume = resume
        self._problem = problem
        self._passed = False
        self._said: list[Event] = []
        self._resumed = False
        self._part = 0
        self._opening: Resumed | None = None
        self._sequel: Continued | None = None
        self._trim: _Trim | None = None
        self._anew = False
        self._closed = False

    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None:
        while True:
            try:
                piece = await (self._inner.pull() if self._resumed else self._inner.pull(dialect, push))
            except UpstreamFault as error:
                if self._closed or self._resumed:
                    raise  # the answer that went on has been rescued itself as far as the chain goes
                await self._switch(error)
                continue
            if piece is None or isinstance(piece, bytes) or not self._resumed:
                self._passed = True
                return piece
            if fresh := self._fit(piece):
                return fresh

    def said(self) -> list[Event]:
        return self._said + ([] if self._resumed else self._inner.said())

    async def read(self) -> ChatAnswer:
        return await read_events(self)

    async def aclose(self) -> None:
        self._closed = True
        await self._inner.aclose()

    async def _switch(self, error: UpstreamFault) -> None:
        said = self._said + self._inner.said()
        await self._inner.aclose()
        try:
            resumed = await self._resume(error, standing(said) if said or not self._passed else None)
        except HeadgateError as failed:
            raise error from failed
        if resumed is None:
            raise error
        if self._closed:  # the client left in the very tick in which the rescue arrived
            await resumed.answer.aclose()
            raise error
        self._inner, self._said, self._resumed = resumed.answer, said, True
        self._part = max((getattr(event, "part", 0) for event in said), default=-1)
        self._opening = Resumed(resumed.answer.model, resumed.restarted)
        self._anew, self._sequel = resumed.anew, resumed.sequel
        self._trim = self._joint()

    def _joint(self) -> _Trim | None:
        """What fits the first words of a sequel to those before it, by the form in which it was asked for last."""
        if self._sequel is None:
            return None
        return _Rejoin(self._sequel.spoken) if self._sequel.prefilled else _Trim(self._sequel.spoken)

    def _fit(self, events: list[Event]) -> list[Event]:
        """The new model's events, with no second start. As a sequel its text joins the part that broke off and its
        thoughts are its own; a whole answer begins parts of its own."""
        out: list[Event] = []
        for event in events:
            if isinstance(event, Started):
                if self._opening is not None:
                    self._opening.model = event.model or self._opening.model
            elif isinstance(event, Resumed):  # the one that goes on was rescued in its turn
                self._open(out)
                if event.restarted:
                    self._trim = None
                elif self._trim is not None and not self._trim.fed:
                    self._trim = self._joint()
                out.append(event)
            elif isinstance(event, Finished | Used):
                self._open(out)
                if self._trim is not None and (rest := self._trim.flush()):
                    out.append(TextDelta(rest, self._part, 0))
                out.append(event)
            elif self._trim is None or isinstance(event, ToolCallStarted | ToolCallDelta | RefusalDelta | PartAdded):
                self._open(out)
                event.part += self._part + 1  # type: ignore[union-attr]  all that is left has a part
                out.append(event)
            elif isinstance(event, TextDelta):
                self._open(out)
                if text := self._trim.feed(event.text):
                    out.append(TextDelta(text, self._part, 0))
        self._said += out
        if any(isinstance(event, Finished) and event.reason == "stop" for event in out):
            self._check()
        return out

    def _check(self) -> None:
        """A sequel must not end as finished what does not hold together; one that tells of another end itself (cut at the
        client's maximum, refused) is given. Raises the fault."""
        said = standing(self._said)
        if self._problem is None or self._anew or any(isinstance(event, ToolCallStarted) for event in said):
            return
        if (problem := self._problem(words_of(said))) is not None:
            raise fault("invalid_output", f"the continued answer does not fit what was asked for: {problem}")

    def _open(self, out: list[Event]) -> None:
        """Says once, before anything of it, that another model speaks."""
        if self._opening is not None:
            out.append(self._opening)
            self._opening = None


class _Trim:
    """Holds back the first characters until it is certain whether they repeat what was said."""

    def __init__(self, said: str) -> None:
        self._said = said
        self._held = ""
        self._done = False
        self.fed = False

    def feed(self, text: str) -> str:
        self.fed = True
        if self._done:
            return text
        self._held += text
        if len(self._held) < OVERLAP and self._could_repeat():
            return ""
        return self.flush()

    def flush(self) -> str:
        if self._done:
            return ""
        self._done = True
        held, self._held = self._held, ""
        return held[overlap(self._said, held) :]

    def _could_repeat(self) -> bool:
        """Is what is held, so far, found whole in the tail? Then more of it may follow."""
        return self._held in self._said[-OVERLAP:]


class _Rejoin(_Trim):
    """After a prefill nothing is repeated, but the white space at its end that the model was not given."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self._missing = said[len(said.rstrip()) :]

    def feed(self, text: str) -> str:
        self.fed = True
        while self._missing and text.startswith(self._missing[0]):
            self._missing, text = self._missing[1:], text[1:]
        if text:
            self._missing = ""
        return text

    def flush(self) -> str:
        return ""
