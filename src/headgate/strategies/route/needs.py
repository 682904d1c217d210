"""What a request needs of whoever answers it, beside its task: shown by explain, and in details that a client asks for.

Read from the last turn, of which the classifier reads as much. None of it filters or ranks candidates: what the protocol
needs (tools, vision, JSON schemas) and the context window do that."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from headgate.core.request import Request
from headgate.strategies.route.classify import Asked
from headgate.strategies.route.lexicon import fold, tokens_of
from headgate.strategies.route.signals import script_of
from headgate.telemetry.redaction import kinds_in

READ = 8000
REMEMBERED = 2048
INSTRUCTION = 280
"""Characters at the beginning and at the end whose words tell the language: where an instruction stands."""
_OF_SCRIPT = {
    "han": "zh", "kana": "ja", "hangul": "ko", "cyrillic": "ru", "arabic": "ar", "devanagari": "hi",
}  # fmt: skip
_SMALL_WORDS = {
    "en": "the a an of and to in is are for what how with this that my me you it on please write which who",
    "es": "el la los las de del que en un una y es por para con como cual mi me esta este lo al sobre",
    "pt": "o os as do da dos em um uma e que para com como qual meu nao se esta este voce por ao no na",
    "fr": "le la les des du de un une et est que en pour avec comment quel quelle mon ce cette au aux dans moi",
    "it": "il lo gli di del della che un una e per con come quale mio questo questa nel sono mi in al",
    "de": "der die das den dem ein eine einen und ist zu mit fur wie was von auf mir ich nicht im bitte uber",
}
_LANGUAGES: dict[str, tuple[str, ...]] = {}
for _language, _words in _SMALL_WORDS.items():
    for _word in _words.split():
        _LANGUAGES[_word] = (*_LANGUAGES.get(_word, ()), _language)


def needs_of(asked: Asked, request: Request) -> dict[str, Any]:
    """`language` (ISO 639-1; None where nothing tells it), `difficulty` with its reasons, `sensitive`: kinds of what should
    not leave the house, and what the protocol needs."""
    last = asked.last
    if len(last) > READ:
        last = f"{last[: READ // 2]}\n{last[-READ // 2 :]}"
    language, reasons, sensitive = _of_text(last)
    peek = request.peek
    reasons = [*reasons, *(["many turns"] if len(asked.turns) > 5 else ())]
    reasons += [f"asks for {need}" for need in ("tools", "json_schema") if need in peek.needs]
    return {
        "language": language,
        "difficulty": {"level": ("low", "medium", "medium", "high")[min(len(reasons), 3)], "because": reasons},
        "sensitive": list(sensitive),
        "protocol": sorted(peek.needs),
    }


@lru_cache(maxsize=REMEMBERED)
def _of_text(text: str) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    return language_of(text), tuple(demands_of(text)), kinds_in(text)


def language_of(text: str) -> str | None:
    """By the script, and for Latin letters by small words: the language of most of them, two at least, and alone."""
    ends = text if len(text) <= 2 * INSTRUCTION else f"{text[:INSTRUCTION]}\n{text[-INSTRUCTION:]}"
    if (script := script_of(ends)) is not None:
        return _OF_SCRIPT[script]
    counts: dict[str, int] = {}
    for token in tokens_of(fold(ends)):
        for language in _LANGUAGES.get(token, ()):
            counts[language] = counts.get(language, 0) + 1
    best = sorted(counts.items(), key=lambda row: -row[1])[:2]
    if not best or best[0][1] < 2 or (len(best) > 1 and best[0][1] == best[1][1]):
        return None
    return best[0][0]


def demands_of(text: str) -> list[str]:
    """What makes a request more work than a plain question, by its form alone: one point each. It says nothing of whether a
    model will fail at it."""
    out = []
    if len(text) > 2000:
        out.append("long text")
    if text.count("```") > 1:
        out.append("code")
    if sum(text.count(mark) for mark in ("\n- ", "\n* ", "\n• ", "\n1.", "\n2.", "\n3.")) > 2:
        out.append("a list of points")
    if text.count("?") + text.count("？") > 2:
        out.append("several questions")
    if "\\frac" in text or "\\int" in text or "\\sum" in text or any(sign in text for sign in "∫∑√∀∃"):
        out.append("mathematical notation")
    return out
