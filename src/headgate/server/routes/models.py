"""`/v1/models` and `/v1/models/{id}` in OpenAI's shape, Anthropic's (with `anthropic-version`) or Google's (`/v1beta`, or
with `x-goog-api-key`)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.core.money import NANO
from headgate.engine.snapshot import Snapshot, may_use
from headgate.server.doors import Match
from headgate.server.http import JSON, Request, Responder
from headgate.upstream.deployment import Model

if TYPE_CHECKING:
    from headgate.server.app import DataPlane

CREATED = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
"""Entries have no date of birth; SDKs want one."""


async def answer(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    principal = plane.house.governor.authenticate(plane.credentials(request))
    snapshot = plane.house.snapshot
    shape = _shape(request, match)
    if match.id is None:
        body = shape.page([shape.row(name, snapshot) for name in snapshot.listed(principal)])
    else:
        name = snapshot.resolve(match.id, principal).name
        if not may_use(principal, name, snapshot):
            raise snapshot.unknown(match.id, principal)
        body = shape.row(match.id, snapshot)
    await responder.reply(200, [*JSON, ("x-request-id", request_id)], msgspec.json.encode(body))


class _OpenAi:
    def row(self, name: str, snapshot: Snapshot) -> dict[str, Any]:
        entry = snapshot.aliases.get(name, name)
        out: dict[str, Any] = {"id": name, "object": "model", "created": CREATED, "owned_by": "headgate"}
        if (model := snapshot.model(entry)) is not None:
            out |= _facts(model)
        else:
            out["strategy"] = snapshot.strategy(entry).kind
        return out

    def page(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"object": "list", "data": rows}


class _Anthropic:
    def row(self, name: str, snapshot: Snapshot) -> dict[str, Any]:
        entry = snapshot.aliases.get(name, name)
        out: dict[str, Any] = {
            "type": "model",
            "id": name,
            "display_name": snapshot.display.get(entry, name),
            "created_at": "2026-01-01T00:00:00Z",
        }
        model = snapshot.model(entry)
        if model is not None and model.max_context:
            out["max_input_tokens"] = model.max_context
        if model is not None and model.max_output:
            out["max_tokens"] = model.max_output
        return out

    def page(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [row["id"] for row in rows]
        return {
            "data": rows,
            "has_more": False,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }


class _Google:
    def row(self, name: str, snapshot: Snapshot) -> dict[str, Any]:
        entry = snapshot.aliases.get(name, name)
        out: dict[str, Any] = {
            "name": f"models/{name}",
            "version": "1",
            "displayName": snapshot.display.get(entry, name),
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        }
        model = snapshot.model(entry)
        if model is not None and model.max_context:
            out["inputTokenLimit"] = model.max_context
        if model is not None and model.max_output:
            out["outputTokenLimit"] = model.max_output
        return out

    def page(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"models": rows}


def _shape(request: Request, match: Match) -> _OpenAi | _Anthropic | _Google:
    # Google's SDK asks at /v1 by default since its third version: its key's header tells.
    if match.door.name == "gemini_models" or "x-goog-api-key" in request.headers:
        return _Google()
    return _Anthropic() if "anthropic-version" in request.headers else _OpenAi()


def _facts(model: Model) -> dict[str, Any]:
    out: dict[str, Any] = {"owned_by": model.deployments[0].provider if model.deployments else "headgate"}
    if model.max_context:
        out["context_window"] = model.max_context
    if model.capabilities:
        out["capabilities"] = list(model.capabilities)
    price = model.price
    out["price"] = None
    if price is not None:
        out["price"] = {"input": price.input / NANO, "output": price.output / NANO, "unit": "US$/Mtok"}
        if (beside := price.beside_tokens()) is not None:
            out["price"]["beside_tokens"] = f"US$ {beside}"
    return out
