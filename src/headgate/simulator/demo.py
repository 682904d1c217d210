"""The five models of the demo's configuration, each at its own provider, each in its provider's native format."""

from __future__ import annotations

import msgspec

from headgate.core.clock import SYSTEM, Clock
from headgate.simulator.app import Simulator
from headgate.simulator.spec import SimModel

_ALL = frozenset({"tools", "vision", "json_schema", "reasoning"})

MODELS: tuple[SimModel, ...] = (
    SimModel(
        name="claude-4.7",
        provider="anthropic",
        upstream="claude-opus-4-7",
        ttft=0.22,
        jitter=0.2,
        tokens_per_second=110,
        skill={"code": 0.97, "analysis": 0.97, "math": 0.9, "judge": 0.95, "json": 0.99, "general": 0.95},
        context=500_000,
        supports=_ALL,
    ),
    SimModel(
        name="gpt-5.5",
        provider="openai",
        upstream="gpt-5.5",
        ttft=0.18,
        jitter=0.2,
        tokens_per_second=140,
        skill={"summary": 0.97, "translation": 0.97, "code": 0.92, "math": 0.9, "judge": 0.95, "general": 0.95},
        context=256_000,
        supports=_ALL,
        shows=False,
    ),
    SimModel(
        name="gemini-3.0",
        provider="google",
        upstream="gemini-3-pro",
        ttft=0.15,
        jitter=0.2,
        tokens_per_second=180,
        skill={"creative": 0.97, "summary": 0.93, "math": 0.88, "judge": 0.9, "general": 0.93},
        context=2_000_000,
        supports=_ALL,
    ),
    SimModel(
        name="llama-4",
        provider="meta",
        upstream="llama-4-maverick",
        ttft=0.06,
        jitter=0.2,
        tokens_per_second=200,
        skill={"code": 0.75, "math": 0.7, "judge": 0.85, "json": 0.95, "general": 0.85},
        context=128_000,
        supports=_ALL,
    ),
    SimModel(
        name="deepseek-v4",
        provider="deepseek",
        upstream="deepseek-chat",
        ttft=0.3,
        jitter=0.2,
        tokens_per_second=120,
        skill={"math": 0.98, "code": 0.95, "judge": 0.9, "general": 0.9},
        context=256_000,
        supports=frozenset({"tools", "json_schema", "reasoning"}),
    ),
)


class DemoSimulator(Simulator):
    """The demo's providers. With `speed` above 1 everything comes that much faster; 0: at once."""

    def __init__(self, *, seed: int = 0, speed: float = 1.0, clock: Clock = SYSTEM) -> None:
        super().__init__([at_speed(spec, speed) for spec in MODELS], seed=seed, clock=clock)

    async def start(self, port: int = 0, *, port_each: bool = True) -> dict[str, str]:
        """Listens, each provider on a port of its own; `port` is the control port. Returns the base URLs by provider,
        to be set as `base_url` of the configuration's providers."""
        return await super().start(port, port_each=port_each)


def at_speed(spec: SimModel, speed: float) -> SimModel:
    if speed == 1.0:
        return spec
    return msgspec.structs.replace(
        spec, ttft=spec.ttft / speed if speed else 0.0, tokens_per_second=spec.tokens_per_second * speed
    )
