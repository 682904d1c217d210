"""A prompt as numbered features: notions by place and order, the shape; for fits to own labels hashed words too."""

from __future__ import annotations

from zlib import crc32

import msgspec
import numpy as np

from headgate.strategies.route.lexicon import REMEMBERED, fold, notions_of, tokens_of
from headgate.strategies.route.signals import bare, shape_of, zones_of

BITS = 16
NAMED_MASK = (1 << 14) - 1
WORDS = 1 << 14
"""Named features are hashed below this, words above it, so that words never disturb the names."""
SIZE = 1 << BITS
WORD_MASK = (1 << BITS) - 1 - WORDS
MOST_WORDS = 60
REACH = 3
_QUIET = frozenset({"PLEASE", "FOLLOWING", "NOTHING"})


class Features(msgspec.Struct, frozen=True):
    """Sparse: `ids` into WORDS slots, with words into SIZE. `names` are the readable ones, each at the same place as its
    id; words follow them."""

    ids: np.ndarray
    names: list[str]

    @property
    def word(self) -> np.float32:
        """The value of each word; a name's is 1."""
        return np.float32(1.0 / max(len(self.ids) - len(self.names), 1) ** 0.5)

    @property
    def values(self) -> np.ndarray:
        named, words = len(self.names), len(self.ids) - len(self.names)
        return np.repeat(np.array([1.0, self.word], dtype=np.float32), [named, words])


def features_of(text: str, *, words: bool = False) -> Features:
    """`words`: those of the instruction too. On sources that a fit has not seen they are no help."""
    text = bare(text)
    zones = zones_of(text)
    head, tail = tokens_of(fold(zones.head)), tokens_of(fold(zones.tail)) if zones.tail else []
    names = shape_of(text, zones)
    heard, closing = notions_of(head), notions_of(tail) if tail else []
    asked = dict.fromkeys([*heard, *closing])
    out = dict.fromkeys(names)
    for notion in asked:
        out[f"says {notion}"] = None
    _order(heard, "begins", out)
    if closing:
        _order(closing, "closing", out)
    _together(asked, names, out)
    readable = list(out)
    ids = list(map(_NAMED.__getitem__, readable))
    if words:
        ids += _words(head, tail)
    return Features(np.array(ids, dtype=np.intp), readable)


class _Named(dict[str, int]):
    """The slot of a named feature. There are so many names as notions and shapes make."""

    def __missing__(self, name: str) -> int:
        slot = self[name] = crc32(name.encode()) & NAMED_MASK
        return slot


_NAMED = _Named()


def _order(notions: list[str], place: str, out: dict[str, None]) -> None:
    """What comes first, and what follows what: the same in every language that puts the verb first or last."""
    loud = [notion for notion in notions if notion not in _QUIET][:24]
    if loud:
        out[f"{place} {loud[0]}"] = None
        if len(loud) > 1:
            out[f"early {loud[1]}"] = None
        out[f"last {loud[-1]}"] = None
    for at, notion in enumerate(loud):
        for other in loud[at + 1 : at + 1 + REACH]:
            if other != notion:
                out[f"{notion}+{other}" if notion < other else f"{other}+{notion}"] = None


def _together(asked: dict[str, None], shape: list[str], out: dict[str, None]) -> None:
    """Conjunctions of a word and a shape, by knowledge of how people ask; a linear model cannot make them itself. In the
    order in which they were seen, so that the same prompt gives the same sums in every process."""
    material = "material" if shape[0] in LONG else "no material"
    forms = [*filter(SHAPES.__contains__, shape), material]
    for notion in filter(WITH_SHAPE.__contains__, asked):
        for form in forms:
            out[f"{notion} & {form}"] = None
    for form in filter(BESIDE.__contains__, shape):
        for other in BESIDE[form]:
            if other in shape:
                out[f"{form} & {other}"] = None
    if not asked:
        out[f"says nothing & {material}"] = None


LONG = frozenset(
    {"up to 500 characters", "up to 1000 characters", "up to 2000 characters", "up to 5000 characters", "very long"}
)
SHAPES = frozenset(
    {
        "structured data", "many numbers", "some numbers", "quantity", "lines of code", "code fence", "options",
        "ends with a question", "quoted text", "two scripts", "mathematical notation", "one line",
        "database schema", "no number", "begins with code", "names", "breaks off",
        "up to 60 characters", "up to 30 characters",
    }
)  # fmt: skip
WITH_SHAPE = frozenset(
    {
        "HOWMANY", "TOTAL", "WRITE", "MAKE", "ANALYZE", "EVALUATE", "DATA", "BIZ", "STAT", "CALC", "YOU", "ME",
        "QWHAT", "QWHICH", "QWHO", "QHOW", "QWHY", "QWHEN", "QWHERE", "YESNO", "EXPLAIN", "DEFINE", "LISTALL",
        "ENTITY", "TEXT", "LANGNAME", "SAYIN", "TRANSLATE", "SUMMARIZE", "HEADLINE", "BRIEF", "PASSAGE", "FEEL",
        "SMALLTALK", "GREET", "EXTRACT", "STORY", "COPY", "CODETHING", "PROGLANG", "CLASSIFY", "MOST",
        "DEVICE", "IDEAS", "SQL",
    }
)  # fmt: skip
PAIRS = (
    ("options", "ends with a question"),
    ("options", "mathematical notation"),
    ("options", "LaTeX"),
    ("structured data", "ends with a question"),
    ("structured data", "question at the beginning"),
    ("structured data", "question at the end"),
    ("structured data", "many numbers"),
    ("some numbers", "ends with a question"),
    ("many numbers", "ends with a question"),
    ("quantity", "ends with a question"),
    ("one line", "ends with a question"),
    ("names", "ends with a question"),
    ("a name", "ends with a question"),
    ("a year", "ends with a question"),
    ("no number", "ends with a question"),
    ("names", "one line"),
    ("names", "no number"),
    ("breaks off", "no number"),
    ("dialogue", "ends with a colon"),
    ("two scripts", "ends with a colon"),
    ("two scripts", "quoted text"),
)


BESIDE: dict[str, list[str]] = {}
for _one, _other in PAIRS:
    BESIDE.setdefault(_one, []).append(_other)


class _Hashed(dict[str, tuple[int, int | None, int, bytes]]):
    """Of a word: its hash, that of its beginning where it is long, that of the word and a space, for what follows it; and
    its bytes. Forgets all where it holds too many."""

    def __missing__(self, token: str) -> tuple[int, int | None, int, bytes]:
        if len(self) >= REMEMBERED:
            self.clear()
        written = token.encode()
        start = crc32(f"{token[:5]}*".encode()) if len(token) > 5 else None
        known = self[token] = crc32(written), start, crc32(written + b" "), written
        return known


_HASHED = _Hashed()


def _words(head: list[str], tail: list[str]) -> list[int]:
    """The slots of the words and of neighbours among them, each once."""
    found: dict[int, None] = {}
    for tokens in (head[:MOST_WORDS], tail[-MOST_WORDS:]):
        before = crc32(b"^ ")
        for token in tokens:
            if token > "\u3040" and len(token) > 2:
                for at in range(min(len(token) - 1, MOST_WORDS)):
                    found[crc32(token[at : at + 2].encode())] = None
                continue
            alone, start, ready, written = _HASHED[token]
            found[alone] = None
            found[crc32(written, before)] = None  # as of `before token`
            if start is not None:
                found[start] = None
            before = ready
    return [hashed % WORD_MASK + WORDS for hashed in found]


def known_words(features: Features) -> bool:
    """False for what says nothing in any language read here: no notion, and no shape that means a task by itself."""
    names = features.names
    return not TELLING.isdisjoint(names) or any(name.startswith("says ") and "nothing" not in name for name in names)


TELLING = frozenset(
    {
        "structured data", "many numbers", "quantity", "line of code", "lines of code", "code fence",
        "begins with code", "options", "LaTeX", "mathematical notation", "error message", "arithmetic",
        "lines end like code", "many lines end like code", "dialogue", "blank", "ends with a question",
        "two scripts",
    }
)  # fmt: skip
