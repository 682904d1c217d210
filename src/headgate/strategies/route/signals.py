"""What a prompt looks like, whatever its language: where the instruction stands and what the pasted material is."""

from __future__ import annotations

import re

import msgspec

HEAD, TAIL, BODY = 280, 280, 300
"""Characters of the first and last lines, where the instruction stands, and of the material between, that are read."""
SHAPE = 1000
"""Characters whose shape is looked at, from the beginning; the last TAIL ones as well."""

_COURTESY = re.compile(
    r"(?:\W*\b(?:hi|hello|hey|hiya|greetings|good (?:morning|day|evening|afternoon)|dear \w+|hola|buenas|bonjour|salut|hallo|guten tag|ol[aá]|oi|bom dia"
    r"|привет|здравствуйте|здравствуй|نعم|مرحبا|السلام عليكم|नमस्ते|안녕하세요)(?: there| all| everyone| team| again)?\s*[,!.:،。-]+\s*"
    r"|\W*(?:你好|您好|请问|嗨|こんにちは|すみません)\s*[,!.，！。、:：]*\s*"
    r"|\W*\b(?:(?:could|can|would|will) you (?:please |kindly )?help(?: me)?(?: out)?(?: with (?:this|that|something|the following))?|please help(?: me)?(?: with this)?"
    r"|i need (?:some |your )?help(?: with (?:this|something))?|help me with this|(?:a )?quick question|i have a (?:quick )?question|one more thing|sorry to bother you"
    r"|(?:please )?do the following(?: for me)?|here(?: is|'s|’s) what i(?: would|'d|’d)? (?:like|want|need)(?: you)?(?: to do)?)\s*[,!.?:-]+\s*)+",
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
    r"^[ \t>]*(?:def \w+\(|class \w+[\w(:, )]*[:{]|import [\w.{*]+|from [\w.]+ import|#include|public |private |function \w*\(|(?:const|let|var) \w+ ?="
    r"|<\?php|</?(?:html|div|script|body|table|p|span)\b|package \w+|@\w+(?:\(|$)|return\b.*;|\w+ = \w+\(|#!/|\$ \w+|if \(.*\) ?\{|for \(|while \(|print\(|console\.|fn \w+|func \w+|using \w+|elif |try:|SELECT |sudo |>>> )",
    re.MULTILINE,
)
_CODE_END = re.compile(r"[;{}]\s*$|\)\s*:\s*$|\w\([^)\n]*\)\s*$", re.MULTILINE)
_INLINE_CODE = re.compile(r"`[^`\n]+`|\w\.\w+\(|\w\(\)|[a-z]_[a-z]|[a-z][A-Z]|->|=>|::|&&|\|\||!=|==|\+=")
_TRACE = re.compile(
    r"Traceback \(most|\([\w.]+:\d+\)|[a-z](?:Error|Exception)\b|  File \"|error(?:\[?E?\d*\])?:|line \d+, in|npm ERR|undefined reference"
)
_FAILED = ("rror", "xception", "Traceback", 'File "', "npm ERR", "line ", "undefined reference", ":")
_FILE_CODE = re.compile(r"\w\.(?:py|js|ts|tsx|jsx|java|cpp|c|h|rs|go|rb|php|html|css|sh|ipynb|yml|yaml|toml)\b")
_FILE_DATA = re.compile(r"\w\.(?:csv|xlsx?|tsv|parquet|sav|feather)\b")
_PIPES = re.compile(r"^[^\n|]*\|[^\n|]*\|?[^\n]*\n[^\n|]*\|[^\n|]*", re.MULTILINE)
_MARKDOWN_RULE = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*\|", re.MULTILINE)
_TABS = re.compile(r"^[^\n\t]*\t[^\n\t]*\t?[^\n]*\n[^\n\t]*\t", re.MULTILINE)
_COMMAS = re.compile(r"^([^,\n]{0,60},){2,}[^,\n]{0,60}\n([^,\n]{0,60},){2,}[^,\n]{0,60}(\n|$)", re.MULTILINE)
_COLUMNS = re.compile(r"\w[(（]([^()（）\n]{2,400})[)）]")
_COLUMN = re.compile(r"\s*[^\W\d]\w*(?: \w+){0,2}\s*")
_DDL = re.compile(r"create table|primary key|foreign key|varchar", re.IGNORECASE)
_ROWS = re.compile(r"\[\[.+\],|\{\s*\"\w+\":|\[\s*\{", re.DOTALL)
_LATEX = re.compile(
    r"\\(?:frac|sqrt|int|sum|mathbb|begin|cdot|le|ge|pi|alpha|theta|left|infty|times|text|angle|triangle|lim|log|sin|cos|binom|overline)\b|\$[^$\n]{1,80}\$"
)
_SYMBOLS = re.compile(r"[∫∑√≤≥≠∞∈∀∃π±×÷²³°∠△]")
_MATHS = re.compile(r"[\dxyzn)] ?[-+*/^=<>] ?[\dxyzn(]|\d[xyzn]\b|[fg]\(x\)|\^|\b(?:sin|cos|tan|log|ln|mod)\b")
_ARITHMETIC = re.compile(r"\d\s*[-+*/x×÷^]\s*\(?\d|=\s*\?|=\s*[(（]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NUMBER_UNIT = re.compile(
    r"[$€£¥]\s?\d|\d\s?(?:%|元|米|克|千克|公里|千米|个|人|天|小时|分钟|岁|只|本|棵|箱|吨|倍|円|個|원|명|개|km|kg|cm|mph|руб|м\b)|\d/\d"
)
_OPTIONS = re.compile(
    r"(?:^|[\s(（])A\s?[).．:：、）].{1,400}?(?:^|[\s(（])B\s?[).．:：、）]|\(1\).{1,200}\(2\)|①.{1,200}②", re.DOTALL
)
_BLANK = re.compile(r"_{3,}|（\s*）|\(\s{1,4}\)|\[MASK\]")
_QUOTED = re.compile(
    r"\"[^\"\n]{3,}\"|“[^”\n]{2,}”|「[^」\n]{2,}」|«[^»\n]{2,}»|『[^』\n]{2,}』|(?:^|\s)'[^'\n]{3,}'(?:\W|$)"
)
_DIALOGUE = re.compile(r"(?:^|\n)[\w .#]{1,24}[:：][^\n]+\n+[\w .#]{1,24}[:：][^\n]+\n+[\w .#]{1,24}[:：]")
_BULLETS = re.compile(r"(?:^|\n)\s*(?:[-*•]|\d+[.)、])\s")
_URL = re.compile(r"https?://")
_CONTACT = re.compile(r"@[\w-]+\.\w+|(?<!\d)1\d{10}(?!\d)|\d{3}\)?[- ]\d{3,4}[- ]\d{4}")
_SCRIPTS = (
    ("han", re.compile(r"[\u4e00-\u9fff]")),
    ("kana", re.compile(r"[\u3040-\u30ff]")),
    ("hangul", re.compile(r"[\uac00-\ud7a3]")),
    ("cyrillic", re.compile(r"[\u0400-\u04ff]")),
    ("arabic", re.compile(r"[\u0600-\u06ff]")),
    ("devanagari", re.compile(r"[\u0900-\u097f]")),
)
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]{2,}")
_QUESTION_MARKS = ("?", "？", "؟")
_LABEL_LINE = re.compile(r"^[^\n]{0,40}[:：]\s*$")


def bare(text: str) -> str:
    """The prompt without courtesies and without wishes about the model: neither says anything about the work.

    Where nothing else is left, the text as it is."""
    plain = text.strip()
    if (greeting := _COURTESY.match(plain[:200])) is not None:
        plain = plain[greeting.end() :]
    ending = plain[-160:]
    if (push := _PUSH.search(ending)) is not None:
        ending = ending[: push.start()] + ending[push.end() :]
    if (thanks := _THANKS.search(ending)) is not None:
        ending = (
            ending[: thanks.start() + 1]
            if ending[thanks.start() : thanks.start() + 1] in ".。!！"
            else ending[: thanks.start()]
        )
    plain = (plain[:-160] + ending).strip()
    if (push := _PUSH.match(plain[:160])) is not None:
        plain = plain[push.end() :].lstrip()
    return plain if len(plain) > 2 else text.strip()


class Zones(msgspec.Struct, frozen=True):
    """`head` and `tail`: the lines where an instruction may stand (tail is empty where there is only one)."""

    head: str
    tail: str
    body: str
    length: int


def zones_of(text: str) -> Zones:
    """Where the instruction may stand, and a sample of what is between."""
    length = len(text)
    if length <= HEAD and "\n" not in text:
        return Zones(text, "", "", length)
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
    return Zones(head, tail, rest[: max(0, len(rest) - len(tail))][:BODY], length)


def shape_of(text: str, zones: Zones) -> list[str]:
    """The names of what is seen, a stable vocabulary: the model's features and what explain shows."""
    window = text if len(text) <= SHAPE else f"{text[: SHAPE - TAIL]}\n{text[-TAIL:]}"
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
    if _QUOTED.search(window):
        add("quoted text")
    if _DIALOGUE.search(window):
        add("dialogue")
    if _BULLETS.search(window):
        add("list")
    if _URL.search(window):
        add("link")
    if ("@" in window or "many numbers" in seen or "some numbers" in seen) and _CONTACT.search(window):
        add("contact details")
    return seen


def _is_schema(window: str) -> bool:
    """Names with lists of bare column names, two of them or a long one; or the words of a table's definition."""
    if _DDL.search(window):
        return True
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
    lines = len(_CODE_LINE.findall(window))
    if lines:
        seen.append("line of code" if lines == 1 else "lines of code")
        if _CODE_LINE.match(window):
            seen.append("begins with code")
    if (ends := len(_CODE_END.findall(window))) >= 2:
        seen.append("lines end like code" if ends < 5 else "many lines end like code")
    if (inline := len(_INLINE_CODE.findall(window))) >= 1:
        seen.append("identifiers" if inline < 4 else "many identifiers")
    if any(sign in window for sign in _FAILED) and _TRACE.search(window):
        seen.append("error message")
    if "." in window and _FILE_CODE.search(window):
        seen.append("source file name")
    return len(seen) > before


def _tables(window: str, seen: list[str], coded: bool) -> None:
    before = len(seen)
    if ("|" in window and (_PIPES.search(window) or _MARKDOWN_RULE.search(window))) or (
        "\t" in window and _TABS.search(window)
    ):
        seen.append("table")
    elif "," in window and "\n" in window and not coded and _COMMAS.search(window):
        seen.append("comma-separated rows")
    if ("{" in window or "[[" in window) and _ROWS.search(window):
        seen.append("JSON")
    if "." in window and _FILE_DATA.search(window):
        seen.append("data file name")
    if len(seen) > before:
        seen.append("structured data")


def _numbers(window: str, seen: list[str]) -> None:
    count = len(_NUMBER.findall(window))
    if not count:
        seen.append("no number")
    else:
        seen.append("a number" if count == 1 else "some numbers" if count < 5 else "many numbers")
        if count * 12 > len(window):
            seen.append("mostly numbers")
        if _ARITHMETIC.search(window):
            seen.append("arithmetic")
        if _NUMBER_UNIT.search(window):
            seen.append("quantity")
    if ("\\" in window or "$" in window) and _LATEX.search(window):
        seen.append("LaTeX")
    if (count and _MATHS.search(window)) or (not window.isascii() and _SYMBOLS.search(window)):
        seen.append("mathematical notation")


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
    if _OPTIONS.search(window):
        seen.append("options")
    if _BLANK.search(window):
        seen.append("blank")
    if _LABEL_LINE.search(zones.head) or ": " in zones.head[:60] or "：" in zones.head[:60]:
        seen.append("label at the beginning")


def _scripts(window: str, zones: Zones, seen: list[str]) -> None:
    found = []
    if not window.isascii():
        for name, pattern in _SCRIPTS:
            if pattern.search(window):
                found.append(name)
        if found:
            seen.append(f"script {found[-1] if found != ['han', 'kana'] else 'kana'}")
    if found and _LATIN.search(zones.head):
        seen.append("two scripts")
