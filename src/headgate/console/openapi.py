"""The admin API, documented."""

from __future__ import annotations

from typing import Any

_OK: dict[str, Any] = {"200": {"description": "As asked.", "content": {"application/json": {}}}}
_AUTH: dict[str, Any] = {"401": {"description": "No or a wrong admin token."}}


def _get(summary: str, *parameters: dict[str, Any], missing: bool = False) -> dict[str, Any]:
    answers = {**_OK, **_AUTH, **({"404": {"description": "There is no such thing."}} if missing else {})}
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": answers}}


def _query(name: str, kind: str, about: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": kind}, "description": about}


def _post(summary: str, body: dict[str, Any] | None = None, *path: str) -> dict[str, Any]:
    """`body`: properties; those whose schema says `x-needed` must be given."""
    needed = [name for name, schema in (body or {}).items() if schema.get("x-needed")]
    out: dict[str, Any] = {
        "summary": summary,
        "parameters": [_id(name) for name in path],
        "responses": {**_OK, **_AUTH, "400": {"description": "What is wrong with it."}},
    }
    if path:
        out["responses"]["404"] = {"description": "There is no such thing."}
    if body is not None:
        schema = {"type": "object", "required": needed, "properties": body, "additionalProperties": False}
        out["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return {"post": out}


def _id(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


_TEXT: dict[str, Any] = {"type": "string"}
_NEEDED: dict[str, Any] = {"type": "string", "x-needed": True}
_TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
_MOST: dict[str, Any] = {"type": "integer", "minimum": 0}
_LIMITS: dict[str, Any] = {
    "type": "object",
    "properties": {"requests_per_minute": _MOST, "tokens_per_minute": _MOST, "concurrent": _MOST},
    "additionalProperties": False,
}
_AMOUNT: dict[str, Any] = {
    "description": "US$, or {limit, hard}: a budget that is not hard only tells.",
    "anyOf": [
        {"type": ["number", "string"]},
        {"type": "object", "properties": {"limit": {"type": ["number", "string"]}, "hard": {"type": "boolean"}}},
    ],
}
_BUDGETS: dict[str, Any] = {
    "type": "object",
    "properties": dict.fromkeys(("daily", "weekly", "monthly", "total"), _AMOUNT),
    "additionalProperties": False,
}
_SHARED: dict[str, Any] = {"models": _TEXTS, "limits": _LIMITS, "budgets": _BUDGETS}
_KEY: dict[str, Any] = {
    "name": _NEEDED,
    "user": _TEXT,
    "team": _TEXT,
    "tags": _TEXTS,
    "doors": _TEXTS,
    "zone": _TEXT,
    "priority": {"type": "integer"},
    "expires": {"type": "string", "description": "A duration from now (`30d`) or a date."},
    "hash": {
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "SHA-256 of a secret that its holder has already: then none is made.",
    },
    "hint": {"type": "string", "description": "What may be shown of that secret."},
    **_SHARED,
}
_TEAM: dict[str, Any] = {"id": _NEEDED, "name": _TEXT, **_SHARED}


_DIMENSIONS = ("day", "key", "user", "team", "model", "provider", "deployment", "role", "tag", "error")
_USAGE = (
    _query("by", "string", f"Any of {', '.join(_DIMENSIONS)}; several with commas. Left out: model."),
    _query("since", "string", "24h, 7d, today, a date or a time (UTC). Left out: 30d."),
    _query("until", "string", "The same. Left out: now."),
    *(_query(name, "string", f"Only of this {name}.") for name in _DIMENSIONS),
)


def _both(*parts: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for part in parts:
        out |= part
    return out


ADMIN_API: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Headgate admin API", "version": "1"},
    "components": {"securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}}},
    "security": [{"admin": []}],
    "paths": {
        "/admin/v1/status": _get("Version, configuration, load."),
        "/admin/v1/models": _get("Entries, deployments and their health."),
        "/admin/v1/requests": _get(
            "Recent requests, newest first.",
            _query("model", "string", "Entry asked for or model that served."),
            _query("failed", "string", "1: only failed ones."),
            *(_query(name, "string", f"Only of this {name}.") for name in ("key", "user", "team", "provider", "door")),
            *(
                _query(name, "string", f"Only of this {name}.")
                for name in ("strategy", "task", "error", "tag", "status")
            ),
            _query("search", "string", "A part of model, name, error, trace or id."),
            _query("limit", "integer", "At most 500."),
        ),
        "/admin/v1/traces/{id}": _get(
            "One request, decision by decision.",
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
            missing=True,
        ),
        "/admin/v1/config": _get("The configuration in force; secrets are ***."),
        "/admin/v1/keys": _both(
            _get("Virtual keys, the newest first; never their secrets."),
            _post("Make a key. The answer holds its secret, for this once.", _KEY),
        ),
        "/admin/v1/keys/{id}": {"get": {**_get("One key.", missing=True)["get"], "parameters": [_id("id")]}},
        "/admin/v1/keys/{id}/revoke": _post("End a key now, on all replicas within seconds.", None, "id"),
        "/admin/v1/keys/{id}/rotate": _post(
            "A successor with the same rights and budgets; the old key goes on for `overlap`.", {"overlap": _TEXT}, "id"
        ),
        "/admin/v1/teams": _both(
            _get("Teams of the file and of the store."), _post("Make a team, or say anew what holds for it.", _TEAM)
        ),
        "/admin/v1/budgets": _get("Every budget, what is spent of it in its window, what is reserved in it."),
        "/admin/v1/usage": _get("Attempts, tokens and US$ by any dimensions.", *_USAGE),
        "/admin/v1/usage.csv": _get("The same as CSV; inert in spreadsheets.", *_USAGE),
        "/admin/v1/activity": _get(
            "Who spent what, and what operators did.", _query("days", "integer", "How far back; 30 if left out.")
        ),
        "/admin/v1/activity.csv": _get("The spend by key as CSV; inert in spreadsheets."),
        "/admin/v1/audit": _get("What operators did, the newest first.", _query("limit", "integer", "At most 1000.")),
        "/admin/v1/explain": _post("What would be chosen for this chat body, and why; no model is called."),
        "/admin/v1/insight/tasks": _get(
            "The mix of tasks by day; per task and model quality, cost, latency, failure.",
            _query("days", "integer", "How far back; 7 if left out."),
            *(
                _query(name, "string", f"Only of this {name}.")
                for name in ("requested", "strategy", "key", "team", "model", "task")
            ),
        ),
        "/admin/v1/experiments": _get("Experiments: arms, results with intervals, state."),
        "/admin/v1/experiments/{name}": {
            "get": {**_get("One experiment.", missing=True)["get"], "parameters": [_id("name")]}
        },
        "/admin/v1/experiments/{name}/stop": _post(
            "Everybody gets one arm, the control if none is named; nothing is counted any more.",
            {"arm": _TEXT, "because": _TEXT},
            "name",
        ),
        "/admin/v1/experiments/{name}/start": _post("Begin anew: what was counted counts no more.", None, "name"),
        "/admin/v1/reload": {"post": {"summary": "Load the file anew.", "responses": {**_OK, **_AUTH}}},
        "/admin/v1/openapi.json": _get("This document."),
    },
}
