"""What a route has learned and remembers: beliefs, near prompts, and which model has a conversation."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence

import msgspec

from headgate.core.money import cost_of
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.strategy import ModelInfo
from headgate.core.trace import Trace
from headgate.core.usage import Usage
from headgate.strategies.conversation import conversation_of
from headgate.strategies.route.beliefs import ASSUMED, MEASURED, SUITED, UNSUITED, Beliefs, Packed, Prior
from headgate.strategies.route.neighbours import READ, Features, Neighbours, features, pressed, unpressed, vector
from headgate.strategies.route.reports import reports_failure
from headgate.strategies.single import LIKELY_OUTPUT
from headgate.strategies.words import Said, Words

# Capabilities (as the configuration and the catalogue name them) that speak for a task.
SUITS: dict[str, frozenset[str]] = {
    "code": frozenset({"code"}),
    "math": frozenset({"math", "logic", "reasoning"}),
    "analysis": frozenset({"analysis", "reasoning"}),
    "summary": frozenset({"long_context", "conversation"}),
    "creative": frozenset({"creative", "multimodal"}),
    "translation": frozenset({"conversation", "multilingual"}),
    "qa": frozenset({"search_augmented", "conversation"}),
    "chat": frozenset({"conversation"}),
    "extraction": frozenset({"function_calling", "long_context"}),
}
ANY = "*"
"""A model's measured strength over all tasks, for those that nobody measured."""
CONVERSATIONS, REQUESTS = 20_000, 4_000
NEAR_KEPT, CONVERSATIONS_KEPT, KEPT_FOR = 500, 1000, 3600.0
"""Of prompts and of conversations (from the last so many seconds) that a store keeps per process."""
AGAIN = 600.0
"""Seconds within which the same question in the same conversation is a regeneration."""


class Conversation(msgspec.Struct):
    """`turns`: hash of the user's turns of its last request."""

    model: str
    task: str
    turns: str
    at: float
    warm: int = 0
    """Input and output tokens of its last answer: what the provider's prompt cache may hold."""


class Open(msgspec.Struct):
    """A request whose worth may still be told. `text`: the beginning of its last turn until it is over, then it is only
    known as `seen`."""

    conversation: str
    turns: str
    task: str
    text: str
    predicted: dict[str, int]
    failed: bool = False
    """It reports that the code of the answer before does not work."""
    seen: Features | None = None
    model: str | None = None
    worth: dict[str, float] = {}
    """What its neighbours hear; the neighbours hold the same dictionary."""


class Pack(msgspec.Struct, frozen=True, array_like=True):
    """What a store keeps of a `Learning`. `near`: pressed vectors and the worth of prompts, the newest last. `words`: what
    was said, a part of `beliefs`."""

    beliefs: Packed
    near: list[tuple[bytes, dict[str, float]]]
    conversations: list[tuple[str, Conversation]]
    words: Said = []


class Learning:
    """Of one route; outlives reloads, and restarts where there is a store. Implements core.strategy.Knowledge.

    `beliefs`, `neighbours`: of all processes, as far as they have been heard; `_mine`, `_near`: this one's own part."""

    def __init__(self) -> None:
        self.beliefs = Beliefs()
        self.neighbours = Neighbours()
        self._mine = Beliefs()
        self._near: deque[tuple[bytes, dict[str, float]]] = deque(maxlen=NEAR_KEPT)
        self._words = Words()
        self.conversations: OrderedDict[str, Conversation] = OrderedDict()
        self._open: OrderedDict[str, Open] = OrderedDict()

    # -- the outlook of a choice ---------------------------------------------------------------------------------------
    def seconds(self, task: str, info: ModelInfo) -> float | None:
        return self.beliefs.seconds(task, info.name, info.latency)

    def cost(self, request: Request, task: str, info: ModelInfo, home: Conversation | None) -> int | None:
        """Nano-US$, likely: what the conversation's model still has in its cache is billed as cached input."""
        if info.price is None:
            return None
        tokens = request.peek.input_bound * 3 // 4
        warm = min(home.warm, tokens) if home is not None and home.model == info.name else 0
        usage = Usage(
            input=tokens, cached_input=warm, output=min(request.peek.max_tokens or LIKELY_OUTPUT, LIKELY_OUTPUT)
        )
        return round(cost_of(usage, info.price) * self.beliefs.cost_factor(task, info.name))

    def home(self, conversation: str, now: float, *, within: float) -> Conversation | None:
        found = self.conversations.get(conversation)
        return found if found is not None and now - found.at <= within else None

    # -- what happens ------------------------------------------------------------------------------------------------
    def asked(self, trace: str, request: Open, now: float, *, implicit: bool) -> str | None:
        """A request goes out. The same turns in the same conversation again, or a report that its code fails: the answer
        before was not what was wanted. Gives that sign's name (asked_again | code_failed), if there was one."""
        before, sign = self.conversations.get(request.conversation), None
        if implicit and before is not None and now - before.at <= AGAIN:
            sign = "asked_again" if before.turns == request.turns else "code_failed" if request.failed else None
            self._hint(before.task, before.model, bad=sign is not None)
        self._open[trace] = request
        if len(self._open) > REQUESTS:
            self._open.popitem(last=False)
        return sign

    def saw(self, record: RequestRecord, trace: Trace, *, implicit: bool, known: Mapping[str, Prior]) -> None:
        """A request is over: what it took, what it cost, how it ended."""
        request = self._open.get(trace.id)
        if request is None:
            return
        request.seen, request.text = features(request.text), ""
        for model in _misfits(trace):
            if model in known:
                self._score(request.task, model, 0.0, known[model])
        served = next((a for a in reversed(trace.attempts) if a.model == record.model and a.role is None), None)
        if record.model is None or served is None:
            return
        request.model = record.model
        if served.outcome == "ok":
            predicted, cost = request.predicted.get(record.model, 0), served.cost or 0
            for beliefs in (self.beliefs, self._mine):
                beliefs.answered(
                    request.task, record.model, predicted=predicted, cost=cost, seconds=(served.ttft_ms or 0.0) / 1000
                )
        if implicit and record.error in (None, "client_left"):
            self._hint(request.task, record.model, bad=record.error == "client_left")
        if record.error is None:
            usage = served.usage
            warm = usage.input + usage.output if usage is not None else 0
            self.conversations[request.conversation] = Conversation(
                record.model, request.task, request.turns, record.at, warm
            )
            self.conversations.move_to_end(request.conversation)
            if len(self.conversations) > CONVERSATIONS:
                self.conversations.popitem(last=False)

    def told(self, trace: str, score: float, known: Mapping[str, Prior], *, near: bool) -> None:
        """Somebody said what the answer was worth; a second word replaces the first."""
        request = self._open.get(trace)
        if request is None or request.model is None or request.model not in known:
            return
        model, prior, before = request.model, known[request.model], self._words.before(trace)
        if before is not None and model in request.worth:
            request.worth[model] += score - before
        elif before is None and near and request.seen is not None:
            believed = self.beliefs.quality(request.task, model, prior).mean
            request.worth = {model: score - believed}
            self.neighbours.add(request.seen, request.worth)
            self._near.append((pressed(vector(request.seen)), request.worth))
        self._word(trace, request.task, model, score, prior)

    def told_late(self, trace: str, task: str, model: str, score: float, prior: Prior) -> None:
        """Of a request that another process served, or this one before its restart; a second word replaces the first."""
        self._word(trace, task, model, score, prior)

    def _word(self, trace: str, task: str, model: str, score: float, prior: Prior) -> None:
        before = self._words.before(trace)
        if before is None:
            self._score(task, model, score, prior)
        else:
            self._revise(task, model, score - before)
        self._words.say(trace, score)

    def knows(self, trace: str) -> bool:
        return trace in self._open

    # -- each sign, for all and for this process's own part ------------------------------------------------------------
    def _score(self, task: str, model: str, score: float, prior: Prior) -> None:
        for beliefs in (self.beliefs, self._mine):
            beliefs.score(task, model, score, prior)

    def _revise(self, task: str, model: str, change: float) -> None:
        for beliefs in (self.beliefs, self._mine):
            beliefs.revise(task, model, change)

    def _hint(self, task: str, model: str, *, bad: bool) -> None:
        for beliefs in (self.beliefs, self._mine):
            beliefs.hint(task, model, bad=bad)

    # -- kept ----------------------------------------------------------------------------------------------------------
    def pack(self) -> bytes:
        return self.merged(())

    def merged(self, packs: Sequence[bytes]) -> bytes:
        beliefs, near = Beliefs(), list[tuple[bytes, dict[str, float]]]()
        conversations: dict[str, Conversation] = {}
        found = [_unpacked(pack) for pack in packs]
        for pack in found:
            beliefs.add(pack.beliefs)
            near += pack.near
            conversations.update(pack.conversations)
        beliefs.add(self._mine.pack())
        conversations.update(self.conversations)
        newest = max((one.at for one in conversations.values()), default=0.0)
        kept = [(name, one) for name, one in conversations.items() if one.at > newest - KEPT_FOR]
        kept.sort(key=lambda row: row[1].at)
        return msgspec.msgpack.encode(
            Pack(
                beliefs.pack(),
                [*near, *self._near][-NEAR_KEPT:],
                kept[-CONVERSATIONS_KEPT:],
                self._words.merged(pack.words for pack in found),
            )
        )

    def adopt(self, packs: Sequence[bytes]) -> None:
        for pack in map(_unpacked, packs):
            self._mine.add(pack.beliefs)
            self.beliefs.add(pack.beliefs)
            for row in pack.near:
                self._near.append(row)
            self._words.adopt(pack.words)
            self._hear(pack)

    def hear(self, packs: Sequence[bytes]) -> None:
        found = [_unpacked(pack) for pack in packs]
        beliefs, self.neighbours = Beliefs(), Neighbours()
        beliefs.add(self._mine.pack())
        for pack in found:
            beliefs.add(pack.beliefs)
            self._hear(pack)
        self._words.hear([pack.words for pack in found])
        for data, worth in self._near:
            self.neighbours.add_vector(unpressed(data), worth)
        self.beliefs = beliefs

    def forget(self) -> None:
        self._mine = Beliefs()
        self._near.clear()
        self._words.forget()

    def _hear(self, pack: Pack) -> None:
        for data, worth in pack.near:
            self.neighbours.add_vector(unpressed(data), worth)
        for name, one in pack.conversations:
            mine = self.conversations.get(name)
            if mine is None or mine.at < one.at:
                self.conversations[name] = one


def _misfits(trace: Trace) -> list[str]:
    """Whose answers broke the client's schema, the models' own failure: a strategy went on from them, or a stream ended
    so that had been said already."""
    found = [
        model
        for decision in trace.decisions
        if decision.kind in ("fallback", "rescue") and "invalid_output" in decision.because
        for model in decision.over
    ]
    return list(dict.fromkeys(found))


def _unpacked(data: bytes) -> Pack:
    return msgspec.msgpack.decode(data, type=Pack)


def prior_of(task: str, info: ModelInfo) -> Prior:
    """The catalogue's measured strength, that over all tasks, or what the capabilities let one assume."""
    if task in info.strength:
        return Prior(info.strength[task], MEASURED)
    if ANY in info.strength:
        return Prior(info.strength[ANY], (MEASURED + ASSUMED) / 2)
    suited = SUITS.get(task, frozenset()) & set(info.capabilities)
    return Prior(SUITED if suited else UNSUITED, ASSUMED)


def opened(request: Request, key_id: str, task: str, predicted: dict[str, int]) -> Open:
    asked = request.asked()
    conversation, turns = conversation_of(asked, key_id)
    failed = request.peek.multi_turn and reports_failure(request.content())
    return Open(conversation, turns, task, asked.last[:READ], predicted, failed)
