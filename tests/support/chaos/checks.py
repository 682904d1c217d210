"""The invariants I1 to I7: the books beside what the providers served and what the clients saw."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headgate.core.money import Price, cost_of
from headgate.simulator.spec import Served
from headgate.stores.booking import day_of
from support.chaos.books import Row, Tables
from support.chaos.clients import Told


@dataclass
class Truth:
    """`calls`: what providers were asked, by attempt; `served`: what models answered. `told`: what clients saw, of lives
    whose rows must be there.
    `limits`: hard budgets by scope, nano-US$. `holder`: whoever runs now; all others are dead."""

    served: Mapping[str, Served]
    calls: Counter[str]
    told: Sequence[Told]
    prices: Mapping[str, Price]
    limits: Mapping[str, int]
    running: set[str]


def check(tables: Tables, truth: Truth) -> list[str]:
    """What is violated, in words. The moment: after a start, before its first request."""
    return [
        *_every_call_has_one_row(tables, truth),
        *_settled_is_what_was_served(tables, truth),
        *_sums_are_the_rows(tables),
        *_parents_are_their_children(tables),
        *_limits_hold(tables, truth),
        *_nothing_is_negative(tables),
        *_seen_ends_are_booked(tables, truth),
        *_nothing_is_left_open(tables, truth),
    ]


def _every_call_has_one_row(tables: Tables, truth: Truth) -> list[str]:
    """I1"""
    out = [f"I1: {id} was sent {n} times" for id, n in truth.calls.items() if n > 1]
    rows = Counter(row["id"] for row in tables.attempts)
    out += [f"I1: {id} has {n} rows" for id, n in rows.items() if n > 1]
    by_id = {row["id"]: row for row in tables.attempts}
    for id in truth.calls:
        row = by_id.get(id)
        if row is None:
            out.append(f"I1: {id} was served and has no row")
        elif row["state"] not in ("settled", "unknown"):
            out.append(f"I1: {id} was served and is {row['state']}")
    return out


def _settled_is_what_was_served(tables: Tables, truth: Truth) -> list[str]:
    """I1, to the nano-dollar: usage and cost of an answer that came whole are the provider's own."""
    out = []
    for row in tables.attempts:
        served = truth.served.get(row["id"])
        if row["state"] != "settled" or row["outcome"] != "ok":
            continue
        if row["estimated"]:
            if served is not None and served.usage is not None and served.mode is None:
                out.append(f"I1: {row['id']} is estimated, and the provider said what it used: {row}, {served}")
            continue
        if row["id"] not in truth.calls:
            out.append(f"I1: {row['id']} is settled and was never served")
        elif served is not None and served.usage is not None and served.mode is None:
            expected = cost_of(served.usage, truth.prices[row["model"]])
            if (row["cost"], row["input"], row["output"]) != (expected, served.usage.input, served.usage.output):
                out.append(
                    f"I1: {row['id']} is booked at {row['cost']}, the provider's usage says {expected}: {row}, {served}"
                )
    return out


def _scopes(row: Row) -> list[str]:
    out = ["all", f"key:{row['key_id']}", f"model:{row['model']}"]
    out += [f"user:{row['user_name']}"] if row["user_name"] else []
    out += [f"team:{row['team']}"] if row["team"] else []
    return out + [f"tag:{tag}" for tag in dict.fromkeys(json.loads(row["tags"]))]


def _sums_are_the_rows(tables: Tables) -> list[str]:
    """I2"""
    spent: Counter[tuple[str, str]] = Counter()
    sums: Counter[str] = Counter()
    for row in tables.attempts:
        if row["state"] == "intent":
            continue
        for scope in _scopes(row):
            spent[scope, day_of(row["admitted"])] += row["charged"]
        sums["cost"] += row["charged"]
        sums["attempts"] += 1
        for name, column in (("input", "input"), ("output", "output"), ("cached", "cached_input")):
            sums[name] += row[column] or 0
    booked = {(row["scope"], row["day"]): row["amount"] for row in tables.spent}
    out = [
        f"I2: {key} holds {booked.get(key, 0)}, its rows add up to {spent[key]}"
        for key in {*booked, *spent}
        if booked.get(key, 0) != spent[key]
    ]
    for name, value in sums.items():
        kept = sum(row[name] for row in tables.usage_days)
        if kept != value:
            out.append(f"I2: the days' {name} is {kept}, the rows add up to {value}")
    return out


def _parents_are_their_children(tables: Tables) -> list[str]:
    """I2: a request costs what its attempts cost."""
    costs: defaultdict[str, list[int | None]] = defaultdict(list)
    for row in tables.attempts:
        costs[row["trace"]].append(row["cost"])
    out = []
    for row in tables.requests:
        mine = costs[row["trace"]]
        if row["cost"] is not None and None not in mine and row["cost"] != sum(c for c in mine if c is not None):
            out.append(f"I2: request {row['trace']} cost {row['cost']}, its attempts {mine}")
    return out


def _limits_hold(tables: Tables, truth: Truth) -> list[str]:
    """I3: settled <= limit + what attempts cost beyond their own reservation."""
    out = []
    for scope, limit in truth.limits.items():
        mine = [row for row in tables.attempts if row["state"] != "intent" and scope in _scopes(row)]
        total = sum(row["charged"] for row in mine)
        beyond = sum(max(row["charged"] - (row["reserved"] or 0), 0) for row in mine)
        if total > limit + beyond:
            out.append(f"I3: {scope} spent {total} of {limit} (+{beyond})")
    return out


def _nothing_is_negative(tables: Tables) -> list[str]:
    """I5"""
    out = [f"I5: lease {row}" for row in tables.leases if row["amount"] < 0]
    out += [f"I5: spent {row}" for row in tables.spent if row["amount"] < 0]
    return out + [f"I5: attempt {row['id']}" for row in tables.attempts if row["charged"] < 0]


def _seen_ends_are_booked(tables: Tables, truth: Truth) -> list[str]:
    """I6"""
    requests = {row["trace"]: row for row in tables.requests}
    out = []
    for told in truth.told:
        if not told.whole or told.status != 200:
            continue
        row = requests.get(told.trace)
        if row is None:
            out.append(f"I6: a client saw the end of {told.trace}, which is not in the books")
        elif row["status"] != 200:
            out.append(f"I6: a client saw the end of {told.trace}, booked as {row['status']} {row['error']}")
    return out


def _nothing_is_left_open(tables: Tables, truth: Truth) -> list[str]:
    """I7"""
    out = [
        f"I7: {row['id']} is still open, its process is gone"
        for row in tables.attempts
        if row["state"] == "intent" and row["holder"] not in truth.running
    ]
    return out + [
        f"I7: {row['holder']} is gone and holds {row['amount']} of {row['scope']}"
        for row in tables.leases
        if row["amount"] and not row["charged"] and row["holder"] not in truth.running
    ]
