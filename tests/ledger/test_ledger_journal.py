"""From an append to the store: in order, once, through full disks, stores that are down, and the deaths of processes."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.core import failpoints
from headgate.core.background import BEHIND
from headgate.core.errors import InternalError, StorageUnavailable
from headgate.ledger import segments as segmenting
from headgate.ledger import tail as tailing
from headgate.ledger.journal import Journal
from headgate.ledger.segments import dead_holders, segments
from headgate.ledger.tail import Tail, TailOptions
from headgate.stores.sqlite import SqliteStore
from support.books import NOON, intent, outcome, record


async def until(check: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - another thread works
            await asyncio.sleep(0.005)


async def settled(ledger) -> None:
    await until(lambda: ledger.journal.behind == 0)


async def spent(store, scope: str = "all") -> int:
    return (await store.lease(scope, "", limit=0, want=0, holder="probe", expires=0)).spent


def fork_and_die(work: Callable[[], None]) -> None:
    """Does `work` in a process that is killed right after."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


async def test_entries_reach_the_store_and_the_files_go(make) -> None:
    ledger = make()
    ledger.tail.start()
    for n in range(50):
        ledger.journal.intend(intent(f"at_{n}", trace=f"tr_{n}"))
        ledger.journal.settle(outcome(f"at_{n}", cost=n))
        ledger.journal.record(record(f"tr_{n}"))
    await settled(ledger)
    assert await spent(ledger.store) == sum(range(50))
    assert len(await ledger.store.requests(limit=99)) == 50
    await ledger.stop()
    assert ledger.tail.is_clean
    assert list((ledger.directory / "journal").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux only")
async def test_carrying_stands_behind_serving(make) -> None:
    ledger = make()
    ledger.tail.start()
    ledger.journal.record(record("tr_1"))
    await settled(ledger)
    await ledger.store.requests(limit=1)
    ours = os.getpriority(os.PRIO_PROCESS, os.getpid())
    behind = {
        thread.name: os.getpriority(os.PRIO_PROCESS, thread.native_id) - ours
        for thread in threading.enumerate()
        if thread.name.startswith(("ledger-", "store-"))
    }
    assert behind.keys() >= {"ledger-tail", "store-writer", "store-reader_0"}
    assert set(behind.values()) == {min(BEHIND, 19 - ours)}


async def test_an_entry_is_in_the_file_when_the_call_returns(make) -> None:
    ledger = make()
    ledger.journal.intend(intent())
    (path,) = segments(ledger.journal.directory, ledger.journal.holder)
    assert path.stat().st_size == ledger.journal.written > 0
    ledger.tail.start()
    await ledger.stop()


async def test_segments_rotate_and_are_deleted_once_the_store_has_them(make) -> None:
    ledger = make(segment=2000)
    for n in range(40):
        ledger.journal.intend(intent(f"at_{n}"))
        ledger.journal.settle(outcome(f"at_{n}"))
    assert len(segments(ledger.journal.directory, ledger.journal.holder)) > 5
    ledger.tail.start()
    await settled(ledger)
    await until(lambda: len(segments(ledger.journal.directory, ledger.journal.holder)) == 1)
    assert await spent(ledger.store) == 40 * 300
    await ledger.stop()


async def test_an_idle_segment_is_put_away(make) -> None:
    ledger = make()
    ledger.tail.start()
    ledger.journal.intend(intent())
    await settled(ledger)
    ledger.journal.rotate_if_idle()
    await until(
        lambda: [p.name[-10:] for p in segments(ledger.journal.directory, ledger.journal.holder)] == ["000002.log"]
    )
    ledger.journal.settle(outcome())
    await settled(ledger)
    assert await spent(ledger.store) == 300
    await ledger.stop()


async def test_a_store_that_is_down_delays_and_loses_nothing(make, monkeypatch) -> None:
    ledger = make()
    down = True
    apply = ledger.store.apply

    async def flaky(entries, *, holder):
        if down:
            raise StorageUnavailable("down")
        await apply(entries, holder=holder)

    monkeypatch.setattr(ledger.store, "apply", flaky)
    ledger.tail.start()
    ledger.journal.intend(intent())
    ledger.journal.settle(outcome())
    await until(lambda: ledger.tail.store_error == "down")
    assert ledger.journal.behind > 0
    down = False
    await settled(ledger)
    assert await spent(ledger.store) == 300
    assert [kind for kind, _ in ledger.events] == ["store_unavailable", "store_available"]
    await ledger.stop()


@pytest.mark.parametrize("what", ["sweep", "prune"])
async def test_what_goes_wrong_with_housekeeping_does_not_end_the_ledger(make, monkeypatch, what) -> None:
    ledger = make(retention=60.0)
    failed = threading.Event()

    async def broken(*args, **options):
        failed.set()
        raise InternalError("a defect")

    monkeypatch.setattr(tailing, "SWEEP_EVERY", 0.0)
    monkeypatch.setattr(ledger.store, what, broken)
    ledger.tail.start()
    await until(failed.is_set)
    for n in range(3):
        ledger.journal.intend(intent(f"at_{n}"))
        ledger.journal.settle(outcome(f"at_{n}", cost=1))
    await settled(ledger)
    assert await spent(ledger.store) == 3
    await until(lambda: [facts["what"] for kind, facts in ledger.events if kind == "ledger_failed"] == [what])
    monkeypatch.undo()
    await ledger.stop()


async def test_a_segment_that_cannot_be_deleted_does_not_end_the_ledger(make, monkeypatch) -> None:
    ledger = make(segment=2000)
    refused = []

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if not refused:
            refused.append(path)
            raise PermissionError(1, "Operation not permitted")
        os.unlink(path)

    monkeypatch.setattr(Path, "unlink", unlink)
    ledger.tail.start()
    for n in range(60):
        ledger.journal.intend(intent(f"at_{n}"))
        ledger.journal.settle(outcome(f"at_{n}", cost=1))
    await settled(ledger)
    await until(lambda: bool(refused))
    await until(lambda: any(kind == "ledger_failed" for kind, _ in ledger.events))
    for n in range(60, 70):
        ledger.journal.intend(intent(f"at_{n}"))
        ledger.journal.settle(outcome(f"at_{n}", cost=1))
    await settled(ledger)
    assert await spent(ledger.store) == 70
    monkeypatch.undo()
    await ledger.stop()


async def test_a_journal_that_cannot_be_read_for_a_while_is_carried_on_when_it_can(make, monkeypatch) -> None:
    ledger = make()
    ledger.journal.recent.put = lambda *entry: None  # what was written is read from the file
    bad, pread = True, os.pread

    def flaky(*args):
        if bad:
            raise OSError(5, "Input/output error")
        return pread(*args)

    monkeypatch.setattr(segmenting.os, "pread", flaky)
    ledger.tail.start()
    ledger.journal.intend(intent())
    ledger.journal.settle(outcome())
    await until(lambda: any(kind == "ledger_failed" for kind, _ in ledger.events))
    bad = False
    await settled(ledger)
    assert await spent(ledger.store) == 300
    assert [facts["what"] for kind, facts in ledger.events if kind == "ledger_failed"] == ["carry"], "said once"
    await ledger.stop()


async def test_what_is_written_reaches_the_store_however_long_old_rows_take_to_go(make, monkeypatch) -> None:
    ledger = make(retention=60.0)
    pruning = threading.Event()

    async def slow(before: float) -> int:
        pruning.set()
        await asyncio.sleep(3600)
        return 0

    monkeypatch.setattr(ledger.store, "prune", slow)
    ledger.tail.start()
    await until(pruning.is_set)
    ledger.journal.intend(intent())
    ledger.journal.settle(outcome())
    await settled(ledger)
    assert await spent(ledger.store) == 300
    await ledger.stop()
    assert ledger.tail.is_clean


async def test_a_store_that_stays_down_leaves_the_files_for_the_next_start(make, monkeypatch) -> None:
    ledger = make()

    async def refuse(entries, *, holder):
        raise StorageUnavailable("down")

    monkeypatch.setattr(ledger.store, "apply", refuse)
    ledger.tail.start()
    ledger.journal.intend(intent())
    ledger.journal.settle(outcome())
    await ledger.tail.stop(grace=0.3)
    await ledger.store.aclose()
    assert not ledger.tail.is_clean
    again = make()
    again.tail.start()
    await until(again.tail.recovered.is_set)
    assert await spent(again.store) == 300
    await again.stop()


async def test_too_far_behind_new_attempts_are_refused_and_counted_but_open_ones_can_close(make) -> None:
    ledger = make(backlog=3000)
    opened = 0
    with pytest.raises(StorageUnavailable, match="behind"):
        for n in range(100):
            ledger.journal.intend(intent(f"at_{n}"))
            opened += 1
    assert 5 < opened < 20
    for n in range(opened):
        ledger.journal.settle(outcome(f"at_{n}"))
    assert ledger.journal.shed == 1
    ledger.tail.start()
    await settled(ledger)
    ledger.journal.intend(intent("at_more"))
    await settled(ledger)
    assert await spent(ledger.store) == 300 * opened
    await ledger.stop()


async def test_an_entry_that_the_store_cannot_hold_is_set_aside(make, monkeypatch) -> None:
    ledger = make()
    apply = ledger.store.apply

    async def picky(entries, *, holder):
        if any(getattr(entry, "id", "") == "at_bad" for entry in entries):
            raise ValueError("not this one")
        await apply(entries, holder=holder)

    monkeypatch.setattr(ledger.store, "apply", picky)
    for id in ("at_1", "at_bad", "at_2"):
        ledger.journal.intend(intent(id))
    ledger.tail.start()
    await settled(ledger)
    assert {made.id for made, _ in await ledger.store.attempts("tr_1")} == {"at_1", "at_2"}
    assert ledger.tail.quarantined == 1
    assert (ledger.directory / "journal" / "refused.log").stat().st_size > 0
    await ledger.stop()


# -- disks -----------------------------------------------------------------------------------------------------------------
async def test_a_full_disk_refuses_new_attempts_and_recovers_unaided(make) -> None:
    ledger = make()
    ledger.tail.start()
    ledger.journal.intend(intent("at_1"))
    failpoints.arm("journal.intent.before=full")
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="cannot be written"):
            ledger.journal.intend(intent("at_2"))
    assert "No space" in (ledger.journal.failed or "")
    failpoints.arm("")
    ledger.journal.intend(intent("at_3"))
    assert ledger.journal.failed is None
    await settled(ledger)
    assert {made.id for made, _ in await ledger.store.attempts("tr_1")} == {"at_1", "at_3"}
    await ledger.stop()


async def test_outcomes_survive_a_full_disk(make, tmp_path: Path) -> None:
    """The kernel's own refusal, in the middle of a frame: what was written of it is taken back."""
    ledger = make()
    ledger.tail.start()
    for n in range(20):
        ledger.journal.intend(intent(f"at_{n}"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    (path,) = segments(ledger.journal.directory, ledger.journal.holder)
    await settled(ledger)
    before = path.stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before + 100, limits[1]))
        for n in range(20):
            ledger.journal.settle(outcome(f"at_{n}"))
        with pytest.raises(StorageUnavailable):
            ledger.journal.intend(intent("at_x"))
        assert path.stat().st_size == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    ledger.journal.retry()
    await settled(ledger)
    assert await spent(ledger.store) == 20 * 300
    await ledger.stop()


async def test_room_is_kept_aside_for_the_attempts_under_way(make, monkeypatch) -> None:
    """A disk that has no byte left but what the spare file holds."""
    ledger = make()
    spare = ledger.journal.directory / f"{ledger.journal.holder}.spare"
    assert spare.stat().st_size == 1_000_000
    ledger.journal.intend(intent())
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if spare.exists():
            raise OSError(28, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    ledger.journal.settle(outcome())
    monkeypatch.undo()
    assert not spare.exists()
    ledger.tail.start()
    await settled(ledger)
    assert await spent(ledger.store) == 300
    await ledger.stop()


async def test_rows_of_requests_are_bounded_in_memory_while_the_disk_is_full(make, monkeypatch) -> None:
    ledger = make()
    monkeypatch.setattr("headgate.ledger.journal.UNWRITTEN", 5)
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    for n in range(20):
        ledger.journal.record(record(f"tr_{n}"))
    assert ledger.journal.dropped == 15
    monkeypatch.undo()
    ledger.tail.start()
    ledger.journal.record(record("tr_last"))
    await settled(ledger)
    assert len(await ledger.store.requests(limit=99)) == 6
    await ledger.stop()


def test_a_directory_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(StorageUnavailable, match="journal cannot be written"):
        Journal(tmp_path / "journal")


# -- durability ------------------------------------------------------------------------------------------------------------
async def test_crash_waits_for_no_disk_and_power_waits_for_one_shared_sync(make, monkeypatch) -> None:
    syncs: list[int] = []
    real = os.fdatasync

    def slow(fd: int) -> None:
        syncs.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    ledger = make(durability="power")
    ledger.journal.sync.delay = 0.05
    loop = asyncio.get_running_loop()

    async def one(n: int) -> None:
        ledger.journal.intend(intent(f"at_{n}"))
        wanted = ledger.journal.written
        await ledger.journal.durable()
        assert ledger.journal.sync.synced >= wanted

    began = loop.time()
    await asyncio.gather(*(one(n) for n in range(50)))
    assert loop.time() - began >= 0.05
    assert len(syncs) <= 3
    ledger.journal.durability = "crash"
    ledger.journal.intend(intent("at_x"))
    with pytest.raises(StopIteration):  # it waits for nothing
        ledger.journal.durable().send(None)
    ledger.tail.start()
    await ledger.stop()


async def test_a_disk_that_cannot_sync_is_told_to_whoever_waits(make, monkeypatch) -> None:
    ledger = make(durability="power")

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    ledger.journal.intend(intent())
    with pytest.raises(StorageUnavailable, match="disk fails"):
        await ledger.journal.durable()
    monkeypatch.undo()
    ledger.journal.intend(intent("at_2"))
    await ledger.journal.durable()
    ledger.tail.start()
    await ledger.stop()


# -- deaths ----------------------------------------------------------------------------------------------------------------
def die_with(directory: Path, work: Callable[[Journal], None]) -> None:
    fork_and_die(lambda: work(Journal(directory / "journal")))


async def restart(directory: Path, charge: bool = True) -> tuple[SqliteStore, Journal, Tail, list]:
    events: list = []
    store = SqliteStore(directory / "headgate.db")
    journal = Journal(directory / "journal")
    options = TailOptions(charge_unknown=charge, every=0.005)
    tail = Tail(journal, store, options, on_event=lambda kind, facts: events.append((kind, facts)))
    tail.start()
    await until(tail.recovered.is_set)
    return store, journal, tail, events


@pytest.mark.parametrize(("charge", "cost"), [(True, 1300), (False, 300)])
async def test_a_restart_replays_and_marks_what_was_open(tmp_path: Path, charge: bool, cost: int) -> None:
    def work(journal: Journal) -> None:
        journal.intend(intent("at_1"))
        journal.intend(intent("at_2"))
        journal.settle(outcome("at_1"))
        journal.record(record())

    die_with(tmp_path, work)
    store, _, tail, events = await restart(tmp_path, charge)
    closed = {made.id: ended for made, ended in await store.attempts("tr_1")}
    assert closed["at_1"].state == "settled"
    assert closed["at_2"].state == "unknown"
    assert await spent(store) == cost
    assert events[0][0] == "journal_replayed"
    assert events[0][1]["unknown"] == 1
    assert list(dead_holders(tmp_path / "journal")) == []
    await tail.stop()
    await store.aclose()


async def test_a_torn_last_entry_is_no_entry(tmp_path: Path) -> None:
    failpoints.arm("journal.intent.torn=kill:2")

    def work(journal: Journal) -> None:
        journal.intend(intent("at_1"))
        journal.intend(intent("at_2"))

    die_with(tmp_path, work)
    failpoints.arm("")
    store, _, tail, events = await restart(tmp_path)
    assert [made.id for made, _ in await store.attempts("tr_1")] == ["at_1"]
    assert events[0][1]["torn_bytes"] > 100
    await tail.stop()
    await store.aclose()


async def test_a_dead_journal_that_cannot_be_replayed_stays_and_holds_nobody_up(tmp_path: Path, monkeypatch) -> None:
    die_with(tmp_path, lambda journal: journal.intend(intent("at_1", reserved=5)))
    end_holder = SqliteStore.end_holder

    async def broken(*args, **options):
        raise InternalError("a defect")

    monkeypatch.setattr(SqliteStore, "end_holder", broken)
    store, journal, tail, events = await restart(tmp_path)
    journal.intend(intent("at_2"))
    journal.settle(outcome("at_2", cost=7))
    await until(lambda: journal.behind == 0)
    assert await spent(store) == 12, "what was open is booked as unknown, and what came since is booked"
    assert [facts["what"] for kind, facts in events if kind == "ledger_failed"] == ["replay"]
    monkeypatch.setattr(SqliteStore, "end_holder", end_holder)
    await tail.stop()
    await store.aclose()
    store, _, tail, events = await restart(tmp_path)
    assert [kind for kind, _ in events] == ["journal_replayed"]
    assert await spent(store) == 12
    await tail.stop()
    await store.aclose()


async def test_replay_may_be_cut_short_and_begun_again(tmp_path: Path) -> None:
    def work(journal: Journal) -> None:
        for n in range(1000):
            journal.intend(intent(f"at_{n}"))
            journal.settle(outcome(f"at_{n}", cost=1))

    die_with(tmp_path, work)

    def half() -> None:
        failpoints.arm("replay.half=kill:2")

        async def go() -> None:
            await restart(tmp_path)

        asyncio.new_event_loop().run_until_complete(go())

    await asyncio.to_thread(fork_and_die, half)
    store, _, tail, _ = await restart(tmp_path)
    assert await spent(store) == 1000
    await tail.stop()
    await store.aclose()


@pytest.mark.parametrize(("boot", "spent_after"), [(None, 0), ("another life of the machine", 700)])
async def test_leases_of_the_dead_return_but_after_a_reboot_they_are_charged(
    tmp_path: Path, boot: str | None, spent_after: int
) -> None:
    holders: list[str] = []
    journal = Journal(tmp_path / "journal")
    journal.intend(intent(reserved=300, expires=NOON))
    store = SqliteStore(tmp_path / "headgate.db")
    await store.lease("all", "", limit=5000, want=1000, holder=journal.holder, expires=NOON)
    await store.aclose()
    journal.close(forget=False)
    holders.append(journal.holder)
    if boot is not None:
        (tmp_path / "journal" / f"{journal.holder}.alive").write_text(boot)
    store, _, tail, _ = await restart(tmp_path)
    lease = await store.lease("all", "", limit=5000, want=0, holder="probe", expires=0)
    assert (lease.spent, lease.leased) == (300 + spent_after, 0)
    await tail.stop()
    await store.aclose()


async def test_a_living_neighbours_journal_is_left_alone(make, tmp_path: Path) -> None:
    ledger = make()
    ledger.journal.intend(intent())
    other = Journal(tmp_path / "journal")
    other.intend(intent("at_other"))
    ledger.tail.start()
    await until(ledger.tail.recovered.is_set)
    await settled(ledger)
    assert [made.id for made, _ in await ledger.store.attempts("tr_1")] == ["at_1"]
    assert segments(other.directory, other.holder) != []
    await ledger.stop()
    other.close(forget=True)


async def test_what_is_open_at_a_graceful_end_is_marked(make) -> None:
    ledger = make()
    ledger.tail.start()
    ledger.journal.intend(intent())
    await ledger.store.lease("all", "", limit=5000, want=1000, holder=ledger.journal.holder, expires=NOON)
    await ledger.tail.stop()
    lease = await ledger.store.lease("all", "", limit=5000, want=0, holder="probe", expires=0)
    assert (lease.spent, lease.leased) == (1000, 0)
    await ledger.store.aclose()
