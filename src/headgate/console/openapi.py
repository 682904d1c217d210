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
        "/admin/v1/reload": {"post": {"summary": "Load the file anew.", "responses": {**_OK, **_AUTH}}},
        "/admin/v1/openapi.json": _get("This document."),
    },
}
