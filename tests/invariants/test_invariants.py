"""The ledger's invariants I1 to I7 under random traffic, kills and faults: a sample here, all of it in `make soak`.

HEADGATE_SEED=7 pytest tests/invariants            the same draws again (threads and disks still take their own time)
HEADGATE_KILLS=1000 pytest -m slow -s tests/invariants
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from headgate.core.failpoints import POINTS
from support.chaos.replicas import FleetWorld
from support.chaos.world import World, Zygote
from support.fleet import Stores, is_possible
from support.postgres import Server

SEED = int(os.environ.get("HEADGATE_SEED") or random.SystemRandom().getrandbits(32))
KILLS = int(os.environ.get("HEADGATE_KILLS") or 1000)
RANDOM_LIVES = 5
FLEET_LIVES = 6
needs_stores = pytest.mark.skipif(not is_possible(), reason="no PostgreSQL or Valkey: scripts/database.sh, shared.sh")
CAMPAIGN = 60
"""Lives on the same data, after which everything begins anew."""


def campaign(world: World, points: list[str | None]) -> None:
    try:
        for point in points:
            world.live(point)
            if world.violations:
                break
        else:
            world.last()
        found = "\n".join(world.violations[:20])
        assert not found, f"seed {world.seed}, {world.lives} lives:\n{found}"
    finally:
        world.close()


@pytest.mark.timeout(180)
def test_a_kill_at_every_point_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, zygote: Zygote, server: Server | None
) -> None:
    print(f"seed {SEED}")
    world = World(tmp_path, zygote, seed=SEED, server=server)
    campaign(world, [*POINTS, *[None] * RANDOM_LIVES])
    assert set(POINTS) <= set(world.kills), "not every fail-point has struck"


@needs_stores
@pytest.mark.timeout(180)
def test_replicas_that_die_lose_nothing_and_count_nothing_twice(tmp_path: Path, zygote: Zygote, stores: Stores) -> None:
    print(f"seed {SEED}")
    world = FleetWorld(tmp_path, zygote, seed=SEED, server=stores.postgres, shared=stores.valkey)
    campaign(world, [None] * FLEET_LIVES)


@pytest.mark.slow
@pytest.mark.timeout(14_400)
def test_thousands_of_kills(tmp_path: Path, zygote: Zygote, server: Server | None) -> None:
    kills: Counter[str] = Counter()
    lives, number, began = 0, 0, time.monotonic()
    while kills.total() < KILLS:
        world = World(tmp_path / str(number), zygote, seed=SEED + number, server=server, stop=10.0)
        campaign(world, [*POINTS, *[None] * (CAMPAIGN - len(POINTS))])
        kills += world.kills
        lives, number = lives + world.lives, number + 1
        print(f"seed {world.seed}: {kills.total()} kills, {lives} lives, {time.monotonic() - began:.0f} s", flush=True)
    print(dict(kills))


@needs_stores
@pytest.mark.slow
@pytest.mark.timeout(14_400)
def test_hundreds_of_kills_among_replicas(tmp_path: Path, zygote: Zygote, stores: Stores) -> None:
    """Each takes longer than one of a process alone: a fifth as many."""
    kills: Counter[str] = Counter()
    lives, number, began = 0, 0, time.monotonic()
    while kills.total() < KILLS // 5:
        world = FleetWorld(
            tmp_path / str(number), zygote, seed=SEED + number, server=stores.postgres, shared=stores.valkey, stop=10.0
        )
        campaign(world, [*POINTS, *[None] * (CAMPAIGN - len(POINTS))])
        kills += world.kills
        lives, number = lives + world.lives, number + 1
        print(f"seed {world.seed}: {kills.total()} kills, {lives} lives, {time.monotonic() - began:.0f} s", flush=True)
    print(dict(kills))
