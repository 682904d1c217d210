"""A name that is nearly that of a model is put right, at every door; with no name that the key may not use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.principal import Principal
from headgate.engine.gateway import OpenGovernor
from headgate.server.http import Request
from support.virtual import Heard, VirtualGateway, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  claude: {provider: openai, upstream: one}
  careful: {fallback: [claude]}
  carefuller: {fallback: [claude]}
  private: {provider: openai, upstream: two, zone: own}
aliases: {"gpt-*": claude, quick: claude}
"""
ASKED = [{"role": "user", "content": "hi"}]
EVERYTHING = Principal(key_id="k", name="k")
LITTLE = Principal(key_id="k", name="k", models=frozenset({"claude", "carefuller", "private"}))


class Known(OpenGovernor):
    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    def authenticate(self, credentials: Any) -> Principal:
        return self._principal


INPUT, TALK = {"input": "hi"}, {"messages": ASKED, "max_tokens": 9}
DOORS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "chat": ("POST", "/v1/chat/completions", TALK),
    "messages": ("POST", "/v1/messages", TALK),
    "responses": ("POST", "/v1/responses", INPUT),
    "embeddings": ("POST", "/v1/embeddings", INPUT),
    "gemini": (
        "POST",
        "/v1beta/models/{}:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    ),
    "explain": ("POST", "/v1/explain", TALK),
    "models": ("GET", "/v1/models/{}", None),
}


def asked(door: str, model: str, principal: Principal) -> tuple[int, Any]:
    async def main() -> None:
        it = VirtualGateway(CONFIG, governor=Known(principal))
        method, path, said = DOORS[door]
        body = b"" if said is None else json.dumps(said if "{}" in path else {**said, "model": model}).encode()
        heard, given = Heard(), {"host": "localhost"}
        await it.plane(Request(method, path.format(model), "", given, list(given.items()), body), heard)
        told.append((heard.status, json.loads(heard.body)["error"]))

    told: list[tuple[int, Any]] = []
    virtually(main)
    return told[0]


@pytest.mark.parametrize("door", DOORS)
def test_the_nearest_name_is_told_at_every_door(door: str) -> None:
    status, error = asked(door, "carefulll", EVERYTHING)
    assert (status, error["message"]) == (
        404, "The model 'carefulll' does not exist or is not offered here (did you mean 'careful'?).",
    )  # fmt: skip
    assert error.get("code") in ("model_not_found", 404, None)


@pytest.mark.parametrize(
    ("model", "principal", "near"),
    [
        ("carefull", EVERYTHING, "careful"),
        ("carefull", LITTLE, "carefuller"),
        ("quik", EVERYTHING, "quick"),
        ("quik", LITTLE, None),
        ("Claude", LITTLE, "claude"),
        ("claud:cheap", EVERYTHING, "claude"),
        ("privat", EVERYTHING, "private"),
        ("privat", Principal(key_id="k", name="k", models=frozenset({"claude"})), None),
        ("claud", Principal(key_id="k", name="k", team_models=frozenset({"private"})), None),
        ("claud", Principal(key_id="k", name="k", zone="own"), None),
        ("nothing-like-it", EVERYTHING, None),
        ("gpt", EVERYTHING, None),
        ("x" * 100_000, EVERYTHING, None),
    ],
)  # fmt: skip
def test_and_it_is_one_that_the_key_may_use(model: str, principal: Principal, near: str | None) -> None:
    for door in ("chat", "models") if len(model) < 1000 else ("chat",):
        status, error = asked(door, model, principal)
        assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert error["message"].endswith(f"(did you mean {near!r}?)." if near else "is not offered here.")


def test_what_exists_and_may_not_be_used_is_listed_as_what_does_not_exist() -> None:
    """Else asking for names would tell which there are."""
    one, another = (asked("models", name, LITTLE)[1]["message"] for name in ("careful", "careful1"))
    assert one.replace("'careful'", "'careful1'") == another


def test_a_wrong_suffix_does_not_tell_what_exists_either() -> None:
    only = Principal(key_id="k", name="k", models=frozenset({"claude"}))
    one, another = (asked("chat", f"{stem}:chep", only)[1]["message"] for stem in ("private", "wanted"))
    assert one.replace("private", "wanted") == another
    assert asked("chat", "careful:chep", EVERYTHING)[1]["message"].endswith("Suffixes are :best, :cheap, :fast.")
