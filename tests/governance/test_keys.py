"""Virtual keys: found by hash alone, ended on time, and nothing about them leaks."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from headgate.core.errors import AuthenticationFailed, Conflict, PermissionDenied, StorageUnavailable, StorageUnsure
from headgate.core.principal import LOCAL, Principal
from headgate.core.records import KeyRecord, TeamRecord
from headgate.engine.snapshot import Snapshot, check_allowed, check_door
from headgate.governance.desk import Desk
from headgate.governance.governor import KeyedGovernor
from headgate.governance.keys import KeyRing, make_key, rotate_key, state_of
from headgate.governance.rules import Rules
from headgate.stores.memory import MemoryStore
from support.clock import FakeClock

NOW = 1_795_500_000.0


def record(**fields: Any) -> KeyRecord:
    return KeyRecord(**{"id": "", "hash": "0" * 64, "hint": "", "name": "a key", "created": NOW, **fields})


class Shelf:
    """As much of a store as keys need."""

    def __init__(self) -> None:
        self.held: dict[str, KeyRecord] = {}
        self.groups: list[TeamRecord] = []
        self.count = 0
        self.down = False

    async def keys(self):
        return list(self.held.values())

    async def teams(self):
        return self.groups

    async def version(self):
        if self.down:
            raise StorageUnavailable("gone")
        return self.count

    def put(self, key: KeyRecord) -> None:
        self.held[key.id] = key
        self.count += 1


def test_a_secret_has_160_random_bits_and_is_stored_nowhere():
    made = make_key(record())
    assert re.fullmatch(r"hg-[0-9a-z]{32}", made.secret)
    assert math.log2(32**32) == 160
    assert make_key(record()).secret != made.secret
    assert made.secret not in repr(made.record)
    assert made.secret.encode() not in msgspec.json.encode(made.record)
    assert made.record.hint == made.secret[-4:]


def test_a_key_is_found_by_what_its_holder_has():
    made = make_key(
        record(name="ci", user="ann", team="core", tags=("x",), models=("claude-*",), zone="eu", priority=3)
    )
    team = TeamRecord(id="core", name="Core", created=NOW, models=("claude-4.7",))
    found = KeyRing([made.record], [team]).find([made.secret, made.secret], NOW)
    assert not isinstance(found, Principal)
    who = found.principal
    assert (who.key_id, who.name, who.user, who.team, who.tags) == (made.record.id, "ci", "ann", "core", ("x",))
    assert (who.models, who.team_models, who.zone, who.priority) == ({"claude-*"}, {"claude-4.7"}, "eu", 3)


@pytest.mark.parametrize(
    "presented",
    [
        [],
        [""],
        ["hg-"],
        ["' OR 1=1 --"],
        ['"; DROP TABLE virtual_keys; --'],
        ["hg-" + "x" * 10_240],
        ["ключ", "ключ"],
        ["\ud800"],
        ["\x00" * 200],
    ],
)
def test_whatever_is_no_key_is_refused_in_the_same_words(presented):
    ring = KeyRing([make_key(record()).record])
    with pytest.raises(AuthenticationFailed) as caught:
        ring.find(presented, NOW)
    assert len(caught.value.message) < 100
    assert presented == [] or presented[0] not in ("'", *caught.value.message.split())


def test_a_long_key_costs_no_more_than_a_short_one():
    """Only the beginning is looked at, and a key that merely begins like a real one is none."""
    made = make_key(record())
    ring = KeyRing([made.record])
    with pytest.raises(AuthenticationFailed):
        ring.find([made.secret + "0" * 10_000_000], NOW)


def test_two_different_keys_are_refused_even_if_one_is_right():
    one, two = make_key(record()), make_key(record())
    ring = KeyRing([one.record, two.record])
    with pytest.raises(AuthenticationFailed, match="two different"):
        ring.find([one.secret, two.secret], NOW)
    with pytest.raises(AuthenticationFailed, match="two different"):
        ring.find([one.secret, "x"], NOW)


def test_keys_end_when_they_expire_or_are_revoked():
    expiring, revoked = make_key(record(expires=NOW + 10)), make_key(record(revoked=NOW + 5))
    ring = KeyRing([expiring.record, revoked.record])
    ring.find([expiring.secret], NOW + 9.9)
    ring.find([revoked.secret], NOW + 4.9)
    with pytest.raises(AuthenticationFailed, match="expired"):
        ring.find([expiring.secret], NOW + 10)
    with pytest.raises(AuthenticationFailed, match="revoked"):
        ring.find([revoked.secret], NOW + 5)


def test_rotation_overlaps_and_keeps_the_line():
    first = make_key(record(name="ci", models=("a",)))
    old, second = rotate_key(first.record, now=NOW, overlap=60)
    again, third = rotate_key(second.record, now=NOW + 1, overlap=0)
    ring = KeyRing([old, again, third.record])
    ids = set()
    for secret in (first.secret, third.secret):
        found = ring.find([secret], NOW + 2)
        assert not isinstance(found, Principal)
        ids.add(found.principal.key_id)
    assert ids == {first.record.id}, "a rotated key spends from the same budget"
    assert state_of(old, NOW + 2) == "ending"
    assert state_of(old, NOW + 60) == "revoked"
    with pytest.raises(AuthenticationFailed):
        ring.find([second.secret], NOW + 2)
    assert third.record.models == ("a",)
    assert rotate_key(old, now=NOW + 30, overlap=600)[0].revoked == NOW + 60, "rotating again prolongs nothing"


async def test_a_revoked_key_is_over_whatever_clocks_say_that_are_behind_or_set_back():
    here, there, store = FakeClock(NOW), FakeClock(NOW - 3600), MemoryStore()
    desk, replica = Desk(store, clock=here), KeyedGovernor(store, clock=there)
    made, other = await desk.create({"name": "k"}, "test"), await desk.create({"name": "rotated"}, "test")
    await replica.refresh()
    replica.authenticate([made["secret"]])
    revoked = await desk.revoke(made["id"], "test")
    await desk.rotate(other["id"], "test", overlap=0)
    await replica.refresh()
    for secret in (made["secret"], other["secret"]):
        with pytest.raises(AuthenticationFailed, match="revoked"):
            replica.authenticate([secret])
    here.now = NOW - 60
    assert {key["id"]: key["state"] for key in await desk.keys()}[made["id"]] == "revoked"
    assert (await desk.revoke(made["id"], "test"))["revoked"] == revoked["revoked"], "once is enough"


async def test_a_revoked_key_ends_within_two_seconds_on_every_replica():
    clock, store = FakeClock(NOW), Shelf()
    made = make_key(record())
    store.put(made.record)
    replicas = [KeyedGovernor(store, clock=clock) for _ in range(3)]  # type: ignore[arg-type]
    for replica in replicas:
        await replica.refresh()
        assert replica.authenticate([made.secret]).key_id == made.record.id
    watching = [asyncio.create_task(replica.watch()) for replica in replicas]
    await asyncio.sleep(0)
    store.put(msgspec.structs.replace(made.record, revoked=clock.time()))
    await clock.advance(2.0)
    for replica in replicas:
        with pytest.raises(AuthenticationFailed):
            replica.authenticate([made.secret])
    for task in watching:
        task.cancel()


async def test_without_the_store_known_keys_go_on_and_it_is_said_once():
    clock, store, events = FakeClock(NOW), Shelf(), []
    made = make_key(record())
    store.put(made.record)
    governor = KeyedGovernor(store, clock=clock, on_event=lambda kind, facts: events.append(kind))  # type: ignore[arg-type]
    await governor.refresh()
    watching = asyncio.create_task(governor.watch())
    await asyncio.sleep(0)
    store.down = True
    for _ in range(3):
        await clock.advance(1.0)
    assert governor.authenticate([made.secret]).key_id == made.record.id
    store.down = False
    await clock.advance(1.0)
    assert events == ["store_lost", "store_back"]
    watching.cancel()


async def test_a_defect_at_one_look_does_not_keep_revocations_from_the_next(monkeypatch):
    clock, store, events = FakeClock(NOW), Shelf(), []
    made = make_key(record())
    store.put(made.record)
    governor = KeyedGovernor(store, clock=clock, on_event=lambda kind, facts: events.append((kind, facts)))  # type: ignore[arg-type]
    await governor.refresh()
    watching = asyncio.create_task(governor.watch())
    await asyncio.sleep(0)

    async def broken() -> list[TeamRecord]:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(store, "teams", broken)
    store.put(msgspec.structs.replace(made.record, revoked=NOW))
    await clock.advance(1.0)
    assert events == [("store_lost", {"detail": "ZeroDivisionError('a defect')"})]
    monkeypatch.undo()
    await clock.advance(1.0)
    with pytest.raises(AuthenticationFailed):
        governor.authenticate([made.secret])
    watching.cancel()


async def test_a_look_whose_keys_cannot_be_loaded_is_made_again(monkeypatch):
    clock, store, events = FakeClock(NOW), Shelf(), []
    made = make_key(record())
    store.put(made.record)
    governor = KeyedGovernor(store, clock=clock, on_event=lambda kind, facts: events.append(kind))  # type: ignore[arg-type]
    await governor.refresh()
    watching = asyncio.create_task(governor.watch())
    await asyncio.sleep(0)
    store.put(msgspec.structs.replace(made.record, revoked=NOW, models=5))
    for _ in range(3):
        await clock.advance(1.0)
    assert events == ["store_lost"], "it is not well again because nothing has changed since"
    store.put(msgspec.structs.replace(made.record, revoked=NOW))
    await clock.advance(1.0)
    assert events == ["store_lost", "store_back"]
    with pytest.raises(AuthenticationFailed):
        governor.authenticate([made.secret])
    watching.cancel()


async def test_a_look_that_takes_long_undoes_nothing_that_a_later_one_has_found(monkeypatch):
    """The poll reads the keys; before they have come, one is revoked and another made, and that is loaded at once."""
    clock, store = FakeClock(NOW), Shelf()
    old, new = make_key(record()), make_key(record())
    governor = KeyedGovernor(store, local=True, clock=clock)  # type: ignore[arg-type]
    store.put(old.record)
    held, come = list(store.held.values()), asyncio.Event()

    async def slow() -> list[KeyRecord]:
        await come.wait()
        return held

    monkeypatch.setattr(store, "keys", slow)
    poll = asyncio.create_task(governor.refresh())
    await asyncio.sleep(0)
    monkeypatch.undo()
    store.put(msgspec.structs.replace(old.record, revoked=NOW))
    store.put(new.record)
    assert await governor.refresh()
    come.set()
    assert not await poll
    assert governor.authenticate([new.secret]).key_id == new.record.id
    with pytest.raises(AuthenticationFailed):
        governor.authenticate([old.secret])


async def test_a_plane_is_open_only_while_no_key_was_ever_made():
    clock, store = FakeClock(NOW), Shelf()
    local, public = (KeyedGovernor(store, local=here, clock=clock) for here in (True, False))  # type: ignore[arg-type]
    with pytest.raises(StorageUnavailable):
        local.authenticate(["anything"])  # nobody knows yet whether there are keys
    await local.refresh()
    await public.refresh()
    assert local.open
    assert local.authenticate(["anything"]) is LOCAL
    assert local.authenticate([]) is LOCAL
    assert not public.open
    with pytest.raises(AuthenticationFailed):
        public.authenticate(["anything"])
    made = make_key(record(revoked=NOW))
    store.put(made.record)
    await local.refresh()
    assert not local.open, "revoking the last key does not open the gates"
    with pytest.raises(AuthenticationFailed):
        local.authenticate(["anything"])


async def test_the_consoles_own_key_works_beside_the_others():
    store = Shelf()
    store.put(make_key(record()).record)
    console = Principal(key_id="console", name="console")
    governor = KeyedGovernor(store, internal={"hg-inside": console})  # type: ignore[arg-type]
    await governor.refresh()
    assert governor.authenticate(["hg-inside"]) is console


@pytest.mark.parametrize(
    ("models", "team", "asked", "fine"),
    [
        (("claude-*",), None, "claude-4.7", True),
        (("claude-*",), None, "gpt-5.5", False),
        (("gpt-?.5",), None, "gpt-5.5", True),
        (None, ("auto",), "gpt-5.5", False),
        (("gpt-5.5", "auto"), ("auto",), "gpt-5.5", False),
        (("gpt-5.5", "auto"), ("auto",), "auto", True),
        ((), None, "auto", False),
    ],
)
def test_a_model_must_be_allowed_by_the_key_and_by_its_team(models, team, asked, fine):
    made = make_key(record(models=models, team="t"))
    found = KeyRing([made.record], [TeamRecord(id="t", name="t", created=NOW, models=team)]).find([made.secret], NOW)
    assert not isinstance(found, Principal)
    snapshot = Snapshot(entries={}, models={})
    if fine:
        check_allowed(found.principal, asked, snapshot)
    else:
        with pytest.raises(PermissionDenied) as caught:
            check_allowed(found.principal, asked, snapshot)
        assert caught.value.code == "model_not_allowed"


def test_a_key_can_be_confined_to_doors():
    who = Principal(doors=frozenset({"messages"}))
    for door in ("messages", "count_tokens", "models", "trace", "explain"):
        check_door(who, door)
    for door in ("chat", "gemini", "gemini_count", "embeddings", "responses", "library"):
        with pytest.raises(PermissionDenied):
            check_door(who, door)


async def test_a_key_whose_team_is_gone_is_refused_until_the_team_is_back():
    """Without its team nobody knows what holds for it: letting it through would lift all of the team's limits."""
    events: list[tuple[str, dict[str, object]]] = []
    shop = TeamRecord(id="shop", name="Shop", created=NOW, models=("auto",))
    member, ended, alone = make_key(record(team="shop")), make_key(record(team="shop", revoked=NOW)), make_key(record())
    store = Shelf()
    governor = KeyedGovernor(
        store,  # type: ignore[arg-type]
        rules=Rules(teams={"shop": shop}),
        clock=FakeClock(NOW),
        on_event=lambda kind, facts: events.append((kind, facts)),
    )
    for one in (member, ended, alone):
        store.put(one.record)
    await governor.refresh()
    who = governor.authenticate([member.secret])
    assert (who.team_models, events) == ({"auto"}, [])

    for _ in range(2):
        governor.configure(Rules())
        with pytest.raises(PermissionDenied, match=r"team 'shop', which is not defined.*'teams:'") as caught:
            governor.authenticate([member.secret])
        assert caught.value.code == "team_not_found"
    with pytest.raises(AuthenticationFailed, match="revoked"):
        governor.authenticate([ended.secret])
    assert governor.authenticate([alone.secret]).team is None, "keys without a team do not change"
    assert [(kind, facts["team"], facts["keys"]) for kind, facts in events] == [("team_missing", "shop", 1)], (
        "said once"
    )
    with pytest.raises(PermissionDenied):  # it was let in before the team went
        await governor.admit(
            who, model="auto", door="chat", tags=(), input_tokens=1, output_tokens=1, worst_case=0, at=NOW
        )

    store.groups = [shop]  # defined anew, this time in the store
    store.count += 1
    await governor.refresh()
    assert governor.authenticate([member.secret]).team_models == {"auto"}
    store.groups = []
    store.count += 1
    await governor.refresh()
    assert [kind for kind, _ in events] == ["team_missing"] * 2


def test_the_state_of_a_key_tells_of_a_missing_team_only_where_it_could_be_used():
    member = record(team="shop")
    assert state_of(member, NOW) == "active"
    assert state_of(member, NOW, {"shop"}) == "active"
    assert state_of(member, NOW, {"ops"}) == "team_missing"
    assert state_of(record(), NOW, ()) == "active"
    assert state_of(record(team="shop", revoked=NOW), NOW, ()) == "revoked"
    assert state_of(record(team="shop", expires=NOW), NOW, ()) == "expired"


async def test_a_damaged_row_refuses_its_key_alone_and_says_so():
    events: list[tuple[str, dict[str, object]]] = []
    store, clock = Shelf(), FakeClock(NOW)
    governor = KeyedGovernor(
        store,  # type: ignore[arg-type]
        local=False,
        clock=clock,
        on_event=lambda kind, facts: events.append((kind, facts)),
    )
    made = [make_key(record()) for _ in range(4)]
    sound, *damaged = made
    for number, one in enumerate(made):
        broken = {0: one.record.hash, 1: "zz" + one.record.hash[2:], 2: one.record.hash[:-2], 3: ""}[number]
        store.put(msgspec.structs.replace(one.record, hash=broken))
    for _ in range(2):
        store.count += 1
        await governor.refresh()
    assert governor.authenticate([sound.secret]).key_id == sound.record.id
    for one in damaged:
        with pytest.raises(AuthenticationFailed, match="Incorrect key"):
            governor.authenticate([one.secret])
    told = [(kind, facts["key"]) for kind, facts in events]
    assert sorted(told) == sorted(("key_damaged", one.record.id) for one in damaged), "once each"
    assert "refused" in str(events[0][1]["because"])

    store.put(damaged[0].record)
    store.put(msgspec.structs.replace(store.held[damaged[1].record.id], revoked=NOW))
    events.clear()
    await governor.refresh()
    assert governor.authenticate([damaged[0].secret]).key_id == damaged[0].record.id, "restored"
    assert events == []
    store.put(msgspec.structs.replace(damaged[0].record, hash="?"))
    await governor.refresh()
    assert [facts["key"] for _, facts in events] == [damaged[0].record.id]


async def test_a_plane_whose_only_key_is_damaged_is_not_open():
    store = Shelf()
    governor = KeyedGovernor(store)  # type: ignore[arg-type]
    await governor.refresh()
    assert governor.authenticate([]) is LOCAL
    store.put(record(id="k1", hash="damaged"))
    await governor.refresh()
    with pytest.raises(AuthenticationFailed):
        governor.authenticate(["hg-any"])


class Between(MemoryStore):
    """Something happens between what is read of keys and what is written of them, once."""

    then: Callable[[], Awaitable[object]] | None = None

    async def keys(self):
        found = await super().keys()
        then, self.then = self.then, None
        if then is not None:
            await then()
        return found


async def test_a_key_that_is_revoked_while_it_is_rotated_stays_revoked():
    store = Between()
    desk = Desk(store, clock=FakeClock(NOW))
    made = await desk.create({"name": "k"}, "test")
    store.then = lambda: Desk(store, clock=FakeClock(NOW)).revoke(made["id"], "another")
    with pytest.raises(Conflict):
        await desk.rotate(made["id"], "test")
    (key,) = await desk.keys()
    assert (key["state"], key["rotated_to"]) == ("revoked", None)


class Losing(MemoryStore):
    """Commits, and the answer is lost."""

    lost = False

    async def put_key(self, *keys, note=None):
        await super().put_key(*keys, note=note)
        if self.lost:
            raise StorageUnsure("lost in a commit")

    async def swap_key(self, old, *keys, note=None):
        await super().swap_key(old, *keys, note=note)
        raise StorageUnsure("lost in a commit")


@pytest.mark.parametrize("change", ["create", "rotate"])
async def test_who_makes_a_key_and_hears_no_answer_is_told_how_to_find_and_revoke_it(change: str):
    store = Losing()
    desk = Desk(store, clock=FakeClock(NOW))
    if change == "rotate":
        old = await desk.create({"name": "shop"}, "test")
    store.lost = True
    with pytest.raises(StorageUnsure, match=r"the key 'key_\w+' \('shop'\) may exist") as caught:
        await (desk.create({"name": "shop"}, "test") if change == "create" else desk.rotate(old["id"], "test"))
    named = re.search(r"headgate keys revoke (\w+)`", caught.value.message)
    assert named is not None
    assert named[1] in {key["id"] for key in await desk.keys()}


async def test_a_key_that_is_rotated_twice_at_once_has_one_successor():
    store = Between()
    desk = Desk(store, clock=FakeClock(NOW))
    made = await desk.create({"name": "k"}, "test")
    store.then = lambda: desk.rotate(made["id"], "another")
    with pytest.raises(Conflict):
        await desk.rotate(made["id"], "test")
    assert sorted(key["state"] for key in await desk.keys()) == ["active", "ending"]


async def test_a_key_that_is_rotated_while_it_is_revoked_is_revoked():
    store = Between()
    desk = Desk(store, clock=FakeClock(NOW))
    made = await desk.create({"name": "k"}, "test")
    store.then = lambda: desk.rotate(made["id"], "another")
    found = await desk.revoke(made["id"], "test")
    assert (found["state"], found["rotated_to"] is not None) == ("revoked", True), "the successor is a key of its own"
