"""A provider's key is shown by nothing that the running gateway is made of: no repr may hold it, for reprs end up in logs.

(That none leaves by an answer, a log line, a trace, a metric or the console: e2e/test_serve.py.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headgate.net.transport.protocol import HttpRequest, Origin
from support.gateway import ENV, EXAMPLE, Loop, RunningGateway

FURTHER = ("mistral", "groq", "xai", "openrouter")
"""Providers with a key that the example does not name."""


def parts(value: Any) -> Iterator[Any]:
    """What an object of ours, or a container, holds."""
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif (type(value).__module__ or "").startswith("headgate"):
        names = {*getattr(value, "__dict__", {}), *getattr(type(value), "__struct_fields__", ())}
        names |= {slot for kind in type(value).__mro__ for slot in getattr(kind, "__slots__", ())}
        yield from (getattr(value, name) for name in names if hasattr(value, name))


def test_no_repr_of_the_running_gateway_holds_a_key():
    loop = Loop()
    text = EXAMPLE.read_text(encoding="utf-8")
    text = text.replace("providers:\n", "providers:\n" + "".join(f"  {name}: {{}}\n" for name in FURTHER))
    text = text.replace("models:\n", "models:\n" + "".join(f"  {name}: {{provider: {name}}}\n" for name in FURTHER))
    gateway = loop.call(lambda: RunningGateway(text, {}, env=ENV))
    waiting: list[Any] = [gateway.house, gateway.plane, gateway.config]
    seen: dict[int, Any] = {}
    kept: list[str] = []
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, str) and "canary" in value:
            kept.append(value)
        elif (type(value).__module__ or "").startswith("headgate"):
            assert "canary" not in repr(value), type(value)
            assert "canary" not in str(value), type(value)
        waiting += parts(value)
    within = " ".join(kept)
    assert [name for name, key in ENV.items() if key not in within] == [], (
        "all were within reach, or this proves nothing"
    )
    loop.close()


def test_a_request_on_its_way_shows_neither_headers_nor_query():
    headers = (("authorization", "Bearer canary"),)
    request = HttpRequest(
        origin=Origin("https", "a.example", 443), method="POST", target="/v1?key=canary", headers=headers, extra=headers
    )
    assert "canary" not in repr(request)
