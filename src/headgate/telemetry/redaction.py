"""What kept texts may not hold: credentials, addresses of people, numbers of cards and accounts, files in base64."""

from __future__ import annotations

import re
from collections.abc import Callable

SEAM = 4_000
"""Characters beyond the cut that are looked at too: half a key at its edge is a key all the same."""
_DATA = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_-]{400,}={0,2}")
"""Base64 of images, sounds and files: nobody reads it."""
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "private key",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    ),
    # Begins once in a run of its letters: at each `-eyJ` in one it would read the rest of it anew.
    ("token", re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}")),
    (
        "key",
        re.compile(
            r"\b(?:sk|pk|rk|hg|hga|gsk|xai|ghp|gho|ghs|ghu|github_pat|glpat|xox[abposr]|hf|npm|pypi|AKIA|ASIA|AIza|ya29)"
            r"[-_.]?[\w-]{16,200}"
        ),
    ),
    ("credential", re.compile(r"(?i)(?<=bearer )[\w.~+/=-]{12,}")),
    ("credential", re.compile(r"(?i)(?<=:)[^\s:@/\ue004\"'\\]{3,100}(?=@[\w.-]+(?::\d+)?[/\ue004])")),
    (
        "password",
        re.compile(
            r"(?i)(?<!\w)(?:password|passwd|secret|api[_-]?key)(?:\\?[\"'])?\s{0,3}[:=]\s{0,3}(?:\\?[\"'])?[^\s\"'\\,;]{4,200}"
        ),
    ),
    ("e-mail", re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}\b")),
    ("account", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")),
    ("social security number", re.compile(r"\b\d{3}-\d{2}-\d{4}\b")),
    (
        "telephone",
        re.compile(r"(?<![\w.])(?:\+\d{1,3}[ .()/-]{0,2}|\(0?\d{2,5}\)[ .-]?|0\d{2,4}[ /-])\d[\d ./-]{5,14}\d\b"),
    ),
)
_STANDS_FOR: dict[str, str] = dict(zip(
    ("\\n", "\\r", "\\t", "\\u003c", "\\u003e", "\\u0026", "\\u0027", "\\/"),
    ("\x1c", "\x1d", "\x1e", "\ue000", "\ue001", "\ue002", "\ue003", "\ue004"),
    strict=True,
))  # fmt: skip
"""Escapes of JSON, as which kept bodies come, and what stands for them meanwhile: spaces and signs, so that a key at the
beginning of a line is not taken for the end of a word (`\\nsk-...`)."""
_ESCAPE = re.compile(r"\\(?:[nrt/]|u00(?:3[cCeE]|2[67]))")
_BACK = str.maketrans({sign: escape for escape, sign in _STANDS_FOR.items()})
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.])")


def redacted(text: str, most: int) -> str:
    """At most `most` characters, what is found named in brackets: `[e-mail]`, `[key]`. Finds what looks like itself; a
    name or a story is not found. Linear in the text."""
    whole = _DATA.sub(lambda match: f"[{len(match[0])} characters of data]", text[: most * 4])
    unseen = len(text) - most * 4
    shown = _ESCAPE.sub(lambda match: _STANDS_FOR[match[0].lower()], whole[: most + SEAM])
    for name, pattern in _RULES:
        shown = pattern.sub(_named(name), shown)
    shown = _CARD.sub(lambda match: "[card]" if _is_card(match[0]) else match[0], shown).translate(_BACK)
    more = max(len(whole) - most, 0) + max(unseen, 0)
    return f"{shown[:most]}… [{more} more characters]" if more else shown


_NEEDS: tuple[tuple[tuple[str, ...], re.Pattern[str] | None], ...] = (
    (("PRIVATE KEY-----",), None),
    (("eyJ",), None),
    ((), None),
    (("bearer ",), None),
    (("@",), None),
    (("password", "passwd", "secret", "api"), None),
    (("@",), None),
    ((), re.compile(r"[A-Z][A-Z]\d\d")),
    ((), re.compile(r"\d\d\d-\d\d-\d")),
    ((), re.compile(r"\d[\d ./-]{5}")),
)
"""By rule: words one of which (in lower case, where the rule takes any case) must stand in a text that it finds anything
in, or an expression that must match: many times faster to look for."""
_DIGITS = re.compile(r"\d[ -]?\d[ -]?\d[ -]?\d[ -]?\d[ -]?\d[ -]?\d")


def kinds_in(text: str) -> tuple[str, ...]:
    """The kinds of what `redacted` would name, in its order, without changing the text."""
    low = text.lower()
    found = [
        name
        for (name, pattern), (words, first) in zip(_RULES, _NEEDS, strict=True)
        if (not words or any(word in low or word in text for word in words))
        and (first is None or first.search(text) is not None)
        and pattern.search(text) is not None
    ]
    if _DIGITS.search(text) is not None and any(_is_card(match[0]) for match in _CARD.finditer(text)):
        found.append("card")
    return tuple(dict.fromkeys(found))


def _named(name: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"[{name}]"


def _is_card(text: str) -> bool:
    """By Luhn's check digit, ISO/IEC 7812-1."""
    digits = [int(c) for c in text if c.isdigit()]
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * d, 10)) for d in digits[-2::-2])
    return total % 10 == 0 and len(set(digits)) > 1
