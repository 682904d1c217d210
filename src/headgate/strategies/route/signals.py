"""What a prompt looks like, whatever its language: where the instruction stands and what the pasted material is."""

from __future__ import annotations

import re
from functools import cache
from itertools import compress, islice

import msgspec

HEAD, TAIL = 280, 280
"""Characters of the first and last lines, where the instruction stands, that are read."""
BEGINS, ENDS = 160, 240
"""Characters whose shape is looked at, from the beginning and from the end of what is longer than both. With more of them,
or with the words of the material between, unseen sources are labelled no better."""

_COURTESY = re.compile(
    r"(?:\W*\b(?:hi|hello|hey|hiya|greetings|good (?:morning|day|evening|afternoon)|dear \w+|hola|buenas|bonjour|salut|hallo|guten tag|ol[aá]|oi|bom dia"
    r"|привет|здравствуйте|здравствуй|نعم|مرحبا|السلام عليكم|नमस्ते|안녕하세요)(?: there| all| everyone| team| again)?\s*[,!.:،。-]+\s*"
    r"|\W*(?:你好|您好|请问|嗨|こんにちは|すみません)\s*[,!.，！。、:：]*\s*"
    r"|\W*\b(?:(?:could|can|would|will) you (?:please |kindly )?help(?: me)?(?: out)?(?: with (?:this|that|something|the following))?|please help(?: me)?(?: with this)?"
    r"|i need (?:some |your )?help(?: with (?:this|something))?|help me with this|(?:a )?quick question|i have a (?:quick )?question|one more thing|sorry to bother you"
    r"|please|(?:please )?do the following(?: for me)?|here(?: is|'s|’s) what i(?: would|'d|’d)? (?:like|want|need)(?: you)?(?: to do)?)\s*[,!.?:-]+\s*)+",
    re.IGNORECASE,
)
_THANKS = re.compile(
    r"[\s.,!。！]*(?:\b(?:many thanks|thanks|thank you|thx|cheers|gracias|merci|danke|obrigad[oa]|спасибо|شكرا|धन्यवाद)\b[^\n]{0,40}|谢谢[^\n]{0,12}|多谢|ありがとうございます|감사합니다)[\s.!。！:)]*$",
    re.IGNORECASE,
)
_PUSH = re.compile(
    r"\s*(?:please |you must |always )?\b(?:use|pick|choose|select|take|route (?:this|me|it) to|answer (?:this )?with|send this to) (?:only )?(?:the |your )?"
    r"(?:most \w+|best|strongest|largest|biggest|smartest|cheapest|premium|top|priciest|costliest)[\w -]{0,20}\b(?:models?|llm|ai|engine)\b(?: available| you have| possible)?[.!]*"
    r"|[，。,]?\s*(?:请|必须)?(?:使用|用|选择)(?:最贵|最好|最强|最大|最便宜)的模型(?:来?回答)?[。！]*",
    re.IGNORECASE,
)
_CODE_LINE = re.compile(
    r"[ \t>]*(?:def \w+\(|class \w+[\w(:, )]*[:{]|import [\w.{*]+|from [\w.]+ import|#include|public |private |function \w*\(|(?:const|let|var) \w+ ?="
    r"|<\?php|</?(?:html|div|script|body|table|p|span)\b|package \w+|@\w+(?:\(|$)|return\b.*;|\w+ = \w+\(|#!/|\$ \w+|if \(.*\) ?\{|for \(|while \(|print\(|console\.|fn \w+|func \w+|using \w+|elif |try:|SELECT |sudo |>>> )"
)
"""From the beginning of a line."""
_CODE_ENDS = re.compile(r"[;{})]\s*:?\s*$", re.MULTILINE)
_CODE_END = re.compile(r"[;{}]\s*$|\)\s*:\s*$|\w\([^)\n]*\)\s*$", re.MULTILINE)
_INLINE_SIGN = re.compile(r"->|=>|::|&&|\|\||!=|==|\+=")
_CAMEL = re.compile(r"[A-Z](?<=[a-z][A-Z])")
_METHOD = re.compile(r"\((?<=\w\()")
_INLINE_CODE = (
    r"`[^`\n]+`", r"\w\.\w+\(", r"\w\(\)", r"[a-z]_[a-z]", r"[a-z][A-Z]", _INLINE_SIGN.pattern,
)  # fmt: skip
_TRACE_WORDS = ("Traceback (most", '  File "', "npm ERR", "undefined reference")
_TRACES = (
    ("Error", re.compile(r"[a-z]Error\b")),
    ("Exception", re.compile(r"[a-z]Exception\b")),
    ("error", re.compile(r"error(?:\[?E?\d*\])?:")),
    ("line ", re.compile(r"line \d+, in")),
    ("(", re.compile(r"\([\w.]+:\d+\)")),
)
# An expression that begins with one sign is searched for ten times faster than one that begins with a class.
_FILE_CODE = re.compile(r"\.(?<=\w\.)(?:py|js|ts|tsx|jsx|java|cpp|c|h|rs|go|rb|php|html|css|sh|ipynb|yml|yaml|toml)\b")
_FILE_DATA = re.compile(r"\.(?<=\w\.)(?:csv|xlsx?|tsv|parquet|sav|feather)\b")
_PIPES = re.compile(r"^[^\n|]*\|[^\n|]*\|?[^\n]*\n[^\n|]*\|[^\n|]*", re.MULTILINE)
_MARKDOWN_RULE = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*\|", re.MULTILINE)
_TABS = re.compile(r"^[^\n\t]*\t[^\n\t]*\t?[^\n]*\n[^\n\t]*\t", re.MULTILINE)
_COMMAS = re.compile(r"^([^,\n]{0,60},){2,}[^,\n]{0,60}\n([^,\n]{0,60},){2,}[^,\n]{0,60}(\n|$)", re.MULTILINE)
_COLUMNS = re.compile(r"[(（](?<=\w.)([^()（）\n]{2,400})[)）]")
_COLUMN = re.compile(r"\s*[^\W\d]\w*(?: \w+){0,2}\s*")
_DDL = re.compile(r"create table|primary key|foreign key|varchar", re.IGNORECASE)
_DDL_WORDS = ("create table", "primary key", "foreign key", "varchar")
_ROWS = re.compile(r"\[\[.+\],|\{\s*\"\w+\":|\[\s*\{", re.DOTALL)
_LATEX = re.compile(
    r"\\(?:frac|sqrt|int|sum|mathbb|begin|cdot|le|ge|pi|alpha|theta|left|infty|times|text|angle|triangle|lim|log|sin|cos|binom|overline)\b|\$[^$\n]{1,80}\$"
)
_SYMBOLS = re.compile(r"[∫∑√≤≥≠∞∈∀∃π±×÷²³°∠△]")
_OPERATION = re.compile(r"[-+*/=<>](?:(?<=[\dxyzn)].)|(?<=[\dxyzn)] .)) ?[\dxyzn(]")
_TERM = re.compile(r"\d[xyzn]\b")
_FUNCTIONS = tuple((name, re.compile(rf"{name}\b(?<!\w{name})")) for name in ("sin", "cos", "tan", "log", "ln", "mod"))
# An expression that begins with a class of characters is searched for many times faster than one that begins with a choice.
_ARITHMETIC, _EQUALS = re.compile(r"\d\s*[-+*/x×÷^]\s*\(?\d"), re.compile(r"=\s*[?(（]")
_NUMBER = re.compile(r"\d\d*(?:[.,]\d+)*")
_MONEY = tuple((sign, re.compile(rf"[{sign}]\s?\d")) for sign in "$€£¥")
_YEAR = re.compile(r"[12](?<![\d.,$€£¥].)\d\d\d(?![\d%]|[.,]\d)")
_NAME = re.compile(r"[A-Z](?<=[a-z,;] .)(?<!lease .)[a-z]")
"""A capital in the middle of a sentence, unless it was its beginning before somebody said please."""
_NUMBER_UNIT = re.compile(
    r"\d(?:\s?(?:%|元|米|克|千克|公里|千米|个|人|天|小时|分钟|岁|只|本|棵|箱|吨|倍|円|個|원|명|개|km|kg|cm|mph|руб|м\b)|/\d)"
)
_ASCII_UNIT = re.compile(r"\d(?:\s?(?:%|k[mg]|cm|mph)|/\d)")
"""The same of a text in ASCII."""
_OPTION_A, _OPTION_B = re.compile(r"A\s?[).．:：、）]"), re.compile(r"B\s?[).．:：、）]")
_OPTIONS = re.compile(
    r"(?:^|[\s(（])A\s?[).．:：、）].{1,400}?(?:^|[\s(（])B\s?[).．:：、）]|\(1\).{1,200}\(2\)|①.{1,200}②", re.DOTALL
)
_BLANKS = (("(", re.compile(r"\(\s{1,4}\)")), ("（", re.compile(r"（\s*）")))
_QUOTES = (
    ('"', re.compile(r"\"[^\"\n]{3,}\"")),
    ("“", re.compile(r"“[^”\n]{2,}”")),
    ("「", re.compile(r"「[^」\n]{2,}」")),
    ("«", re.compile(r"«[^»\n]{2,}»")),
    ("『", re.compile(r"『[^』\n]{2,}』")),
    ("'", re.compile(r"'(?<!\S')[^'\n]{3,}'(?:\W|$)")),
)
_DIALOGUE = re.compile(r"(?:^|\n)[\w .#]{1,24}[:：][^\n]+\n+[\w .#]{1,24}[:：][^\n]+\n+[\w .#]{1,24}[:：]")
_BULLET, _BULLETS = (re.compile(rf"{start}\s*(?:[-*•]|\d+[.)、])\s") for start in ("", "\n"))
_URL = re.compile(r"https?://")
_CONTACTS = (
    ("@", re.compile(r"@[\w-]+\.\w+")),
    ("1", re.compile(r"1(?<!\d1)\d{10}(?!\d)")),
    ("", re.compile(r"\d\d\d\)?[- ]\d{3,4}[- ]\d{4}")),
)
_SCRIPTS = (
    ("han", re.compile(r"[\u4e00-\u9fff]")),
    ("kana", re.compile(r"[\u3040-\u30ff]")),
    ("hangul", re.compile(r"[\uac00-\ud7a3]")),
    ("cyrillic", re.compile(r"[\u0400-\u04ff]")),
    ("arabic", re.compile(r"[\u0600-\u06ff]")),
    ("devanagari", re.compile(r"[\u0900-\u097f]")),
)
_NOT_LATIN = re.compile(f"[{''.join(pattern.pattern[1:-1] for _, pattern in _SCRIPTS)}]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]{2,}")
_QUESTION_MARKS = ("?", "？", "؟")
_LABEL_LINE = re.compile(r"^[^\n]{0,40}[:：]\s*$")


_BESTS = (
    "most ", "best", "strongest", "largest", "biggest", "smartest", "cheapest", "premium", "top", "priciest", "costliest",
    "模型",
)  # fmt: skip
_THANKED = (
    "thank", "thx", "cheers", "gracias", "merci", "danke", "obrigad", "спасибо", "شكرا", "धन्यवाद", "谢谢", "多谢",
    "ありがとうございます", "감사합니다",
)  # fmt: skip
_ODD_CASE = ("\u0130", "\u0131", "\u017f", "\u212a")
"""Letters that an expression without regard to case takes for i, s or k, and `lower` does not."""


def _may_say(text: str, words: tuple[str, ...]) -> bool:
    """False only where an expression that needs one of these (lower-case) words cannot match: a tenth of its time."""
    low = text.lower()
    for word in words:
        if word in low:
            return True
    return not text.isascii() and any(odd in text for odd in _ODD_CASE)


def bare(text: str) -> str:
    """The prompt without courtesies and without wishes about the model: neither says anything about the work.

    Where nothing else is left, the text as it is."""
    plain = text.strip()
    if (greeting := _COURTESY.match(plain[:200])) is not None:
        plain = plain[greeting.end() :]
    ending, is_long = plain[-160:], len(plain) > 160
    pushes = _may_say(ending, _BESTS)
    if pushes and (push := _PUSH.search(ending)) is not None:
        ending = ending[: push.start()] + ending[push.end() :]
    if _may_say(ending, _THANKED) and (thanks := _THANKS.search(ending)) is not None:
        ending = (
            ending[: thanks.start() + 1]
            if ending[thanks.start() : thanks.start() + 1] in ".。!！"
            else ending[: thanks.start()]
        )
    plain = (plain[:-160] + ending).strip()
    if (pushes or is_long) and (push := _PUSH.match(plain[:160])) is not None:
        plain = plain[push.end() :].lstrip()
    return plain if len(plain) > 2 else text.strip()


class Zones(msgspec.Struct, frozen=True):
    """`head` and `tail`: the lines where an instruction may stand (tail is empty where there is only one)."""

    head: str
    tail: str


def zones_of(text: str) -> Zones:
    """Where the instruction may stand."""
    if len(text) <= HEAD and "\n" not in text:
        return Zones(text, "")
    start = text[: HEAD * 2]
    cut = start.find("\n")
    while 0 <= cut < 50:  # a greeting or a label (`Question:`) is not the whole instruction
        further = start.find("\n", cut + 1)
        if further < 0:
            cut = -1
            break
        cut = further
    head = start[: cut if 0 <= cut < HEAD else HEAD]
    rest = text[len(head) :].strip()
    end = rest[-TAIL * 2 :]
    cut = end.rfind("\n")
    while cut >= 0 and len(end) - cut < 30:
        cut = end.rfind("\n", 0, cut)
    tail = end[cut + 1 :]
    if len(tail) > TAIL:
        tail = tail[-TAIL:]
        dot = max(tail.find(mark) for mark in (". ", "。", "? ", "! ", "！", "؟ ", "। "))
        tail = tail[dot + 1 :] if 0 <= dot < TAIL - 20 else tail
    return Zones(head, tail)


def shape_of(text: str, zones: Zones) -> list[str]:
    """The names of what is seen, a stable vocabulary: the model's features and what explain shows."""
    window = text if len(text) <= BEGINS + ENDS else f"{text[:BEGINS]}\n{text[-ENDS:]}"
    seen = [_size(len(text))]
    add = seen.append
    lines = text.count("\n", 0, 8000)
    add("one line" if lines == 0 else "few lines" if lines < 6 else "many lines")
    schema = "```" not in window and _is_schema(window)
    if schema:  # column lists look like calls: what they are is said once
        seen += ["database schema", "structured data"]
    coded = not schema and _code(window, seen)
    if not schema:
        _tables(window, seen, coded)
    _numbers(window, seen)
    _questions(text, zones, window, seen)
    _scripts(window, zones, seen)
    if names := len(_NAME.findall(window)):
        add("a name" if names < 3 else "names")
    if len(text) > 60 and text[-1].isalnum() and text[0].isupper() and lines == 0:
        add("breaks off")
    if _any_of(_QUOTES, window):
        add("quoted text")
    if window.count("\n") > 1 and window.count(":") + window.count("：") > 2 and _DIALOGUE.search(window):
        add("dialogue")
    if _BULLET.match(window) or _BULLETS.search(window):
        add("list")
    if _URL.search(window):
        add("link")
    if ("@" in window or "many numbers" in seen or "some numbers" in seen) and _any_of(_CONTACTS, window):
        add("contact details")
    return seen


def _any_of(expressions: tuple[tuple[str, re.Pattern[str]], ...], window: str) -> bool:
    """Whether one of them matches; each is only tried where the sign that it needs is there."""
    return any(sign in window and expression.search(window) is not None for sign, expression in expressions)


def _up_to(most: int, expression: re.Pattern[str], window: str) -> int:
    """How often it matches, counted no further than `most`."""
    return sum(1 for _ in islice(expression.finditer(window), most))


def _is_schema(window: str) -> bool:
    """Names with lists of bare column names, two of them or a long one; or the words of a table's definition."""
    if _may_say(window, _DDL_WORDS) and _DDL.search(window):
        return True
    if "(" not in window and "（" not in window:
        return False
    lists = [
        columns
        for columns in (re.split("[,，]", inside) for inside in _COLUMNS.findall(window))
        if len(columns) > 1 and all(_COLUMN.fullmatch(column) for column in columns)
    ]
    return len(lists) > 1 or (len(lists) == 1 and len(lists[0]) > 3)


def _size(length: int) -> str:
    for bound in (15, 30, 60, 120, 250, 500, 1000, 2000, 5000):
        if length <= bound:
            return f"up to {bound} characters"
    return "very long"


def _code(window: str, seen: list[str]) -> bool:
    before = len(seen)
    if "```" in window:
        seen.append("code fence")
    written = [_CODE_LINE.match(line) is not None for line in window.split("\n")]
    if lines := sum(written):
        seen.append("line of code" if lines == 1 else "lines of code")
        if written[0]:
            seen.append("begins with code")
    if _CODE_ENDS.search(window) and (ends := _up_to(5, _CODE_END, window)) >= 2:
        seen.append("lines end like code" if ends < 5 else "many lines end like code")
    if any(which := _inline(window)) and (inline := _up_to(4, _inline_code(which), window)) >= 1:
        seen.append("identifiers" if inline < 4 else "many identifiers")
    if any(words in window for words in _TRACE_WORDS) or _any_of(_TRACES, window):
        seen.append("error message")
    if "." in window and _FILE_CODE.search(window):
        seen.append("source file name")
    return any(sign != "identifiers" for sign in seen[before:])


def _inline(window: str) -> tuple[bool, ...]:
    """Which parts of _INLINE_CODE can match at all."""
    called = "(" in window
    return (
        "`" in window,
        called and "." in window and _METHOD.search(window) is not None,
        called and "()" in window,
        "_" in window,
        _CAMEL.search(window) is not None,
        _INLINE_SIGN.search(window) is not None,
    )


@cache
def _inline_code(which: tuple[bool, ...]) -> re.Pattern[str]:
    """Without the parts that cannot match: fewer choices are searched for faster."""
    return re.compile("|".join(compress(_INLINE_CODE, which)))


def _tables(window: str, seen: list[str], coded: bool) -> None:
    before = len(seen)
    if ("|" in window and (_PIPES.search(window) or _MARKDOWN_RULE.search(window))) or (
        "\t" in window and _TABS.search(window)
    ):
        seen.append("table")
    elif not coded and window.count(",") > 3 and "\n" in window and _COMMAS.search(window):
        seen.append("comma-separated rows")
    if ("{" in window or "[[" in window) and _ROWS.search(window):
        seen.append("JSON")
    if "." in window and _FILE_DATA.search(window):
        seen.append("data file name")
    if len(seen) > before:
        seen.append("structured data")


def _numbers(window: str, seen: list[str]) -> None:
    numbers = count = len(_NUMBER.findall(window))
    if numbers and (years := len(_YEAR.findall(window))):
        seen.append("a year")
        count -= years  # they date things, and are seldom reckoned with
    if not count:
        seen.append("no number")
    else:
        seen.append("a number" if count == 1 else "some numbers" if count < 5 else "many numbers")
    if numbers:
        if count * 12 > len(window):
            seen.append("mostly numbers")
        if _ARITHMETIC.search(window) or ("=" in window and _EQUALS.search(window)):
            seen.append("arithmetic")
        if _any_of(_MONEY, window) or (_ASCII_UNIT if window.isascii() else _NUMBER_UNIT).search(window):
            seen.append("quantity")
    if ("\\" in window or "$" in window) and _LATEX.search(window):
        seen.append("LaTeX")
    if (numbers and _is_maths(window)) or (not window.isascii() and _SYMBOLS.search(window)):
        seen.append("mathematical notation")


def _is_maths(window: str) -> bool:
    return (
        "^" in window
        or _OPERATION.search(window) is not None
        or _TERM.search(window) is not None
        or "f(x)" in window
        or "g(x)" in window
        or _any_of(_FUNCTIONS, window)
    )


def _questions(text: str, zones: Zones, window: str, seen: list[str]) -> None:
    if text.endswith(_QUESTION_MARKS):
        seen.append("ends with a question")
    if any(mark in zones.head for mark in _QUESTION_MARKS):
        seen.append("question at the beginning")
    if zones.tail and any(mark in zones.tail for mark in _QUESTION_MARKS):
        seen.append("question at the end")
    if text.endswith((":", "：")):
        seen.append("ends with a colon")
    if text.endswith(("!", "！", "~", "～")):
        seen.append("ends with an exclamation")
    if _may_have_options(window) and _OPTIONS.search(window):
        seen.append("options")
    if "___" in window or "[MASK]" in window or _any_of(_BLANKS, window):
        seen.append("blank")
    if _LABEL_LINE.search(zones.head) or ": " in zones.head[:60] or "：" in zones.head[:60]:
        seen.append("label at the beginning")


def _may_have_options(window: str) -> bool:
    return (
        (_OPTION_A.search(window) is not None and _OPTION_B.search(window) is not None)
        or ("(1)" in window and "(2)" in window)
        or ("①" in window and "②" in window)
    )


def script_of(text: str) -> str | None:
    """The last one of those that are looked for; Chinese characters beside kana are Japanese. None for Latin letters."""
    if text.isascii() or _NOT_LATIN.search(text) is None:
        return None
    return next((name for name, pattern in reversed(_SCRIPTS) if pattern.search(text)), None)


def _scripts(window: str, zones: Zones, seen: list[str]) -> None:
    found = script_of(window)
    if found is not None:
        seen.append(f"script {found}")
    if found and _LATIN.search(zones.head):
        seen.append("two scripts")
