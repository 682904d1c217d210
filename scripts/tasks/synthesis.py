"""Prompts made from the templates and payloads that were written for this project; the same for the same seed."""

from __future__ import annotations

import random
import re
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
_CHOICE = re.compile(r"\(([^()|]*(?:\|[^()|]*)+)\)|\(([^()|]*)\)\?")
_MAYBE = re.compile(r"\(([^()]*)\)\?")
"""In Chinese and Japanese templates an ASCII question mark after a choice means that it may be left out."""
_SLOT = re.compile(r"\{([a-zL])\}")
NAMES = (
    "English Spanish French German Italian Portuguese Russian Chinese Mandarin Japanese Korean Arabic Hindi Czech",
    "Dutch Polish Turkish Greek Swedish Latin Ukrainian Vietnamese Icelandic Hebrew",
)
PEOPLE = ("Mira", "Tobias", "Elena", "Kofi", "Yuki", "Samir")
GREETINGS = {
    "en": ("Hi! ", "Hello, ", "Please help me. ", "Hey there, ", "Quick question: "),
    "zh": ("你好，", "请问，", "您好！", "麻烦您，"),
    "es": ("Hola, ", "Buenas, "), "fr": ("Bonjour, ", "Salut, "), "de": ("Hallo, ", "Guten Tag, "), "pt": ("Oi, ", "Olá, "),
    "ru": ("Привет, ", "Здравствуйте! "), "ja": ("こんにちは。", "すみません、"),
    "ko": ("안녕하세요. ", "저기요, "), "ar": ("مرحبا، ",), "hi": ("नमस्ते, ",),
}  # fmt: skip


class Row(msgspec.Struct, frozen=True):
    prompt: str
    label: str
    source: str
    language: str


def _payloads() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    kind = ""
    for line in (HERE / "payloads.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            kind = line[1:-1] if re.fullmatch(r"\[\w( \w\w)?\]", line) else kind
            if re.fullmatch(r"\[\w( \w\w)?\]", line):
                found[kind] = []
                continue
        if line and not line.startswith("#"):
            found[kind].append(line.replace("\\n", "\n").replace("\\t", "\t"))
    return found


def _templates() -> list[tuple[str, str, str]]:
    found, label = [], ""
    for line in (HERE / "templates.txt").read_text(encoding="utf-8").splitlines():
        if re.fullmatch(r"\[\w+\]", line):
            label = line[1:-1]
        elif line and not line.startswith("#"):
            language, _, text = line.partition(": ")
            found.append((label, language, text.replace("\\n", "\n").replace("\\\\", "\\")))
    return found


def _filled(template: str, language: str, payloads: dict[str, list[str]], chance: random.Random) -> str:
    def choose(match: re.Match[str]) -> str:
        if match.group(2) is not None:
            return match.group(2) if chance.random() < 0.5 else ""
        return chance.choice(match.group(1).split("|"))

    def slot(match: re.Match[str]) -> str:
        kind = match.group(1)
        if kind in "nm":
            return str(chance.choice((chance.randint(2, 12), chance.randint(13, 99), chance.randint(2, 400))))
        if kind == "w":
            return chance.choice(PEOPLE)
        if kind in "Ll":
            return chance.choice(" ".join(NAMES).split())
        if kind == "f":
            other = chance.choice([name for name in payloads if name.startswith("s ") and name != f"s {language}"])
            return chance.choice(payloads[other])
        if kind in "tso":
            rows = payloads[f"{kind} {language}"]
            if kind == "t" and chance.random() < 0.4:
                return "\n".join(chance.choice(rows) for _ in range(chance.randint(2, 5)))
            return chance.choice(rows)
        return chance.choice(payloads[kind])

    if language in ("zh", "ja"):
        template = _MAYBE.sub(lambda match: f"({match.group(1)}|)" if chance.random() < 0.6 else "", template)
    before = ""
    while before != template:  # choices may stand inside each other
        before, template = template, _CHOICE.sub(choose, template)
    return _SLOT.sub(slot, template).strip()


def synthetic(seed: int, each: int) -> list[Row]:
    """`each` prompts from every template, with greetings and changed case among them."""
    chance, payloads, rows = random.Random(seed), _payloads(), []
    for number, (label, language, template) in enumerate(_templates()):
        for _ in range(each):
            prompt = _filled(template, language, payloads, chance)
            if label != "chat" and chance.random() < 0.12:
                prompt = chance.choice(GREETINGS[language]) + prompt
            if (draw := chance.random()) < 0.08:
                prompt = prompt.lower()
            elif draw < 0.12:
                prompt = prompt.upper()
            rows.append(Row(prompt, label, f"template {number}", language))
    return rows
