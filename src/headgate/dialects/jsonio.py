"""JSON at the edges: strict towards clients, careful towards providers, never re-encoded where bytes will do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from headgate.core.errors import InvalidRequest, fault

_encoder = msgspec.json.Encoder()
_any = msgspec.json.Decoder()
# Fields that would set URLs, keys or headers of the gateway: never used, never passed on (PRODUCT, "The doors").
FORBIDDEN: frozenset[str] = frozenset(
    {
        "api_base",
        "api_key",
        "api_type",
        "api_version",
        "base_url",
        "custom_llm_provider",
        "default_headers",
        "extra_body",
        "extra_headers",
        "extra_query",
        "headers",
        "http_client",
        "litellm_params",
        "organization",
        "provider_url",
    }
)
# Pairs and escaped backslashes are kept, a surrogate on its own is replaced.
_SURROGATES = re.compile(rb"(\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|\\u[dD][89a-fA-F]\w\w")
_SURROGATE = re.compile(rb"\\u[dD]")  # a regular expression with a literal head scans faster than `in`
_ESCAPED_LETTER = re.compile(rb"\\u00[67]")
_COLON = re.compile(rb"\s*:\s*")
LONG = 16_000
"""Bytes from which on it pays to jump from quote to quote."""
JUMPS = 400
"""Quotes after which a body has too many of them for that."""
_PATH = re.compile(r" - at `\$\.?([^`]*)`")


def decode(body: bytes) -> dict[str, Any]:
    """A client's body. Raises InvalidRequest where it is not one JSON object in clean UTF-8."""
    check_text(body)
    try:
        value = _any.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid(error) from error
    if not isinstance(value, dict):
        raise InvalidRequest("the request body must be a JSON object")
    forbid(value)
    return value


def is_utf8(body: bytes) -> bool:
    """Typed skims do not look into strings that nobody asked for."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def check_text(body: bytes) -> None:
    """What typed skims would not see: empty bodies, a byte order mark, invalid UTF-8, lone surrogates."""
    if not body or body.isspace():
        raise InvalidRequest("the request body is empty")
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidRequest("the request body must not begin with a byte order mark")
    if not is_utf8(body):
        raise InvalidRequest("the request body is not valid UTF-8")
    if b"\\" in body and _SURROGATE.search(body) and any(match[1] is None for match in _SURROGATES.finditer(body)):
        raise InvalidRequest("the request body holds a surrogate that is no part of a pair")


def invalid(error: Exception) -> InvalidRequest:
    """The error of a decoder or typed skim, with the parameter that it names (`$.temperature` → temperature)."""
    if isinstance(error, RecursionError):
        return InvalidRequest("the request body is nested too deeply")
    text = str(error)
    if not isinstance(error, msgspec.ValidationError) or "out of range - at `$[...]`" in text:
        return InvalidRequest(f"the request body is not valid JSON: {text[:300]}")
    found = _PATH.search(text)
    if found is None:
        if text.startswith("Expected `object`"):
            return InvalidRequest("the request body must be a JSON object")
        missing = re.search(r"missing required field `(\w+)`", text)
        return InvalidRequest(text[:300], param=missing[1] if missing else None)
    param = found[1][:100]
    return InvalidRequest(f"{param}: {_PATH.sub('', text)[:300]}" if param else text[:300], param=param or None)


def forbid(fields: Mapping[str, Any]) -> None:
    if bad := FORBIDDEN & fields.keys():
        name = min(bad)
        raise InvalidRequest(f"the field {name!r} is not accepted here", param=name, code="unsupported_parameter")


def decode_upstream(body: bytes) -> Any:
    """A provider's bytes. Leading blank lines (OpenRouter's keep-alive) are skipped; NaN and infinities are read as null
    and lone surrogates as U+FFFD, for some servers write them; anything else broken is a fault."""
    try:
        return _any.decode(body.strip())
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        try:
            return _lenient(body)
        except (ValueError, RecursionError):
            kind = "HTML" if body.lstrip()[:1] == b"<" else "not JSON"
            raise fault("invalid_answer", f"the provider's answer is {kind}", detail=repr(body[:200])) from error


def decode_chunk(body: bytes) -> dict[str, Any]:
    """As `decode_upstream`, one event of a stream: what is JSON but no object is as broken as what is no JSON."""
    raw = decode_upstream(body)
    if not isinstance(raw, dict):
        raise fault("invalid_answer", "the provider's stream holds an event that is no object", detail=repr(body[:200]))
    return raw


def holds_json(frame: bytes) -> bool:
    """What stands behind the first brace of a stream's frame is one whole object, by the letter. Nothing is built: under
    half a microsecond for a usual frame. False says only that the frame has to be looked at."""
    try:
        _raw.decode(frame[frame.find(b"{") :])
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


_raw = msgspec.json.Decoder(msgspec.Raw)


def _lenient(body: bytes) -> Any:
    clean = _SURROGATES.sub(lambda match: match[1] or rb"\ufffd", body).decode("utf-8")
    return json.loads(clean, parse_constant=lambda _: None, parse_float=_finite, strict=False)


def _finite(text: str) -> float | None:
    value = float(text)
    return value if value - value == 0 else None


def encode(value: Any) -> bytes:
    """Compact, UTF-8, in the order of the keys; numbers that JSON has no word for become null."""
    return _encoder.encode(value)


def attach_field(body: bytes, name: str, value: bytes) -> bytes:
    """`body` (a JSON object) with one more top-level field at its end; nothing else changes."""
    end = body.rstrip()
    if not end.endswith(b"}"):
        return body
    head = end[:-1].rstrip()
    comma = b"" if head.endswith(b"{") else b","
    return b'%b%b"%b":%b}' % (head, comma, name.encode(), value)


@lru_cache(maxsize=16)
def _quoted(key: str) -> re.Pattern[bytes]:
    return re.compile(b'"%b"' % key.encode())


def with_fields(body: bytes, fields: Mapping[str, Any]) -> bytes:
    """`body` (a JSON object; a form is left as it is) with `fields` in place of its own; objects are merged within."""
    if not body.lstrip().startswith(b"{"):
        return body
    return encode(_merged(_any.decode(body), fields))


def _merged(have: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(have)
    for name, value in fields.items():
        inner = out.get(name)
        out[name] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return out


def holds(body: bytes, key: str, at: int = 0) -> bool:
    """Whether `"key"` stands in `body` from `at` on. In a long body quotes are few as a rule, and to jump from one to the
    next is fifty times faster than to look at every byte."""
    needle = _quoted(key)
    if len(body) > LONG:
        for _ in range(JUMPS):
            at = body.find(b'"', at)
            if at < 0:
                return False
            if needle.match(body, at):
                return True
            at += 1
    return needle.search(body, at) is not None


def splice_string(body: bytes, key: str, old: str, new: str) -> bytes | None:
    """`body` with the string value of the top-level `key` replaced, or None where bytes alone cannot tell which it is.

    Safe where `"key"` occurs exactly once, the value read by the caller's typed skim is right behind it, and no escape
    could spell the key another way (`\\u006dodel`)."""
    found = _quoted(key).search(body)
    if found is None or holds(body, key, found.end()) or (b"\\" in body and _ESCAPED_LETTER.search(body)):
        return None
    start = found.end()
    value = _COLON.match(body, start)
    if value is None:
        return None
    quoted = encode(old)
    start = value.end()
    if body[start : start + len(quoted)] != quoted:
        return None
    rest = memoryview(body)
    return b"".join((rest[:start], encode(new), rest[start + len(quoted) :]))  # one copy
