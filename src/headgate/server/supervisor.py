"""`headgate serve --workers N`: N processes on the same ports (SO_REUSEPORT: the kernel spreads connections over them),
and this one, which serves nothing: it starts them, starts those anew that die or hang, and ends them together.

The workers share nothing but the two stores; what one of them is asked for all (metrics, a reload) goes through here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, generate_latest

from headgate.config.model import Store as StoreSettings
from headgate.core.clock import SYSTEM
from headgate.server.frontends.sockets import bind
from headgate.server.link import Link, LinkLost
from headgate.server.options import URL_FILE, Order, Ready, is_loopback
from headgate.telemetry.logs import Log
from headgate.telemetry.tally import Tally
from headgate.telemetry.workers import merged

BOOT = 120.0
"""Seconds from a worker's start until it serves."""
LAST_WORDS = 15.0
"""Seconds beyond its drain that a worker may take to end: the last answers, and its books."""
ANSWERS_WITHIN = 2.0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """`ping`: seconds between questions whether a worker lives; after `misses` without an answer it is killed. A worker
    that dies is started anew at once, and then ever later up to `slowest`, until one has lived for `well`."""

    ping: float = 5.0
    misses: int = 6
    first: float = 0.1
    slowest: float = 30.0
    well: float = 60.0


class StartFailed(Exception):
    """The first worker ended before it answered; it has said why. `code`: how."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the first worker ended with {code}")
        self.code = code


def what_is_missing(store: StoreSettings) -> str | None:
    """Why several processes cannot share this configuration's stores; None where they can."""
    wanted = []
    if store.url.startswith("sqlite"):
        wanted.append("store.url: postgresql://USER:PASSWORD@HOST/DATABASE (SQLite serves one process)")
    if store.shared is None:
        wanted.append("store.shared: redis://HOST:6379/0 (Valkey or Redis, for limits, health and repeated requests)")
    if not wanted:
        return None
    return "several workers share their ledger, budgets and limits: configure\n  " + "\n  ".join(wanted)


class _Slot:
    """One worker's place; processes come and go in it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.link: Link | None = None
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        """Of the first process here that served."""
        self.serves = False
        self.drain = 30.0
        self.deaths = 0
        """In a row, each soon after its start."""

    def signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Supervisor:
    """`order`: for all workers; ports of 0 are chosen here. `run` must be the main thread's."""

    def __init__(self, order: Order, count: int, *, log: Log | None = None, pace: Pace | None = None) -> None:
        self._order = order
        self._count = count
        self._log = log or Log()
        self._pace = pace or Pace()
        self._slots: list[_Slot] = []
        self.on_first_key: Callable[[str], None] = lambda secret: None
        """Given a key that is not in what `run` says is ready: to be shown, once."""
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reloading: asyncio.Task[str | None] | None = None
        self._held: list[socket.socket] = []
        self._restarts = Tally("headgate_worker_restarts", "Workers that died and were started anew", ("worker",))
        self._alive = Tally("headgate_workers", "Worker processes that serve", gauge=True)

    async def run(self, ready: Callable[[Ready], None]) -> None:
        """Returns when all workers have ended after SIGTERM or SIGINT. A second one of these does not wait for them.
        Raises StartFailed, and OSError where an address is taken."""
        self._order.port = self._hold(self._order.host, self._order.port)
        admin_host = self._order.host if is_loopback(self._order.host) else "127.0.0.1"
        self._order.admin_port = self._hold(admin_host, self._order.admin_port)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)
        self._slots = [_Slot(number + 1) for number in range(self._count)]
        where = Path(self._order.data_dir) / URL_FILE
        try:
            async with asyncio.TaskGroup() as tasks:
                is_told = await self._begin(tasks, ready)
                if not self._stop.is_set():
                    where.write_text(f"http://{admin_host}:{self._order.admin_port}\n", encoding="utf-8")
                await self._stop.wait()
                tasks.create_task(self._end())
            first = self._slots[0].ready
            if not is_told and first.done() and (secret := first.result().first_key) is not None:
                self.on_first_key(secret)  # the end was asked for before all were ready
        except* StartFailed as group:
            raise group.exceptions[0] from None
        finally:
            where.unlink(missing_ok=True)
            for sock in self._held:
                sock.close()
            self._log.close()

    async def _begin(self, tasks: asyncio.TaskGroup, ready: Callable[[Ready], None]) -> bool:
        """The first worker alone: it makes the schema, the first key and the admin's token, and says what is wrong. Whether
        `ready` was told."""
        first, *others = self._slots
        for slots in ([first], others):
            for slot in slots:
                tasks.create_task(self._keep(slot))
            for slot in slots:
                await self._either(slot.ready)
        if self._stop.is_set():
            return False
        ready(first.ready.result())
        return True

    async def _either(self, future: asyncio.Future[Ready]) -> None:
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([future, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()

    def _hold(self, host: str, port: int) -> int:
        """Keeps a port for the workers, listening on none. Raises OSError where somebody else listens."""
        bind(host, port).close()  # SO_REUSEPORT alone would let two gateways of one user share it unseen
        sock = bind(host, port, reuse_port=True)
        self._held.append(sock)
        return sock.getsockname()[1]

    # -- one worker ----------------------------------------------------------------------------------------------------
    async def _keep(self, slot: _Slot) -> None:
        while not self._stop.is_set():
            began = SYSTEM.monotonic()
            status = await self._live(slot)
            if self._stop.is_set():
                return
            if not slot.ready.done() and slot.number == 1:
                raise StartFailed(status if status > 0 else 1)
            slot.deaths = 1 if SYSTEM.monotonic() - began >= self._pace.well else slot.deaths + 1
            wait = min(self._pace.first * 2 ** (slot.deaths - 1), self._pace.slowest)
            self._say("worker_died", worker=slot.number, status=_said(status), again_in=wait)
            self._restarts.add((str(slot.number),))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stop.wait()

    async def _live(self, slot: _Slot) -> int:
        """One process from its start to its end; its exit code, below 0 the signal that ended it."""
        ours, theirs = socket.socketpair()
        try:
            slot.process = process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "headgate.server.worker", str(theirs.fileno()),
                pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            self._say("worker_not_started", worker=slot.number, detail=repr(error))
            return 1
        finally:
            theirs.close()
        if self._stop.is_set():
            process.kill()  # too late for it to be told to drain
        slot.link = link = Link({"metrics": self._metrics, "reload": self._reload, "first_key": self._first_key})
        await link.start(ours)
        watching = asyncio.create_task(self._watch(slot, link))
        try:
            return await process.wait()
        finally:
            watching.cancel()
            await link.close()
            slot.link = slot.process = None
            slot.serves = False

    async def _watch(self, slot: _Slot, link: Link) -> None:
        """Until it is ready, and then whether it still answers: the kernel gives connections to a hung one too."""
        order = msgspec.structs.replace(self._order, worker=slot.number)
        try:
            said = await link.ask("serve", msgspec.to_builtins(order), seconds=BOOT)
        except LinkLost:
            if not link.lost.is_set():
                self._say("worker_hangs", worker=slot.number, seconds=BOOT)
                slot.signal(signal.SIGKILL)
            return  # else it ends by itself, and says why
        found = msgspec.convert(said, Ready)
        slot.drain, slot.serves = found.drain, True
        if found.first_key is not None and (slot.ready.done() or slot is not self._slots[0]):
            self.on_first_key(found.first_key)  # the store was away when the first worker began
        if not slot.ready.done():
            slot.ready.set_result(found)
        self._say("worker_ready", worker=slot.number, pid=slot.process.pid if slot.process else None)
        missed = 0
        while not link.lost.is_set():
            await asyncio.sleep(self._pace.ping)
            try:
                slot.drain = await link.ask("ping", seconds=self._pace.ping)
                missed = 0
            except LinkLost:
                missed += 1
            if missed >= self._pace.misses and not link.lost.is_set():
                self._say("worker_hangs", worker=slot.number, seconds=missed * 2 * self._pace.ping)
                slot.signal(signal.SIGKILL)
                return

    # -- all of them ---------------------------------------------------------------------------------------------------
    def _asked_to_end(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _asked_to_reload(self) -> None:
        self._reloading = asyncio.create_task(self._reload(None))

    async def _end(self) -> None:
        """All drain at once; those that do not end in time are killed."""
        self._say("draining", workers=[slot.number for slot in self._slots if slot.process is not None])
        for slot in self._slots:
            slot.signal(signal.SIGTERM)
        patience = max(slot.drain for slot in self._slots) + LAST_WORDS
        running = [asyncio.ensure_future(slot.process.wait()) for slot in self._slots if slot.process is not None]
        hurry = asyncio.ensure_future(self._hurry.wait())
        until = SYSTEM.monotonic() + patience
        while any(not one.done() for one in running) and not hurry.done() and SYSTEM.monotonic() < until:
            await asyncio.wait(
                [hurry, *(one for one in running if not one.done())],
                timeout=until - SYSTEM.monotonic(),
                return_when=asyncio.FIRST_COMPLETED,
            )
        hurry.cancel()
        for slot in self._slots:
            if slot.process is not None and slot.process.returncode is None:
                self._say("worker_cut", worker=slot.number)
                slot.signal(signal.SIGKILL)

    async def _gather(self, what: str) -> dict[str, Any]:
        """Worker -> what it said; those that do not answer in time are not there."""
        asked = {str(slot.number): slot.link for slot in self._slots if slot.link is not None and slot.serves}
        said = await asyncio.gather(
            *(link.ask(what, seconds=ANSWERS_WITHIN) for link in asked.values()), return_exceptions=True
        )
        return {
            number: found for number, found in zip(asked, said, strict=True) if not isinstance(found, BaseException)
        }

    async def _metrics(self, value: Any) -> str:
        self._alive.set((), sum(slot.serves for slot in self._slots))
        registry = CollectorRegistry()
        registry.register(self._restarts)
        registry.register(self._alive)
        pages = {number: page.encode() for number, page in (await self._gather("metrics")).items()}
        return (generate_latest(registry) + merged(pages)).decode()

    async def _first_key(self, value: Any) -> None:
        self.on_first_key(value)

    async def _reload(self, value: Any) -> str | None:
        found = await self._gather("reload")
        wrong = {number: problem for number, problem in found.items() if problem is not None}
        if len(found) < self._count:
            silent = sorted({str(slot.number) for slot in self._slots} - set(found))
            return f"no answer from worker {', '.join(silent)}"
        if not wrong:
            return None
        if len(set(wrong.values())) == 1 and len(wrong) == self._count:
            return next(iter(wrong.values()))
        return "\n".join(f"worker {number}: {problem}" for number, problem in wrong.items())

    def _say(self, event: str, **facts: Any) -> None:
        self._log.write(event, SYSTEM.time(), **facts)


def _said(status: int) -> str:
    try:
        return signal.Signals(-status).name if status < 0 else f"exit {status}"
    except ValueError:
        return f"signal {-status}"
