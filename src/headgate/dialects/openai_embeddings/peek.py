"""The skim of an embeddings body, and the splice. The words themselves are never decoded: requests go on as they came."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.bounds import input_bound
from headgate.core.dialect import Peek
from headgate.core.errors import InvalidRequest
from headgate.dialects.jsonio import FORBIDDEN, check_text, decode, encode, invalid, splice_string

MOST_INPUTS = 20_000
MOST_DIMENSIONS = 100_000
NEEDS = frozenset({"embeddings"})


class _Fields(msgspec.Struct, kw_only=True):
    model: str | None = None
    input: msgspec.Raw
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None
    stream: bool | None = None
    headgate: dict[str, Any] | None = None


_FORBIDDEN_FIELDS = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in sorted(FORBIDDEN)]
_Body: Any = msgspec.defstruct("_Body", _FORBIDDEN_FIELDS, bases=(_Fields,), kw_only=True)
_decoder = msgspec.json.Decoder(_Body)
_items = msgspec.json.Decoder(list[msgspec.Raw])


def peek(body: bytes, *, model: str | None) -> Peek:
    check_text(body)
    try:
        raw = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid(error) from error
    for name in FORBIDDEN:
        if getattr(raw, name) is not msgspec.UNSET:
            raise InvalidRequest(f"the field {name!r} is not accepted here", param=name, code="unsupported_parameter")
    if raw.dimensions is not None and not 1 <= raw.dimensions <= MOST_DIMENSIONS:
        raise InvalidRequest(f"dimensions must be between 1 and {MOST_DIMENSIONS}", param="dimensions")
    name = model if model is not None else raw.model
    if not name:
        raise InvalidRequest("you must provide a model", param="model")
    return Peek(
        model=name,
        needs=NEEDS,
        input_bound=_bound(bytes(raw.input)),
        spliceable=raw.headgate is None,
        options=raw.headgate,
    )


def _bound(given: bytes) -> int:
    """Texts by their bytes, token numbers by their count."""
    if given[:1] == b'"':
        return input_bound(len(given), 1, 0)
    if given[:1] != b"[":
        raise InvalidRequest("input must be a string or a list", param="input")
    inside = given[1:].lstrip()
    if inside[:1].isdigit():
        return given.count(b",") + 1
    items = _items.decode(given)
    if not items:
        raise InvalidRequest("input must not be empty", param="input")
    if len(items) > MOST_INPUTS:
        raise InvalidRequest(f"input holds more than {MOST_INPUTS} texts", param="input")
    heads = {bytes(memoryview(item)[:1]) for item in items}
    if heads == {b"["}:
        return given.count(b",") + len(items)
    if not heads <= {b'"', b"{"}:  # objects: texts and images of multimodal models
        raise InvalidRequest("input must hold strings or lists of tokens", param="input")
    return input_bound(len(given), len(items), given.count(b";base64,"))


def splice(body: bytes, peeked: Peek, model: str) -> bytes:
    """Never None: where the bytes cannot tell, the body is decoded and only these two fields change."""
    if peeked.spliceable and (out := splice_string(body, "model", peeked.model, model)) is not None:
        return out
    fields = decode(body)
    fields.pop("headgate", None)
    fields["model"] = model
    return encode(fields)
