"""The file itself: refused with a clear message, never re-created in silence."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.core.errors import StorageUnavailable
from headgate.core.records import JournalEntry
from headgate.stores.migrations import Step, steps
from headgate.stores.sqlite import SqliteReader, SqliteStore
from headgate.stores.sqlite.files import migrate, version_warning
from support.books import NOON, intent, outcome, record

DAY = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "headgate.db"


async def make(path: Path) -> None:
    store = SqliteStore(path)
    await store.apply([intent(), outcome(), record()], holder="h1")
    await store.aclose()


async def test_a_second_process_is_refused_by_name(path: Path) -> None:
    store = SqliteStore(path)
    code = (
        "import sys\nfrom pathlib import Path\nfrom headgate.stores.sqlite import SqliteStore\n"
        "from headgate.core.errors import StorageUnavailable\n"
        "try:\n    SqliteStore(Path(sys.argv[1]))\nexcept StorageUnavailable as e:\n    print(e.message)\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert f"in use by process {os.getpid()}" in done.stdout
    await store.aclose()
    again = SqliteStore(path)
    await again.aclose()


async def test_a_damaged_file_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"this is no database" * 300)
    before = path.read_bytes()
    with pytest.raises(StorageUnavailable, match="damaged"):
        SqliteStore(path)
    assert path.read_bytes() == before


async def test_a_database_of_another_program_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    with pytest.raises(StorageUnavailable, match="another program"):
        SqliteStore(path)


async def test_a_wal_without_its_database_is_refused(path: Path) -> None:
    await make(path)
    path.rename(path.with_name("elsewhere.db"))
    Path(f"{path}-wal").write_bytes(b"x" * 100)
    with pytest.raises(StorageUnavailable, match="missing"):
        SqliteStore(path)
    assert not path.exists()


async def test_a_database_of_a_newer_release_is_refused(path: Path) -> None:
    await make(path)
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 999")
    newer.close()
    with pytest.raises(StorageUnavailable, match="newer release"):
        SqliteStore(path)


async def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "headgate.db").mkdir()
    with pytest.raises(StorageUnavailable, match="cannot be opened"):
        SqliteStore(tmp_path / "headgate.db")


async def test_a_write_that_fails_changes_nothing_and_the_next_one_works(path: Path) -> None:
    """Another program holds the write lock longer than we wait; then it lets go."""
    store = SqliteStore(path)
    store._writer._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable):
        await store.apply([intent(), outcome()], holder="h1")
    other.execute("ROLLBACK")
    other.close()
    assert list(await store.attempts("tr_1")) == []
    await store.apply([intent(), outcome()], holder="h1")
    assert len(await store.attempts("tr_1")) == 1
    await store.aclose()


async def test_a_full_disk_changes_nothing_and_recovers(path: Path) -> None:
    store = SqliteStore(path)
    connection = store._writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    rows = [intent(f"at_{n}", tags=("x" * 500,)) for n in range(200)]
    with pytest.raises(StorageUnavailable):
        await store.apply(rows, holder="h1")
    assert list(await store.attempts("tr_1")) == []
    connection.execute("PRAGMA max_page_count = 100000")
    await store.apply(rows, holder="h1")
    assert len(await store.attempts("tr_1")) == 200
    await store.aclose()


async def test_readers_work_beside_the_writer_and_after_it(path: Path) -> None:
    store = SqliteStore(path)
    await store.apply([intent(), outcome(), record()], holder="h1")
    reader = SqliteReader(path)
    assert len(await reader.requests(limit=5)) == 1
    await store.aclose()
    assert len(await reader.attempts("tr_1")) == 1
    await reader.aclose()
    late = SqliteReader(path)
    assert (await late.usage(since=0, until=NOON + 10, by=(), where={}))[0].cost == 300
    await late.aclose()


async def test_reading_what_is_not_there_says_so(path: Path) -> None:
    reader = SqliteReader(path)
    with pytest.raises(StorageUnavailable, match="is it there"):
        await reader.keys()
    assert not path.exists()
    await reader.aclose()


async def test_a_query_that_takes_too_long_is_ended(path: Path) -> None:
    store = SqliteStore(path)
    store._readers._limit = 0.05
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n"
    with pytest.raises(StorageUnavailable, match="too long"):
        await store._readers.do(lambda c: c.execute(endless).fetchone())
    await store.aclose()


async def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteStore(path)
    await store.aclose()
    with pytest.raises(StorageUnavailable):
        await store.apply([intent()], holder="h1")
    with pytest.raises(StorageUnavailable):
        await store.keys()


def test_a_step_that_fails_leaves_the_schema_before_it() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    start = steps("sqlite")
    migrate(connection, start)
    bad = Step(version=len(start) + 1, name="bad", statements=("CREATE TABLE half (x)", "CREATE TABLE half (x)"))
    with pytest.raises(sqlite3.Error):
        migrate(connection, (*start, bad))
    assert connection.execute("PRAGMA user_version").fetchone() == (len(start),)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    good = Step(version=len(start) + 1, name="good", statements=("CREATE TABLE whole (x)",))
    migrate(connection, (*start, good))
    assert connection.execute("PRAGMA user_version").fetchone() == (len(start) + 1,)
    connection.close()


@pytest.mark.parametrize(
    ("version", "warned"), [((3, 6, 23), False), ((3, 7, 0), True), ((3, 51, 2), True), ((3, 51, 3), False)]
)
def test_versions_with_the_wal_reset_bug_are_warned_about(version: tuple[int, ...], warned: bool) -> None:
    assert (version_warning(version) is not None) is warned


def day_of_traffic(day: int, rows: int) -> list[JournalEntry]:
    at = NOON + day * DAY
    out: list[JournalEntry] = []
    for n in range(rows):
        id, trace = f"at_{day}_{n}", f"tr_{day}_{n}"
        out += [
            intent(id, trace=trace, at=at, admitted=at, expires=at + 600),
            outcome(id, at=at),
            record(trace, at=at, trace_json=b"x" * 800),
        ]
    return out


async def test_a_file_that_is_pruned_stops_growing(path: Path) -> None:
    """Rows of old days go, their room is used again: after the first days the file is as large as it will be."""
    store = SqliteStore(path)
    sizes: list[int] = []
    for day in range(12):
        await store.apply(day_of_traffic(day, 400), holder="h1")
        await store.prune(NOON + (day - 1) * DAY)
        with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as reader:
            pages, size = (reader.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        reader.close()
        sizes.append(pages * size)
    assert sizes[-1] <= sizes[3] * 1.1, sizes
    assert sum(row.attempts for row in await store.usage(since=0.0, until=NOON + 30 * DAY, by=(), where={})) == 12 * 400
    await store.aclose()


async def test_pruning_lets_batches_through(path: Path) -> None:
    """Months of rows go in small transactions: what the journal brings meanwhile is booked in between."""
    store = SqliteStore(path)
    for day in range(10):
        await store.apply(day_of_traffic(day, 1000), holder="h1")
    pruning = asyncio.create_task(store.prune(NOON + 20 * DAY))
    await asyncio.sleep(0)
    booked_first = 0
    for n in range(3):
        await store.apply([intent(f"at_new_{n}"), outcome(f"at_new_{n}")], holder="h1")
        booked_first += not pruning.done()
    assert booked_first == 3
    await pruning
    await store.aclose()


async def test_a_new_database_is_its_owners_alone(path: Path):
    before = os.umask(0o022)
    try:
        store = SqliteStore(path)
        modes = {file.name: file.stat().st_mode & 0o077 for file in path.parent.glob("*.db*") if file.suffix != ".lock"}
    finally:
        os.umask(before)
    await store.aclose()
    assert modes == dict.fromkeys(("headgate.db", "headgate.db-wal", "headgate.db-shm"), 0)
