"""One arm of a drill at a time: simulated providers, a fault plan that plays, a gateway, and clients that ask.

On the virtual clock the clients call the data plane itself and the providers' answers come without sockets; over
sockets the same plan plays against real connections on both sides. The engine is the same real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from headgate.config.model import Config, Timeout
from headgate.core.clock import SYSTEM, Clock
from headgate.core.records import RequestRecord
from headgate.core.trace import AttemptView, Trace
from headgate.drill.arms import Arm, house_of, with_foil
from headgate.drill.questions import Answered, Fate, Question, fate_of
from headgate.engine.house import House
from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.protocol import HttpRequest, Limits, Origin, Transport, TransportError
from headgate.server.app import DataPlane
from headgate.server.frontends.h1 import H1FrontEnd
from headgate.server.frontends.sockets import bind
from headgate.server.http import Headers, HttpLimits, Request
from headgate.simulator.app import Simulator
from headgate.simulator.inprocess import VirtualClock, run_virtually
from headgate.simulator.plan import FaultPlan, play
from headgate.simulator.routing import PROVIDERS
from headgate.simulator.spec import SimModel

PATH = "/v1/chat/completions"
MAX_TOKENS = 400
"""What a client allows an answer to take: several times what a right one does."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What all arms have in common. `patience`: seconds after which a client leaves, and its answer counts as late."""

    config: Config
    env: dict[str, str]
    models: tuple[SimModel, ...]
    plan: FaultPlan | None
    asked: tuple[Question, ...]
    timeout: Timeout
    patience: float = 60.0
    seed: int = 0


class Run(msgspec.Struct):
    """What became of every request of one arm, in order. Money in nano-US$, times in seconds of the clock it ran on."""

    arm: Arm
    fates: list[Fate] = []
    took: list[float] = []
    """Of the requests that were answered well."""
    cost: int = 0
    calls: int = 0
    """Calls that providers were sent."""
    moves: Counter[str] = msgspec.field(default_factory=Counter)
    """Events of the gateway that kept a failure from a client: failover, fallback, rescue."""


Ask = Callable[[bytes, bool], Awaitable[Answered]]


def run_virtual(setting: Setting, arm: Arm) -> Run:
    """All of the arm's requests on a clock that jumps."""
    return run_virtually(_virtual(setting, arm))


async def run_sockets(setting: Setting, arm: Arm) -> Run:
    """The same in real time, through sockets on both sides."""
    simulator = Simulator(setting.models, seed=setting.seed)
    urls = await simulator.start(0, port_each=True)
    house = _house(setting, arm, urls, H1Transport(), SYSTEM)
    plane = DataPlane(house)
    front = H1FrontEnd(plane, plane.refuse, HttpLimits())
    sock = bind("127.0.0.1", 0)
    client = _Client(Origin("http", *sock.getsockname()[:2]), arm.name, setting.patience)
    await front.start(sock)
    try:
        return await _run(setting, arm, house, simulator, client.ask, SYSTEM)
    finally:
        await client.transport.aclose()
        await front.close(0.0)
        await house.transport.aclose()
        await simulator.aclose()


async def _virtual(setting: Setting, arm: Arm) -> Run:
    clock = VirtualClock()
    simulator = Simulator(setting.models, seed=setting.seed, clock=clock)
    urls = {name: f"http://{name}.sim{PROVIDERS[name].base}" for name in simulator.providers}
    house = _house(setting, arm, urls, simulator.transport(), clock)
    plane = DataPlane(house)

    async def ask(body: bytes, stream: bool) -> Answered:
        heard = _Heard(stream)
        request = Request("POST", PATH, "", _HEADERS, list(_HEADERS.items()), body)
        await plane(request, heard)
        return heard.answered

    return await _run(setting, arm, house, simulator, ask, clock)


_HEADERS = {"host": "localhost", "content-type": "application/json"}


def _house(setting: Setting, arm: Arm, urls: dict[str, str], transport: Transport, clock: Clock) -> House:
    config = with_foil(setting.config, setting.timeout)
    providers = {
        name: section.model_copy(update={"base_url": urls[name]}) if name in urls else section
        for name, section in config.providers.items()
    }
    pointed = config.model_copy(update={"providers": providers})
    return house_of(arm, pointed, setting.env, transport, clock, setting.seed)


async def _run(setting: Setting, arm: Arm, house: House, simulator: Simulator, ask: Ask, clock: Clock) -> Run:
    run = Run(arm)
    fates: dict[int, Fate] = {}

    def closed(view: AttemptView, trace: Trace) -> None:
        run.calls += 1

    def over(record: RequestRecord, trace: Trace) -> None:
        run.cost += record.cost or 0

    def event(kind: str, facts: dict[str, object]) -> None:
        run.moves[kind] += 1

    house.on_attempt.append(closed)
    house.on_request.append(over)
    house.on_event.append(event)

    async def one(number: int, question: Question) -> None:
        messages = [{"role": "user", "content": question.prompt}]
        body = {"model": arm.name, "stream": question.stream, "max_tokens": MAX_TOKENS, "messages": messages}
        began = clock.monotonic()
        try:
            async with asyncio.timeout(setting.patience):
                answered = await ask(json.dumps(body).encode(), question.stream)
            answered.took = clock.monotonic() - began
            fate = fate_of(question, answered, limit=setting.patience, exact=arm.exact)
        except TimeoutError:
            fate = "late"
        if fate == "ok":
            run.took.append(clock.monotonic() - began)
        fates[number] = fate

    playing = asyncio.ensure_future(play(setting.plan, simulator, clock)) if setting.plan is not None else None
    began = clock.monotonic()
    try:
        async with asyncio.TaskGroup() as clients:
            for number, question in enumerate(setting.asked):
                wait = began + question.at - clock.monotonic()
                if wait > 0:
                    await clock.sleep(wait)
                clients.create_task(one(number, question))
    finally:
        if playing is not None:
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await playing
    run.fates = [fates[number] for number in range(len(setting.asked))]
    return run


class _Heard:
    """The responder of a client without a socket."""

    def __init__(self, stream: bool) -> None:
        self.started = self.left = False
        self.push = None
        self.answered = Answered(stream=stream)
        self._pieces: list[bytes] = []

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        await self.start(status, headers)
        await self.write(body)
        await self.finish()

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        self.answered.status = status

    async def write(self, data: bytes) -> None:
        self._pieces.append(data)

    async def finish(self) -> None:
        self.answered.body = b"".join(self._pieces)
        self.answered.whole = True


class _Client:
    """A client on a socket, which sees what a socket shows."""

    def __init__(self, origin: Origin, model: str, patience: float) -> None:
        self.transport = H1Transport()
        self._origin = origin
        self._headers = (("content-type", "application/json"),)
        self._limits = Limits(connect=patience, first_byte=patience, idle=patience)
        self._patience = patience

    async def ask(self, body: bytes, stream: bool) -> Answered:
        request = HttpRequest(origin=self._origin, method="POST", target=PATH, headers=self._headers, body=body)
        answered = Answered(stream=stream)
        deadline = asyncio.get_running_loop().time() + self._patience
        try:
            response = await self.transport.send(request, self._limits, deadline)
            answered.status = response.status
            answered.body = await response.read()
            answered.whole = True
        except TransportError:
            answered.whole = False
        return answered
