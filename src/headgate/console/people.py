"""Keys, teams, budgets and activity: the admin API's functions and the pages that show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from headgate.core.errors import InvalidRequest, PayloadTooLarge
from headgate.core.principal import DOORS
from headgate.governance.desk import Desk
from headgate.governance.spending import SUMS, csv_text

LARGEST = 100_000
"""Bytes of a change."""
Make = Callable[[Request], Any]


class People:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def readings(self) -> Mapping[str, Make]:
        return {
            "/admin/v1/keys": lambda request: self._desk.keys(),
            "/admin/v1/keys/{id}": lambda request: self._desk.key(request.path_params["id"]),
            "/admin/v1/teams": lambda request: self._desk.teams(),
            "/admin/v1/budgets": lambda request: self._desk.spending.budgets(),
            "/admin/v1/usage": self._usage,
            "/admin/v1/usage.csv": self._usage_csv,
            "/admin/v1/activity": self._activity,
            "/admin/v1/activity.csv": self._csv,
            "/admin/v1/audit": lambda request: self._desk.audit(limit=_number(request, "limit", 100)),
        }

    def changes(self) -> Mapping[str, Make]:
        """Below /admin/v1 for programs, below /change for the console's own pages."""
        return {"/keys": self._create, "/keys/{id}/revoke": self._revoke, "/keys/{id}/rotate": self._rotate,
                "/teams": self._put_team}  # fmt: skip

    def pages(self) -> Mapping[str, tuple[str, Make]]:
        return {
            "/keys": ("keys.html", self._keys_page),
            "/teams": ("teams.html", self._teams_page),
            "/budgets": ("budgets.html", self._budgets_page),
            "/activity": ("activity.html", self._activity),
        }

    def files(self) -> Mapping[str, Make]:
        """What pages offer for download."""
        return {"/activity.csv": self._csv}

    # -- changes -------------------------------------------------------------------------------------------------------
    async def _create(self, request: Request) -> dict[str, Any]:
        return await self._desk.create(await body_of(request), actor_of(request))

    async def _revoke(self, request: Request) -> dict[str, Any]:
        return await self._desk.revoke(request.path_params["id"], actor_of(request))

    async def _rotate(self, request: Request) -> dict[str, Any]:
        given = await body_of(request)
        if set(given) - {"overlap"}:
            raise InvalidRequest("rotate takes only `overlap`")
        return await self._desk.rotate(request.path_params["id"], actor_of(request), overlap=given.get("overlap"))

    async def _put_team(self, request: Request) -> dict[str, Any]:
        return await self._desk.put_team(await body_of(request), actor_of(request))

    # -- pages -----------------------------------------------------------------------------------------------------------
    async def _keys_page(self, request: Request) -> dict[str, Any]:
        teams = [team["id"] for team in await self._desk.teams()]
        return {"keys": await self._desk.keys(), "teams": teams, "doors": [door for door in DOORS if door != "library"]}

    async def _teams_page(self, request: Request) -> dict[str, Any]:
        return {"teams": await self._desk.teams()}

    async def _budgets_page(self, request: Request) -> dict[str, Any]:
        rows = await self._desk.spending.budgets()
        return {"budgets": sorted(rows, key=lambda row: -row["share"])}

    async def _activity(self, request: Request) -> dict[str, Any]:
        found = await self._desk.spending.activity(days=_number(request, "days", 30))
        return {**found, "audit": await self._desk.audit(limit=100)}

    async def _csv(self, request: Request) -> Response:
        found = await self._desk.spending.activity(days=_number(request, "days", 30))
        heads = ["key", "name", "attempts", "failed", "tokens_in", "tokens_out", "cost_usd"]
        return PlainTextResponse(csv_text(heads, found["spend"]["key"]), media_type="text/csv")

    async def _usage(self, request: Request) -> list[dict[str, Any]]:
        by, since, until, where = _asked(request)
        return await self._desk.spending.usage(by=by, since=since, until=until, where=where)

    async def _usage_csv(self, request: Request) -> Response:
        return PlainTextResponse(
            csv_text([*_asked(request)[0], *SUMS], await self._usage(request)), media_type="text/csv"
        )


def _asked(request: Request) -> tuple[list[str], str, str, dict[str, str]]:
    """(dimensions, since, until, filters)"""
    given = dict(request.query_params)
    by = [name.strip() for name in given.pop("by", "model").split(",") if name.strip()]
    return by, given.pop("since", "30d"), given.pop("until", "now"), given


async def body_of(request: Request) -> dict[str, Any]:
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > LARGEST:
            raise PayloadTooLarge("a change is at most 100 KB of JSON")
    try:
        return msgspec.json.decode(data or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InvalidRequest(f"the body must be a JSON object: {error}") from error


def actor_of(request: Request) -> str:
    return getattr(request.state, "actor", "admin API")


def _number(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name, "")
    return int(given) if given.isdecimal() and len(given) < 6 else default
