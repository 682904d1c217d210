"""Fault 4: a provider whose certificate is expired or for another name is left at once, not asked again, and told of."""

from __future__ import annotations

import asyncio
import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from headgate.net.transport.connect import client_context
from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.names import Address, CachingResolver
from headgate.simulator.script import Body
from headgate.telemetry.metrics import Metrics
from support.certificates import authority
from support.gateway import RunningGateway
from support.rawserver import Peer, RawServer
from support.virtual import answer

CONFIG = """
providers: {openai: {}, deepseek: {}}
models:
  first: {provider: openai, upstream: one}
  second: {provider: deepseek, upstream: two}
  chain: {fallback: [first, second]}
"""
WELL = next(step.data for step in answer("well") if isinstance(step, Body))


async def _serves(peer: Peer) -> None:
    while True:
        await peer.request()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(WELL)
        await peer.send(head + WELL)


async def _lookup(name: str, port: int) -> list[Address]:
    return [Address(2, ("127.0.0.1", port))]


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wrong", ["expired", "name"])
async def test_an_untrusted_provider_is_left_at_once_and_told_of(ca, wrong, stream):
    handshakes: list[str | None] = []
    context = ca.server_context("api.test", expired=wrong == "expired")
    context.sni_callback = lambda _, name, __: handshakes.append(name)
    bad = RawServer(_serves, context=context)
    host = "api.test" if wrong == "expired" else "other.test"
    async with bad, RawServer(_serves, context=ca.server_context("good.test")) as good:
        urls = {"openai": f"https://{host}:{bad.port}/v1", "deepseek": f"https://good.test:{good.port}/v1"}
        gateway = RunningGateway(CONFIG, urls)
        gateway.house.transport = H1Transport(
            context=client_context(ca_bundle=str(ca.bundle)), resolver=CachingResolver(_lookup)
        )
        events: list[tuple[str, dict[str, Any]]] = []
        metrics = Metrics(version="0", entries=lambda: gateway.house)
        gateway.house.on_event += [lambda kind, facts: events.append((kind, facts)), metrics.event]
        await gateway.start()
        try:
            for _ in range(3):
                heard = await _ask(gateway, "chain", stream=False)
                assert heard["choices"][0]["message"]["content"] == "well"
            alone = await _ask(gateway, "first", stream=stream)
        finally:
            await gateway.stop()
        assert len(handshakes) == 1  # for four requests: the same certificate would be met again
        assert alone["error"]["code"] == "upstream_error"
        told = [facts for kind, facts in events if kind == "misconfigured"]
        assert [(one["deployment"], one["error"]) for one in told] == [("openai/one", "tls")]
        assert (
            b'headgate_misconfigured_total{deployment="openai/one",error_type="tls",model="first"} 1.0'
            in metrics.render()
        )
        view = gateway.house.snapshot.model("first").deployments[0].vitals.health.view()  # type: ignore[union-attr]
        assert (view.state, view.reason) == ("open", "no trusted TLS connection")
        assert view.recovers_in is not None
        first = next(o for o in gateway.ledger.outcomes.values() if o.error == "tls")
        assert (first.state, first.cost) == ("released", 0)


async def _ask(gateway: RunningGateway, model: str, *, stream: bool) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}

    def post() -> bytes:
        connection = HTTPConnection(urlsplit(gateway.url).netloc, timeout=10)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        try:
            return connection.getresponse().read()
        finally:
            connection.close()

    return json.loads(await asyncio.to_thread(post))


async def test_a_handshake_that_is_cut_is_worth_another_try(ca):
    async def cut(peer: Peer) -> None:
        peer.reset()

    async with RawServer(cut) as server:
        urls = {"openai": f"https://api.test:{server.port}/v1"}
        gateway = RunningGateway(CONFIG, urls)
        gateway.house.transport = H1Transport(
            context=client_context(ca_bundle=str(ca.bundle)), resolver=CachingResolver(_lookup)
        )
        await gateway.start()
        try:
            heard = await _ask(gateway, "first", stream=False)
        finally:
            await gateway.stop()
        assert heard["error"]["code"] == "upstream_error"
        assert server.accepted == 3  # and two retries
