"""A whole gateway without sockets on time that jumps: the data plane, the engine, and providers written by the test."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from headgate.config.load import load_text
from headgate.core.errors import HeadgateError
from headgate.core.records import AttemptIntent, AttemptOutcome
from headgate.engine.compile import Compiler
from headgate.engine.house import House
from headgate.governance.open import OpenGovernor
from headgate.ledger.volatile import VolatileLedger
from headgate.server.app import DataPlane
from headgate.server.http import Headers, Request
from headgate.simulator import script as s
from headgate.simulator.inprocess import InProcess, VirtualClock, run_virtually
from headgate.simulator.scripted import FakeUpstream
from support.gateway import ENV

MESSAGES = [{"role": "user", "content": "Name three uses of a headgate in irrigation."}]


class StrictLedger(VolatileLedger):
    """Counts: nothing is settled that was not intended, and nothing twice."""

    def __init__(self) -> None:
        super().__init__(keep=1_000_000)
        self.settled: list[str] = []

    def intend(self, intent: AttemptIntent) -> None:
        assert intent.id not in {one.id for one in self.intents}
        super().intend(intent)

    def settle(self, outcome: AttemptOutcome) -> None:
        self.settled.append(outcome.id)
        super().settle(outcome)

    def check(self) -> None:
        """Every intent has exactly one outcome."""
        assert sorted(self.settled) == sorted(intent.id for intent in self.intents)


@dataclass
class Heard:
    """What a client got. `whole` is True where the answer was ended in good order by the gateway."""

    started: bool = False
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    took: float = 0.0
    left: bool = False
    leaves: Callable[[Heard], bool] | None = None
    push: None = None

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        await self.start(status, headers)
        self.body, self.whole = body, True

    async def start(self, status: int, headers: Headers) -> None:
        assert not self.started
        self.started, self.status, self.headers = True, status, dict(headers)

    async def write(self, data: bytes) -> None:
        assert not self.whole
        self.body += data
        if self.leaves is not None and self.leaves(self):
            self.left = True
            raise asyncio.CancelledError

    async def finish(self) -> None:
        self.whole = True

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        frames = [frame for frame in self.body.decode().split("\n\n") if frame.startswith("data: {")]
        return [json.loads(frame[6:]) for frame in frames]

    @property
    def text(self) -> str:
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return "".join(c["delta"].get("content") or "" for f in self.chunks for c in f.get("choices", []))
        return self.json()["choices"][0]["message"]["content"]

    @property
    def finished(self) -> bool:
        """A stream that says it is complete."""
        said = any(c.get("finish_reason") for f in self.chunks for c in f.get("choices", []))
        return said and self.body.endswith(b"data: [DONE]\n\n")

    @property
    def error(self) -> dict[str, Any] | None:
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return next((f["error"] for f in self.chunks if "error" in f), None)
        return self.json().get("error")

    @property
    def details(self) -> dict[str, Any]:
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return next(f["headgate"] for f in reversed(self.chunks) if "headgate" in f)
        return self.json()["headgate"]


class VirtualGateway:
    """Made inside the virtual loop. `fake.on(upstream id, scripts...)` says what a provider does."""

    def __init__(
        self, text: str, *, seed: int = 0, refused: Callable[[Any], bool] = lambda request: False, governor: Any = None
    ) -> None:
        self.clock = VirtualClock()
        self.fake = FakeUpstream(clock=self.clock)
        self.transport = InProcess(self.fake.respond, refused=refused)
        self.ledger = StrictLedger()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.compiler = Compiler(ENV, clock=self.clock)
        self.house = House(
            snapshot=self.compiler.compile(load_text(text, "test.yaml", ENV).config),
            transport=self.transport,
            ledger=self.ledger,
            governor=governor or OpenGovernor(),
            clock=self.clock,
            rng=random.Random(seed),
        )
        self.compiler.on_health = self.house.health_changed
        self.house.on_event.append(lambda kind, facts: self.events.append((kind, facts)))
        self.errors: list[HeadgateError] = []
        self.plane = DataPlane(self.house, on_error=lambda _, error: self.errors.append(error))

    def vitals(self, model: str, number: int = 0) -> Any:
        found = self.house.snapshot.model(model)
        assert found is not None
        return found.deployments[number].vitals

    async def ask(
        self,
        model: str,
        *,
        stream: bool = False,
        headers: dict[str, str] | None = None,
        leaves: Callable[[Heard], bool] | None = None,
        **body: Any,
    ) -> Heard:
        given = {"host": "localhost", "x-headgate-details": "true", **(headers or {})}
        sent = {"model": model, "messages": MESSAGES, "stream": stream, **body}
        request = Request("POST", "/v1/chat/completions", "", given, list(given.items()), json.dumps(sent).encode())
        heard = Heard(leaves=leaves)
        began = self.clock.monotonic()
        await self.plane(request, heard)
        heard.took = self.clock.monotonic() - began
        return heard


def virtually(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    run_virtually(run())


# -- what providers say ------------------------------------------------------------------------------------------------
def answer(text: str = "Water is let in.", *, after: float = 0.0, model: str = "m") -> list[s.Step]:
    """A whole answer in OpenAI's format."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return [s.Pause(after), *s.reply_json(200, body)]


def chunk(delta: dict[str, Any], finish: str | None = None, *, model: str = "m") -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


USAGE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}\n\n'
)
DONE = b"data: [DONE]\n\n"
SSE_HEAD = s.Head(200, (("content-type", s.SSE),))


def streamed(
    *words: str, after: float = 0.0, every: float = 0.0, ending: s.Step | None = None, model: str = "m"
) -> list[s.Step]:
    """A stream in OpenAI's format; with `ending` it breaks off so after the words."""
    steps: list[s.Step] = [s.Pause(after), SSE_HEAD, s.Body(chunk({"role": "assistant", "content": ""}, model=model))]
    for word in words or ("Water ", "is ", "let ", "in."):
        steps += [s.Body(chunk({"content": word}, model=model)), s.Pause(every)]
    if ending is not None:
        return [*steps, ending]
    return [*steps, s.Body(chunk({}, "stop", model=model)), s.Body(USAGE), s.Body(DONE), s.End()]


def either(whole: list[s.Step], stream: list[s.Step]) -> Callable[[Any], s.Script]:
    """The one for calls that stream, the other for those that do not."""
    return lambda call: stream if b'"stream":true' in call.body.replace(b" ", b"") else whole
