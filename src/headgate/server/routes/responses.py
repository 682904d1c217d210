"""`GET/DELETE /v1/responses/{id}` and `POST …/cancel`: server-side state lives at the provider that made it.

Which deployment that was is known by (key, response id), to all processes of a store; another key's ids do not exist.
Each is a request like any other for limits, and no tokens and no money."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from headgate.core.errors import MethodNotAllowed, NotFound
from headgate.engine.house import House
from headgate.engine.snapshot import check_door
from headgate.net.transport.protocol import HttpResponse, TransportError
from headgate.server.doors import Match
from headgate.server.http import JSON, Request, Responder
from headgate.upstream.background import request_for
from headgate.upstream.deployment import Deployment
from headgate.upstream.faults import of_transport

if TYPE_CHECKING:
    from headgate.server.app import DataPlane

PATIENCE = 60.0


async def answer(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    house = plane.house
    principal = house.governor.authenticate(plane.credentials(request))
    response_id, _, action = (match.id or "").partition("/")
    wanted = {"GET": "", "HEAD": "", "DELETE": "", "POST": "cancel"}.get(request.method)
    if wanted is None or action not in ("", "cancel") or (action == "cancel") != (request.method == "POST"):
        raise MethodNotAllowed("GET or DELETE a response, or POST to its cancel")
    home = await house.homes.find(response_id, principal.key_id)
    deployment = home[1] if home is not None else None
    if deployment is None or "openai_responses" not in deployment.endpoints:
        raise NotFound("there is no such response")
    check_door(principal, "responses")
    grant = await house.governor.admit(
        principal, model=deployment.name, door="responses", tags=(), input_tokens=0, output_tokens=None,
        worst_case=0, at=house.clock.time(),
    )  # fmt: skip
    try:
        found, body = await _asked(house, request, deployment, f"{response_id}{'/cancel' if action else ''}")
    finally:
        grant.settle(cost=0, tokens=0)
    if request.method in ("GET", "POST"):  # a stream of it (`?stream=true`) reads as no end
        endpoint = deployment.endpoints["openai_responses"]
        house.background.heard(response_id, endpoint.dialect.inspect_answer(body, endpoint.quirks))
    kind = (found.header(b"content-type") or b"application/json").decode("latin-1")
    headers = [("content-type", kind), *JSON[1:], ("x-request-id", request_id), *grant.headers]
    await responder.reply(found.status, headers, body)


async def _asked(house: House, request: Request, deployment: Deployment, path: str) -> tuple[HttpResponse, bytes]:
    """Our own arguments stay here: `?key=` is a virtual key."""
    endpoint = deployment.endpoints["openai_responses"]
    if request.query and request.method == "GET":
        pairs = [pair for pair in parse_qsl(request.query, keep_blank_values=True) if pair[0] != "key"]
        path += f"?{urlencode(pairs)}" if pairs else ""
    http = request_for(endpoint, path, request.method)
    try:
        found = await house.transport.send(http, deployment.limits, asyncio.get_running_loop().time() + PATIENCE)
        body = await found.read()
    except TransportError as error:
        raise of_transport(error) from error
    await found.aclose()
    if found.status >= 400:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in found.headers}
        raise deployment.hide(endpoint.dialect.parse_error(found.status, headers, body))
    return found, body
