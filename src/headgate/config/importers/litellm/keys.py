"""LiteLLM's virtual keys, as its `GET /key/list?return_full_object=true` answers them.

Both gateways keep the SHA-256 of the whole secret: whoever has a key goes on using it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from headgate.config.importers.litellm.convert import RATES, period_of

_EVERYTHING = frozenset({"all-team-models", "all-proxy-models"})
_NOTHING = "no-default-models"
_LOST = ("aliases", "config")
"""Of a key: what we cannot say; told where it says anything."""
_BOUNDS = (
    "permissions", "model_max_budget", "allowed_routes", "guardrails", "object_permission", "model_rpm_limit",
    "model_tpm_limit", "enforced_params", "policies", "allowed_passthrough_routes", "allowed_vector_store_indexes",
    "budget_limits", "budget_id", "litellm_budget_table", "organization_id", "project_id",
)  # fmt: skip
"""Of a key: what we cannot hold it to. LiteLLM keeps some of these in the row and some in its `metadata`
(LiteLLM_ManagementEndpoint_MetadataFields in litellm/proxy/_types.py)."""


class ImportedKeys(msgspec.Struct, frozen=True):
    """`keys`: what the admin API takes to make them. `lost`: in words. `wider`: by name, why a key may do more here than
    there; such a key is among `keys` only if that was asked for."""

    keys: list[dict[str, Any]]
    lost: list[str]
    wider: dict[str, str]


def import_keys(data: bytes, *, wider: bool = False) -> ImportedKeys:
    """`wider`: also the keys that no bound of ours holds to all that theirs does. Raises ValueError where it is no such
    list."""
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    rows = found.get("keys") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("token"), str) for row in rows
    ):
        raise ValueError("expected the answer of LiteLLM's GET /key/list?return_full_object=true")
    out = ImportedKeys([], [], {})
    for row in rows:
        name = str(row.get("key_alias") or row.get("key_name") or row["token"][:8])
        if row.get("blocked"):
            out.lost.append(f"{name}: it is blocked there")
            continue
        try:
            key, reasons = _key(name, row, out.lost), _unbound(row)
        except (TypeError, ValueError, OverflowError) as error:
            out.lost.append(f"{name}: the key itself: its row cannot be read ({error})")
            continue
        if reasons:
            out.wider[name] = "; ".join(reasons)
        if wider or not reasons:
            out.keys.append(key)
    return out


def _unbound(row: dict[str, Any]) -> list[str]:
    """What holds for the key there and would not here."""
    said = {**_metadata(row), **{field: value for field, value in row.items() if value}}
    reasons = [f"{field} cannot be said here" for field in _BOUNDS if said.get(field)]
    if row.get("max_budget") is not None and period_of(row.get("budget_duration")) is None:
        reasons.append(
            f"a budget of ${row['max_budget']} for {row['budget_duration']!r}: they are daily, weekly, monthly or total"
        )
    if row.get("team_id"):
        reasons.append(f"what its team {row['team_id']!r} may and spends")
    return reasons


def _key(name: str, row: dict[str, Any], lost: list[str]) -> dict[str, Any]:
    lost += [f"{name}: {field}" for field in _LOST if row.get(field)]
    if row.get("spend"):
        lost.append(f"{name}: what it has spent there (${row['spend']}): budgets begin anew")
    models = [model for model in _strings(row, "models") if model not in _EVERYTHING]
    key: dict[str, Any] = {
        "name": name,
        "hash": row["token"],
        "hint": re.sub(r"\.{2,}", "…", str(row.get("key_name") or "")),
        "user": row.get("user_id"),
        "tags": _strings(_metadata(row), "tags"),
        "models": [model for model in models if model != _NOTHING] if models else None,
        "expires": row.get("expires"),
        "limits": {ours: int(row[theirs]) for theirs, ours in RATES.items() if row.get(theirs) is not None},
        "budgets": _budgets(row),
    }
    return {field: value for field, value in key.items() if value or (field == "models" and value is not None)}


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    """Raises TypeError: what is not understood may be a bound."""
    found = row.get("metadata") or {}
    if not isinstance(found, dict):
        raise TypeError("metadata is no object")
    return found


def _strings(row: dict[str, Any], field: str) -> list[str]:
    found = row.get(field) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise TypeError(f"{field} is no list of names")
    return found


def _budgets(row: dict[str, Any]) -> dict[str, Any]:
    most, period = row.get("max_budget"), period_of(row.get("budget_duration"))
    return {} if most is None or period is None else {period: str(most)}
