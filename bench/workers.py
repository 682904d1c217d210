"""Requests per second and CPU per request of one process, and of several workers, on PostgreSQL and Valkey with a key, a
limit and a budget. Needs what `sh bench/run.sh`, scripts/database.sh and scripts/shared.sh install.

    .venv/bin/python bench/workers.py 1 2
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from harness import TOOLS

from support.fleet import Stores
from support.served import Served

MOCK_PORT = 9377
ROUNDS = 2
CONFIG = """
providers: {{mock: {{kind: openai-compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
models: {{fast: {{provider: mock, upstream: mock-d0-n200-g0, cost_per_1k: 0.001}}}}
store: {{url: "{store}", shared: "{shared}"}}
"""
LIMITS = {"requests_per_minute": 10**8, "tokens_per_minute": 10**11}


def measure(count: int, stores: Stores, folder: Path) -> None:
    folder.mkdir()
    file = folder / "headgate.yaml"
    urls = {"store": stores.postgres.new_database(), "shared": stores.valkey.new_database()}
    file.write_text(CONFIG.format(port=MOCK_PORT, **urls))
    gateway = Served(file, folder / "data", "--workers", str(count))
    key = gateway.ask_admin("/keys", {"name": "bench", "limits": LIMITS, "budgets": {"monthly": 10**6}})["secret"]
    time.sleep(3.0)  # every worker has heard of it
    processes = [psutil.Process(gateway.process.pid), *psutil.Process(gateway.process.pid).children()]
    for _ in range(ROUNDS):
        before = sum(sum(process.cpu_times()[:2]) for process in processes)
        command = [str(TOOLS / "loadgen"), "-p", gateway.url.rpartition(":")[2], "-m", "json", "-c", "32", "-d", "6"]
        done = subprocess.run([*command, "-k", key, "-M", "fast"], capture_output=True, text=True, check=True)
        cpu = sum(sum(process.cpu_times()[:2]) for process in processes) - before
        found = json.loads(done.stdout)
        assert not found["non200"] + found["errors"], found
        print(f"{count} workers: {found['rps']:.0f} requests/s, {cpu / found['done'] * 1e6:.0f} us CPU per request")
    gateway.close()


def main() -> None:
    stores = Stores()
    mock = subprocess.Popen([str(TOOLS / "mock"), str(MOCK_PORT)])
    try:
        with tempfile.TemporaryDirectory() as folder:
            for count in map(int, sys.argv[1:] or ("1", "2")):
                measure(count, stores, Path(folder) / str(count))
    finally:
        mock.kill()
        stores.close()


if __name__ == "__main__":
    main()
