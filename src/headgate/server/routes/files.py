"""`/v1/files` and `/v1/batches`: objects that live at a provider, passed through as bytes.

They name no model. The provider is the one that holds the object named (known by key and id, to all processes of a store),
else the one named by `?provider=`, else the only one configured that has these doors. Another key's objects do not exist:
their ids are 404 and are left out of lists. What a batch asks of which model, and at what cost, its provider alone knows:
its row says "unknown", and who is confined to models or bounded by a hard budget cannot make one.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from headgate.core.errors import (
    BudgetExceeded,
    HeadgateError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
    http_status,
)
from headgate.core.ids import new_id
from headgate.core.principal import Principal
from headgate.core.records import RequestRecord
from headgate.core.trace import Trace
from headgate.dialects.openai_error import parse_error
from headgate.engine.house import House
from headgate.engine.snapshot import check_door
from headgate.net.transport.protocol import HttpRequest, HttpResponse, TransportError
from headgate.server.doors import Match
from headgate.server.http import Request, Responder
from headgate.upstream.deployment import Deployment
from headgate.upstream.faults import of_transport

if TYPE_CHECKING:
    from headgate.server.app import DataPlane

PATIENCE = 300.0
_ID = re.compile(r"[\w.:-]{1,200}")
# (door, method, action behind the id) that exist; None: the collection itself.
_ALLOWED = frozenset(
    {
        ("files", "GET", None),
        ("files", "POST", None),
        ("files", "GET", ""),
        ("files", "DELETE", ""),
        ("files", "GET", "content"),
        ("batches", "GET", None),
        ("batches", "POST", None),
        ("batches", "GET", ""),
        ("batches", "POST", "cancel"),
    }
)


class _Batch(msgspec.Struct):
    input_file_id: str


async def answer(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    house, door = plane.house, match.door.name
    principal = house.governor.authenticate(plane.credentials(request))
    check_door(principal, door)
    id, _, action = (match.id or "").partition("/")
    if (door, request.method, action if match.id else None) not in _ALLOWED or (id and not _ID.fullmatch(id)):
        raise MethodNotAllowed("there is no such operation on " + door)
    makes_batch = door == "batches" and request.method == "POST" and not id
    if makes_batch:
        _check_batch(house, principal)
    deployment = await _home(plane, request, principal, door, id)
    started, at = house.clock.monotonic(), house.clock.time()
    grant = await house.governor.admit(
        principal, model=deployment.name, door=door, tags=(), input_tokens=0, output_tokens=None, worst_case=0, at=at
    )
    error: HeadgateError | None = None
    try:
        found, body = await _ask(plane, request, deployment, door, match.id)
        if found.status >= 400:
            raise deployment.hide(parse_error(found.status, {}, body))
    except HeadgateError as failed:
        error = failed
        raise
    finally:
        grant.settle(cost=0, tokens=0)
        _record(plane, request, principal, deployment, door, request_id, started, error)
    body = await _remembered(plane, principal, deployment, body, listed=match.id is None and request.method == "GET")
    kind = (found.header(b"content-type") or b"application/octet-stream").decode("latin-1")
    await responder.reply(found.status, [("content-type", kind), ("x-request-id", request_id), *grant.headers], body)


def _check_batch(house: House, principal: Principal) -> None:
    """Raises PermissionDenied or BudgetExceeded where a batch could pass what this key is bound by."""
    if principal.models is not None or principal.team_models is not None or principal.zone is not None:
        raise PermissionDenied(
            "This key is confined to some models, and a batch may name any: it cannot make one.",
            code="model_not_allowed",
        )
    if house.governor.output_cap(principal, principal.tags) is not None:
        raise BudgetExceeded(
            "A hard budget applies, and what a batch will cost is known to its provider alone.", code="price_unknown"
        )


async def _home(plane: DataPlane, request: Request, principal: Principal, door: str, id: str) -> Deployment:
    """Where the request belongs. Raises NotFound, InvalidRequest, and PermissionDenied where that is outside the key's
    zone."""
    house = plane.house
    if door == "batches" and request.method == "POST" and not id:
        try:
            id = msgspec.json.decode(request.body, type=_Batch).input_file_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest("a batch names its input_file_id", param="input_file_id") from error
    if id:
        if (home := await house.homes.find(id, principal.key_id)) is not None:
            return home[1]
        if not house.governor.open:
            raise NotFound(f"there is no such object in {door}: {id[:100]!r}")
    havers: dict[str, Deployment] = {}
    outside: set[str] = set()
    wanted = request.argument("provider")
    for model in house.snapshot.models():
        for deployment in model.deployments:
            if not deployment.files or wanted not in (None, deployment.provider):
                continue
            if principal.zone in (None, model.zone):
                havers.setdefault(deployment.provider, deployment)
            else:
                outside.add(deployment.provider)
    if outside and not havers:
        raise PermissionDenied(
            f"This key is confined to the zone {principal.zone!r}; {', '.join(sorted(outside))} is not in it.",
            code="model_not_allowed",
        )
    if not havers:
        raise NotFound(f"no configured provider has {door}" if wanted is None else f"{wanted[:100]!r} has no {door}")
    if len(havers) > 1:
        raise InvalidRequest(
            f"several providers have {door}: add ?provider= one of {', '.join(havers)}", param="provider"
        )
    return next(iter(havers.values()))


async def _ask(
    plane: DataPlane, request: Request, deployment: Deployment, door: str, id: str | None
) -> tuple[HttpResponse, bytes]:
    endpoint = deployment.endpoint("openai_chat")
    query = urlencode([pair for pair in parse_qsl(request.query) if pair[0] not in ("provider", "key")])
    path = f"/{door}/{id}" if id else f"/{door}"
    headers = tuple(pair for pair in endpoint.headers if pair[0] != "content-type")
    kind = request.headers.get("content-type")
    http = HttpRequest(
        origin=endpoint.origin,
        method=request.method,
        target=endpoint.base_path + path + (f"?{query}" if query else ""),
        headers=headers,
        body=request.body,
        extra=(("content-type", kind),) if kind and request.body else (),
    )
    try:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        found = await plane.house.transport.send(http, deployment.limits, deadline)
        body = await found.read()
    except TransportError as error:
        raise of_transport(error) from error
    await found.aclose()
    return found, body


async def _remembered(
    plane: DataPlane, principal: Principal, deployment: Deployment, body: bytes, *, listed: bool
) -> bytes:
    """What was made is this key's from now on; a list shows a key its own objects only."""
    house = plane.house
    try:
        raw: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body  # a file's content
    if not isinstance(raw, dict):
        return body
    if not listed:
        for name in ("id", "output_file_id", "error_file_id"):
            if isinstance(raw.get(name), str):
                house.homes.remember(principal.key_id, raw[name], deployment.name, deployment)
        return body
    if house.governor.open or not isinstance(raw.get("data"), list):
        return body
    listed_objects = [one for one in raw["data"] if isinstance(one, dict)]
    await house.homes.look([str(one.get("id")) for one in listed_objects], principal.key_id)
    mine = [one for one in listed_objects if house.homes.of(str(one.get("id")), principal.key_id)]
    return msgspec.json.encode({**raw, "data": mine})


def _record(
    plane: DataPlane, request: Request, principal: Principal, deployment: Deployment, door: str, request_id: str,
    started: float, error: HeadgateError | None,
) -> None:  # fmt: skip
    house = plane.house
    trace = Trace(
        new_id("tr"),
        requested=deployment.provider,
        started=started,
        started_at=house.clock.time(),
        request_id=request_id,
    )
    trace.key_id, trace.strategy = principal.key_id, "single"
    creates_batch = door == "batches" and request.method == "POST" and error is None
    house.request_over(
        RequestRecord(
            id=request_id,
            trace=trace.id,
            at=trace.started_at,
            door=door,
            requested=deployment.provider,
            strategy="single",
            model=None,
            provider=deployment.provider,
            key_id=principal.key_id,
            user=principal.user,
            team=principal.team,
            status=http_status(error) if error else 200,
            error=error.code if error else None,
            cost=None if creates_batch else 0,
            latency=house.clock.monotonic() - started,
            trace_json=house.packed(trace),
        ),
        trace,
    )
