"""A gateway for tests: a real process's parts on real sockets, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from headgate.config.load import load_text
from headgate.core.clock import SYSTEM
from headgate.core.ports import Governor
from headgate.engine.compile import Compiler
from headgate.engine.house import House
from headgate.governance.open import OpenGovernor
from headgate.ledger.volatile import VolatileLedger
from headgate.net.transport.h1 import H1Transport
from headgate.server.app import DataPlane
from headgate.server.frontends.h1 import H1FrontEnd
from headgate.server.frontends.sockets import bind
from headgate.server.http import HttpLimits
from headgate.simulator.app import Simulator
from support.sim import INSTANT

ENV = {
    name: f"canary-{name.lower()}-5f0c1e"
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_API_KEY_2",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "LLAMA_API_KEY",
        "DEEPSEEK_API_KEY",
        "MISTRAL_API_KEY",
        "GROQ_API_KEY",
        "XAI_API_KEY",
        "OPENROUTER_API_KEY",
    )
}
EXAMPLE = Path(__file__).parents[2] / "src" / "headgate" / "config" / "example.yaml"


class Loop:
    """An event loop in a thread; `run` waits for a coroutine there."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Awaitable[Any], timeout: float = 60.0) -> Any:
        async def wait() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(timeout)

    def call(self, function: Callable[[], Any]) -> Any:
        async def inside() -> Any:
            return function()

        return self.run(inside())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


class SimulatedGateway:
    """Simulated models behind a gateway, in a thread; with the demo's configuration where none is given."""

    def __init__(self, text: str | None = None) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0))
        text = EXAMPLE.read_text(encoding="utf-8") if text is None else text
        self.gateway = self.loop.call(lambda: RunningGateway(text, urls))
        self.loop.run(self.gateway.start())
        self.url: str = self.gateway.url

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()

    def __enter__(self) -> SimulatedGateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RunningGateway:
    """`urls`: provider → base URL, put in place of the configuration's. Use inside its loop."""

    def __init__(
        self,
        text: str,
        urls: dict[str, str],
        *,
        limits: HttpLimits | None = None,
        env: Any = None,
        governor: Governor | None = None,
    ) -> None:
        config = load_text(text, "test.yaml", env or ENV).config
        providers = {
            name: section.model_copy(update={"base_url": urls[name]}) if name in urls else section
            for name, section in config.providers.items()
        }
        self.config = config.model_copy(update={"providers": providers})
        self.ledger = VolatileLedger(keep=100_000)
        compiler = Compiler(env or ENV)
        self.house = House(
            snapshot=compiler.compile(self.config),
            transport=H1Transport(),
            ledger=self.ledger,
            governor=governor or OpenGovernor(),
            clock=SYSTEM,
        )
        compiler.memory.on_event = self.house.event
        self.plane = DataPlane(self.house)
        self._limits = limits or HttpLimits()
        self.url = ""

    async def start(self) -> RunningGateway:
        self._front = H1FrontEnd(self.plane, self.plane.refuse, self._limits)
        sock = bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        await self._front.start(sock)
        return self

    async def stop(self) -> None:
        await self._front.close(0.0)
        self.house.background.close()
        await self.house.transport.aclose()
