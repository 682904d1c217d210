"""What a prompt is about, and a canned answer of that kind: good, or poor as a weak model's would be."""

from __future__ import annotations

import re
from fractions import Fraction
from random import Random

from headgate.simulator.minds import arithmetic

_CUES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("translation", re.compile(r"\btranslat|\b(?:in|into|to) (?:french|spanish|german|italian)\b", re.IGNORECASE)),
    ("summary", re.compile(r"\bsummar|\btl;?dr\b|\bkey points\b|\bcondense\b|\bin brief\b", re.IGNORECASE)),
    (
        "code",
        re.compile(
            r"```|\b(?:python|javascript|typescript|rust|sql|regex|function|refactor|unit test|debug|code)\b",
            re.IGNORECASE,
        ),
    ),
    ("creative", re.compile(r"\b(?:poem|story|haiku|lyrics|song|slogan|limerick|tale|imagine)\b", re.IGNORECASE)),
    (
        "analysis",
        re.compile(
            r"\b(?:analy[sz]e|analysis|compare|trade-?offs?|evaluate|pros and cons|trend|assess)\b", re.IGNORECASE
        ),
    ),
    (
        "math",
        re.compile(
            r"\b(?:calculate|compute|solve|equation|integral|derivative|how many|probability|prove)\b", re.IGNORECASE
        ),
    ),
)
_STOP = frozenset(
    re.findall(
        r"\S+",
        (
            "a about all an and any are as at be but by can could do does explain for from give has have how i if in "
            "into is it its just like make may me more my no not of on one only or our out please say should so some "
            "tell than that the their them then there these they this to up us use was we what when where which who "
            "why will with would write you your short brief following text"
        ),
    )
)
POINT, WORD = 240, 40
"""Most characters of a sentence, and of a word, that an answer repeats of its prompt."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_TERSE = re.compile(
    r"\b(?:only|just|nothing but|exactly)\b.{0,30}"
    r"\b(?:number|word|letter|answer|digit|json|value|yes|no|result|integer)\b"
    r"|\bone word\b|\byes or no\b|\b(?:reply|answer|respond) (?:with )?only\b|\bno (?:explanation|prose)\b",
    re.IGNORECASE,
)
_EXACTLY = re.compile(
    r"(?:reply|respond|answer|say|repeat)(?: with)?(?: exactly| only| just)?:?\s*[\"“'`](.+?)[\"”'`]",
    re.IGNORECASE | re.DOTALL,
)


def task_of(text: str) -> str:
    """code, summary, creative, analysis, translation, math or general."""
    for name, cue in _CUES:
        if cue.search(text):
            return name
    return "math" if arithmetic.find(text) else "general"


def is_terse(text: str) -> bool:
    """The prompt wants a bare value and nothing around it."""
    return bool(_TERSE.search(text) or _EXACTLY.search(text))


def topic_of(text: str, words: int = 3) -> str:
    """The words that the prompt turns on: of its last paragraph, where questions stand."""
    parts = [found for part in re.split(r"\n\s*\n", text) if (found := _topical(part))]
    return " ".join(dict.fromkeys(parts[-1][-12:][:words])) if parts else "that"


def _topical(text: str) -> list[str]:
    return [w[:WORD] for w in re.findall(r"[A-Za-zÀ-ÿ][\w'-]+", text) if w.lower() not in _STOP]


def answer(text: str, task: str, good: bool, luck: Random) -> str:
    """The body of an answer. The same prompt gives the same body from every model whose answer is good."""
    exact = _EXACTLY.search(text)
    if exact:
        return exact.group(1) if good else exact.group(1)[::-1]
    found = arithmetic.find(text)
    if found and task in ("math", "general"):
        if (stated := arithmetic.stated(text, found[0])) is not None:
            found, good = (found[0], stated), True
        return _sum(*found, good, is_terse(text), luck)
    match task:
        case "code":
            return _code(text, good)
        case "translation":
            return _translation(text, good)
        case "summary":
            return _summary(text, good)
        case "creative":
            return _creative(text, good)
        case "analysis":
            return _analysis(text, good)
        case _:
            return _general(text, good)


def _sum(expression: str, value: Fraction, good: bool, terse: bool, luck: Random) -> str:
    said = arithmetic.shown(value if good else arithmetic.slip(value, luck))
    if terse:
        return said
    return f"Working it out step by step: {expression} = {said}.\n\nThe answer is {said}."


_PROGRAMS: tuple[tuple[str, str, str], ...] = (
    ("reverse", "def reverse(text: str) -> str:\n    return text[::-1]", "def reverse(text):\n    return text[::1]"),
    (
        "fibonacci",
        "def fibonacci(n: int) -> int:\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a",
        "def fibonacci(n):\n    return fibonacci(n - 1) + fibonacci(n - 2)",
    ),
    (
        "prime",
        "def is_prime(n: int) -> bool:\n    if n < 2:\n        return False\n"
        "    return all(n % d for d in range(2, int(n**0.5) + 1))",
        "def is_prime(n):\n    return all(n % d for d in range(2, n // 2))",
    ),
    (
        "factorial",
        "def factorial(n: int) -> int:\n    out = 1\n    for k in range(2, n + 1):\n        out *= k\n    return out",
        "def factorial(n):\n    return n * factorial(n - 1)",
    ),
    (
        "palindrome",
        "def is_palindrome(text: str) -> bool:\n    plain = [c.lower() for c in text if c.isalnum()]\n"
        "    return plain == plain[::-1]",
        "def is_palindrome(text):\n    return text == text.reverse()",
    ),
    (
        "sort",
        "def merge_sort(items: list) -> list:\n    if len(items) < 2:\n        return items\n"
        "    middle = len(items) // 2\n    left, right = merge_sort(items[:middle]), merge_sort(items[middle:])\n"
        "    out = []\n    while left and right:\n        out.append((left if left[0] <= right[0] else right).pop(0))\n"
        "    return out + left + right",
        "def merge_sort(items):\n    return items.sort()",
    ),
)


_QUERY = "SELECT customer, SUM(amount) AS total\nFROM orders\nGROUP BY customer\nORDER BY total DESC;"
_BAD_QUERY = "SELECT * FROM orders GROUP total;"


def _code(text: str, good: bool) -> str:
    low = text.lower()
    if "sql" in low:
        return f"```sql\n{_QUERY if good else _BAD_QUERY}\n```\nIt groups first and sorts the totals."
    for cue, right, wrong in _PROGRAMS:
        if cue in low:
            return (
                f"```python\n{right if good else wrong}\n```\nIt takes its input as an argument, with no side effects."
            )
    name = "_".join(re.findall(r"[a-z]+", topic_of(text, 2).lower())) or "solve"
    body = f'    """Handles {topic_of(text)}."""\n    return [item for item in data if item is not None]'
    if not good:
        body = "    return data[0"
    return f"```python\ndef {name}(data):\n{body}\n```\nCall `{name}` with the items that you have."


_PHRASES: dict[str, dict[str, str]] = {
    "french": {"hello": "bonjour", "good morning": "bonjour", "thank you": "merci", "how are you": "comment allez-vous",
               "where is the station": "où est la gare", "i love you": "je t'aime", "world": "monde"},
    "spanish": {"hello": "hola", "good morning": "buenos días", "thank you": "gracias", "how are you": "¿cómo está?",
                "where is the station": "¿dónde está la estación?", "i love you": "te quiero", "world": "mundo"},
    "german": {"hello": "hallo", "good morning": "guten Morgen", "thank you": "danke", "how are you": "wie geht es dir",
               "where is the station": "wo ist der Bahnhof", "i love you": "ich liebe dich", "world": "Welt"},
    "italian": {"hello": "ciao", "good morning": "buongiorno", "thank you": "grazie", "how are you": "come sta",
                "where is the station": "dov'è la stazione", "i love you": "ti amo", "world": "mondo"},
}  # fmt: skip


def _translation(text: str, good: bool) -> str:
    low = text.lower()
    language = next((name for name in _PHRASES if name in low), "french")
    quoted = re.search(r"[\"“'‘](.+?)[\"”'’](?:\s|$|[.?!])|:\s*(.+)$", text, re.DOTALL)
    source = (quoted.group(1) or quoted.group(2)).strip() if quoted else topic_of(text, 6)
    if not good:
        return source  # left as it was
    out = source
    for phrase, said in sorted(_PHRASES[language].items(), key=lambda pair: -len(pair[0])):
        out = re.sub(rf"\b{re.escape(phrase)}\b", said, out, flags=re.IGNORECASE)
    return f"In {language.capitalize()}: “{out}”"


def _summary(text: str, good: bool) -> str:
    source = text.split(":", 1)[1] if ":" in text[:200] else text
    sentences = [s.strip() for s in _SENTENCE.split(source.strip()) if s.strip()]
    if not good or not sentences:
        return "It is about " + topic_of(source) + "."
    told = [s for s in sentences[1:] if re.search(r"\d", s)] or sorted(sentences[1:], key=len)[-1:]
    points = [sentences[0], *told][:4]
    return "In short:\n" + "\n".join(f"- {_cut(point)}" for point in points)


def _cut(text: str) -> str:
    return text if len(text) <= POINT else f"{text[:POINT].rsplit(' ', 1)[0]} …"


def _creative(text: str, good: bool) -> str:
    topic = topic_of(text, 2)
    if not good:
        return f"{topic} is nice. It is very nice. The end."
    return (
        f"The morning found {topic} where the night had let it fall,\n"
        f"a lantern by the harbour and a shadow on the wall;\n"
        f"the tide came in with stories, and the wind came in with none,\n"
        f"and {topic} told them softly till the telling was all done."
    )


def _analysis(text: str, good: bool) -> str:
    topic = topic_of(text)
    if not good:
        return f"{topic} has good and bad sides, so it depends."
    return (
        f"Looking at {topic} from three sides:\n"
        f"1. What speaks for it: it is understood, its costs are known, and it can be undone.\n"
        f"2. What speaks against it: it ties up attention early and pays back late.\n"
        f"3. What decides: how often the case comes up, and what a mistake would cost.\n\n"
        f"Conclusion: start small with {topic}, measure for two weeks, and keep the option of stepping back."
    )


def _general(text: str, good: bool) -> str:
    low = text.strip().lower()
    if re.match(r"^(hi|hello|hey|good (morning|evening|afternoon))\b", low) and len(low) < 60:
        return "Hello! What can I do for you?"
    topic = topic_of(text)
    if not good:
        return f"I am not sure about {topic}."
    return (
        f"About {topic}: the short answer is that it comes down to its purpose and its limits. "
        f"It was made to solve one problem well, and asking what that problem is settles most questions about it. "
        f"Beyond that, look at how it is used in practice, since use shows what descriptions leave out. "
        f"If you say more about your case, I can be more exact about {topic}."
    )
