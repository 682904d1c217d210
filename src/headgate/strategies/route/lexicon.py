"""The lexicon: surface forms in eleven languages to language-independent notions (`lexicon.txt` says how it is written)."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib import resources

import msgspec

_FOLD = str.maketrans(
    "áàâäãåāéèêëēíìîïīóòôöõøōúùûüūñçýÿ’‘譯總結摘寫計問題數據語畫國學個這請說話標題詩詞練習應該點",
    "aaaaaaaeeeeeiiiiiooooooouuuuuncyy''译总结摘写计问题数据语画国学个这请说话标题诗词练习应该点",
) | {ord("ß"): "ss", ord("œ"): "oe", ord("æ"): "ae"}
_TOKEN = re.compile(
    r"[a-z]+(?:[-'.][a-z]+)*[+#]*|[\u4e00-\u9fff\u3040-\u30ff]+|[\uac00-\ud7a3]+|[\u3131-\u318e]+|[\u0400-\u04ff]+(?:-[\u0400-\u04ff]+)*"
    r"|[\u0600-\u06ff]+|[\u0900-\u097f]+|\d+"
)
_ASCII_TOKEN = re.compile(r"[a-z]+(?:[-'.][a-z]+)*[+#]*|\d+")
"""The same of a text in ASCII."""
_NOTION = re.compile(r"\b[A-Z]+\b")
_CJK = re.compile(r"[\u4e00-\u9fff\u3040-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")
SHORTEST_PREFIX = 3
SILENT = "NOTHING"


class Lexicon(msgspec.Struct, frozen=True):
    notions: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    """Whole words, and phrases joined by `_`."""
    prefixes: dict[str, tuple[str, ...]]
    running: dict[str, tuple[str, ...]]
    """Forms found inside running Chinese and Japanese text."""
    leading: frozenset[str]
    """The first words of phrases."""
    longest: int
    examples: dict[str, str]
    """Of each notion its first English form: what it is called in front of people."""


def fold(text: str) -> str:
    """Lower case, Latin letters without accents, some traditional characters as their simplified forms."""
    lowered = text.lower()
    return lowered if lowered.isascii() else lowered.translate(_FOLD)


def tokens_of(folded: str) -> list[str]:
    return (_ASCII_TOKEN if folded.isascii() else _TOKEN).findall(folded)


@cache
def lexicon() -> Lexicon:
    """Read once, at first use."""
    text = resources.files("headgate.strategies.route").joinpath("lexicon.txt").read_text(encoding="utf-8")
    return parse_lexicon(text)


def parse_lexicon(text: str) -> Lexicon:
    words: dict[str, list[str]] = {}
    prefixes: dict[str, list[str]] = {}
    running: dict[str, list[str]] = {}
    notions: list[str] = []
    examples: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("["):
            notions.append(line[1 : line.index("]")])
        elif line and not line.startswith("#"):
            language, _, forms = line.partition(":")
            if language == "en":
                first = forms.split(maxsplit=1)[0]
                examples.setdefault(notions[-1], first.replace("_", " ").replace("*", "…"))
            for form in fold(forms).split():
                plain = form.rstrip("*")
                table = prefixes if form.endswith("*") else running if _CJK.match(plain) else words
                if (noted := table.setdefault(plain, [])) is not None and notions[-1] not in noted:
                    noted.append(notions[-1])
    frozen = [{form: tuple(named) for form, named in table.items()} for table in (words, prefixes, running)]
    return Lexicon(
        tuple(notions),
        *frozen,
        leading=frozenset(form.partition("_")[0] for form in words if "_" in form),
        longest=max(len(form) for form in running),
        examples=examples,
    )


@lru_cache(maxsize=4096)
def notions_in(feature: str) -> frozenset[str]:
    """The notions that a feature's name holds."""
    return frozenset(_NOTION.findall(feature)) & lexicon().examples.keys()


@lru_cache(maxsize=4096)
def in_words(feature: str) -> str:
    """A feature's name for people: `says ALGO` → `words like “array”`."""
    examples = lexicon().examples
    spoken = _NOTION.sub(lambda found: f"“{examples[found[0]]}”" if found[0] in examples else found[0], feature)
    return f"words like {spoken[5:]}" if spoken.startswith("says “") else spoken


def notions_of(tokens: list[str]) -> list[str]:
    """The notions that the words mean, in the order of the text; the longest form wins."""
    book = lexicon()
    words, leading = book.words, book.leading
    found: list[str] = []
    at, end = 0, len(tokens)
    while at < end:
        token = tokens[at]
        at += 1
        first = token[0]
        if first > "\u3040" and _CJK.match(token):
            _running(token, book, found)
            continue
        if at < end and token in leading:
            pair = f"{token}_{tokens[at]}"
            if at + 1 < end:
                triple = f"{pair}_{tokens[at + 1]}"
                if at + 2 < end and (hit := words.get(f"{triple}_{tokens[at + 2]}")) is not None:
                    found += hit
                    at += 3
                    continue
                if (hit := words.get(triple)) is not None:
                    found += hit
                    at += 2
                    continue
            if (hit := words.get(pair)) is not None:
                found += hit
                at += 1
                continue
        found += meant_by(token)
    return [notion for notion in found if notion != SILENT] if SILENT in found else found


def _running(run: str, book: Lexicon, found: list[str]) -> None:
    table, at, end = book.running, 0, len(run)
    while at < end:
        for size in range(min(book.longest, end - at), 0, -1):
            hit = table.get(run[at : at + size])
            if hit is not None:
                found += hit
                at += size - 1
                break
        at += 1


@lru_cache(maxsize=16_384)
def meant_by(token: str) -> tuple[str, ...]:
    """The notions of one word by itself."""
    book = lexicon()
    if (hit := book.words.get(token)) is not None:
        return hit
    if len(token) > SHORTEST_PREFIX or token[0] > "\u0400":
        return _inflected(token, book.words, book.prefixes)
    return ()


def _inflected(token: str, words: dict[str, tuple[str, ...]], prefixes: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    hangul = _HANGUL.match(token) is not None
    for size in range(min(len(token), 10), 1 if hangul else SHORTEST_PREFIX - 1, -1):
        start = token[:size]
        hit = prefixes.get(start)
        if hit is None and hangul:
            hit = words.get(start)  # particles follow the Korean stem
        if hit is not None:
            return hit
    if (token.endswith("s") and (hit := words.get(token[:-1])) is not None) or (
        token.startswith("ال") and (hit := words.get(token[2:])) is not None
    ):
        return hit
    return ()
