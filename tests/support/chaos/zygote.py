"""Forks gateway processes: what they import is imported once, so that a life costs tenths of a second.

A program of its own (`python zygote.py`), with one thread. Commands come as JSON lines on stdin, news go to stdout:
    {"start": {"life", "config", "data", "failpoints", "log"}}
        →  {"started": LIFE, "pid"}  {"ready": LIFE, "url", "admin"}  {"dead": LIFE, "status"}
Lives have numbers of their own: the system uses a pid again and again.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

SEGMENT = 60_000
"""Bytes of a journal's segment: small, so that segments are put away within a short life."""

DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def main() -> None:
    _import_all()
    news = os.dup(1)
    lives: dict[int, int] = {}
    waiting = b""
    while True:
        if select.select([0], [], [], 0.02)[0]:
            data = os.read(0, 65_536)
            if not data:
                return
            *lines, waiting = (waiting + data).split(b"\n")
            for line in lines:
                _fork(json.loads(line)["start"], news, lives)
        _reap(news, lives)


def _import_all() -> None:
    from headgate.core.clock import SYSTEM
    from headgate.engine.compile import Compiler
    from headgate.engine.zero import config_from_environment
    from headgate.ledger.journal import Journal

    for name in (
        "headgate.cli.serve",
        "headgate.server.serve",
        "headgate.stores.postgres",
        "uvicorn.lifespan",
        "uvloop",
    ):
        import_module(name)
    Compiler({}, clock=SYSTEM).compile(config_from_environment({"OPENAI_API_KEY": "x"}))
    defaults = Journal.__init__.__kwdefaults__
    assert defaults is not None
    defaults["segment"] = SEGMENT
    gc.collect()
    gc.freeze()  # else every life would look through, and so copy, all that was imported


def _fork(command: dict[str, Any], news: int, lives: dict[int, int]) -> None:
    pid = os.fork()
    if pid:
        lives[pid] = command["life"]
        _say(news, {"started": command["life"], "pid": pid})
        return
    status = 70
    try:
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)  # a test that fails leaves no gateway behind
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        log = os.open(command["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = _serve(command, news)
    except BaseException:  # noqa: BLE001 - the root of a process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def _serve(command: dict[str, Any], news: int) -> int:
    from headgate.cli.serve import run_process
    from headgate.server.options import Options
    from headgate.server.serve import Process
    from support.gateway import ENV

    options = Options(
        config=Path(command["config"]),
        port=0,
        admin_port=0,
        data_dir=Path(command["data"]),
        env={**ENV, "HEADGATE_FAILPOINTS": command["failpoints"]},
    )

    async def ready(process: Process) -> None:
        _say(news, {"ready": command["life"], "url": process.url, "admin": process.admin.url})

    run_process(Process(options), ready)
    return 0


def _reap(news: int, lives: dict[int, int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say(news, {"dead": lives.pop(pid), "status": os.waitstatus_to_exitcode(status)})


def _say(news: int, what: dict[str, Any]) -> None:
    os.write(news, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    main()
