"""The same wish in other words goes to the same model: rewordings, case, typos, greetings over a sample of real prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from headgate.config.load import load_text
from headgate.strategies.route.learned import classify
from support.gateway import ENV, EXAMPLE
from support.tasks import rows

EACH = 25
"""Prompts of each label, by the hash of their text."""
REWORDINGS = (
    "Could you please help me with this: {}",
    "I need some help. {}",
    "Please do the following for me.\n\n{}",
    "Here is what I would like you to do:\n{}",
    "{}\n\nThanks in advance!",
)
GREETINGS = ("Hi! {}", "Hello there, {}", "Good morning. {}", "Hey, quick question: {}")


def _typo(text: str) -> str:
    """Two neighbouring letters change places in the middle of the longest of the first twenty words."""
    words = text.split(" ")
    at = max(range(min(len(words), 20)), key=lambda i: len(words[i]))
    word = words[at]
    if len(word) < 6 or not word.isascii() or not word.isalpha():
        return text
    middle = len(word) // 2
    words[at] = word[:middle] + word[middle + 1] + word[middle] + word[middle + 2 :]
    return " ".join(words)


CHANGES: dict[str, list[Callable[[str], str]]] = {
    "rewording": [lambda text, form=form: form.format(text) for form in REWORDINGS],
    "greeting": [lambda text, form=form: form.format(text) for form in GREETINGS],
    "case": [str.upper, str.lower],
    "typo": [_typo],
    "space": [lambda text: f"  {text}\n\n"],
}


def _sample() -> list[str]:
    by_label: dict[str, list[tuple[str, str]]] = {}
    for row in rows():
        if "{" not in row["prompt"] and "}" not in row["prompt"]:
            digest = hashlib.blake2b(row["prompt"].encode()).hexdigest()
            by_label.setdefault(row["label"], []).append((digest, row["prompt"]))
    return [prompt for found in by_label.values() for _, prompt in sorted(found)[:EACH]]


@pytest.fixture(scope="module")
def chosen() -> Callable[[str], str]:
    """The demo's rule for a prompt: the first candidate of its task, or `otherwise`."""
    section = load_text(EXAMPLE.read_text(encoding="utf-8"), "example.yaml", ENV).config.models["auto"].route
    assert section is not None

    def of(prompt: str) -> str:
        rules = section.tasks.get(classify(prompt).label)
        return section.otherwise if rules is None else rules[0].model or ",".join(rules[0].models or ())

    return of


@pytest.mark.parametrize("kind", CHANGES)
def test_the_choice_stays_in_other_words(chosen, kind):
    pairs = [(chosen(prompt), chosen(change(prompt))) for prompt in _sample() for change in CHANGES[kind]]
    kept = sum(before == after for before, after in pairs) / len(pairs)
    assert len(pairs) >= 200
    assert kept >= 0.95, f"{kind}: {kept:.3f} of {len(pairs)}"
