"""The simulator as a whole: which provider and model a call is for, its log, and control while it runs.

    /openai/v1/…  /anthropic/v1/…  /google/v1beta/…  /meta/…  /deepseek/…     the providers, by base path
    /replay/KEY/…, or model `replay-KEY`                                       recordings
    /_sim/models[/NAME]  /_sim/log  /_sim/script  /_sim/reset                  control

One port serves all of them, or each provider has a port of its own beside the control port, so that a provider's port
can refuse connections while the others answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from headgate.core.clock import SYSTEM, Clock
from headgate.core.errors import HeadgateError
from headgate.simulator import control, embeddings, natives, tokens
from headgate.simulator import script as steps
from headgate.simulator.breaks import Break
from headgate.simulator.inprocess import InProcess
from headgate.simulator.listener import Listener
from headgate.simulator.minds import Scripts
from headgate.simulator.models import Model, dialect_of
from headgate.simulator.replay import Replay
from headgate.simulator.routing import PROVIDERS, Route, key_of, route_of
from headgate.simulator.spec import Served, SimModel
from headgate.simulator.stored import StoredResponses
from headgate.simulator.wire import Call, Wire


class Simulator:
    """Simulated providers.

    models   by our name; `await sim.break_model(name, mode, ...)` and `sim.mend(name)` while it runs
    scripts  what models say to prompts that tests choose
    replay   recordings to serve
    log      every call that a provider was asked, in order of arrival
    keys     provider -> the only key that it takes; a provider that is not named takes any
    """

    def __init__(
        self,
        models: Sequence[SimModel],
        *,
        seed: int = 0,
        clock: Clock = SYSTEM,
        keys: dict[str, str] | None = None,
        keep: int = 20_000,
    ) -> None:
        self.scripts = Scripts()
        self.replay = Replay(seed)
        self._stored = StoredResponses()
        self.models = {
            spec.name: Model(spec, seed=seed, clock=clock, scripts=self.scripts, stored=self._stored) for spec in models
        }
        self.log: deque[Served] = deque(maxlen=keep)
        self.keys = keys or {}
        self.wire = Wire(self.respond, clock=clock, keep=keep)
        self._by_provider: dict[str, Listener] = {}
        self._main: Listener | None = None
        self._served = 0
        self._chores: set[asyncio.Task[None]] = set()

    # -- life -----------------------------------------------------------------------------------------------------
    async def start(self, port: int = 0, *, port_each: bool = False) -> dict[str, str]:
        """Listens on 127.0.0.1. Returns the base URL of every provider that a model belongs to."""
        self._main = await self.wire.listen(port)
        if port_each:
            for provider in self.providers:
                self._by_provider[provider] = await self.wire.listen()
        return {provider: self.base_url(provider) for provider in self.providers}

    async def aclose(self) -> None:
        for task in self._chores:
            task.cancel()
        await self.wire.aclose()

    async def __aenter__(self) -> Simulator:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def providers(self) -> list[str]:
        return list(dict.fromkeys(model.spec.provider for model in self.models.values()))

    @property
    def url(self) -> str:
        """Origin of the control endpoints (and of everything, with one port)."""
        assert self._main is not None
        return f"http://127.0.0.1:{self._main.port}"

    def base_url(self, provider: str) -> str:
        """What a configuration's `base_url` for this provider is."""
        listener = self._by_provider.get(provider) or self._main
        assert listener is not None
        base = PROVIDERS[provider].base if provider in PROVIDERS else f"/{provider}/v1"
        return f"http://127.0.0.1:{listener.port}{base}"

    # -- control --------------------------------------------------------------------------------------------------
    async def break_model(self, name: str, mode: str, **more: Any) -> None:
        """Breaks a model as `breaks.Break` describes. `refuse` closes the provider's own port where it has one and
        all its models refuse. Raises KeyError or ValueError."""
        await self.set_break(name, Break(mode, **more))

    async def mend(self, name: str | None = None) -> None:
        """Mends one model, or all."""
        for each in [name] if name is not None else list(self.models):
            await self.set_break(each, None)

    async def set_break(self, name: str, broken: Break | None) -> None:
        model = self.models[name]
        model.break_with(broken)
        listener = self._by_provider.get(model.spec.provider)
        if listener is None:
            return
        if self._is_down(model.spec.provider):
            await listener.refuse()
            self.wire.reset_connections(listener.port)
        else:
            await listener.accept_again()

    def later(self, name: str, broken: Break | None) -> asyncio.Event:
        """`set_break` from a script: the event is set when it is done."""
        done = asyncio.Event()

        async def apply() -> None:
            await self.set_break(name, broken)
            done.set()

        task = asyncio.get_running_loop().create_task(apply())
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return done

    def served(self, name: str) -> list[Served]:
        """The log of one model."""
        return [served for served in self.log if served.model == name]

    # -- answering ------------------------------------------------------------------------------------------------
    def transport(self) -> InProcess:
        """The simulator as a transport, without sockets; `start` is not needed. Any host will do in the base URLs. A
        provider all of whose models refuse is refused as a connection."""
        return InProcess(self.respond, refused=lambda request: self._is_down(request.target.split("/")[1]))

    def _is_down(self, provider: str) -> bool:
        mine = [model.broken for model in self.models.values() if model.spec.provider == provider]
        return bool(mine) and all(b is not None and b.mode == "refuse" and b.share >= 1 for b in mine)

    def respond(self, call: Call) -> steps.Script:
        """The script of the answer to `call`, wherever it came from."""
        if call.path.startswith("/_sim/"):
            return control.respond(self, call)
        if self.replay.find(call) is not None:
            return self.replay.respond(call)
        route = route_of(call)
        if route is None:
            return steps.reply_json(404, {"error": {"message": f"no such path: {call.path}", "type": "not_found"}})
        if not self._may_enter(route, call):
            return natives.refusal(route.dialect, "auth")
        match route.op:
            case "models":
                return self._listed(route)
            case "stored":
                return self._kept(route, call)
            case "embeddings":
                return self._embedded(route, call)
        return self._asked(route, call)

    def _may_enter(self, route: Route, call: Call) -> bool:
        key = key_of(call)
        expected = self.keys.get(route.provider)
        return bool(key) if expected is None else key == expected

    def _asked(self, route: Route, call: Call) -> steps.Script:
        asked = _skim(call.body)
        named = route.model or asked.model
        model = self._find(route.provider, named)
        if model is None:
            return natives.refusal(route.dialect, "not_found", model=named[:200])
        if route.op == "count_tokens":
            return self._counted(route, call, named)
        served = self._logged(model, route, call, asked.stream if route.stream is None else route.stream)
        if route.op in ("images", "speech"):
            return model.answer_bytes(served, route.op)
        return model.answer(served, model=route.model or None, stream=route.stream)

    def _logged(self, model: Model, route: Route, call: Call, stream: bool) -> Served:
        self._served += 1
        served = Served(
            number=self._served,
            model=model.spec.name,
            provider=route.provider,
            dialect=route.dialect,
            stream=stream,
            attempt=call.headers.get("x-client-request-id"),
            call=call,
        )
        self.log.append(served)
        return served

    def _find(self, provider: str, named: str) -> Model | None:
        """By the id that the provider knows, or by our own name for it."""
        mine = [model for model in self.models.values() if model.spec.provider == provider]
        for model in mine:
            if named == model.spec.upstream:
                return model
        return next((model for model in mine if named == model.spec.name), None)

    def _counted(self, route: Route, call: Call, named: str) -> steps.Script:
        try:
            body = msgspec.json.decode(call.body, type=dict[str, Any])
            inner = {"max_tokens": 1, **body.get("generateContentRequest", body)}
            if route.dialect == "gemini":
                del inner["max_tokens"]
            request = dialect_of(route.dialect).parse_request(msgspec.json.encode(inner), model=named, stream=False)
        except (msgspec.MsgspecError, HeadgateError) as error:
            return natives.refusal(route.dialect, "bad_request", detail=str(error))
        field = "totalTokens" if route.dialect == "gemini" else "input_tokens"
        return steps.reply_json(200, {field: tokens.of_request(request)})

    def _embedded(self, route: Route, call: Call) -> steps.Script:
        try:
            body = msgspec.json.decode(call.body, type=dict[str, Any])
        except msgspec.MsgspecError:
            body = {}
        answer = embeddings.answer(body, str(body.get("model", "")))
        if answer is None:
            return natives.refusal(route.dialect, "bad_request", detail="`input` is not valid")
        return steps.reply_json(200, answer, (("x-simulated", "true"),))

    def _kept(self, route: Route, call: Call) -> steps.Script:
        now = self.wire.clock.monotonic()
        kept = self._stored.find(route.model, now)
        if kept is None:
            return natives.refusal(route.dialect, "not_found", model=route.model[:200])
        if call.method == "POST":
            kept = self._stored.cancel(route.model, now)
            if kept is None:
                said = "Only a response that is being made in the background can be cancelled."
                return natives.refusal(route.dialect, "bad_request", detail=said)
        if call.method == "DELETE":
            self._stored.forget(route.model)
            return steps.reply_json(200, {"id": route.model, "object": "response", "deleted": True})
        return steps.reply_json(200, kept)

    def _listed(self, route: Route) -> steps.Script:
        mine = [model.spec for model in self.models.values() if model.spec.provider == route.provider]
        match route.dialect:
            case "gemini":
                listed: dict[str, Any] = {
                    "models": [
                        {
                            "name": f"models/{spec.upstream}",
                            "displayName": spec.name,
                            "inputTokenLimit": spec.context,
                            "supportedGenerationMethods": ["generateContent", "countTokens"],
                        }
                        for spec in mine
                    ]
                }
            case "anthropic_messages":
                data = [
                    {"type": "model", "id": s.upstream, "display_name": s.name, "created_at": "2026-01-01T00:00:00Z"}
                    for s in mine
                ]
                ids = [spec.upstream for spec in mine] or [None]
                listed = {"data": data, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}
            case _:
                own = [{"id": s.upstream, "object": "model", "created": 0, "owned_by": s.provider} for s in mine]
                listed = {"object": "list", "data": own}
        return steps.reply_json(200, listed)


class _Skim(msgspec.Struct):
    model: str = ""
    stream: bool = False


def _skim(body: bytes) -> _Skim:
    """Model and stream of a body; their defaults where it is not one."""
    try:
        return msgspec.json.decode(body, type=_Skim)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Skim()
