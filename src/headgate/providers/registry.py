"""Who speaks which dialect, where, with what key: profiles as data. Adding an OpenAI-compatible vendor is one TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from headgate.core.dialect import Dialect, Quirks

DIALECTS = (
    "openai_chat",
    "openai_responses",
    "openai_embeddings",
    "openai_completions",
    "openai_moderations",
    "openai_images",
    "openai_audio",
    "openai_rerank",
    "anthropic_messages",
    "gemini",
)
Auth = Literal["bearer", "bearer-if-any", "x-api-key", "x-goog-api-key", "none"]


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One vendor. `dialects`: the first is the default; each is reached below `base_url`, or below its own in `bases`."""

    name: str = ""
    base_url: str = ""
    base_url_env: str | None = None
    """Environment variable that replaces the base URL; set, it also counts as having a key (local servers)."""
    key_env: tuple[str, ...] = ()
    """Environment variables in which the key is looked for, in order."""
    auth: Auth = "bearer"
    dialects: tuple[str, ...] = ("openai_chat",)
    bases: dict[str, str] = {}
    headers: dict[str, str] = {}
    catalogue: str | None = None
    """The provider's name in the price catalogue."""
    cache_write_1h: float | None = None
    """What a token costs that is cached for an hour, as a multiple of the input's price; the price catalogue knows only
    the shortest time."""
    zone: str | None = None
    files: bool = False
    """Has `/files` and `/batches` in OpenAI's form."""
    quirks: Quirks = Quirks()


class ProfileError(ValueError):
    """A profile's file is not one."""


class Registry:
    """All profiles: the shipped ones, and those of a directory, which may replace them."""

    def __init__(self, directory: str | Path | None = None) -> None:
        self._profiles = dict(_shipped())
        if directory is not None:
            for path in sorted(Path(directory).glob("*.toml")):
                self._profiles[path.stem] = parse_profile(path.read_text(encoding="utf-8"), path.stem)

    def get(self, name: str) -> Profile | None:
        return self._profiles.get(name)

    def __iter__(self):
        return iter(self._profiles.values())

    def names(self) -> list[str]:
        return list(self._profiles)


def parse_profile(text: str, name: str) -> Profile:
    """Raises ProfileError naming the file's fault."""
    try:
        raw = tomllib.loads(text)
        profile = msgspec.convert({**raw, "name": name}, Profile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ProfileError(f"profile {name!r}: {error}") from error
    if unknown := set(profile.dialects) - set(DIALECTS):
        raise ProfileError(f"profile {name!r}: unknown dialect {min(unknown)!r}; there are {', '.join(DIALECTS)}")
    return profile


@cache
def _shipped() -> Mapping[str, Profile]:
    folder = files("headgate.providers") / "profiles"
    found = {path.name.removesuffix(".toml"): path for path in folder.iterdir() if path.name.endswith(".toml")}
    return {name: parse_profile(found[name].read_text(encoding="utf-8"), name) for name in sorted(found)}


def dialect_of(name: str) -> Dialect:
    """The dialect's singleton. Loaded when first asked for."""
    if name not in DIALECTS:
        raise ProfileError(f"there is no dialect {name!r}")
    return import_module(f"headgate.dialects.{name}").DIALECT


def find_key(profile: Profile, env: Mapping[str, str]) -> str | None:
    """The key from the environment; "" where none is needed; None where there is none."""
    for name in profile.key_env:
        if value := env.get(name, "").strip():
            return value
    return "" if profile.auth in ("none", "bearer-if-any") else None


def auth_headers(auth: Auth, key: str) -> tuple[tuple[str, str], ...]:
    match auth:
        case "none":
            return ()
        case "bearer" | "bearer-if-any":
            return (("authorization", f"Bearer {key}"),) if key else ()
        case _:
            return ((auth, key),)


class BaseUrl(msgspec.Struct, frozen=True):
    scheme: str
    host: str
    port: int
    path: str


def split_base(url: str) -> BaseUrl:
    """Raises ProfileError for what is no http(s) URL, or holds credentials or a query."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ProfileError(f"{url[:100]!r} is no valid URL") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ProfileError(f"{url[:100]!r} is no http or https URL")
    if parts.username or parts.query or parts.fragment:
        raise ProfileError("a base URL holds no credentials, query or fragment")
    return BaseUrl(
        parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")
    )


def describe(profile: Profile) -> dict[str, Any]:
    """For listings and docs."""
    return {
        "name": profile.name,
        "base_url": profile.base_url,
        "dialects": list(profile.dialects),
        "key": list(profile.key_env),
    }
