"""The head of a request, as bytes, and what is not fit to be in one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from headgate.net.transport.protocol import Origin

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TARGET = re.compile(r"[!-~]+")
_OURS = frozenset(("host", "content-length", "transfer-encoding", "connection"))


def render_line(method: str, target: str) -> bytes:
    if not _NAME.fullmatch(method) or not _TARGET.fullmatch(target):
        raise ValueError("the request's method or target is not fit for a request line")
    return f"{method} {target} HTTP/1.1\r\n".encode("ascii")


def host_header(origin: Origin) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != (443 if origin.scheme == "https" else 80):
        host = f"{host}:{origin.port}"
    if _BAD_VALUE.search(host):
        raise ValueError("the origin's host is not fit for a header")
    return f"host: {host}\r\n".encode("ascii")


def render_headers(headers: Sequence[tuple[str, str]]) -> bytes:
    """Raises ValueError (never showing the value) where a header would break the head's framing."""
    lines: list[str] = []
    for name, value in headers:
        if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise ValueError(f"the header {name[:40]!r} is not fit for a request")
        if name.lower() in _OURS:
            raise ValueError(f"the header {name[:40]!r} is the transport's own")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")
