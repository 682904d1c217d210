"""Agreement without a judge: short canonical answers, JSON by leaf, tool calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from headgate.strategies.ensemble.candidates import Candidate
from headgate.strategies.ensemble.canonical import is_prose, json_in, leaves, scalar

OVERRULE, DEFENDED = 1.5, 2.0
"""How many times the weight of the incumbent's side the other side needs; where a member is named the incumbent. Models err
together: two that agree against a better one are often wrong together. Chosen on recorded answers
(docs/quality-ensembles.md); 1 is a plain majority."""
_SAME = 1e-9
Key = Callable[[Candidate], str | None]


def call_key(candidate: Candidate) -> str | None:
    """The calls of a candidate as names and canonical arguments in any order, None where it calls nothing."""
    if not candidate.calls:
        return None
    return msgspec.json.encode(sorted([call.name, _arguments(call.arguments)] for call in candidate.calls)).decode()


def _arguments(text: str) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(text.encode()), order="deterministic").decode()
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text


def agree(candidates: Sequence[Candidate], key: Key) -> tuple[Candidate | None, float, dict[str, float]]:
    """(winner, its share of all weight, weight by key). Ties go to the incumbent's key, then to the first.

    A candidate without a key has no voice; None where nobody has one."""
    weights: dict[str, float] = defaultdict(float)
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        if (found := key(candidate)) is not None:
            weights[found] += candidate.weight
            if found not in first or candidate.incumbent:
                first[found] = candidate
    if not weights:
        return None, 0.0, {}
    best = max(weights, key=lambda k: (round(weights[k], 9), first[k].incumbent))
    return first[best], weights[best] / sum(c.weight for c in candidates), dict(weights)


def share_of(winner: Candidate, candidates: Sequence[Candidate], key: Key) -> float | None:
    """Of all weight, those who say what the winner says; None where that has no key."""
    if (own := key(winner)) is None:
        return None
    return sum(c.weight for c in candidates if key(c) == own) / sum(c.weight for c in candidates)


class Vote(msgspec.Struct):
    """`share`: of all weight, for the winner. `against`: weight of the strongest other answer over that of the winner's
    where the incumbent was kept against it."""

    winner: Candidate
    share: float
    against: float | None = None


def elect(candidates: Sequence[Candidate], key: Key, *, overrule: float = OVERRULE) -> Vote | None:
    """The answer that most weight is for. Against the incumbent's own answer it needs `overrule` times the weight of those
    who say what the incumbent says; an incumbent whose words have no short form says it alone. None where nobody gave a
    short answer."""
    winner, share, weights = agree(candidates, key)
    if winner is None:
        return None
    incumbent = next((c for c in candidates if c.incumbent), None)
    if incumbent is None or (own := key(incumbent)) == key(winner):
        return Vote(winner, share)
    side = incumbent.weight if own is None else weights[own]
    against = max(weights.values()) / side
    if against >= overrule - _SAME:
        return Vote(winner, share)
    return Vote(incumbent, side / sum(c.weight for c in candidates), against)


def elect_object(candidates: Sequence[Candidate], *, overrule: float = OVERRULE) -> tuple[Vote, Any] | None:
    """JSON by leaf: (the candidate that says most of what was voted for, the object to serve, None where the candidate
    says all of it). Leaves that explain are no matter of a vote and stay with the candidate. None where the candidates
    are no objects of one shape, or only one leaf is to be voted on (then the whole answer is)."""
    objects: list[tuple[Candidate, dict[tuple[Any, ...], Any]]] = []
    for candidate in candidates:
        found, value = json_in(candidate.text)
        if not found or not isinstance(value, dict):
            return None
        objects.append((candidate, leaves(value)))
    shape = objects[0][1].keys()
    if any(found.keys() != shape for _, found in objects):
        return None
    voted = [path for path in shape if not any(is_prose(path, found[path]) for _, found in objects)]
    if len(voted) < 2:
        return None
    said = {id(candidate): found for candidate, found in objects}
    chosen: dict[tuple[Any, ...], Vote] = {}
    for path in voted:
        vote = elect(candidates, lambda c, path=path: scalar(said[id(c)][path]), overrule=overrule)
        assert vote is not None
        chosen[path] = vote

    def fits(candidate: Candidate) -> tuple[float, bool, float]:
        mine = said[id(candidate)]
        agreed = sum(scalar(mine[p]) == scalar(said[id(v.winner)][p]) for p, v in chosen.items())
        return agreed, candidate.incumbent, candidate.weight

    medoid = max(candidates, key=fits)
    share = sum(vote.share for vote in chosen.values()) / len(chosen)
    if fits(medoid)[0] == len(chosen):
        return Vote(medoid, share), None
    merged = dict(said[id(medoid)])
    for path, vote in chosen.items():
        merged[path] = said[id(vote.winner)][path]
    return Vote(medoid, share), _nested(merged)


def _nested(flat: dict[tuple[Any, ...], Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for path, leaf in flat.items():
        place = out
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = leaf
    return out
