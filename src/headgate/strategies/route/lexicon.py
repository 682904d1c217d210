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
    r"[a-z]++(?:[-'.][a-z]++)*+[+#]*+|[\u4e00-\u9fff\u3040-\u30ff]+|[\uac00-\ud7a3]+|[\u3131-\u318e]+|[\u0400-\u04ff]+(?:-[\u0400-\u04ff]+)*"
    r"|[\u0600-\u06ff]+|[\u0900-\u097f]+|\d+"
)
_ASCII_TOKEN = re.compile(r"[a-z]++(?:[-'.][a-z]++)*+[+#]*+|\d++")
"""The same of a text in ASCII."""
_NOTION = re.compile(r"\b[A-Z]+\b")
_CJK = re.compile(r"[\u4e00-\u9fff\u3040-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")
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
    leading: dict[str, set[str]]
    """The first words of phrases, with the words that follow them there."""
    longest: dict[str, int]
    """The first letters of `running`, with the length of the longest form."""
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
    leading: dict[str, set[str]] = {}
    for first, second in (form.split("_")[:2] for form in words if "_" in form):
        leading.setdefault(first, set()).add(second)
    longest: dict[str, int] = {}
    for form in running:
        longest[form[0]] = max(len(form), longest.get(form[0], 0))
    return Lexicon(
        tuple(notions),
        *frozen,
        leading=leading,
        longest=longest,
        examples=examples,
    )


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
    said = 0
    for at, meant in enumerate(map(_ALONE.__getitem__, tokens)):
        if at < said:
            continue  # within a phrase
        if meant is None:
            said = at + _in_company(tokens, at, found)
        elif meant:
            found += meant
    return [notion for notion in found if notion != SILENT] if SILENT in found else found


class _Alone(dict[str, tuple[str, ...] | None]):
    """What a word means whatever follows it; None where that has to be looked at. Forgets all where it holds too many: a
    plain table is looked up in twice as fast as one that knows which of its words was asked for last."""

    def __missing__(self, token: str) -> tuple[str, ...] | None:
        if len(self) >= REMEMBERED:
            self.clear()
        meant = self[token] = None if token in lexicon().leading or _CJK.match(token) else meant_by(token)
        return meant


_ALONE = _Alone()


def _in_company(tokens: list[str], at: int, found: list[str]) -> int:
    """Finds what the words from here on mean together; how many of them are read with that."""
    book, token = lexicon(), tokens[at]
    following = book.leading.get(token)
    if following is None:
        _running(token, book, found)
        return 1
    if at + 1 < len(tokens) and tokens[at + 1] in following:
        for size in range(min(LONGEST_PHRASE, len(tokens) - at), 1, -1):
            if (hit := book.words.get("_".join(tokens[at : at + size]))) is not None:
                found += hit
                return size
    found += meant_by(token)
    return 1


def _running(run: str, book: Lexicon, found: list[str]) -> None:
    table, longest, at, end = book.running, book.longest, 0, len(run)
    while at < end:
        for size in range(min(longest.get(run[at], 0), end - at), 0, -1):
            hit = table.get(run[at : at + size])
            if hit is not None:
                found += hit
                at += size - 1
                break
        at += 1


@lru_cache(maxsize=4096)
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
