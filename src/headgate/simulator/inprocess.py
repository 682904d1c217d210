"""The simulator without sockets: a transport that plays scripts straight into the gateway, and an event loop whose time
jumps. Together they run a hundred thousand requests with realistic outages in the time that the code itself takes.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from headgate.net.transport import protocol as net
from headgate.simulator import script as steps
from headgate.simulator.wire import Call

T = TypeVar("T")


# -- time --------------------------------------------------------------------------------------------------------------
class VirtualLoop(asyncio.SelectorEventLoop):
    """Never waits for a timer: when nothing else is to be done, its time is that of the next timer. Sockets, threads and
    processes still work, but what waits for them sees time leap to its own time limit."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self._loop.jump(timeout)
        return ready


class VirtualClock:
    """core.clock.Clock on the running loop's time. `epoch` is the wall time at 0."""

    def __init__(self, epoch: float = 1_800_000_000.0) -> None:
        self._epoch = epoch

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        return self._epoch + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """asyncio.run on a VirtualLoop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


# -- transport ---------------------------------------------------------------------------------------------------------
class InProcess:
    """net's Transport over a responder (`Simulator.respond`, a `FakeUpstream`'s, one's own). `refused` says which
    requests find nobody listening."""

    def __init__(
        self,
        respond: Callable[[Call], steps.Script],
        *,
        refused: Callable[[net.HttpRequest], bool] = lambda request: False,
    ) -> None:
        self._respond = respond
        self._refused = refused
        self._number = 0
        self.open = 0

    async def send(self, request: net.HttpRequest, limits: net.Limits, deadline: float) -> net.HttpResponse:
        if self._refused(request):
            await asyncio.sleep(0)
            raise net.ConnectFailed("refused")
        loop = asyncio.get_running_loop()
        self._number += 1
        call = Call(self._number, 0, request.method, request.target, loop.time())
        call.headers = {name.lower(): value for name, value in (*request.headers, *request.extra)}
        call.body = request.body
        self.open += 1
        response = _Response(self, call, iter(self._respond(call)), limits, deadline)
        try:
            await response.begin()
        except BaseException:
            response.end()
            raise
        return response

    async def aclose(self) -> None:
        return None


class _Response:
    """One answer, pulled step by step."""

    status = 0
    headers: Sequence[tuple[bytes, bytes]]

    def __init__(
        self, owner: InProcess, call: Call, script: Iterator[steps.Step], limits: net.Limits, deadline: float
    ) -> None:
        self._owner = owner
        self._call = call
        self._script = script
        self._limits = limits
        self._deadline = deadline
        self._framing = "none"
        self._missing = 0
        self._over = False

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    async def begin(self) -> None:
        async with self._within(self._limits.first_byte, net.FirstByteTimeout):
            while True:
                step = await self._step()
                if isinstance(step, steps.Head):
                    break
                if step is None or isinstance(step, steps.Reset | steps.Close | steps.HalfClose):
                    raise net.ConnectionLost("closed without an answer")
                if isinstance(step, steps.Raw | steps.Body):
                    raise net.ProtocolViolation("bytes that are no HTTP")
        self._call.status = self.status = step.status
        self.headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in step.headers]
        self._framing, self._missing = step.framing, step.length

    async def next(self) -> bytes:
        if self._over:
            return b""
        try:
            async with self._within(self._limits.idle, net.IdleTimeout):
                return await self._piece()
        except BaseException:
            self.end()
            raise

    async def pour(self, into: net.Into) -> None:
        await net.poured(self, into)

    async def _piece(self) -> bytes:
        while True:
            step = await self._step()
            match step:
                case steps.Body(data) if data:
                    self._missing -= len(data)
                    self._call.sent += len(data)
                    if self._call.sent > self._limits.body_bytes:
                        raise net.BodyTooLarge("the body is too large")
                    await asyncio.sleep(0)
                    return data
                case steps.Raw():
                    raise net.ProtocolViolation("bytes outside the framing")
                case steps.End():
                    if self._framing == "length" and self._missing > 0:
                        raise net.ConnectionLost("the body is shorter than it said")
                    self._call.complete = True
                    self.end()
                    return b""
                case None | steps.Reset() | steps.Close() | steps.HalfClose():
                    if self._framing == "close" and not isinstance(step, steps.Reset):
                        self.end()
                        return b""
                    raise net.ConnectionLost("the connection broke within the body")

    async def _step(self) -> steps.Step | None:
        """The next step that says something; pauses and waits are waited for here. None at the script's end."""
        for step in self._script:
            match step:
                case steps.Pause(seconds):
                    await asyncio.sleep(seconds)
                case steps.Wait(event):
                    await event.wait()
                case steps.Hang():
                    await asyncio.Event().wait()
                case _:
                    return step
        return None

    def _within(self, seconds: float, error: type[net.TransportError]) -> _Within:
        now = asyncio.get_running_loop().time()
        total = self._deadline < now + seconds
        return _Within(min(self._deadline, now + seconds), net.TotalTimeout if total else error)

    async def read(self) -> bytes:
        pieces: list[bytes] = []
        while piece := await self.next():
            pieces.append(piece)
        return b"".join(pieces)

    def silence(self, seconds: float) -> None:
        self._limits = msgspec.structs.replace(self._limits, idle=seconds)

    def release(self) -> None:
        self.end()

    async def aclose(self) -> None:
        self.end()

    def end(self) -> None:
        """The books of this call are closed; a script that has not finished hears that the client left."""
        if self._over:
            return
        self._over = True
        self._owner.open -= 1
        if not self._call.complete:
            self._call.left = asyncio.get_running_loop().time() - self._call.at
        close = getattr(self._script, "close", None)
        if close is not None:
            close()
        self._call.ended.set()


class _Within:
    """asyncio.timeout_at that raises the transport's own error."""

    def __init__(self, at: float, error: type[net.TransportError]) -> None:
        self._timeout = asyncio.timeout_at(at)
        self._error = error

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: Any, value: Any, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, value, trace)
        except TimeoutError as error:
            raise self._error("too slow") from error
