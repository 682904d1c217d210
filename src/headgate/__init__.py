"""Headgate: one endpoint in front of many models, and five architectures behind one name.

from headgate import Gateway

async with Gateway.from_file("headgate.yaml") as gateway:
    answer = await gateway.chat(model="auto", messages=[{"role": "user", "content": "Prove it."}])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Agent",
    "Answer",
    "Cascade",
    "ConfigError",
    "Ensemble",
    "Fallback",
    "Gateway",
    "HeadgateError",
    "Route",
    "__version__",
]

if TYPE_CHECKING:
    from headgate.config.errors import ConfigError
    from headgate.core.errors import HeadgateError
    from headgate.engine.gateway import Answer, Gateway
    from headgate.engine.plain import Agent, Cascade, Ensemble, Fallback, Route

_HOMES = {
    "Gateway": "headgate.engine.gateway",
    "Answer": "headgate.engine.gateway",
    "Fallback": "headgate.engine.plain",
    "Route": "headgate.engine.plain",
    "Cascade": "headgate.engine.plain",
    "Ensemble": "headgate.engine.plain",
    "Agent": "headgate.engine.plain",
    "ConfigError": "headgate.config.errors",
    "HeadgateError": "headgate.core.errors",
}


def __getattr__(name: str) -> Any:
    """Loaded when first used: `headgate --version` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'headgate' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
