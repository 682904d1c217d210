"""Who gets which arm: decided by a hash alone, so that nothing has to be remembered and every replica says the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Literal

from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.conversation import conversation_of, hashed

AssignBy = Literal["key", "user", "conversation"]


def arm_of(salt: str, unit: str, shares: Mapping[str, float]) -> str:
    """The arm of a unit, drawn with probability in proportion to `shares` (all > 0).

    Weighted rendezvous hashing (C. Schindelhauer, G. Schomaker, Weighted Distributed Hash Tables, SPAA 2005, the
    logarithmic method): of exponential clocks with the shares as rates the first one wins. Where one arm's share grows,
    units move to it only, and only as many as its share has grown by. `salt` keeps experiments independent."""

    def clock(arm: str) -> float:
        digest = hashlib.blake2b("\0".join((salt, arm, unit)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return -math.log((int.from_bytes(digest, "big") + 0.5) / 2**64) / shares[arm]

    return min(shares, key=clock)


def unit_of(request: Request, run: Run, assign_by: AssignBy) -> str:
    """Hash of who stays with an arm. Nobody can be told from it who did."""
    principal = run.principal
    if assign_by == "key":
        return hashed(f"key\0{principal.key_id}")
    if request.op != "chat":  # no conversation, and no end user that all bodies name alike
        return hashed(f"user\0{principal.user or principal.key_id}")
    if assign_by == "conversation":
        return conversation_of(request.asked(), principal.key_id)[0]
    content = request.content()
    if content.user is not None:
        return hashed(f"end user\0{principal.key_id}\0{content.user}")
    return hashed(f"user\0{principal.user}" if principal.user is not None else f"key\0{principal.key_id}")
