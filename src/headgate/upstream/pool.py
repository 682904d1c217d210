"""Which deployment of a model takes the next request."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Collection, Sequence

from headgate.upstream.deployment import Deployment, Model

LEAST_WEIGHT = 1e-9
"""Of spares among themselves: the same for all."""


def choose(
    model: Model, *, left: Collection[str], affinity: str | None, rng: random.Random, pin: str | None = None
) -> tuple[Deployment | None, str]:
    """(deployment, why) among those that are well or may be probed, those in `left` excepted; None where there is none.

    Session affinity comes first, so that the provider's prompt cache stays warm, and yields to health. One whose weight is
    0 is a spare: asked where no other may be. One that is full is waited for only where all are."""
    if len(model.deployments) == 1:
        only = model.deployments[0]
        free = only.key not in left and (pin is not None or only.vitals.health.ready_in() <= 0)
        return (only, "only one") if free and pin in (None, only.key) else (None, "no deployment may be asked")
    if pin is not None:
        pinned = next((d for d in model.deployments if d.key == pin and d.key not in left), None)
        return pinned, "it holds the conversation's state"
    open_ones = [d for d in model.deployments if d.key not in left and d.vitals.health.ready_in() <= 0]
    well = [d for d in open_ones if d.vitals.health.well]
    candidates = well or open_ones
    candidates = [d for d in candidates if d.vitals.gate.has_room] or candidates
    candidates = [d for d in candidates if d.weight > 0] or candidates
    if not candidates:
        return None, "no deployment may be asked"
    probe = next((d for d in open_ones if not d.vitals.health.well), None)
    if probe is not None and well:
        # Someone has to try whether it has recovered; health admits one request at a time for that.
        return probe, "probe after its cool-down"
    if len(candidates) == 1:
        return candidates[0], "the others are left or cooling"
    if affinity and model.affinity and model.balance in ("weighted", "latency"):
        sticky = _rendezvous(candidates, affinity)
        if sticky.vitals.gate.has_room and sticky.vitals.headroom_now() > 0.02:
            return sticky, "same conversation"
    return _BALANCERS[model.balance](candidates, rng), model.balance


def earliest(model: Model, left: Collection[str]) -> Deployment | None:
    """The deployment that recovers first."""
    candidates = [d for d in model.deployments if d.key not in left]
    return min(candidates, key=lambda d: d.vitals.health.ready_in(), default=None)


def _weighted(candidates: Sequence[Deployment], rng: random.Random) -> Deployment:
    return rng.choices(candidates, [d.weight or LEAST_WEIGHT for d in candidates])[0]


def _least_outstanding(candidates: Sequence[Deployment], rng: random.Random) -> Deployment:
    return min(candidates, key=lambda d: ((d.vitals.outstanding + 1) / (d.weight or LEAST_WEIGHT), rng.random()))


def _latency(candidates: Sequence[Deployment], rng: random.Random) -> Deployment:
    """Peak EWMA, power of two choices."""
    one, two = rng.sample(candidates, 2)
    loads = [d.vitals.load / (d.weight or LEAST_WEIGHT) for d in (one, two)]
    return one if loads[0] <= loads[1] else two


def _rate_limit(candidates: Sequence[Deployment], rng: random.Random) -> Deployment:
    """Most of its provider's rate limit left; by weight among equals."""
    best = max(d.vitals.headroom_now() for d in candidates)
    return _weighted([d for d in candidates if d.vitals.headroom_now() >= best - 0.05], rng)


_BALANCERS = {
    "weighted": _weighted,
    "least_outstanding": _least_outstanding,
    "latency": _latency,
    "rate_limit": _rate_limit,
}


def _rendezvous(candidates: Sequence[Deployment], affinity: str) -> Deployment:
    """Highest weighted hash: a deployment that comes or goes moves only its own conversations."""

    def score(deployment: Deployment) -> float:
        digest = hashlib.blake2b(f"{affinity}\0{deployment.key}".encode(), digest_size=8).digest()
        share = (int.from_bytes(digest) + 1) / 2**64
        return math.log(share) / (deployment.weight or LEAST_WEIGHT)

    return max(candidates, key=score)
