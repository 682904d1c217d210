"""The lexicon: surface forms in eleven languages to language-independent notions (`lexicon.txt` says how it is written)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from importlib import resources

import msgspec

_FOLD = str.maketrans(
    "áàâäãåāéèêëēíìîïīóòôöõøōúùûüūñçýÿ’‘譯總結摘寫計問題數據語畫國學個這請說話標題詩詞練習應該點",
    "aaaaaaaeeeeeiiiiiooooooouuuuuncyy''译总结摘写计问题数据语画国学个这请说话标题诗词练习应该点",
) | {ord("ß"): "ss", ord("œ"): "oe", ord("æ"): "ae"}
_TOKEN = re.compile(
    r"[a-z]++(?:[-'.][a-z]++)*+[+#]*+|[\u4e00-\u9fff\u3040-\u30ff]+|[\uac00-\ud7a3]+|[\u3131-\u318e]+|[\u0400-\u04ff]+(?:-[\u0400-\u04ff]+)*"
    r"|[\u0600-\u06ff]+|[\u0900-\u097f]+|\d+"
)
_ASCII_TOKEN = re.compile(r"[a-z]++(?:[-'.][a-z]++)*+[+#]*+|\d++")
"""The same of a text in ASCII."""
_NOTION = re.compile(r"\b[A-Z]+\b")
_CJK = re.compile(r"[\u4e00-\u9fff\u3040-\u30ff]")
REMEMBERED = 16_384
SHORTEST_PREFIX = 3
LONGEST_PHRASE = 4
"""Words of a phrase that are looked at."""
SILENT = "NOTHING"


class Lexicon(msgspec.Struct, frozen=True):
    notions: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    """Whole words, and phrases joined by `_`."""
    prefixes: dict[str, tuple[str, ...]]
    running: dict[str, tuple[str, ...]]
    """Forms found inside running Chinese and Japanese text."""
    openings: frozenset[tuple[str, str]]
    """The first two words of phrases."""
    longest: dict[str, int]
    """The first letters of `running`, with the length of the longest form."""
    longest_prefix: dict[str, int]
    """The same of `prefixes`, by their first SHORTEST_PREFIX letters."""
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
    openings = frozenset((first, second) for first, second, *_ in (form.split("_") for form in words if "_" in form))
    return Lexicon(
        tuple(notions),
        *frozen,
        openings=openings,
        longest=_longest(running, 1),
        longest_prefix=_longest(prefixes, SHORTEST_PREFIX),
        examples=examples,
    )


def _longest(forms: Iterable[str], letters: int) -> dict[str, int]:
    """The first letters of forms, with the length of the longest one."""
    out: dict[str, int] = {}
    for form in forms:
        out[form[:letters]] = max(len(form), out.get(form[:letters], 0))
    return out


@lru_cache(maxsize=REMEMBERED)
def notions_in(feature: str) -> frozenset[str]:
    """The notions that a feature's name holds."""
    return frozenset(_NOTION.findall(feature)) & lexicon().examples.keys()


@lru_cache(maxsize=REMEMBERED)
def in_words(feature: str) -> str:
    """A feature's name for people: `says ALGO` → `words like “array”`, also beside others (`ALGO & one line`): the example
    need not stand in the text."""
    examples = lexicon().examples
    spoken = _NOTION.sub(lambda found: f"“{examples[found[0]]}”" if found[0] in examples else found[0], feature)
    return spoken.removeprefix("says ").replace("“", "words like “", 1) if "“" in spoken else spoken


def notions_of(tokens: list[str]) -> list[str]:
    """The notions that the words mean, in the order of the text; the longest form wins."""
    found: list[str] = []
    openings, said = lexicon().openings, 0
    for at, pair in enumerate(zip(tokens, [*tokens[1:], ""], strict=False)):
        if at < said:
            continue  # within a phrase
        if pair in openings and (size := _phrase(tokens, at, found)):
            said = at + size
        else:
            found += _ALONE[pair[0]]
    return [notion for notion in found if notion != SILENT] if SILENT in found else found


def _phrase(tokens: list[str], at: int, found: list[str]) -> int:
    """Finds what the words from here on mean together; how many they are, 0 where they are no phrase."""
    words = lexicon().words
    for size in range(min(LONGEST_PHRASE, len(tokens) - at), 1, -1):
        if (hit := words.get("_".join(tokens[at : at + size]))) is not None:
            found += hit
            return size
    return 0


class _Alone(dict[str, Sequence[str]]):
    """What a word, or a run of characters without spaces, means whatever follows it. Forgets all where it holds too many: a
    plain table is looked up in twice as fast as one that knows which of its words was asked for last."""

    def __missing__(self, token: str) -> Sequence[str]:
        if len(self) >= REMEMBERED:
            self.clear()
        meant = self[token] = _running(token, lexicon()) if token > "\u3040" and _CJK.match(token) else meant_by(token)
        return meant


_ALONE = _Alone()


def _running(run: str, book: Lexicon) -> list[str]:
    found: list[str] = []
    table, longest, at, end = book.running, book.longest, 0, len(run)
    while at < end:
        for size in range(min(longest.get(run[at], 0), end - at), 0, -1):
            hit = table.get(run[at : at + size])
            if hit is not None:
                found += hit
                at += size - 1
                break
        at += 1
    return found


def meant_by(token: str) -> tuple[str, ...]:
    """The notions of one word by itself."""
    book = lexicon()
    if (hit := book.words.get(token)) is not None:
        return hit
    if "\uac00" <= token[0] <= "\ud7a3":
        return _stem(token, book)
    if len(token) <= SHORTEST_PREFIX and token[0] <= "\u0400":
        return ()
    longest = book.longest_prefix.get(token[:SHORTEST_PREFIX], 0)
    for size in range(min(len(token), longest), SHORTEST_PREFIX - 1, -1):
        if (hit := book.prefixes.get(token[:size])) is not None:
            return hit
    if (token.endswith("s") and (hit := book.words.get(token[:-1])) is not None) or (
        token.startswith("ال") and (hit := book.words.get(token[2:])) is not None
    ):
        return hit
    return ()


def _stem(token: str, book: Lexicon) -> tuple[str, ...]:
    """Of a Korean word: particles follow the stem."""
    for size in range(min(len(token), 10), 1, -1):
        start = token[:size]
        if (hit := book.prefixes.get(start)) is not None or (hit := book.words.get(start)) is not None:
            return hit
    return ()
