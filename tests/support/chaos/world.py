"""One gateway that dies again and again on the same data, while clients ask it and providers fail.

Everything is drawn from one seed. What providers served is known from the simulator's own log, what clients saw from the
clients; after each start the books are read past our own code and laid beside both (checks.py)."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.config.load import load_text
from headgate.core.failpoints import POINTS
from headgate.core.money import Price
from headgate.core.records import BudgetSpec, KeyRecord, LimitSpec
from headgate.engine.compile import Compiler
from headgate.governance.keys import make_key
from headgate.simulator.app import Simulator
from headgate.simulator.breaks import Break
from headgate.simulator.demo import MODELS, at_speed
from headgate.simulator.spec import SimModel
from headgate.stores.postgres import PostgresStore
from headgate.stores.sqlite import SqliteStore
from headgate.upstream.attempt import NAMED
from support.chaos.books import Tables, read_tables
from support.chaos.checks import Truth, check
from support.chaos.clients import Crowd, Told
from support.gateway import ENV, Loop
from support.postgres import Server

DOLLAR = 1_000_000_000
CONFIG = """
providers:
  anthropic: {{base_url: "{anthropic}"}}
  openai: {{base_url: "{openai}"}}
  google: {{base_url: "{google}"}}
  deepseek: {{base_url: "{deepseek}"}}
  meta: {{kind: openai-compatible, base_url: "{meta}", api_key: x}}
models:
  claude-4.7: {{provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.015, max_context: 500_000, timeout: {times}}}
  gpt-5.5:
    deployments: [{{provider: openai, upstream: gpt-5.5}}, {{provider: openai, upstream: gpt-5.5, api_key: other}}]
    price: {{input: 20, output: 20, cached_input: 2}}
    hedge: {{after: 30ms, share: 0.5}}
    timeout: {times}
  gemini-3.0: {{provider: google, upstream: gemini-3-pro, cost_per_1k: 0.012, timeout: {times}}}
  picture: {{provider: openai, upstream: gpt-image-1, price: {{input: 5, output: 4}}, timeout: {times}}}
  voice: {{provider: openai, upstream: tts-1, price: {{input: 15, output: 0}}, timeout: {times}}}
  embed: {{provider: openai, upstream: text-embedding-3-small, price: {{input: 0.02, output: 0}}, timeout: {times}}}
  llama-4: {{provider: meta, upstream: llama-4-maverick, cost_per_1k: 0.005, timeout: {times}}}
  deepseek-v4: {{provider: deepseek, upstream: deepseek-chat, cost_per_1k: 0.008, timeout: {times}}}
  reliable: {{fallback: [claude-4.7, gpt-5.5, gemini-3.0, llama-4]}}
  auto:
    route:
      classifier: keyword
      keywords: {{code: [lambda], math: [lemma]}}
      tasks: {{code: claude-4.7, math: deepseek-v4}}
      otherwise: reliable
  careful: {{ensemble: {{mode: best, members: [claude-4.7, gpt-5.5, gemini-3.0], judge: llama-4}}}}
  voted: {{ensemble: {{mode: vote, members: [claude-4.7, gemini-3.0, deepseek-v4]}}}}
  fused: {{ensemble: {{mode: fuse, members: [claude-4.7, gemini-3.0], judge: llama-4}}}}
  steps: {{cascade: {{try: [llama-4, claude-4.7], accept: {{judge: deepseek-v4}}}}}}
  agent:
    agent: {{planner: claude-4.7, models: [claude-4.7, llama-4, deepseek-v4], budget: {{max_steps: 3, deadline: 5s}}}}
store: {store}
server: {{drain: 1s}}
teams: {{red: {{}}}}
budgets: {{all: {{total: 100000}}, tags: {{poor: {{daily: {{limit: 0.05, hard: true}}}}}}, on_store_loss: {loss}}}
"""
ALL_MODELS = (
    *MODELS,
    SimModel(name="picture", provider="openai", upstream="gpt-image-1", ttft=0.3),
    SimModel(name="voice", provider="openai", upstream="tts-1", ttft=0.3),
)
TIMES = "{connect: 1s, first_token: 400ms, idle: 400ms, total: 3s}"
TROUBLES = ("500", "429", "hang", "cut_stream", "reset_stream", "stall", "truncate_finish", "error_in_stream", "no_usage",
            "slow_first_token", "malformed_stream", "html", "empty", "error_in_200", "overloaded")  # fmt: skip
HOT = POINTS[: POINTS.index("tail.read")]
LIFE = 0.9
"""Seconds that a life may take before it is ended from outside."""
PATIENCE = 60.0
"""Seconds that a fail-point may take to strike where it has to: a loaded machine takes its time."""


@dataclass(frozen=True)
class Life:
    """One process: its number among all that the zygote has started, and its pid while it lives."""

    number: int
    pid: int


class Zygote:
    """Starts gateway processes by forking one that has everything imported."""

    def __init__(self) -> None:
        path = Path(__file__).with_name("zygote.py")
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path.parents[2]), os.environ.get("PYTHONPATH", "")])}
        self._process = subprocess.Popen(
            [sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        )
        self._started = 0
        self._news: list[dict[str, Any]] = []
        self._heard = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, **command: str) -> Life:
        assert self._process.stdin is not None
        self._started += 1
        number = self._started
        self._process.stdin.write(json.dumps({"start": {"life": number, **command}}).encode() + b"\n")
        self._process.stdin.flush()
        return Life(number, self.wait(lambda news: news.get("started") == number, seconds=60)["pid"])

    def wait(self, test: Callable[[dict[str, Any]], bool], *, seconds: float) -> dict[str, Any]:
        """The first news that passes. Raises TimeoutError."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [one for one in self._news[-50:] if test(one)]
            return bool(found)

        with self._heard:
            if not self._heard.wait_for(is_there, seconds):
                raise TimeoutError
        return found[0]

    def dead(self, life: Life, seconds: float) -> bool:
        with suppress(TimeoutError):
            self.wait(lambda news: news.get("dead") == life.number, seconds=seconds)
            return True
        return False

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._heard:
                self._news.append(json.loads(line))
                self._heard.notify_all()


@dataclass
class Plan:
    """How one life goes and ends. `keeps`: whether what clients saw must be in the books (not where the disk was full).
    `must`: the fail-point has to strike."""

    failpoints: str
    end: str
    after: float
    keeps: bool = True
    must: bool = False

    @property
    def point(self) -> str:
        return self.failpoints.partition("=")[0]


class World:
    """`kills`: deaths by SIGKILL so far, by what they struck (those of an idle process are not counted); `lives`: all
    starts. `stop`: seconds that a SIGSTOP lasts at most."""

    def __init__(
        self,
        folder: Path,
        zygote: Zygote,
        *,
        seed: int,
        server: Server | None = None,
        stop: float = 1.0,
        shared: str | None = None,
    ) -> None:
        self.seed = seed
        self._stop = stop
        self.rng = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.lives = 0
        self._zygote = zygote
        self._server = server
        self._clients = 5
        self._data = folder / "data"
        self._log = folder / "gateway.log"
        self._data.mkdir(parents=True)
        self._loop = Loop()
        self._sim = Simulator([at_speed(spec, 20) for spec in ALL_MODELS], seed=seed, keep=1_000_000)
        urls = self._loop.run(self._sim.start(0))
        self._store = server.new_database() if server is not None else str(self._data / "headgate.db")
        self._file = folder / "headgate.yaml"
        found = {"url": self._store if server is not None else "sqlite:///headgate.db"}
        if shared is not None:
            found["shared"] = shared
        loss = self.rng.choice(("closed", "local"))
        text = CONFIG.format(**urls, store=json.dumps(found), loss=loss, times=TIMES)
        self._file.write_text(text)
        self._prices = _prices(text)
        self._secrets, self._limits = asyncio.run(self._make_keys())
        self._told: list[Told] = []
        self.violations: list[str] = []

    async def _make_keys(self) -> tuple[list[str], dict[str, int]]:
        store = PostgresStore(self._store) if self._server is not None else SqliteStore(Path(self._store))
        wanted: list[dict[str, Any]] = [
            {"name": "free", "user": "ann"},
            {"name": "rich", "user": "ann", "team": "red", "budgets": (BudgetSpec(limit=500 * DOLLAR),)},
            {"name": "daily", "user": "bob", "budgets": (BudgetSpec(limit=DOLLAR // 10, period="daily"),)},
            {"name": "poor", "budgets": (BudgetSpec(limit=DOLLAR // 50, period="total"),)},
            {"name": "slow", "limits": LimitSpec(requests_per_minute=60, tokens_per_minute=50_000, concurrent=2)},
        ]
        secrets, limits = [], {"tag:poor": DOLLAR // 20}
        for fields in wanted:
            made = make_key(KeyRecord(id="", hash="", hint="", created=0.0, **fields))
            await store.put_key(made.record)
            secrets.append(made.secret)
            for spec in made.record.budgets:
                limits[f"key:{made.record.id}"] = spec.limit
        await store.aclose()
        return secrets, limits

    # -- lives ---------------------------------------------------------------------------------------------------------
    def live(self, point: str | None = None) -> None:
        """One life: it starts, the books are checked, clients ask, it ends: at `point`, or as it happens."""
        plan = self._plan(point)
        self.lives += 1
        replayed = self._keep_journal() if point is None and self.rng.random() < 0.25 else None
        life = self._start(plan.failpoints)
        ready = self._ready(life)
        if ready is None:
            self._died(plan.point or "start")
            return
        self._judge()
        if replayed is not None:
            self._replay(replayed, life)
            return
        self._trouble()
        crowd = Crowd([ready["url"], *self._others()], self._secrets, self.rng.getrandbits(32), self._clients)
        down = self._take_store_down() if self.rng.random() < 0.15 else None
        if plan.must and not self._zygote.dead(life, plan.after):
            self._all_well(down)  # nothing keeps requests from the point any more
            down = None
            if not self._zygote.dead(life, PATIENCE):
                self.violations.append(f"life {self.lives}: the fail-point {plan.failpoints} never struck")
        self._end(life, ready["admin"], plan, crowd)
        self._meanwhile()
        told = crowd.join()
        if plan.keeps:
            self._told += told
        self._all_well(down)

    def last(self) -> None:
        """A start that nothing disturbs, and its check; then a graceful end."""
        life = self._start("")
        assert self._ready(life) is not None, self._log.read_text()[-3000:]
        self._judge()
        os.kill(life.pid, signal.SIGTERM)
        assert self._zygote.dead(life, 30)
        self._check(set())

    def close(self) -> None:
        self._loop.run(self._sim.aclose())
        self._loop.close()

    def _all_well(self, down: Callable[[], None] | None) -> None:
        if down is not None:
            down()
        self._loop.run(self._sim.mend())

    def _plan(self, point: str | None) -> Plan:
        rng = self.rng
        if point is None and rng.random() < 0.4:
            end = rng.choice(("kill", "kill", "term", "term_kill", "stop", "full"))
            after = rng.uniform(0.02, 0.6)
            if end == "full":
                where = rng.choice(("journal.intent.before", "journal.outcome.before"))
                return Plan(
                    f"{where}=full:{rng.randint(1, 30)}", "kill", after, keeps=where != "journal.outcome.before"
                )
            return Plan("", end, after)
        must = point is not None
        point = point or rng.choice(POINTS)
        count = rng.randint(1, 25) if point in HOT else rng.randint(1, 2)
        if must and point == "replay.half":
            count = 1  # one life may leave no more than one segment behind
        return Plan(f"{point}=kill:{count}", "kill", LIFE, must=must)

    def _others(self) -> list[str]:
        """URLs of what else serves the same books (chaos/replicas.py)."""
        return []

    def _meanwhile(self) -> None:
        """The process has ended, clients still ask the others."""

    def _start(self, failpoints: str, data: Path | None = None) -> Life:
        return self._zygote.start(
            config=str(self._file), data=str(data or self._data), failpoints=failpoints, log=str(self._log)
        )

    def _ready(self, life: Life) -> dict[str, Any] | None:
        """None: it died at its start."""
        news = self._zygote.wait(lambda n: life.number in (n.get("ready"), n.get("dead")), seconds=60)
        if "dead" in news:
            assert news["status"] == -signal.SIGKILL, f"{news}: {self._log.read_text()[-3000:]}"
            return None
        return news

    def _end(self, life: Life, admin: str, plan: Plan, crowd: Crowd) -> None:
        if self._zygote.dead(life, plan.after):
            self._died(plan.point)
            return
        match plan.end:
            case "term":
                if self.rng.random() < 0.5:
                    crowd.join()
                    self._nothing_is_reserved(admin)
                os.kill(life.pid, signal.SIGTERM)
                if self._zygote.dead(life, 30):
                    return
            case "term_kill":
                os.kill(life.pid, signal.SIGTERM)
                if self._zygote.dead(life, self.rng.uniform(0.0, 0.5)):
                    return
            case "stop":
                os.kill(life.pid, signal.SIGSTOP)
                time.sleep(self.rng.uniform(0.2, self._stop))
                os.kill(life.pid, signal.SIGCONT)
                time.sleep(self.rng.uniform(0.0, 0.3))
        with suppress(ProcessLookupError):
            os.kill(life.pid, signal.SIGKILL)
        assert self._zygote.dead(life, 30)
        self._died(plan.end)

    def _nothing_is_reserved(self, admin: str) -> None:
        """I5, from within: with nobody asking, no money is held."""
        deadline = time.monotonic() + 10
        while held := [row for row in self._budgets(admin) if float(row["reserved_usd"]) != 0]:
            if time.monotonic() > deadline:
                self.violations.append(f"life {self.lives}: I5: reserved at rest: {held}")
                return
            time.sleep(0.05)

    def _budgets(self, url: str) -> list[dict[str, Any]]:
        """None of them where the store is down and cannot say."""
        token = (self._data / "admin.token").read_text().strip()
        request = urllib.request.Request(f"{url}/admin/v1/budgets", headers={"authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            return []

    def _died(self, struck: str) -> None:
        self.kills[struck] += 1

    # -- what goes wrong meanwhile ---------------------------------------------------------------------------------------
    def _trouble(self) -> None:
        """Some calls to some models fail in some way."""
        for spec in self.rng.sample(ALL_MODELS, self.rng.randint(0, 2)):
            broken = Break(self.rng.choice(TROUBLES), share=self.rng.choice((0.3, 1.0)), delay=1.0, after=2)
            self._loop.run(self._sim.set_break(spec.name, broken))

    def _take_store_down(self) -> Callable[[], None]:
        """Returns how it comes back."""
        if self._server is not None:
            self._server.stop()
            return self._server.start
        other = sqlite3.connect(self._store, isolation_level=None)
        with suppress(sqlite3.OperationalError):  # the gateway writes just now: then it stays up
            other.execute("BEGIN IMMEDIATE")
        return other.close

    def _keep_journal(self) -> Path | None:
        """A copy of what the dead have left, to be replayed a second time."""
        if not any((self._data / "journal").glob("*.log")):
            return None
        copy = self._data.parent / "journal.copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._data / "journal", copy)
        return copy

    def _replay(self, copy: Path, life: Life) -> None:
        """I4: a journal that is read again changes nothing."""
        os.kill(life.pid, signal.SIGKILL)
        assert self._zygote.dead(life, 30)
        before = read_tables(self._store)
        for path in copy.iterdir():
            if not (self._data / "journal" / path.name).exists():
                shutil.copy2(path, self._data / "journal" / path.name)
        life = self._start("")
        if self._ready(life) is not None:
            after = read_tables(self._store)
            self.violations += [f"I4: {what} changed by a second replay" for what in _changed(before, after)]
            os.kill(life.pid, signal.SIGKILL)
            assert self._zygote.dead(life, 30)

    # -- the books -------------------------------------------------------------------------------------------------------
    def _judge(self) -> None:
        """At rest: all that the dead left has been replayed, nobody asks yet."""
        holders = {path.name.partition(".")[0] for path in (self._data / "journal").glob("*.alive")}
        self._check(holders)

    def _check(self, running: set[str]) -> None:
        self.violations += [f"life {self.lives}: {line}" for line in self._found(running)]

    def _found(self, running: set[str]) -> list[str]:
        def truth() -> Truth:
            ids = [call.headers.get(NAMED) for call in self._sim.wire.calls if call.method == "POST"]
            assert None not in ids, "a call without its attempt's id"
            return Truth(
                served={s.attempt: s for s in self._sim.log if s.attempt is not None},
                calls=Counter(id for id in ids if id is not None),
                told=self._told,
                prices=self._prices,
                limits=self._limits,
                running=running,
            )

        return check(read_tables(self._store), self._loop.call(truth))


def _changed(before: Tables, after: Tables) -> list[str]:
    out = []
    for what in ("attempts", "requests", "spent", "usage_days"):
        one, two = ([json.dumps(row, default=str, sort_keys=True) for row in getattr(t, what)] for t in (before, after))
        if sorted(one) != sorted(two):
            out.append(what)
    return out


def _prices(text: str) -> dict[str, Price]:
    snapshot = Compiler(ENV).compile(load_text(text, "world.yaml", ENV).config)
    return {model.name: model.price for model in snapshot.models() if model.price is not None}
