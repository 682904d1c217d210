"""`count_tokens` and `countTokens`: the provider's own count where it speaks the door's dialect, else our upper bound. A
request like any other for limits, and no tokens and no money."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from headgate.core.errors import UpstreamFault
from headgate.dialects.anthropic_messages import DIALECT as ANTHROPIC
from headgate.dialects.gemini import DIALECT as GEMINI
from headgate.dialects.jsonio import decode, encode
from headgate.engine.pipeline import Prepared, prepare
from headgate.net.transport.protocol import HttpRequest, TransportError
from headgate.server.doors import Match
from headgate.server.http import JSON, Headers, Request, Responder
from headgate.upstream.deployment import Deployment
from headgate.upstream.faults import of_transport

if TYPE_CHECKING:
    from headgate.server.app import DataPlane

PATIENCE = 10.0
_COUNTERS = {ANTHROPIC.name: ANTHROPIC.render_count, GEMINI.name: GEMINI.render_count}


async def answer(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    house = plane.house
    inbound = plane.inbound(request, match, request_id)
    principal = house.governor.authenticate(inbound.credentials)
    prepared = prepare(house, inbound, principal, house.clock.monotonic(), house.clock.time())
    grant = await house.governor.admit(
        principal, model=prepared.name, door=match.door.name, tags=prepared.run.trace.tags, input_tokens=0, output_tokens=1,
        worst_case=0, at=house.clock.time(),
    )  # fmt: skip
    try:
        await _counted(plane, request, responder, match, prepared, [("x-request-id", request_id), *grant.headers])
    finally:
        grant.settle(cost=0, tokens=0)


async def _counted(
    plane: DataPlane, request: Request, responder: Responder, match: Match, prepared: Prepared, more: Headers
) -> None:
    dialect = match.door.dialect
    counter = _COUNTERS[dialect.name]
    headers = [*JSON, *more]
    for name in prepared.plan.order:
        model = prepared.snapshot.model(name)
        deployment = next((d for d in (model.deployments if model else ()) if dialect.name in d.endpoints), None)
        if deployment is None:
            continue
        try:
            body = await _within(plane, prepared, name, deployment, match, request.body)
        except UpstreamFault:
            break  # counting is a convenience: our own bound is better than an error
        await responder.reply(200, [*headers, ("x-headgate-model", name)], body)
        return
    bound = counter(prepared.request.peek.input_bound)
    await responder.reply(200, [*headers, ("x-headgate-lossy", "count_is_an_upper_bound")], bound)


async def _within(
    plane: DataPlane, prepared: Prepared, model: str, deployment: Deployment, match: Match, body: bytes
) -> bytes:
    """A request of the model's and the deployment's limits too. Raises UpstreamFault, also where those are full."""
    at = prepared.run.trace.started_at
    hold = await plane.house.governor.enter(model=model, deployment=deployment.name, tokens=0, worst_case=0, at=at)
    try:
        return await _ask(plane, deployment, match, body, prepared.request.peek.model)
    finally:
        hold.settle(cost=0, tokens=0)


def _rewritten(body: bytes, model: str) -> bytes:
    """Without our own field, and with the provider's name of the model where the body is the place for one."""
    fields = decode(body)
    fields.pop("headgate", None)
    if "model" in fields:
        fields["model"] = model
    return encode(fields)


async def _ask(plane: DataPlane, deployment: Deployment, match: Match, body: bytes, asked: str) -> bytes:
    dialect = match.door.dialect
    endpoint = deployment.endpoints[dialect.name]
    peek = replace(dialect.peek(body, model=asked), max_tokens=1)
    spliced = dialect.splice(body, peek, model=deployment.upstream, quirks=endpoint.quirks)
    if spliced is None:
        spliced = _rewritten(body, deployment.upstream)
    http = HttpRequest(
        origin=endpoint.origin,
        method="POST",
        target=endpoint.base_path + dialect.path("count_tokens", model=deployment.upstream, stream=False),
        headers=endpoint.headers,
        body=spliced,
    )
    deadline = asyncio.get_running_loop().time() + PATIENCE
    try:
        response = await plane.house.transport.send(http, deployment.limits, deadline)
        found = await response.read()
    except TransportError as error:
        raise of_transport(error) from error
    await response.aclose()
    if response.status != 200:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        raise deployment.hide(dialect.parse_error(response.status, headers, found))
    return found
