"""What is looked for in a quick way is what one plain expression says: over labelled prompts and broken text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

import pytest

from headgate.strategies.route import signals as s
from headgate.strategies.route.lexicon import SILENT, fold, lexicon, meant_by, notions_of, tokens_of
from support.tasks import rows

TRACE = re.compile(
    r"Traceback \(most|\([\w.]+:\d+\)|[a-z](?:Error|Exception)\b|  File \"|error(?:\[?E?\d*\])?:|line \d+, in|npm ERR"
    r"|undefined reference"
)
INLINE = re.compile(r"`[^`\n]+`|\w\.\w+\(|\w\(\)|[a-z]_[a-z]|[a-z][A-Z]|->|=>|::|&&|\|\||!=|==|\+=")
MATHS = re.compile(r"[\dxyzn)] ?[-+*/^=<>] ?[\dxyzn(]|\d[xyzn]\b|[fg]\(x\)|\^|\b(?:sin|cos|tan|log|ln|mod)\b")
ARITHMETIC = re.compile(r"\d\s*[-+*/x×÷^]\s*\(?\d|=\s*\?|=\s*[(（]")
UNIT = re.compile(
    r"[$€£¥]\s?\d|\d\s?(?:%|元|米|克|千克|公里|千米|个|人|天|小时|分钟|岁|只|本|棵|箱|吨|倍|円|個|원|명|개|km|kg|cm|mph|руб|м\b)|\d/\d"
)
BLANK = re.compile(r"_{3,}|（\s*）|\(\s{1,4}\)|\[MASK\]")
QUOTED = re.compile(
    r"\"[^\"\n]{3,}\"|“[^”\n]{2,}”|「[^」\n]{2,}」|«[^»\n]{2,}»|『[^』\n]{2,}』|(?:^|\s)'[^'\n]{3,}'(?:\W|$)"
)
BULLETS = re.compile(r"(?:^|\n)\s*(?:[-*•]|\d+[.)、])\s")
CONTACT = re.compile(r"@[\w-]+\.\w+|(?<!\d)1\d{10}(?!\d)|\d{3}\)?[- ]\d{3,4}[- ]\d{4}")
COLUMNS = re.compile(r"\w[(（]([^()（）\n]{2,400})[)）]")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
FILE = re.compile(r"\w\.(?:csv|xlsx?|tsv|parquet|sav|feather)\b")
CODE_FILE = re.compile(r"\w\.(?:py|js|ts|tsx|jsx|java|cpp|c|h|rs|go|rb|php|html|css|sh|ipynb|yml|yaml|toml)\b")
CODE_LINE = re.compile(f"^{s._CODE_LINE.pattern}", re.MULTILINE)
PIECES = [
    *"abxyznfgABE ()[]{};:.,'\"`_-+*/^=<>|&!#$%\n\t 0123456789?“”「」«»『』（）：，①②\u0130\u0131\u017f\u212a的好й안",
    "Error", "error:", "line 3, in", "Traceback (most", "primary key", "PRIMARY \u212aEY", "sin", "log", "A) ", "B) ",
    "(1)", "(2)", "[MASK]", "foo.bar(", "f(x)", "\n- ", "\n1. ", "___", " 'quoted text' ", "print(x);\n", "13912345678",
    "555-1234", "me@site.org", "Use the best model.", "Be\u017ft AI engine", "many thanks", "Than\u212as",
    "main.py", "data.csv", "a,b,c\n", "return x;", "import os\n", "@app", ">>> ", "@cached\n",
]  # fmt: skip


def seen(name: str) -> Callable[[str], bool]:
    def look(window: str) -> bool:
        found: list[str] = []
        s._code(window, found)
        s._numbers(window, found)
        return name in found

    return look


def tables(name: str) -> Callable[[str], bool]:
    def look(window: str) -> bool:
        found: list[str] = []
        s._tables(window, found, False)
        return name in found

    return look


is_table = tables("table")
QUICK: dict[str, tuple[Callable[[str], object], Callable[[str], object]]] = {
    "trace": (seen("error message"), lambda w: bool(TRACE.search(w))),
    "inline": (seen("identifiers"), lambda w: 1 <= len(INLINE.findall(w)) < 4),
    "much inline": (seen("many identifiers"), lambda w: len(INLINE.findall(w)) >= 4),
    "ends": (seen("lines end like code"), lambda w: 2 <= len(s._CODE_END.findall(w)) < 5),
    "many ends": (seen("many lines end like code"), lambda w: len(s._CODE_END.findall(w)) >= 5),
    "lines": (seen("lines of code"), lambda w: len(CODE_LINE.findall(w)) > 1),
    "begins": (seen("begins with code"), lambda w: bool(CODE_LINE.match(w))),
    "code file": (seen("source file name"), lambda w: bool(CODE_FILE.search(w))),
    "data file": (tables("data file name"), lambda w: bool(FILE.search(w))),
    "rows": (tables("comma-separated rows"), lambda w: not is_table(w) and bool(s._COMMAS.search(w))),
    "script": (
        s.script_of,
        lambda w: next((name for name, expression in reversed(s._SCRIPTS) if expression.search(w)), None),
    ),
    "maths": (s._is_maths, lambda w: bool(MATHS.search(w))),
    "arithmetic": (seen("arithmetic"), lambda w: bool(NUMBER.search(w)) and bool(ARITHMETIC.search(w))),
    "quantity": (seen("quantity"), lambda w: bool(NUMBER.search(w)) and bool(UNIT.search(w))),
    "options": (
        lambda w: s._may_have_options(w) and bool(s._OPTIONS.search(w)),
        lambda w: bool(s._OPTIONS.search(w)),
    ),
    "blank": (
        lambda w: "___" in w or "[MASK]" in w or s._any_of(s._BLANKS, w),
        lambda w: bool(BLANK.search(w)),
    ),
    "quoted": (lambda w: s._any_of(s._QUOTES, w), lambda w: bool(QUOTED.search(w))),
    "list": (lambda w: bool(s._BULLET.match(w) or s._BULLETS.search(w)), lambda w: bool(BULLETS.search(w))),
    "contact": (lambda w: s._any_of(s._CONTACTS, w), lambda w: bool(CONTACT.search(w))),
    "columns": (s._COLUMNS.findall, COLUMNS.findall),
    "numbers": (s._NUMBER.findall, NUMBER.findall),
    "schema": (
        lambda w: s._may_say(w, s._DDL_WORDS) and bool(s._DDL.search(w)),
        lambda w: bool(s._DDL.search(w)),
    ),
    "push": (lambda w: s._may_say(w, s._BESTS) and bool(s._PUSH.search(w)), lambda w: bool(s._PUSH.search(w))),
    "thanks": (
        lambda w: s._may_say(w, s._THANKED) and bool(s._THANKS.search(w)),
        lambda w: bool(s._THANKS.search(w)),
    ),
}


def texts() -> Iterator[str]:
    """Some of the labelled prompts, and 2,000 texts that are broken in ways that expressions may trip over."""
    luck = random.Random(11)
    prompts = [row["prompt"][:1000] for row in rows()][::9]
    yield from prompts
    for number in range(2000):
        if number % 2:
            yield "".join(luck.choice(PIECES) for _ in range(luck.randint(1, 120)))
            continue
        text = luck.choice(prompts)
        for _ in range(luck.randint(1, 12)):
            at = luck.randrange(len(text) + 1)
            text = text[:at] + luck.choice(PIECES) + text[at + luck.randint(0, 3) :]
        yield text


TEXTS = list(texts())


def spelled_out(tokens: list[str]) -> list[str]:
    """The notions of words, the longest form first, one place after the other."""
    book, found, at = lexicon(), list[str](), 0
    while at < len(tokens):
        sizes = (
            size for size in (4, 3, 2) if "_".join(tokens[at : at + size]) in book.words and at + size <= len(tokens)
        )
        size = next(sizes, 1)
        if size > 1:
            found += book.words["_".join(tokens[at : at + size])]
        else:
            found += running(tokens[at]) if "\u3040" <= tokens[at][0] <= "\u9fff" else meant_by(tokens[at])
        at += size
    return [notion for notion in found if notion != SILENT]


def running(run: str) -> list[str]:
    book, found, at = lexicon().running, list[str](), 0
    while at < len(run):
        size = next((size for size in range(len(run) - at, 0, -1) if run[at : at + size] in book), 0)
        found += book[run[at : at + size]] if size else ()
        at += size or 1
    return found


def test_notions_are_those_of_the_longest_forms() -> None:
    heard = 0
    for text in TEXTS:
        tokens = tokens_of(fold(text))
        assert notions_of(tokens) == spelled_out(tokens), text
        heard += len(tokens)
    assert heard > 100_000


@pytest.mark.parametrize("what", QUICK)
def test_the_quick_way_says_what_the_plain_expression_says(what: str) -> None:
    quick, plain = QUICK[what]
    odd = [text for text in TEXTS if quick(text) != plain(text)]
    assert odd == []
    assert any(plain(text) for text in TEXTS), "it is looked for where it is"
