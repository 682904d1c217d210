"""The running process: composition root, sockets, reload, draining."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

from headgate import __version__
from headgate.config.errors import ConfigError
from headgate.core import failpoints
from headgate.core.clock import SYSTEM
from headgate.core.errors import HeadgateError, StorageUnavailable
from headgate.core.fleet import About
from headgate.core.records import RequestRecord
from headgate.core.trace import Trace
from headgate.dialects.faults import redact
from headgate.engine.compile import Compiler
from headgate.engine.house import House
from headgate.engine.judging import Judging
from headgate.engine.keeping import Keeper
from headgate.engine.snapshot import Snapshot
from headgate.governance.desk import Desk
from headgate.governance.governor import POLL, KeyedGovernor
from headgate.governance.rules import rules_of
from headgate.governance.shared import SharedLimits
from headgate.net.transport.h1 import H1Transport
from headgate.server.admin import CONSOLE, AdminPlane
from headgate.server.alerting import open_alerts
from headgate.server.app import DataPlane
from headgate.server.books import Books
from headgate.server.cors import Cors
from headgate.server.exporting import Export
from headgate.server.first_key import FirstKey
from headgate.server.fleet import Fleet, open_shared
from headgate.server.frontends.h1 import H1FrontEnd
from headgate.server.frontends.sockets import bind
from headgate.server.frontends.uvicorn import UvicornFrontEnd
from headgate.server.http import HttpLimits
from headgate.server.idempotency import Repeats
from headgate.server.options import Options, is_loopback, read_config
from headgate.stores.memory import MemoryAnswers
from headgate.telemetry.logs import Log
from headgate.telemetry.metrics import Metrics

WATCH_EVERY = 1.0
SWITCH = 0.0005
"""Seconds that a background thread of Python may keep the serving loop waiting."""
CUT_AFTER = 2.0
"""Seconds that the last bytes of drained answers may take to reach their clients."""


class Group(Protocol):
    """The workers that serve the same ports, as one of them reaches them all."""

    async def metrics(self) -> bytes: ...

    async def reload(self) -> str | None:
        """As Process.reload, in every worker."""
        ...


class Process:
    """One gateway process. `start` binds and serves; `stop` drains. `group`: the workers of which it is one."""

    def __init__(self, options: Options, group: Group | None = None) -> None:
        self.options = options
        self.log = Log() if options.worker is None else Log(worker=options.worker)
        self._stop = asyncio.Event()
        self._begun = SYSTEM.monotonic()
        failpoints.arm(options.env.get("HEADGATE_FAILPOINTS", ""))
        self._compiler = Compiler(options.env)
        self.config = read_config(self.options)
        settings = self.config.store
        snapshot = self._compiler.compile(self.config)
        self.books = Books(settings, options.data_dir, self._log_event)
        local = is_loopback(options.host)
        self.fleet: Fleet | None = None
        shared, limits = open_shared(settings), None
        if shared is not None:
            limits = SharedLimits(shared, self.books.journal.holder, SYSTEM, self._event)
            self.fleet = Fleet(shared, limits, lambda: self._compiler.vitals, SYSTEM, self._about)
        self.governor = KeyedGovernor(
            self.books.store,
            holder=self.books.journal.holder,
            rules=rules_of(self.config),
            local=local,
            on_event=self._event,
            replicas=lambda: limits.replicas if limits is not None else 1,
            shared=limits,
        )
        self.keeper = Keeper(self.books.store, self._compiler.memory.known, holder=self.books.journal.holder)
        self.first_key: str | None = None
        """Made because the plane is not bound to loopback and there was none: shown once, kept nowhere."""
        self.on_first_key: Callable[[str], Awaitable[None]] = self._note_first_key
        """Given one that nobody is told of by `ready`: it could be made only once this process served, since the store was
        away, or this process ends before it serves. To be shown, once."""
        self._is_told = False
        """`ready` was called."""
        self._first = FirstKey(self.books.store, self.governor, is_due=not local)
        self.house = House(
            snapshot=snapshot,
            transport=H1Transport(),
            ledger=self.books.journal,
            governor=self.governor,
            charge_unknown=settings.unknown == "reserved",
            archive=self.books.store,
            contents=settings.contents,
            bodies=settings.bodies,
            is_fleet=not settings.url.startswith("sqlite:"),
        )
        self.house.keeper = self.keeper
        self.repeats = Repeats(shared or MemoryAnswers(), self.books.journal.holder, on_event=self._event)
        self.plane = DataPlane(self.house, local=local, on_error=self._note_error, repeats=self.repeats)
        self.plane.worker = options.worker
        self._compiler.on_health = self.house.health_changed
        self._compiler.memory.on_event = self.house.event
        self.plane.metrics = metrics = Metrics(version=__version__, entries=lambda: self.house)
        metrics.ledger = self.books.gauges
        if group is not None:
            self.plane.scrape = group.metrics
        self.house.on_attempt.append(metrics.attempt)
        self.house.on_request += [metrics.request, self._log_request]
        self.house.on_event += [metrics.event, self._log_event]
        self.house.pulse.on_sleep.append(lambda late: self.house.event("slept", {"seconds": round(late, 3)}))
        if self.fleet is not None:
            self.house.on_event.append(self.fleet.event)
        self._hook = open_alerts(self.config.alerts)
        if self._hook is not None:
            alerts = self._hook.alerts
            alerts.on_failure = lambda why: self._log_event("alert_failed", {"because": why})
            self.house.on_event.append(alerts.event)
            metrics.alerts = lambda: alerts.counts
        self._export = self._exporting(metrics)
        self._stamp = self._file_stamp()
        self.port = 0
        self.reload_error: str | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self.admin = AdminPlane(
            self.house,
            data_dir=options.data_dir,
            host=options.host if self.plane.local else "127.0.0.1",
            port=options.admin_port,
            config=lambda: self.config,
            reload=self.reload if group is None else group.reload,
            is_shared=options.worker is not None,
            members=self.fleet.members if self.fleet is not None else None,
            desk=Desk(self.books.store, rules=lambda: self.governor.rules, governor=self.governor),
            keep=self.keeper.tend,
        )
        self.governor.know({self.admin.play_key: CONSOLE})
        self.judging = Judging(self.house, on_event=self._event)

    def _exporting(self, metrics: Metrics) -> Export | None:
        section = self.config.telemetry.otlp
        if section is None:
            return None
        export = Export(section, self.house, metrics, worker=self.options.worker)
        export.exporter.on_failure = lambda why: self._log_event("otlp_failed", {"because": why})
        self.house.on_request.append(export.exporter.request)
        metrics.otlp = lambda: export.exporter.counts
        return export

    # -- life --------------------------------------------------------------------------------------------------------
    async def run(self, ready: Callable[[Process], Awaitable[None]] | None = None) -> None:
        """Serves until SIGTERM or SIGINT, then drains. What is in the books by then is in the store, or replayed by the
        next start."""
        sys.setswitchinterval(SWITCH)
        await self.books.start()
        try:
            self._hear_signals()  # before a first key is made, which nobody would be shown
            await self._load_keys()
            await self.keeper.tend()
            await self._serve(ready)
        finally:
            if self._first.is_unsure:
                await self._make_first_key()
            if self.first_key is not None and not self._is_told:
                await self._show_first_key(self.first_key)
            await self.keeper.end()
            await self.house.homes.flush()
            await self.books.close()
            self.log.close()

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    async def _load_keys(self) -> None:
        """A plane that others can reach is never without a key. With the store down, nobody is let in until it is back."""
        try:
            self.first_key = await self._first.make()
            await self.governor.refresh()
        except StorageUnavailable as error:
            self._log_event("store_lost", {"detail": error.detail or error.message})

    async def _watch_first_key(self) -> None:
        """Until the store has said whether there is one, and whose. That it is away the governor says."""
        while self._first.is_due:
            await asyncio.sleep(POLL)
            await self._make_first_key()

    async def _make_first_key(self) -> None:
        try:
            secret = await self._first.make()
        except HeadgateError:
            return  # the governor, which asks the same store, says that it is away
        except Exception as error:  # noqa: BLE001 - a defect here must not end what is served
            self._log_event("first_key_failed", {"error": repr(error)})
            return
        if secret is not None:
            await self._show_first_key(secret)

    async def _show_first_key(self, secret: str) -> None:
        try:
            await self.on_first_key(secret)
        except OSError as error:
            self._log_event("first_key_not_shown", {"detail": repr(error)})

    async def _note_first_key(self, secret: str) -> None:
        self.first_key = secret

    async def _serve(self, ready: Callable[[Process], Awaitable[None]] | None) -> None:
        server_settings = self.config.server
        limits = HttpLimits(body=server_settings.max_body, body_time=server_settings.body_timeout)
        front_end = H1FrontEnd if server_settings.frontend == "own" else UvicornFrontEnd
        handler = Cors(self.plane, server_settings.cors) if server_settings.cors else self.plane
        front = front_end(handler, self.plane.refuse, limits)
        for warning in self.books.warnings:
            self._log_event("store_warning", {"message": warning})
        sock = bind(self.options.host, self.options.port, reuse_port=self.options.worker is not None)
        self.port = sock.getsockname()[1]
        await front.start(sock)
        self.admin.start(self.url)
        _calm_collector()
        self.house.pulse.start()
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(self._watch()), tasks.create_task(self.governor.watch())]
            watching.append(tasks.create_task(self._watch_first_key()))
            watching.append(tasks.create_task(self.keeper.watch()))
            watching.append(tasks.create_task(self.judging.run()))
            watching.append(tasks.create_task(self.repeats.run()))
            watching.append(tasks.create_task(self.house.homes.run()))
            if self._hook is not None:
                watching.append(tasks.create_task(self._hook.alerts.run()))
            if self._export is not None:
                watching.append(tasks.create_task(self._export.exporter.run()))
            if self.fleet is not None:
                watching.append(tasks.create_task(self.fleet.run()))
            if ready is not None:
                self._is_told = True
                await self._until_stopped(ready(self))
            await self._stop.wait()
            if self.options.log:
                self.log.write("draining", SYSTEM.time(), inflight=self.house.inflight)
            for task in watching:
                task.cancel()
            front.drain()
            await self.plane.drain(self.config.server.drain)
            await front.close(CUT_AFTER)
        self.house.pulse.stop()
        self.admin.stop()
        for close in self._closers:
            await close()
        if self.fleet is not None:
            await self.fleet.close()
        if self._hook is not None:
            await self._hook.transport.aclose()
        if self._export is not None:
            await self._export.aclose()
        await self._ended(self.house.snapshot.aclose())
        self.house.background.close()
        await self.house.transport.aclose()

    def stop(self) -> None:
        """Begins to drain; `run` returns when that is done."""
        self._stop.set()

    async def _until_stopped(self, telling: Awaitable[None]) -> None:
        """What is told once it answers (the demo's tour, say) ends with the process, however long it would take."""
        told = asyncio.ensure_future(telling)
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((told, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if told.done():
            await told
        told.cancel()

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        self._closers.append(close)

    def _about(self) -> About:
        requests, places = self.fleet.limits.held() if self.fleet is not None else (0, 0)
        return About(
            version=__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
            worker=self.options.worker,
            up=round(SYSTEM.monotonic() - self._begun, 1),
            inflight=self.house.inflight,
            config=self.house.snapshot.hash,
            requests_held=requests,
            places_held=places,
            money_held=self.governor.book.held(),
        )

    @property
    def url(self) -> str:
        host = self.options.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    # -- configuration -----------------------------------------------------------------------------------------------
    def reload(self) -> str | None:
        """Swaps the snapshot; a file that is not valid changes nothing. Returns what is wrong with it."""
        try:
            config = read_config(self.options)
            snapshot = self._compiler.compile(config)
        except ConfigError as error:
            self.reload_error = str(error)
            self.log.write("reload_failed", SYSTEM.time(), problems=[str(problem) for problem in error.problems])
            return self.reload_error
        self.config = config
        self._retire(self.house.snapshot)
        self.house.snapshot = snapshot
        self.governor.configure(rules_of(config))
        self.reload_error = None
        self.log.write("reloaded", SYSTEM.time(), config=snapshot.hash)
        return None

    def _retire(self, snapshot: Snapshot) -> None:
        task = asyncio.get_running_loop().create_task(self._ended(snapshot.retire()))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _ended(self, ending: Awaitable[None]) -> None:
        """Tells what could not be ended; what comes after it goes on."""
        try:
            await ending
        except ExceptionGroup as error:
            self.log.write("ending_failed", SYSTEM.time(), error=redact(repr(error)))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY)
            stamp = self._file_stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                self.reload()

    def _file_stamp(self) -> tuple[int, int] | None:
        if self.options.config is None:
            return None
        try:
            status = self.options.config.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def _event(self, kind: str, facts: dict[str, object]) -> None:
        self.house.event(kind, facts)

    # -- log ---------------------------------------------------------------------------------------------------------
    def _log_request(self, record: RequestRecord, trace: Trace) -> None:
        if self.options.log:
            self.log.request(record)

    def _log_event(self, kind: str, facts: dict[str, object]) -> None:
        if self.options.log:
            self.log.write(kind, SYSTEM.time(), **facts)

    def _note_error(self, request_id: str, error: HeadgateError) -> None:
        if self.options.log and (error.detail or error.status >= 500):
            self.log.write(
                "error", SYSTEM.time(), id=request_id, code=error.code, message=error.message, detail=error.detail
            )


def make_runner() -> asyncio.Runner:
    """The event loop: uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _calm_collector() -> None:
    """What start-up made stays: the collector need not look at it again, nor as often. Requests leave few cycles behind;
    with Python's defaults it took 7 % of the CPU under load."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
