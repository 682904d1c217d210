"""OpenTelemetry: spans and metrics to a collector, by OTLP over HTTP in its JSON form.

`request` only puts into a bounded queue when a request is over, so that no request ever waits for whoever collects: a
collector that hangs or is gone costs spans, which are counted, and nothing else. The metrics are the sums since the start,
so that a report which is lost is made good by the next.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from headgate.core.clock import Clock
from headgate.core.records import RequestRecord
from headgate.core.trace import Trace
from headgate.net.transport.protocol import HttpRequest, Limits, Origin, Transport, TransportError
from headgate.telemetry import series, spans
from headgate.telemetry.spans import Done, pairs
from headgate.telemetry.tally import Spread, Tally

QUEUE = 2048
"""Requests that may wait to be told; the next ones are dropped."""
BATCH = 256
"""Requests told at once."""
STRIDE = 8
"""Requests whose spans are encoded between two turns of the loop: half a millisecond."""
LINGER = 1.0
"""Seconds in which a batch gathers."""
TRIES = 3
PAUSE = 1.0
"""Seconds before the second try, doubled before the third; at most LONGEST_PAUSE where the collector names a time."""
LONGEST_PAUSE = 30.0
SECONDS = 10.0
"""Longest time for one try."""
LAST = 3.0
"""Seconds that the end of the process waits for what is left."""
AGAIN = frozenset({429, 502, 503, 504})
"""The answers that OTLP says are worth another try."""
ANSWER_BYTES = 65_536


class Collector(msgspec.Struct, frozen=True, kw_only=True):
    """`base` is the path before `/v1/traces`. `attributes` describe the process (service.name, ...)."""

    origin: Origin
    base: str
    headers: Sequence[tuple[str, str]] = ()
    attributes: Mapping[str, str] = {}
    traces: bool = True
    metrics: bool = True
    every: float = 60.0


class Exporter:
    """`request` from the loop, `run` as a task of it, `aclose` after the last request."""

    def __init__(
        self,
        collector: Collector,
        transport: Transport,
        clock: Clock,
        *,
        version: str,
        figures: Callable[[], Iterable[Tally | Spread]],
        known: Callable[[str], bool],
    ) -> None:
        """`figures`: what `/metrics` shows, as it is now. `known`: models that get a label of their own."""
        self._collector = collector
        self._transport = transport
        self._clock = clock
        self._figures = figures
        self._known = known
        self._resource = pairs({"service.name": "headgate", "service.version": version, **collector.attributes})
        self._scope = {"name": "headgate", "version": version}
        self._began = _nanos(clock)
        self._queue: deque[Done] = deque()
        self._came = asyncio.Event()
        self._operations = series.Operations()
        self.counts: Counter[str] = Counter(sent=0, failed=0, dropped=0, rejected=0)
        """Requests whose spans were sent; failed after all tries; dropped because the queue was full; and single spans that
        the collector rejected."""
        self.on_failure: Callable[[str], None] = lambda why: None
        """Called with the reason when something could not be delivered."""

    def request(self, record: RequestRecord, trace: Trace) -> None:
        """For `house.on_request`."""
        one = spans.done(record, trace)
        if self._collector.metrics:
            self._operations.count(one, self._known)
        if not self._collector.traces:
            return
        if len(self._queue) >= QUEUE:
            self.counts["dropped"] += 1
            return
        self._queue.append(one)
        self._came.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._collector.traces:
                tasks.create_task(self._tell_requests())
            if self._collector.metrics:
                tasks.create_task(self._tell_metrics())

    async def aclose(self) -> None:
        """What is left is tried once, together for LAST seconds at most; what could not be told by then is counted."""
        try:
            async with asyncio.timeout(LAST):
                while self._queue:
                    await self._tell(self._batch(), tries=1)
                if self._collector.metrics:
                    await self._tell_sums()
        except TimeoutError:
            self.counts["failed"] += len(self._queue)
            self._queue.clear()

    # -- what is told ------------------------------------------------------------------------------------------------
    async def _tell_requests(self) -> None:
        while True:
            self._came.clear()
            while self._queue:
                await self._tell(self._batch(), tries=TRIES)
            await self._came.wait()
            await self._clock.sleep(LINGER)

    async def _tell_metrics(self) -> None:
        while True:
            await self._clock.sleep(self._collector.every)
            await self._tell_sums()

    async def _tell_sums(self) -> None:
        try:
            await self._post("/v1/metrics", self._metrics(), tries=1)
        except Exception as error:  # noqa: BLE001  as `_tell`: the process that serves goes on
            self.on_failure(repr(error))

    def _batch(self) -> list[Done]:
        return [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]

    async def _tell(self, batch: list[Done], *, tries: int) -> None:
        took = False
        try:
            of = await _encoded(batch)
            took = not of or await self._post("/v1/traces", spans.packed(self._resource, self._scope, of), tries=tries)
        except asyncio.CancelledError:  # the process ends in the middle of it
            self._queue.extendleft(reversed(batch))
            raise
        except Exception as error:  # noqa: BLE001  a task's root: no defect in telling may end what is told of
            self.on_failure(repr(error))
        self.counts["sent" if took else "failed"] += len(batch)

    def _metrics(self) -> bytes:
        of = [*self._figures(), self._operations.duration, self._operations.tokens]
        return series.packed(self._resource, self._scope, of, began=self._began, now=_nanos(self._clock))

    # -- delivery ----------------------------------------------------------------------------------------------------
    async def _post(self, path: str, body: bytes, *, tries: int) -> bool:
        why, pause = "", PAUSE
        for number in range(tries):
            if number:
                await self._clock.sleep(pause)
                pause = PAUSE * 2**number
            try:
                status, answer, wait = await self._once(path, body)
            except TransportError as error:
                why = f"{type(error).__name__}: {error}"
                continue
            if 200 <= status < 300:
                self._note_rejected(answer)
                return True
            why = f"it answered {status}"
            if status not in AGAIN:
                break  # the same again would be the same
            pause = min(max(pause, wait), LONGEST_PAUSE)
        self.on_failure(f"{path}: {why}")
        return False

    async def _once(self, path: str, body: bytes) -> tuple[int, bytes, float]:
        """(status, body, seconds of its Retry-After)."""
        request = HttpRequest(
            origin=self._collector.origin,
            method="POST",
            target=self._collector.base + path,
            headers=(),
            extra=(("content-type", "application/json"), *self._collector.headers),
            body=body,
        )
        limits = Limits(connect=SECONDS, first_byte=SECONDS, idle=SECONDS, body_bytes=ANSWER_BYTES)
        response = await self._transport.send(request, limits, asyncio.get_running_loop().time() + SECONDS)
        try:
            answer = await response.read()
        finally:
            await response.aclose()
        wait = response.header(b"retry-after") or b""
        return response.status, answer, float(wait) if wait.isdigit() else 0.0

    def _note_rejected(self, answer: bytes) -> None:
        try:
            found = msgspec.json.decode(answer, type=_Answer, strict=False)
        except msgspec.DecodeError:
            return  # many answer with nothing, or in protobuf
        if found.partial is not None and found.partial.spans > 0:
            self.counts["rejected"] += found.partial.spans
            self.on_failure(f"it rejected {found.partial.spans} spans: {found.partial.message[:200]}")


async def _encoded(batch: list[Done]) -> list[msgspec.Raw]:
    out: list[msgspec.Raw] = []
    for number, one in enumerate(batch, 1):
        out += spans.encoded(one)
        if number % STRIDE == 0:
            await asyncio.sleep(0)
    return out


class _Partial(msgspec.Struct):
    spans: int = msgspec.field(default=0, name="rejectedSpans")
    message: str = msgspec.field(default="", name="errorMessage")


class _Answer(msgspec.Struct):
    partial: _Partial | None = msgspec.field(default=None, name="partialSuccess")


def _nanos(clock: Clock) -> str:
    return str(round(clock.time() * 1_000_000) * 1000)
