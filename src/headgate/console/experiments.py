"""Experiments: the admin API's functions and the page that shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.requests import Request

from headgate.console.people import actor_of, body_of
from headgate.core.errors import InvalidRequest
from headgate.engine.trials import Trials
from headgate.strategies.experiment.report import SHADOWED, SHOWN

Make = Callable[[Request], Any]


class Experiments:
    """`serving`: the loop that the gateway serves on, which alone may touch an experiment; None: this one."""

    def __init__(self, trials: Trials, serving: Callable[[], asyncio.AbstractEventLoop | None]) -> None:
        self._trials = trials
        self._serving = serving

    def readings(self) -> Mapping[str, Make]:
        return {
            "/admin/v1/experiments": lambda request: self._there(self._trials.all()),
            "/admin/v1/experiments/{name}": lambda request: self._there(self._trials.one(request.path_params["name"])),
        }

    def changes(self) -> Mapping[str, Make]:
        """Below /admin/v1 for programs, below /change for the console's own pages."""
        return {"/experiments/{name}/stop": self._stop, "/experiments/{name}/start": self._start}

    def pages(self) -> Mapping[str, tuple[str, Make]]:
        return {"/experiments": ("experiments.html", self._page)}

    async def _page(self, request: Request) -> dict[str, Any]:
        found = await self._there(self._trials.all())
        for one in found:
            seen = [metric for arm in one["arms"].values() for metric in arm["metrics"]]
            one["shown"] = [metric for metric in SHOWN if metric in seen]
            one["shadowed"] = [name for name in SHADOWED if one["shadow"] and name in one["shadow"]["candidate"]]
        return {"experiments": found}

    async def _stop(self, request: Request) -> dict[str, Any]:
        given = await body_of(request)
        if set(given) - {"arm", "because"} or not all(isinstance(value, str) for value in given.values()):
            raise InvalidRequest("stop takes `arm` and `because`, both text")
        name, because = request.path_params["name"], given.get("because", "")[:500]
        return await self._there(self._trials.stop(name, actor_of(request), arm=given.get("arm"), because=because))

    async def _start(self, request: Request) -> dict[str, Any]:
        if await body_of(request):
            raise InvalidRequest("start takes nothing")
        return await self._there(self._trials.start(request.path_params["name"], actor_of(request)))

    async def _there(self, work: Coroutine[Any, Any, Any]) -> Any:
        loop = self._serving()
        if loop is None:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
