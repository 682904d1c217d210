"""The key of a plane that others can reach while there is none, where the store is away or lost in the commit: exactly one
is made, shown once, and works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headgate.core.errors import StorageUnavailable, StorageUnsure
from headgate.governance.governor import KeyedGovernor
from headgate.server.first_key import FirstKey
from headgate.stores.postgres import PostgresStore
from support.cutting import Cut, Cutter
from support.postgres import Server, needs_postgres

pytestmark = needs_postgres


class Replica:
    def __init__(self, url: str) -> None:
        self.store = PostgresStore(url)
        self.governor = KeyedGovernor(self.store, local=False)
        self.first = FirstKey(self.store, self.governor, is_due=True)
        self.shown: list[str] = []

    async def make(self) -> None:
        secret = await self.first.make()
        if secret is not None:
            self.shown.append(secret)

    async def make_until_known(self) -> None:
        while self.first.is_due:
            try:
                await self.make()
            except StorageUnavailable:
                await asyncio.sleep(0.05)


@pytest.fixture
async def crowd(postgres: Server) -> AsyncIterator[list[tuple[Cutter, Replica]]]:
    """Four replicas, each with a line of its own that can be cut."""
    url = postgres.new_database()
    made: list[tuple[Cutter, Replica]] = []
    for _ in range(4):
        cutter = Cutter(url, mark=b"INSERT INTO virtual_keys")
        await cutter.start()
        made.append((cutter, Replica(cutter.url)))
    yield made
    for cutter, replica in made:
        await replica.store.aclose()
        await cutter.close()


async def check(replicas: list[Replica]) -> None:
    shown = [secret for replica in replicas for secret in replica.shown]
    assert len(shown) == 1
    for replica in replicas:
        await replica.governor.refresh()
        assert replica.governor.authenticate(shown).name == "first key"
    store = replicas[0].store
    assert [key.name for key in await store.keys()] == ["first key"]
    assert [note.action for note in await store.audits(9)] == ["key.create"]


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_first_key_whose_commit_was_lost_is_shown_once(crowd, cut: Cut) -> None:
    (cutter, one), (_, other), *_ = crowd
    cutter.cut = cut
    with pytest.raises(StorageUnsure):
        await one.make()
    assert (one.shown, one.first.is_unsure) == ([], True)
    await one.make()
    await one.make()
    await other.make()
    assert len(one.shown) == 1
    assert not one.first.is_due
    await check([one, other])


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_another_replica_in_between_makes_no_second_one(crowd, cut: Cut) -> None:
    (cutter, one), (_, other), *_ = crowd
    cutter.cut = cut
    with pytest.raises(StorageUnsure):
        await one.make()
    await other.make()
    await one.make()
    assert [len(one.shown), len(other.shown)] == ([1, 0] if cut == "after" else [0, 1])
    await check([one, other])


async def test_of_many_that_lose_their_commits_at_once_one_shows_one(crowd) -> None:
    for number, (cutter, _) in enumerate(crowd):
        cutter.cut = ("before", "after")[number % 2]
    replicas = [replica for _, replica in crowd]
    async with asyncio.timeout(60):
        await asyncio.gather(*(replica.make_until_known() for replica in replicas))
    await check(replicas)


async def test_a_first_key_that_was_revoked_before_anybody_saw_it_is_not_shown(crowd) -> None:
    (cutter, one), *_ = crowd
    cutter.cut = "after"
    with pytest.raises(StorageUnsure):
        await one.make()
    (made,) = await one.store.keys()
    await one.store.put_key(type(made)(id=made.id, hash=made.hash, hint="", name="gone", created=1.0, revoked=2.0))
    await one.make()
    assert (one.shown, one.first.is_due) == ([], False)
