"""Candidates as data inside somebody else's prompt."""

from __future__ import annotations

import random
import re

LONGEST = 24_000
"""Characters of one candidate, or of the conversation, that a judge or fuser reads."""
_ROLES = re.compile(
    r"<\|[^<>|]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|</?(?:system|assistant|user|candidate|instructions?)>"
    r"|^[ \t]*#{0,6}[ \t]*(?:system|assistant|human|user|developer)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_HIDDEN = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]")


def mark_of(rng: random.Random) -> str:
    """A delimiter that no candidate can know beforehand."""
    return f"<<<{rng.getrandbits(64):016x}>>>"


def fenced(text: str, mark: str) -> str:
    """A candidate between two marks: without the mark itself, without what chat templates tell roles by, and without
    characters that are not seen."""
    plain = _ROLES.sub(" ", _HIDDEN.sub("", text))
    while mark in plain:  # what is left when it is taken out may be one again
        plain = plain.replace(mark, "")
    return f"{mark}\n{plain[:LONGEST]}\n{mark}"
