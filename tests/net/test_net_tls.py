"""TLS: whom we believe, by which name."""

import ssl

import pytest

from headgate.net.transport.connect import client_context
from headgate.net.transport.names import Address, CachingResolver
from headgate.net.transport.protocol import ConnectFailed, ConnectionLost, Limits, Origin, TlsFailed
from support.certificates import Authority, authority
from support.exchange import fetch, send
from support.rawserver import Peer, RawServer

HI = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@pytest.fixture(scope="module")
def ca(tmp_path_factory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


async def serve(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(HI)


def named(server: RawServer, host: str = "api.test") -> tuple[Origin, CachingResolver]:
    """The server under a name, and the resolver that knows it."""

    async def lookup(name: str, port: int) -> list[Address]:
        return [Address(2, ("127.0.0.1", port))]

    return Origin("https", host, server.port), CachingResolver(lookup)


async def test_a_certificate_of_a_known_authority(make, ca):
    names: list[str | None] = []
    context = ca.server_context("api.test")
    context.sni_callback = lambda _, name, __: names.append(name)
    async with RawServer(serve, context=context) as server:
        origin, resolver = named(server)
        transport = make(context=client_context(ca_bundle=str(ca.bundle)), resolver=resolver)
        for _ in range(3):
            assert await fetch(transport, origin) == (200, b"hi")
        assert server.accepted == 1
        await transport.aclose()
    assert names == ["api.test"]


async def test_an_address_as_name(make, ca):
    async with RawServer(serve, context=ca.server_context("127.0.0.1")) as server:
        transport = make(context=client_context(ca_bundle=str(ca.bundle)))
        assert await fetch(transport, Origin("https", "127.0.0.1", server.port)) == (200, b"hi")
        await transport.aclose()


@pytest.mark.parametrize("fault", ["unknown authority", "wrong name", "expired"])
async def test_no_trust_no_request(make, ca, fault):
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.request()
        requests += 1

    context = ca.server_context("api.test", expired=fault == "expired")
    async with RawServer(script, context=context) as server:
        origin, resolver = named(server, "other.test" if fault == "wrong name" else "api.test")
        trust = client_context() if fault == "unknown authority" else client_context(ca_bundle=str(ca.bundle))
        transport = make(context=trust, resolver=resolver)
        with pytest.raises(TlsFailed) as caught:
            await send(transport, origin)
        assert not caught.value.sent
    assert requests == 0


async def test_a_server_without_tls(make, ca):
    async with RawServer(serve) as server:
        transport = make(context=client_context(ca_bundle=str(ca.bundle)))
        with pytest.raises(ConnectFailed) as caught:
            await send(transport, Origin("https", "127.0.0.1", server.port), limits=Limits(connect=0.2))
        assert not caught.value.sent


async def test_large_bodies_both_ways_and_a_cut_one(make, ca):
    async def script(peer: Peer) -> None:
        _, body = await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    async with RawServer(script, context=ca.server_context("api.test")) as server:
        origin, resolver = named(server)
        transport = make(context=client_context(ca_bundle=str(ca.bundle)), resolver=resolver)
        sent = bytes(range(256)) * 8000
        assert await fetch(transport, origin, body=sent) == (200, sent)
        with pytest.raises(ConnectionLost):
            await fetch(transport, origin)


def test_certificates_are_checked_unless_told_otherwise(ca):
    assert client_context().verify_mode is ssl.CERT_REQUIRED
    assert client_context(ca_bundle=str(ca.bundle)).check_hostname
    assert client_context(verify=False).verify_mode is ssl.CERT_NONE
