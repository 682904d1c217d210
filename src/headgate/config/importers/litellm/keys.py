"""LiteLLM's virtual keys, as its `GET /key/list?return_full_object=true` answers them.

Both gateways keep the SHA-256 of the whole secret: whoever has a key goes on using it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from headgate.config.importers.litellm.convert import RATES, period_of

_EVERYTHING = frozenset({"all-team-models", "all-proxy-models"})
_NOTHING = "no-default-models"
_LOST = ("aliases", "config", "permissions", "model_max_budget", "allowed_routes", "guardrails", "object_permission")
"""Of a key: what we cannot hold it to; told where it says anything."""


class ImportedKeys(msgspec.Struct, frozen=True):
    """`keys`: what the admin API takes to make them. `lost`: in words."""

    keys: list[dict[str, Any]]
    lost: list[str]


def import_keys(data: bytes) -> ImportedKeys:
    """Raises ValueError where it is no such list."""
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    rows = found.get("keys") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "token" in row for row in rows):
        raise ValueError("expected the answer of LiteLLM's GET /key/list?return_full_object=true")
    out = ImportedKeys([], [])
    for row in rows:
        name = row.get("key_alias") or row.get("key_name") or row["token"][:8]
        if row.get("blocked"):
            out.lost.append(f"{name}: it is blocked there")
            continue
        out.keys.append(_key(str(name), row, out.lost))
    return out


def _key(name: str, row: dict[str, Any], lost: list[str]) -> dict[str, Any]:
    lost += [f"{name}: {field}" for field in _LOST if row.get(field)]
    if row.get("spend"):
        lost.append(f"{name}: what it has spent there (${row['spend']:g}): budgets begin anew")
    models = [model for model in row.get("models") or [] if model not in _EVERYTHING]
    key: dict[str, Any] = {
        "name": name,
        "hash": row["token"],
        "hint": re.sub(r"\.{2,}", "…", str(row.get("key_name") or "")),
        "user": row.get("user_id"),
        "tags": list((row.get("metadata") or {}).get("tags") or []),
        "models": [model for model in models if model != _NOTHING] if models else None,
        "expires": row.get("expires"),
        "limits": {ours: int(row[theirs]) for theirs, ours in RATES.items() if row.get(theirs) is not None},
        "budgets": _budgets(name, row, lost),
    }
    if row.get("team_id"):
        lost.append(f"{name}: its team {row['team_id']!r}, with what holds for it")
    return {field: value for field, value in key.items() if value or (field == "models" and value is not None)}


def _budgets(name: str, row: dict[str, Any], lost: list[str]) -> dict[str, Any]:
    most, period = row.get("max_budget"), period_of(row.get("budget_duration"))
    if most is None:
        return {}
    if period is None:
        lost.append(
            f"{name}: a budget of ${most:g} for {row['budget_duration']!r}: they are daily, weekly, monthly or total"
        )
        return {}
    return {period: str(most)}
