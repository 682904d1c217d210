"""What a request needs beside its task, as explain and the details show it."""

from __future__ import annotations

import json
import random
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.simulator.app import Simulator
from headgate.strategies.route.needs import demands_of, language_of
from headgate.telemetry.redaction import _CARD, _RULES, _is_card, kinds_in
from support.gateway import ENV, Loop, RunningGateway
from support.sim import INSTANT
from support.tasks import rows


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("¿Cuál es la capital de los Países Bajos?", "es"),
        ("Qual é a capital do Brasil e por que não é o Rio?", "pt"),
        ("Quelle est la capitale de la Pologne ?", "fr"),
        ("Qual è la capitale della Polonia e perché si chiama così il fiume?", "it"),
        ("Wie heißt die Hauptstadt von Polen und was ist das?", "de"),
        ("Какая столица у Польши?", "ru"),
        ("波兰的首都是哪里？", "zh"),
        ("ポーランドの首都は？", "ja"),
        ("폴란드의 수도는 어디인가요?", "ko"),
        ("ما هي عاصمة بولندا؟", "ar"),
        ("पोलैंड की राजधानी क्या है?", "hi"),
        ("x = 5; print(x)", None),
        ("", None),
    ],
)
def test_the_language_is_that_of_the_script_or_of_the_small_words(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_of_the_labelled_prompts_hardly_any_has_a_language_that_is_not_there() -> None:
    """They are English and Chinese, and translations between those and Czech, German, Icelandic and Russian."""
    found = Counter(language_of(row["prompt"]) for row in rows()[::3])
    assert found["en"] + found["zh"] + found["ru"] + found["de"] + found[None] >= 0.97 * found.total()


def test_difficulty_is_counted_by_form_with_its_reasons() -> None:
    assert demands_of("What is a weir?") == []
    asked = "Do all of this:\n- one\n- two\n- three\n```py\nx\n```\nWhy? How? When?" + " more" * 500
    assert demands_of(asked) == ["long text", "code", "a list of points", "several questions"]


def test_what_is_sensitive_is_what_redaction_finds() -> None:
    luck = random.Random(3)
    secrets = [
        "bob@site.org", "4111 1111 1111 1111", "sk-abcdefghijklmnop1234", "Bearer abcdefghijklmnop", "password: hunter22",
        "DE89 3704 0044 0532 0130 00", "123-45-6789", "+44 20 7946 0958", "https://me:secret@host/x", "API_KEY=abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3.abcdefghij", "-----BEGIN PRIVATE KEY-----", "(030) 123456-78",
    ]  # fmt: skip
    seen: set[str] = set()
    for row in rows()[::25]:
        text = row["prompt"]
        for _ in range(luck.randint(0, 3)):
            at = luck.randrange(len(text) + 1)
            text = f"{text[:at]} {luck.choice(secrets)} {text[at:]}"
        plain = {name for name, pattern in _RULES if pattern.search(text)}
        plain |= {"card" for match in _CARD.finditer(text) if _is_card(match[0])}
        assert set(kinds_in(text)) == plain
        seen |= plain
    assert seen == {name for name, _ in _RULES} | {"card"}


CONFIG = """
providers: {anthropic: {}, openai: {}}
models:
  claude-4.7: {provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.015, max_output: 4096}
  gpt-5.5: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.020, max_output: 4096}
  routed: {route: {tasks: {code: claude-4.7}, otherwise: gpt-5.5}}
"""


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    loop, sim = Loop(), Simulator(INSTANT)
    urls = loop.run(sim.start(0, port_each=True))
    found = loop.call(lambda: RunningGateway(CONFIG, urls, env=ENV))
    loop.run(found.start())
    yield found
    loop.run(found.stop())
    loop.run(sim.aclose())
    loop.close()


def test_explain_and_details_show_them_and_other_requests_do_without(gateway: RunningGateway) -> None:
    prompt = "Mail the answer to bob@site.org, please: which is the longest river of the world?"

    def post(path: str, **more: Any) -> Any:
        body = json.dumps({"model": "routed", "messages": [{"role": "user", "content": prompt}], **more}).encode()
        with urllib.request.urlopen(urllib.request.Request(gateway.url + path, data=body), timeout=10) as answer:
            return json.loads(answer.read())

    needs = post("/v1/explain")["task"]["needs"]
    assert needs == {
        "language": "en",
        "difficulty": {"level": "low", "because": []},
        "sensitive": ["e-mail"],
        "protocol": [],
    }
    assert post("/v1/chat/completions", headgate={"details": True})["headgate"]["task"]["needs"] == needs
    tool = {"type": "function", "function": {"name": "river", "parameters": {"type": "object", "properties": {}}}}
    asked = post("/v1/explain", tools=[tool])["task"]["needs"]
    assert (asked["protocol"], asked["difficulty"]["because"]) == (["tools"], ["asks for tools"])
    post("/v1/chat/completions")
    assert "needs" not in gateway.house.recent(1)[0][0].facts["task"]
