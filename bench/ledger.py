"""What the ledger costs: CPU per request with everything in the background included, and whether it keeps up.

python bench/ledger.py                          # CPU per request, unpaced in small bursts
python bench/ledger.py --rate 5000 --seconds 60 # a sustained rate: backlog and memory at the end
python bench/ledger.py --sync-delay 5           # a disk whose fsync takes 5 ms longer
python bench/ledger.py --durability power
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from headgate.core.ids import new_id
from headgate.core.records import AttemptIntent, AttemptOutcome, RequestRecord
from headgate.core.usage import Usage
from headgate.ledger.journal import Journal
from headgate.ledger.tail import Tail, TailOptions
from headgate.stores.sqlite import SqliteStore

TRACE = (
    b'{"strategy":"route","chosen":{"model":"claude","because":"code"},"attempts":[{}],"decisions":['
    + b'{"kind":"x"},' * 40
)


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def one(journal: Journal | Off, n: int, waits: list[float]) -> None:
    now = time.time()
    attempt, trace, request = new_id("at"), new_id("tr"), new_id("req")
    key, user, team = f"key{n % 100}", f"user{n % 100 % 40}", f"team{n % 100 % 7}"  # a key has one owner and one team
    began = time.perf_counter()
    journal.intend(
        AttemptIntent(
            id=attempt, request_id=request, trace=trace, at=now, model=f"model{n % 5}", provider="p", deployment="d",
            upstream="u", key_id=key, user=user, team=team, tags=("prod",), reserved=5_000_000,
            price_version="config", expires=now + 660, admitted=now,
        )
    )  # fmt: skip
    await journal.durable()
    waits.append(time.perf_counter() - began)
    usage = Usage(input=1200, output=300, cached_input=800)
    journal.settle(
        AttemptOutcome(
            id=attempt, at=now, state="settled", outcome="ok", usage=usage, cost=1_234_567, ttft=0.2, latency=1.0,
            upstream_id="chatcmpl-123", status=200,
        )
    )  # fmt: skip
    journal.record(
        RequestRecord(
            id=request, trace=trace, at=now, door="chat", requested="auto", strategy="route", model="m", provider="p",
            key_id=key, user=user, team=team, tags=("prod",), attempts=1, usage=usage, cost=1_234_567, ttft=0.2,
            latency=1.0, overhead=0.001, trace_json=TRACE,
        )
    )  # fmt: skip
    await journal.durable()


class Off:
    """No ledger: what the bench itself costs."""

    behind = 0

    def intend(self, intent: AttemptIntent) -> None: ...
    def settle(self, outcome: AttemptOutcome) -> None: ...
    def record(self, record: RequestRecord) -> None: ...
    async def durable(self) -> None: ...


async def baseline(options: argparse.Namespace, n: int) -> float:
    """CPU us per request without a ledger, at the same rate."""
    waits: list[float] = []
    began, cpu, done = time.perf_counter(), time.process_time(), 0
    while done < n:
        due = min(int((time.perf_counter() - began) * options.rate), n)
        if due > done:
            await asyncio.gather(*(one(Off(), k, waits) for k in range(done, due)))
            done = due
        await asyncio.sleep(0.005)
    return (time.process_time() - cpu) / n * 1e6


async def run(options: argparse.Namespace, directory: Path) -> dict[str, object]:
    without = await baseline(options, int(min(options.rate * 3, options.requests)))
    store = SqliteStore(directory / "headgate.db")
    journal = Journal(directory / "journal", durability=options.durability)
    journal.sync.delay = options.sync_delay / 1000
    tail = Tail(journal, store, TailOptions())
    tail.start()
    waits: list[float] = []
    done, worst, memory = 0, 0, []
    began, cpu = time.perf_counter(), time.process_time()
    loop_cpu = time.thread_time()
    step = 0.005
    while time.perf_counter() - began < options.seconds and done < options.requests:
        due = min(int((time.perf_counter() - began) * options.rate), options.requests)
        if due > done:
            await asyncio.gather(*(one(journal, n, waits) for n in range(done, due)))
            done = due
        worst = max(worst, journal.behind)
        if done // 100_000 >= len(memory):
            memory.append(rss())
            waits = waits[-100_000:]
        await asyncio.sleep(step)
    took = time.perf_counter() - began
    behind = journal.behind
    loop_cpu = time.thread_time() - loop_cpu
    while journal.behind:  # noqa: ASYNC110 - another thread works
        await asyncio.sleep(0.01)
    caught_up = time.perf_counter() - began - took
    cpu = time.process_time() - cpu
    await tail.stop()
    await store.aclose()
    waits.sort()
    return {
        "requests": done,
        "per_second": round(done / took),
        "cpu_us_per_request": round(cpu / done * 1e6 - without, 1),
        "of_it_in_the_serving_thread_us": round(loop_cpu / done * 1e6 - without, 1),
        "the_bench_itself_us": round(without, 1),
        "recorded_before_send_p50_us": round(waits[len(waits) // 2] * 1e6, 1),
        "recorded_before_send_p99_us": round(waits[int(len(waits) * 0.99)] * 1e6, 1),
        "backlog_at_the_end_kb": behind // 1000,
        "largest_backlog_kb": worst // 1000,
        "caught_up_after_s": round(caught_up, 2),
        "rss_mb": [round(m / 1e6, 1) for m in [*memory, rss()]],
        "store_mb": round(sum(p.stat().st_size for p in directory.iterdir() if p.is_file()) / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=4000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--requests", type=int, default=10**9)
    parser.add_argument("--durability", choices=["crash", "power"], default="crash")
    parser.add_argument("--sync-delay", type=float, default=0.0, help="milliseconds added to each sync")
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)
    with tempfile.TemporaryDirectory(prefix="headgate-ledger-") as directory:
        print(json.dumps(asyncio.run(run(options, Path(directory))), indent=1))


if __name__ == "__main__":
    main()
