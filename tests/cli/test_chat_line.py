"""`headgate chat`: the answer as it streams, and one line that says who it was from, why, and what it cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from cli.test_cli import run
from support.gateway import SimulatedGateway


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with SimulatedGateway() as found:
        yield found.url


MONEY = r"\$\d+\.\d+"
ENDING = rf"1 attempt · \d+\.\d+ s to first token · {MONEY}(?: \(saved {MONEY}\))? · tr_\w+"


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("auto", r"auto → claude-4\.7 · code [01]\.\d\d"),
        ("reliable", r"reliable → claude-4\.7 · in order"),
        ("gpt-5.5", r"gpt-5\.5 → gpt-5\.5 · asked for by name"),
    ],
)
def test_the_last_line_says_who_why_how_soon_and_for_how_much(url: str, model: str, why: str) -> None:
    code, out, err = run("chat", "-m", model, "--url", url, "Write a Python function that reverses a list.")
    assert code == 0, err
    *said, last = out.strip().splitlines()
    assert "[simulated]" in "".join(said)
    assert re.fullmatch(f"{why} · {ENDING}", last), last


def test_as_json_it_is_the_text_and_the_details(url: str) -> None:
    code, out, _ = run("chat", "-m", "auto", "--url", url, "--json", "What is 12 * 12?")
    told = json.loads(out)
    assert code == 0
    assert told["text"]
    assert (told["headgate"]["requested"], told["headgate"]["strategy"]) == ("auto", "route")
