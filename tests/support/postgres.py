"""A PostgreSQL server for tests: a cluster of its own in a temporary directory, never run as root."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

HERE = Path(__file__).parents[2]
PLACES = (
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    HERE / ".tools/postgres/pgserver/pginstall/bin",
)


def programs() -> Path | None:
    """The directory of initdb and postgres; None where PostgreSQL is not installed (see scripts/database.sh)."""
    found = shutil.which("initdb")
    places = [*PLACES, *([Path(found).parent] if found else [])]
    return next((place for place in places if (place / "initdb").exists()), None)


needs_postgres = pytest.mark.skipif(programs() is None, reason="no PostgreSQL: sh scripts/database.sh")


class Server:
    """`start` and `stop` may be called again and again: the data stays."""

    def __init__(self) -> None:
        place = programs()
        assert place is not None
        self._programs = place
        self._user = _user()
        self._folder = Path(tempfile.mkdtemp(prefix="hg-pg-"))
        if self._user is not None:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        self._run(
            "initdb", "-D", str(self._folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"
        )

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port), "-k", "",
             "-h", "127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=60"],
            user=self._user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _wait(self._answers())

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """At once, as a machine that goes away; the next start recovers."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of an empty one."""
        self._made += 1
        name = f"t{self._made}"
        _wait(self._create(name))
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    async def _create(self, name: str) -> None:
        connection = await asyncpg.connect(self.url("postgres"))
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    async def _answers(self) -> None:
        async with asyncio.timeout(30):
            while True:
                try:
                    await (await asyncpg.connect(self.url("postgres"))).close()
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.05)
                else:
                    return

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments], user=self._user, cwd="/", check=True, capture_output=True
        )


def _wait(work: Coroutine[None, None, None]) -> None:
    """Also where a loop runs in this thread already."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def _user() -> str | None:
    """initdb refuses root: then another user of the machine."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
