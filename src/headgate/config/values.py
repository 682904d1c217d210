"""Values as people write them: `60s`, `32MB`, `500_000`, `$0.50`, secrets."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic_core import core_schema

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?", re.IGNORECASE)
_BYTES = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


def duration(value: Any) -> Any:
    """`1h30m`, `250ms` or plain seconds → seconds as float."""
    if isinstance(value, int | float):
        return float(value)
    text = str(value).strip().replace("_", "")
    if _DURATION.fullmatch(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in _PIECE.findall(text))
    try:
        seconds = float(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no duration: write 30s, 500ms, 10m or 1h30m") from error
    if not 0 <= seconds < float("inf"):
        raise ValueError("a duration cannot be negative or infinite")
    return seconds


def moment(text: str, now: float) -> float:
    """`24h`, `7d` (before `now`), `2026-11-01`, `2026-11-01T12:00` (UTC unless it says otherwise), `today`, `now` → Unix
    seconds. Raises ValueError."""
    if text == "now":
        return now
    if text == "today":
        return now // 86_400 * 86_400
    if _DURATION.fullmatch(text):
        return now - duration(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no time: write 24h, 7d, today, 2026-11-01 or 2026-11-01T12:00") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def size(value: Any) -> Any:
    """`32MB`, `64KiB` or plain bytes → bytes as int."""
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(str(value).strip().replace("_", ""))
    if match is None:
        raise ValueError(f"{str(value)[:40]!r} is no size: write 32MB, 64KiB or a number of bytes")
    return int(Decimal(match[1]) * _BYTES[(match[2] or "B").lower()])


def number(value: Any) -> Any:
    """Grouped digits: `500_000`."""
    if isinstance(value, str) and re.fullmatch(r"\d[\d_]*", value.strip()):
        return int(value.replace("_", ""))
    return value


def money(value: Any) -> Any:
    """US$: `0.50`, `$2`, `1_000` → Decimal."""
    try:
        amount = Decimal(str(value).strip().removeprefix("$").replace("_", ""))
    except InvalidOperation as error:
        raise ValueError(f"{str(value)[:40]!r} is no amount of money: write 0.50 or $2") from error
    if not amount.is_finite() or amount < 0:
        raise ValueError("an amount of money cannot be negative")
    return amount


def share(value: Any) -> Any:
    """`5%` or `0.05` → a part of one."""
    text = str(value).strip()
    try:
        return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no share: write 5% or 0.05") from error


_AMOUNT = {"type": ["string", "number"]}
Duration = Annotated[float, BeforeValidator(duration), WithJsonSchema({**_AMOUNT, "examples": ["30s", "500ms", "10m"]})]
Share = Annotated[
    float, BeforeValidator(share), Field(gt=0, le=1), WithJsonSchema({**_AMOUNT, "examples": ["5%", "0.05"]})
]
Size = Annotated[int, BeforeValidator(size), WithJsonSchema({**_AMOUNT, "examples": ["32MB", "64KiB"]})]
Count = Annotated[
    int, BeforeValidator(number), WithJsonSchema({"type": ["integer", "string"], "examples": ["500_000"]})
]
Money = Annotated[
    Decimal, BeforeValidator(money), PlainSerializer(str), WithJsonSchema({**_AMOUNT, "examples": ["0.50", "$2"]})
]


def plain(value: Any) -> Any:
    """Free JSON of the file (a schema, parameters), whose scalars came as text: numbers and booleans as YAML means them."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if value in ("true", "false"):
        return value == "true"
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value) if value.lstrip("-").isdigit() else float(value)
    return value


class Secret:
    """A string that never shows itself: not in repr, str, errors, logs or dumps. `reveal` is for the one that sends it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    def __str__(self) -> str:
        return "***" if self._value else ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Secret) else cls(str(value)),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "description": "A secret: ${VARIABLE} or ${file:/run/secrets/name}."}
