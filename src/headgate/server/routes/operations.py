"""`/livez`, `/readyz`, `/health`, `/metrics`: for operators and their machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate import __version__
from headgate.server.doors import Match
from headgate.server.http import JSON, Request, Responder
from headgate.server.openapi import DATA_PLANE

if TYPE_CHECKING:
    from headgate.server.app import DataPlane


async def livez(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    """The process answers. Touches nothing else."""
    await responder.reply(200, JSON, b'{"status":"ok"}')


async def readyz(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    """New requests are welcome."""
    if plane.house.draining:
        await responder.reply(503, JSON, b'{"status":"draining"}')
    else:
        await responder.reply(200, JSON, b'{"status":"ready"}')


async def health(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    house = plane.house
    models = {}
    for model in house.snapshot.models():
        models[model.name] = {
            "usable": model.missing is None,
            "reason": model.missing,
            "deployments": {d.name: msgspec.to_builtins(d.vitals.health.view()) for d in model.deployments},
        }
    body = {
        "status": "draining" if house.draining else "ok",
        "version": __version__,
        "inflight": house.inflight,
        "config": house.snapshot.hash,
        "models": models,
    }
    if plane.worker is not None:
        body["worker"] = plane.worker
    await responder.reply(200, JSON, msgspec.json.encode(body))


async def metrics(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    from headgate.telemetry.metrics import CONTENT_TYPE

    if plane.scrape is not None:
        body = await plane.scrape()
    else:
        body = plane.metrics.render() if plane.metrics is not None else b""
    await responder.reply(200, (("content-type", CONTENT_TYPE),), body)


async def openapi(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    """The doors, described."""
    await responder.reply(200, JSON, msgspec.json.encode(DATA_PLANE))
