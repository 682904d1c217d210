"""What may be fetched on somebody else's word, and by how many spellings one tries to get elsewhere."""

import ipaddress
import socket

import pytest

from headgate.net.egress import EgressPolicy, Fetcher, GuardedResolver, is_public, parse_url
from headgate.net.transport.names import Address, CachingResolver
from headgate.net.transport.protocol import BodyTooLarge, EgressRefused, Limits, Origin
from support.rawserver import Peer, RawServer

PUBLIC = EgressPolicy()
LIMITS = Limits(connect=1, first_byte=1, idle=1, body_bytes=1000)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1",
        "198.51.100.1", "203.0.113.9", "192.88.99.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "fe80::1", "fe80::1%1",
        "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "fec0::1",
        "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2600::5efe:10.0.0.1", "2600::200:5efe:808:808",
    ],
)  # fmt: skip
def test_addresses_that_are_not_the_public_internet(address):
    assert not is_public(ipaddress.ip_address(address))
    assert not PUBLIC.allows(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses(address):
    assert is_public(ipaddress.ip_address(address))


def test_what_an_operator_allows():
    policy = EgressPolicy(networks=("10.1.2.0/24",))
    assert policy.allows("10.1.2.3")
    assert not policy.allows("10.1.3.3")
    assert not policy.allows("not an address")


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("https://example.org", Origin("https", "example.org", 443), "/"),
        ("http://Example.ORG./a%20b/ü?q=ö#part", Origin("http", "example.org", 80), "/a%20b/%C3%BC?q=%C3%B6"),
        ("https://bücher.example/x", Origin("https", "xn--bcher-kva.example", 443), "/x"),
        ("https://[2606:4700::1111]:443/", Origin("https", "2606:4700::1111", 443), "/"),
    ],
)
def test_urls_that_may_be_fetched(url, origin, target):
    assert parse_url(url, PUBLIC) == (origin, target)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "data:text/plain,hi", "ftp://example.org/", "gopher://example.org", "//example.org/x",
        "example.org", "", "https://", "https:///x", "https://user:pass@example.org/", "https://@example.org/",
        "https://example.org:22/", "https://example.org:99999/", "https://exa mple.org/", "https://example.org\\@evil/",
        "https://example.org/\r\nx: y", "https://example.org/\x00", "https://[::1/", "https://[zz]/", "https://-a.b/",
        "https://a_b..c/", "https://" + "a" * 300 + ".org/", "https://example.org/" + "a" * 9000, "https://[fe80::1%25a]/",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url):
    with pytest.raises(EgressRefused):
        parse_url(url, PUBLIC)


def test_a_list_of_hosts():
    policy = EgressPolicy(hosts=("api.example.org", "*.example.net"))
    for good in ("https://api.example.org/", "https://API.example.org./", "https://a.b.example.net/"):
        parse_url(good, policy)
    for bad in (
        "https://example.org/",
        "https://example.net/",
        "https://evilexample.net/",
        "https://api.example.org.evil/",
    ):
        with pytest.raises(EgressRefused):
            parse_url(bad, policy)


class Rebinding:
    """A name that is public when it is checked and private when it is used; one look-up must serve both."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> list[Address]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [Address(socket.AF_INET, (ip, port)) for ip in answer]


async def serve(peer: Peer) -> None:
    while True:
        head = await peer.head()
        if b"/redirect" in head:
            await peer.send(b"HTTP/1.1 302 F\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n")
        elif b"/big" in head:
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + bytes(5000))
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 3\r\n\r\npng")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "0", "[::ffff:127.0.0.1]"]
)
async def test_no_spelling_of_this_machine_is_connected_to(host):
    async with RawServer(serve) as server:
        fetcher = Fetcher(EgressPolicy(ports=()))
        with pytest.raises(EgressRefused):
            await fetcher.get(f"http://{host}:{server.port}/", limits=LIMITS, seconds=2)
        assert server.accepted == 0
        await fetcher.aclose()


async def test_one_private_address_among_public_ones_is_enough_to_refuse():
    resolver = GuardedResolver(PUBLIC, CachingResolver(Rebinding(["93.184.216.34", "10.0.0.1"])))
    with pytest.raises(EgressRefused):
        await resolver.resolve("example.org", 80)


async def test_a_name_that_changes_after_the_check_gains_nothing():
    async with RawServer(serve) as server:
        policy = EgressPolicy(ports=())
        fetcher = Fetcher(policy, resolver=CachingResolver(Rebinding(["127.0.0.1"]), ttl=0.0))
        for _ in range(2):
            with pytest.raises(EgressRefused):
                await fetcher.get(f"http://rebind.test:{server.port}/", limits=LIMITS, seconds=2)
        assert server.accepted == 0
        await fetcher.aclose()


async def test_fetching_where_it_is_allowed():
    async with RawServer(serve) as server:
        fetcher = Fetcher(EgressPolicy(ports=(), networks=("127.0.0.0/8",)))
        base = f"http://127.0.0.1:{server.port}"
        got = await fetcher.get(f"{base}/a", limits=LIMITS, seconds=2)
        assert (got.status, got.content_type, got.body) == (200, "image/png", b"png")
        assert (await fetcher.get(f"{base}/redirect", limits=LIMITS, seconds=2)).status == 302
        with pytest.raises(BodyTooLarge):
            await fetcher.get(f"{base}/big", limits=LIMITS, seconds=2)
        await fetcher.aclose()
