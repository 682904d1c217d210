"""Objects that a provider keeps are found by every process of a fleet, and after a restart: stored responses, files and
batches, with an account of two holding each. Real processes, PostgreSQL, Valkey and SQLite."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.simulator.app import Simulator
from support.canned import Provider
from support.fleet import Stores, is_possible
from support.gateway import Loop
from support.served import Served
from support.sim import INSTANT

needs_stores = pytest.mark.skipif(not is_possible(), reason="no PostgreSQL or Valkey: scripts/database.sh, shared.sh")
pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("homes")]
CONFIG = """
providers:
  openai: {{base_url: "{openai}"}}
  near: {{kind: openai-compatible, base_url: "{near}", api_key: sk-near}}
models:
  gpt-5.5:
    balance: least_outstanding
    deployments:
      - {{provider: openai, upstream: gpt-5.5, api_key: sk-one}}
      - {{provider: openai, upstream: gpt-5.5, api_key: sk-two}}
  house: {{provider: near, upstream: near-one, cost_per_1k: 1.0}}
"""


class Providers:
    """Where the objects live."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        self.openai = self.loop.run(self.sim.start(0))["openai"]
        self.near = Provider()
        self.loop.run(self.near.server.__aenter__())
        file = {"id": "file-1", "object": "file", "bytes": 3, "filename": "a.jsonl", "purpose": "batch"}
        batch = {"id": "batch_1", "object": "batch", "input_file_id": "file-1", "status": "validating"}
        for path, body in {
            "/files": file,
            "/files/file-1": file,
            "/batches": batch,
            "/batches/batch_1": batch,
        }.items():
            self.near.answers[path] = (200, "application/json", json.dumps(body).encode())

    def configuration(self, store: str) -> str:
        url = f"http://127.0.0.1:{self.near.server.port}/v1"
        return CONFIG.format(openai=self.openai, near=url) + store

    def close(self) -> None:
        self.loop.run(self.near.server.__aexit__())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def providers() -> Iterator[Providers]:
    found = Providers()
    yield found
    found.close()


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    found = Stores()
    yield found
    found.close()


def ask(gateway: Served, method: str, path: str, body: Any = None, *, key: str) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "x-headgate-details": "true"}
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{gateway.url}/v1{path}", data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def begin(gateway: Served, key: str) -> tuple[str, str]:
    """(id of a stored response, the deployment that made it)."""
    status, made = ask(gateway, "POST", "/responses", {"model": "gpt-5.5", "input": "What is 12*12?"}, key=key)
    assert status == 200, made
    return made["id"], made["headgate"]["chosen"]["deployment"]


def goes_on(gateway: Served, id: str, deployment: str, key: str) -> None:
    """The conversation is continued and read there, by the account that holds it."""
    more = {"model": "gpt-5.5", "input": "And plus one?", "previous_response_id": id}
    status, made = ask(gateway, "POST", "/responses", more, key=key)
    assert status == 200, made
    assert made["headgate"]["chosen"]["deployment"] == deployment
    status, kept = ask(gateway, "GET", f"/responses/{id}", key=key)
    assert (status, kept.get("id")) == (200, id)


def exists_for_nobody_else(gateway: Served, id: str, other: str) -> None:
    assert ask(gateway, "GET", f"/responses/{id}", key=other)[0] == 404
    more = {"model": "gpt-5.5", "input": "And plus one?", "previous_response_id": id}
    status, refused = ask(gateway, "POST", "/responses", more, key=other)
    assert (status, refused["error"]["param"]) == (404, "previous_response_id")


def keys(gateway: Served, *others: Served) -> tuple[str, str]:
    """Two keys that all of them know; none of them is open any more."""
    made = [gateway.ask_admin("/keys", {"name": name})["secret"] for name in ("mine", "another")]
    deadline = time.monotonic() + 60
    for one in (gateway, *others):
        for key, status in (("nobody's", 401), (made[0], 200), (made[1], 200)):
            while {ask(one, "GET", "/models", key=key)[0] for _ in range(10)} != {status}:  # of any worker
                assert time.monotonic() < deadline
    return made[0], made[1]


@needs_stores
def test_two_replicas_find_what_the_other_one_made(tmp_path: Path, providers: Providers, stores: Stores) -> None:
    file = tmp_path / "headgate.yaml"
    urls = stores.postgres.new_database(), stores.valkey.new_database()
    file.write_text(providers.configuration('store: {{url: "{}", shared: "{}"}}\n'.format(*urls)))
    first = Served(file, tmp_path / "one")
    second = Served(file, tmp_path / "two")
    try:
        mine, other = keys(first, second)
        for _ in range(4):  # two accounts: by chance alone, one time in sixteen
            id, deployment = begin(first, mine)
            goes_on(second, id, deployment, mine)
        exists_for_nobody_else(second, id, other)
        assert ask(second, "GET", "/responses/resp_of_nobody", key=mine)[0] == 404

        assert ask(first, "POST", "/files?provider=near", {}, key=mine)[0] == 200
        assert ask(second, "GET", "/files/file-1", key=mine)[0] == 200
        assert ask(second, "GET", "/files/file-1", key=other)[0] == 404
        status, batch = ask(second, "POST", "/batches", {"input_file_id": "file-1", "endpoint": "x"}, key=mine)
        assert (status, batch["id"]) == (200, "batch_1")
        assert ask(first, "GET", "/batches/batch_1", key=mine)[0] == 200
        assert ask(first, "GET", "/batches/batch_1", key=other)[0] == 404
    finally:
        first.close()
        second.close()


@needs_stores
def test_workers_of_one_machine_find_what_any_of_them_made(
    tmp_path: Path, providers: Providers, stores: Stores
) -> None:
    file = tmp_path / "headgate.yaml"
    urls = stores.postgres.new_database(), stores.valkey.new_database()
    file.write_text(providers.configuration('store: {{url: "{}", shared: "{}"}}\n'.format(*urls)))
    group = Served(file, tmp_path / "data", "--workers", "2")
    try:
        mine, other = keys(group)
        id, deployment = begin(group, mine)
        for _ in range(12):  # a new connection each time: the kernel chooses who answers
            goes_on(group, id, deployment, mine)
        exists_for_nobody_else(group, id, other)
    finally:
        group.close()


def test_one_process_on_sqlite_finds_after_a_restart_what_it_made(tmp_path: Path, providers: Providers) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(providers.configuration(""))
    gateway = Served(file, tmp_path / "data")
    try:
        mine, other = keys(gateway)
        id, deployment = begin(gateway, mine)
        gateway.stop()
        gateway.again()
        goes_on(gateway, id, deployment, mine)
        exists_for_nobody_else(gateway, id, other)
    finally:
        gateway.close()
