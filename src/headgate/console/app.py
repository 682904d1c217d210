"""The admin plane: the JSON API under /admin/v1 and the pages that show it. An app of its own, on a port of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from inspect import isawaitable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from headgate.console.auth import COOKIE, SESSION, Sessions
from headgate.console.experiments import Experiments
from headgate.console.insights import Insights
from headgate.console.openapi import ADMIN_API
from headgate.console.people import People, actor_of
from headgate.console.views import Admin
from headgate.core.errors import HeadgateError, StorageUnavailable, http_status
from headgate.governance.desk import Desk

HERE = Path(__file__).parent
SECURITY = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
FILTERS = ("key", "user", "team", "provider", "door", "strategy", "task", "error", "tag", "status", "search")
"""Of the list of requests, besides `model` and `failed`."""
Play = Callable[[bytes, str], AsyncIterator[bytes]]
"""(body, door) → what the data plane answers."""
Handler = Callable[[Request], Awaitable[Response]]


def make_console(admin: Admin, sessions: Sessions, play: Play, desk: Desk, experiments: Experiments) -> Starlette:
    """ASGI. Everything but the sign-in and the static files needs the admin token (API) or a session (pages)."""
    return Starlette(routes=_Console(admin, sessions, play, desk, experiments).routes())


class _Console:
    def __init__(self, admin: Admin, sessions: Sessions, play: Play, desk: Desk, experiments: Experiments) -> None:
        self._admin = admin
        self._desk = desk
        self._people = People(desk)
        self._insights = Insights(admin)
        self._experiments = experiments
        self._sessions = sessions
        self._play = play
        self._pages = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(["html"], default=True),
            undefined=StrictUndefined,
        )
        self._pages.filters["clock"] = lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        self._pages.filters["money"] = short_money
        self._pages.filters["dollars"] = whole_money

    def routes(self) -> list[Route | Mount]:
        api = {
            "/admin/v1/status": lambda request: self._admin.status(),
            "/admin/v1/models": lambda request: self._admin.models(),
            "/admin/v1/requests": self._requests,
            "/admin/v1/traces/{id}": self._trace,
            "/admin/v1/config": lambda request: self._admin.config(),
            **self._people.readings(),
            **self._insights.readings(),
            **self._experiments.readings(),
        }
        pages = {
            "/": ("overview.html", self._overview),
            "/requests": ("requests.html", self._requests_page),
            "/requests/{id}": ("trace.html", self._trace_page),
            "/models": ("models.html", lambda request: {"models": self._admin.models()}),
            "/playground": ("playground.html", lambda request: {"names": [m["name"] for m in self._admin.models()]}),
            **self._people.pages(),
            **self._insights.pages(),
            **self._experiments.pages(),
        }
        out: list[Route | Mount] = [Route(path, self._api(make)) for path, make in api.items()]
        changes = {**self._people.changes(), **self._experiments.changes()}
        for path, change in changes.items():
            out.append(Route(f"/admin/v1{path}", self._api(change), methods=["POST"]))
            out.append(Route(f"/change{path}", self._action(change), methods=["POST"]))
        out.append(Route("/admin/v1/explain", self._api(self._explain), methods=["POST"]))
        out.append(Route("/change/explain", self._action(self._explain), methods=["POST"]))
        out += [Route("/admin/v1/reload", self._api(self._reload), methods=["POST"])]
        out += [Route("/admin/v1/openapi.json", self._api(lambda request: ADMIN_API))]
        for path, (template, make) in pages.items():
            out.append(Route(f"{path}.json" if path != "/" else "/overview.json", self._twin(make)))
            out.append(Route(path, self._page(template, make)))
        out += [Route(path, self._twin(make)) for path, make in self._people.files().items()]
        out += [
            Route("/playground/ask", self._ask, methods=["POST"]),
            Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]
        return out

    # -- the kinds of route --------------------------------------------------------------------------------------
    def _api(self, make: Callable[[Request], Any]) -> Handler:
        """JSON for programs: bearer only, so that no page of another origin can use a session."""

        async def handle(request: Request) -> Response:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self._sessions.is_token(token.strip()):
                return _json_error(
                    401, "the admin API needs 'Authorization: Bearer ADMIN-TOKEN'", "invalid_admin_token"
                )
            return await _answered(make, request)

        return handle

    def _action(self, make: Callable[[Request], Any]) -> Handler:
        """JSON for the console's own pages: session, origin and form token."""

        async def handle(request: Request) -> Response:
            if not self._is_own(request):
                return _json_error(403, "only the console's own pages may change anything", "foreign_origin")
            request.state.actor = "console"
            return await _answered(make, request)

        return handle

    def _twin(self, make: Callable[[Request], Any]) -> Handler:
        async def handle(request: Request) -> Response:
            if not self._sessions.is_open(request.cookies.get(COOKIE)):
                return _json_error(401, "sign in first", "not_signed_in")
            return await _answered(make, request)

        return handle

    def _page(self, template: str, make: Callable[[Request], dict[str, Any]]) -> Handler:
        async def handle(request: Request) -> Response:
            cookie = request.cookies.get(COOKIE)
            if not self._sessions.is_open(cookie):
                return RedirectResponse("/sign-in", 303, headers=SECURITY)
            try:
                values = await _made(make, request)
            except (HeadgateError, ValueError) as error:
                status = http_status(error) if isinstance(error, HeadgateError) else 400
                return self._html("failed.html", request, status, message=getattr(error, "message", str(error)))
            if values.get("trace", "") is None:
                return self._html("missing.html", request, 404)
            return self._html(template, request, 200, **values)

        return handle

    def _html(self, template: str, request: Request, code: int, **values: Any) -> Response:
        csrf = self._sessions.csrf(request.cookies.get(COOKIE))
        text = self._pages.get_template(template).render(path=request.url.path, csrf=csrf, **values)
        return HTMLResponse(text, code, headers=SECURITY)

    # -- values ----------------------------------------------------------------------------------------------------------
    async def _overview(self, request: Request) -> dict[str, Any]:
        saved = await self._insights.saved()
        return {"status": await self._admin.status(), "rows": await self._admin.requests(limit=10), "saved": saved}

    async def _trace_page(self, request: Request) -> dict[str, Any]:
        return {"trace": await self._trace(request)}

    async def _requests(self, request: Request) -> list[dict[str, Any]]:
        arguments = request.query_params
        limit = arguments.get("limit", "100")
        where = {name: arguments[name] for name in FILTERS if arguments.get(name)}
        if arguments.get("model"):
            where["name"] = arguments["model"]
        if arguments.get("failed") == "1":
            where["failed"] = "1"
        return await self._admin.requests(
            limit=int(limit) if limit.isdecimal() and len(limit) < 6 else 100, where=where
        )

    async def _requests_page(self, request: Request) -> dict[str, Any]:
        arguments = request.query_params
        return {
            "rows": await self._requests(request),
            "model": arguments.get("model", ""),
            "failed": arguments.get("failed") == "1",
            "names": [model["name"] for model in self._admin.models()],
        }

    async def _trace(self, request: Request) -> dict[str, Any] | None:
        return await self._admin.trace(request.path_params["id"].removesuffix(".json"))

    async def _reload(self, request: Request) -> dict[str, Any]:
        problem = await self._admin.reload()
        with contextlib.suppress(StorageUnavailable):  # the configuration may be what mends the store
            await self._desk.note(actor_of(request), "config.reload", "configuration", problem or "taken over")
        return {"ok": problem is None, "problem": problem}

    # -- actions ---------------------------------------------------------------------------------------------------------
    async def _ask(self, request: Request) -> Response:
        """The playground: the body goes to the data plane as any client's would, and its stream comes back."""
        if not self._is_own(request):
            return _json_error(403, "only the console's own pages may ask", "foreign_origin")
        body = await request.body()
        return StreamingResponse(
            self._play(body, "/v1/chat/completions"), media_type="text/event-stream", headers=SECURITY
        )

    async def _explain(self, request: Request) -> Response:
        """What the data plane would choose for this body; no model is called."""
        answer = b"".join([piece async for piece in self._play(await request.body(), "/v1/explain")])
        failed = answer.startswith((b'{"error"', b"data: "))
        return Response(answer.removeprefix(b"data: "), 400 if failed else 200, media_type="application/json")

    async def _sign_in(self, request: Request) -> Response:
        if request.method == "GET":
            return self._html("sign-in.html", request, 200, wrong=False)
        form = parse_qs((await _beginning(request, 10_000)).decode("utf-8", "replace"))
        if not self._same_origin(request) or not self._sessions.is_token(form.get("token", [""])[0].strip()):
            return self._html("sign-in.html", request, 401, wrong=True)
        answer = RedirectResponse("/", 303, headers=SECURITY)
        answer.set_cookie(COOKIE, self._sessions.open(), max_age=SESSION, httponly=True, samesite="strict")
        return answer

    async def _sign_out(self, request: Request) -> Response:
        answer = RedirectResponse("/sign-in", 303, headers=SECURITY)
        if self._same_origin(request):
            answer.delete_cookie(COOKIE)
        return answer

    def _is_own(self, request: Request) -> bool:
        cookie = request.cookies.get(COOKIE)
        given = request.headers.get("x-csrf-token", "")
        return self._sessions.is_open(cookie) and self._same_origin(request) and given == self._sessions.csrf(cookie)

    @staticmethod
    def _same_origin(request: Request) -> bool:
        origin = request.headers.get("origin")
        return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def short_money(text: str) -> str:
    """`"20.000000"` -> `20.00`: cents at least, and no zeros after what counts."""
    whole, _, rest = text.partition(".")
    return f"{int(whole):,}.{rest.rstrip('0').ljust(2, '0')}"


def whole_money(text: str) -> str:
    """`"-1234.500000"` -> `-$1,234.500000`: every place, so that a column of amounts can be compared."""
    whole, _, rest = text.removeprefix("-").partition(".")
    return f"{'-' if text.startswith('-') else ''}${int(whole):,}.{rest}"


async def _beginning(request: Request, most: int) -> bytes:
    """Of the body of somebody who is nobody yet: no more of it is kept, or waited for."""
    found = b""
    async for piece in request.stream():
        found += piece
        if len(found) >= most:
            break
    return found[:most]


async def _answered(make: Callable[[Request], Any], request: Request) -> Response:
    try:
        found = await _made(make, request)
    except ValueError as error:
        return _json_error(400, str(error), "invalid_request")
    except HeadgateError as error:
        return _json_error(http_status(error), error.message, error.code)
    if found is None:
        return _json_error(404, "there is no such thing", "not_found")
    if isinstance(found, Response):
        found.headers.update(SECURITY)
        return found
    return JSONResponse(found, headers=SECURITY)


async def _made(make: Callable[[Request], Any], request: Request) -> Any:
    found = make(request)
    return await found if isawaitable(found) else found


def _json_error(status: int, message: str, code: str) -> Response:
    body = {"error": {"message": message, "type": "admin_error", "param": None, "code": code}}
    return JSONResponse(body, status, headers=SECURITY)
