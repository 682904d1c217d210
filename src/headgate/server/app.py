"""The data plane: a request comes in, is matched to a door, and either asks a model or is answered from what we know."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from headgate.core.errors import AuthenticationFailed, HeadgateError, Overloaded, PermissionDenied
from headgate.core.ids import new_id
from headgate.engine.house import House
from headgate.engine.pipeline import Inbound, open_exchange
from headgate.engine.run import Progress
from headgate.server import bridge, doors
from headgate.server.doors import Match
from headgate.server.errors import reply_error
from headgate.server.http import JSON, Request, Responder, among
from headgate.server.idempotency import HEADER, Repeats
from headgate.server.relay import SSE, ArrayResponder, Heart, fail_opened, relay_stream, relay_whole, unexpected
from headgate.server.routes import count, explain, files, models, operations, responses, traces
from headgate.stores.memory import MemoryAnswers
from headgate.telemetry.metrics import Metrics

_CREDENTIAL_HEADERS = frozenset(("authorization", "x-api-key", "api-key", "x-goog-api-key"))
_NOTHING: Mapping[str, str] = {}
_LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?", re.IGNORECASE)

Route = Callable[["DataPlane", Request, Responder, Match, str], Awaitable[None]]


class DataPlane:
    """`local` is True while the plane is bound to loopback: then, as long as no key exists, whatever key is sent is let
    in, but only from pages and clients of this machine (foreign Host and Origin are refused)."""

    def __init__(
        self,
        house: House,
        *,
        local: bool = True,
        on_error: Callable[[str, HeadgateError], None] | None = None,
        repeats: Repeats | None = None,
    ) -> None:
        self.house = house
        self.local = local
        self.metrics: Metrics | None = None
        self.worker: int | None = None
        """The number of this process among those that serve the same port."""
        self.scrape: Callable[[], Awaitable[bytes]] | None = None
        """The metrics of all of them; else this process's own are shown."""
        self.active: set[asyncio.Task[object]] = set()
        self.expired = False
        """The drain's time is over: what still runs ends with an in-band error."""
        self._on_error = on_error
        self._repeats = repeats or Repeats(MemoryAnswers(), "here")
        self._routes: dict[str, Route] = {
            "ask": DataPlane._ask,
            "count": count.answer,
            "models": models.answer,
            "response": responses.answer,
            "files": files.answer,
            "trace": traces.answer,
            "explain": explain.answer,
            "feedback": traces.feedback,
            "livez": operations.livez,
            "readyz": operations.readyz,
            "health": operations.health,
            "metrics": operations.metrics,
            "openapi.json": operations.openapi,
        }

    async def __call__(self, request: Request, responder: Responder) -> None:
        request_id = new_id("req")
        match: Match | None = None
        task = asyncio.current_task()
        assert task is not None
        self.active.add(task)
        try:
            match = doors.match(request)
            self._check_origin(request)
            if HEADER in request.headers and request.method == "POST" and match.door.what in ("ask", "files"):
                await self._once(request, responder, match, request_id)
            else:
                await self._routes[match.door.what](self, request, responder, match, request_id)
        except HeadgateError as error:
            self._note(request_id, error)
            await _fail(error, request, responder, match, request_id)
        except Exception as error:  # noqa: BLE001  the edge of the house: never a traceback to a client
            failed = unexpected(error)
            self._note(request_id, failed)
            await _fail(failed, request, responder, match, request_id)
        except asyncio.CancelledError:
            if not self.expired:
                raise
            task.uncancel()
            ended = Overloaded("the gateway was shut down before the answer was complete")
            await _fail(ended, request, responder, match, request_id)
        finally:
            self.active.discard(task)

    async def drain(self, seconds: float) -> None:
        """Nothing new is taken; what runs may finish, and is ended in good form when the time is over."""
        self.house.draining = True
        waiting = {task for task in self.active if not task.done()}
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)
        self.expired = True
        rest = {task for task in self.active if not task.done()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=2.0)

    async def refuse(self, error: HeadgateError, path: str, responder: Responder) -> None:
        """An error of the front end, before there was a request."""
        request_id = new_id("req")
        self._note(request_id, error)
        await reply_error(error, responder, doors.fallback_dialect(path, {}), request_id)

    def credentials(self, request: Request) -> list[str]:
        """Every key that was presented, wherever it stands; the governor decides whether they agree."""
        found: list[str] = []
        for name, value in among(_CREDENTIAL_HEADERS, request.headers, request.pairs):
            if name == "authorization":
                scheme, _, value = value.partition(" ")
                if scheme.lower() != "bearer" or not value.strip():
                    raise AuthenticationFailed("the Authorization header must be 'Bearer KEY'")
            found.append(value.strip())
        if request.query and (key := request.argument("key")) is not None:
            found.append(key)
        return found

    def _check_origin(self, request: Request) -> None:
        """No web page may spend the keys of an open plane (DNS rebinding, cross-site requests)."""
        if not (self.local and self.house.governor.open):
            return
        if not _LOOPBACK.fullmatch(request.headers.get("host", "")):
            raise PermissionDenied("without keys, only clients of this machine are served: unexpected Host")
        origin = request.headers.get("origin")
        if origin is not None and not _LOOPBACK.fullmatch(urlsplit(origin).netloc):
            raise PermissionDenied("without keys, only clients of this machine are served: foreign Origin")

    async def _once(self, request: Request, responder: Responder, match: Match, request_id: str) -> None:
        """A request with an Idempotency-Key: run, or answered as it was."""
        principal = self.house.governor.authenticate(self.credentials(request))
        await self._repeats.once(
            request,
            responder,
            match,
            key_id=principal.key_id,
            request_id=request_id,
            handle=lambda to: self._routes[match.door.what](self, request, to, match, request_id),
        )

    async def _ask(self, request: Request, responder: Responder, match: Match, request_id: str) -> None:
        door = match.door
        inbound, dialect = self.inbound(request, match, request_id), door.dialect
        if door is doors.CHAT_DOOR and bridge.is_responses(request.body):
            self.house.governor.authenticate(inbound.credentials)  # nothing is decoded for strangers
            inbound.body, dialect = bridge.as_responses(request.body)
            inbound.dialect = doors.RESPONSES
        own = asyncio.current_task()
        inbound.client_left = lambda: responder.left and asyncio.current_task() is own
        heart: Heart | None = None
        if match.array:
            responder = ArrayResponder(responder)

        def listen() -> Progress:
            nonlocal heart
            form, beat = (JSON, b"\n") if match.array else (SSE, door.dialect.heartbeat)
            heart = Heart(responder, [*form, ("x-request-id", request_id)], beat)
            return heart.tell

        inbound.listen = listen
        try:
            exchange = await open_exchange(self.house, inbound)
        except BaseException:
            if heart is not None:
                await heart.stop()
            raise
        try:
            if exchange.request.stream:
                assert heart is not None
                await relay_stream(exchange, responder, dialect, heart)
            else:
                await relay_whole(exchange, responder, dialect)
        except Exception as error:
            if isinstance(error, HeadgateError):
                error.attempted = True
            await exchange.close(error if isinstance(error, HeadgateError) else unexpected(error))
            raise
        finally:
            if heart is not None:
                await heart.stop()
            await exchange.close(cancelled=True)  # does nothing where it was closed in good order

    def inbound(self, request: Request, match: Match, request_id: str) -> Inbound:
        door = match.door
        return Inbound(
            door=door.name,
            dialect=door.dialect,
            op=door.op,
            body=request.body,
            headers=request.headers,
            credentials=self.credentials(request),
            model=match.model,
            stream=match.stream,
            array=match.array,
            forward={name: request.headers[name] for name in door.forward if name in request.headers}
            if door.forward
            else _NOTHING,
            request_id=request_id,
        )

    def _note(self, request_id: str, error: HeadgateError) -> None:
        if self._on_error is not None:
            self._on_error(request_id, error)


async def _fail(
    error: HeadgateError, request: Request, responder: Responder, match: Match | None, request_id: str
) -> None:
    """In the words of the door, in-band where the stream is open already."""
    dialect = doors.fallback_dialect(request.path, request.headers) if match is None else match.door.dialect
    if responder.started:
        await fail_opened(error, responder, dialect, request_id, array=match is not None and match.array)
    else:
        await reply_error(error, responder, dialect, request_id)
