"""Where objects are that providers keep: known to every store, by key."""

from __future__ import annotations

from headgate.core.ports import Store
from headgate.core.records import HomeRow
from support.books import NOON, record

DAY = 86400.0


def home(object_id: str, *, key: str = "k1", expires: float = NOON + 30 * DAY, deployment: str = "d1") -> HomeRow:
    return HomeRow(
        key_id=key,
        object_id=object_id,
        model="gpt-5.5",
        provider="openai",
        deployment=deployment,
        expires=expires,
    )


async def test_a_home_is_the_keys_own_and_outlives_the_process(open_store) -> None:
    store: Store = await open_store()
    await store.put_homes([home("resp_1"), home("file-1"), home("resp_1", key="k2", deployment="d2")])
    await store.put_homes([home("file-1", deployment="d3")])
    assert sorted((h.object_id, h.deployment) for h in await store.homes(["resp_1", "file-1", "x"], key_id="k1")) == [
        ("file-1", "d3"),
        ("resp_1", "d1"),
    ]
    assert await store.homes(["resp_1"], key_id="k2") == [home("resp_1", key="k2", deployment="d2")]
    assert await store.homes(["file-1"], key_id="k2") == []
    assert await store.homes([], key_id="k1") == []
    assert {(h.object_id, h.key_id) for h in await store.homes(["resp_1", "file-1", "x"], key_id=None)} == {
        ("resp_1", "k1"),
        ("resp_1", "k2"),
        ("file-1", "k1"),
    }
    assert await store.homes(["odd \x00 'id"], key_id="k1") == []


async def test_homes_go_when_their_providers_have_dropped_the_objects(store: Store) -> None:
    await store.apply([record("tr_1", at=NOON)], holder="h1")
    await store.put_homes([home(f"resp_{n}", expires=NOON - 1) for n in range(1200)] + [home("file-1")])
    await store.prune(NOON + DAY)
    left = await store.homes([*(f"resp_{n}" for n in range(1200)), "file-1"], key_id="k1")
    assert [h.object_id for h in left] == ["file-1"]
