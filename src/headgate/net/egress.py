"""Where the house itself may connect on somebody else's word: media URLs, tools, webhooks.

The check stands where a name becomes an address (`GuardedResolver`), so what was checked is what is connected to: a name
that answers differently the second time (DNS rebinding) gains nothing, and neither does any spelling of 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

import msgspec

from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.names import Address, CachingResolver, Resolver
from headgate.net.transport.protocol import EgressRefused, HttpRequest, Limits, Origin, Transport

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_URL = 8192
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "100.64.0.0/10", "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15",
        "224.0.0.0/3", "2001::/23", "2001:db8::/32", "3fff::/20",
    )
)  # fmt: skip
"""Beside what the standard library calls private: shared and benchmark ranges, Azure's metadata service, relays,
multicast and reserved, Teredo and other special IPv6."""


class EgressPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Public addresses only, unless an operator says otherwise.

    hosts      names that may be asked ("api.example.org", or "*.example.org" for everything below); empty: any
    networks   networks that may be reached although they are not public ("10.1.2.0/24")
    ports      empty: any
    """

    schemes: tuple[str, ...] = ("https", "http")
    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    ports: tuple[int, ...] = (80, 443)

    def allows(self, address: str) -> bool:
        """May this address be connected to?"""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if any(ip in ipaddress.ip_network(network) for network in self.networks):
            return True
        return is_public(ip)


def is_public(ip: IP) -> bool:
    """A unicast address of the public internet, whichever way an IPv4 address is wrapped into an IPv6 one."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None:
            return False
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if ip not in _GLOBAL_UNICAST or _isatap(ip):
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NEVER)


def _isatap(ip: ipaddress.IPv6Address) -> bool:
    """An interface id of the form [02]00:5efe:a.b.c.d, which tunnels to a.b.c.d."""
    return (int(ip) >> 32) & 0xFDFFFFFF == 0x00005EFE


def parse_url(url: str, policy: EgressPolicy) -> tuple[Origin, str]:
    """(origin, target) of a URL that the policy allows as far as it can be judged without looking names up.
    Raises EgressRefused."""
    if len(url) > MAX_URL or re.search(r"[\x00-\x20\x7f\\]", url):
        raise EgressRefused("the URL is too long or holds characters that URLs do not")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise EgressRefused("the URL is not valid") from error
    if parts.scheme not in policy.schemes:
        raise EgressRefused(f"only {' and '.join(policy.schemes)} URLs are fetched")
    if parts.username is not None or parts.password is not None:
        raise EgressRefused("a URL with credentials is not fetched")
    host = _name(host)
    port = port if port is not None else _PORTS[parts.scheme]
    if policy.ports and port not in policy.ports:
        raise EgressRefused(f"port {port} is not allowed")
    if policy.hosts and not any(_matches(host, pattern) for pattern in policy.hosts):
        raise EgressRefused("this host is not on the list of those that may be asked")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]")
    return Origin(parts.scheme, host, port), target


def _name(host: str) -> str:
    """The host as it is looked up and compared: ASCII, lower case, without the root's dot."""
    if "%" in host:
        raise EgressRefused("the URL's host is not valid")
    if ":" in host:  # urlsplit has taken the brackets off
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError as error:
            raise EgressRefused("the URL's host is not valid") from error
    try:
        name = host.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise EgressRefused("the URL's host is not valid") from error
    if not _HOST.fullmatch(name) or len(name) > 253:
        raise EgressRefused("the URL's host is not valid")
    return name


def _matches(host: str, pattern: str) -> bool:
    pattern = pattern.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


class GuardedResolver:
    """core of Resolver. All addresses of a name must be allowed, or none of them is used."""

    def __init__(self, policy: EgressPolicy, inner: Resolver | None = None) -> None:
        self._policy = policy
        self._inner = inner or CachingResolver()

    async def resolve(self, host: str, port: int) -> list[Address]:
        addresses = await self._inner.resolve(host, port)
        if not all(self._policy.allows(address.ip) for address in addresses):
            raise EgressRefused(f"{host} is not a public host")
        return addresses

    def forget(self, host: str, port: int) -> None:
        self._inner.forget(host, port)


class Fetched(msgspec.Struct, frozen=True):
    status: int
    content_type: str
    body: bytes


class Fetcher:
    """GET under a policy: no redirects, no cookies, no proxies, bounded in bytes and time."""

    def __init__(
        self, policy: EgressPolicy, *, resolver: Resolver | None = None, transport: Transport | None = None
    ) -> None:
        """`transport`, where given, must itself resolve names through a GuardedResolver of `policy`."""
        self._policy = policy
        self._transport = transport or H1Transport(
            resolver=GuardedResolver(policy, resolver), max_idle=4, keepalive=10.0
        )

    async def get(
        self, url: str, *, limits: Limits, seconds: float, headers: Sequence[tuple[str, str]] = ()
    ) -> Fetched:
        """The answer, whatever its status (a redirect is an answer like any other). Raises TransportError."""
        origin, target = parse_url(url, self._policy)
        request = HttpRequest(origin=origin, method="GET", target=target, headers=tuple(headers))
        response = await self._transport.send(request, limits, asyncio.get_running_loop().time() + seconds)
        try:
            body = await response.read()
        finally:
            await response.aclose()
        content_type = (response.header(b"content-type") or b"").decode("latin-1")
        return Fetched(response.status, content_type, body)

    async def aclose(self) -> None:
        await self._transport.aclose()
