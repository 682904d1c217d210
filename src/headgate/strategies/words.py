"""What was said of answers: on each the last word counts, wherever and however often one was said."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

REMEMBERED = 4_000
"""Words of a process's own."""
KEPT = 1_000
"""Of them what a store keeps."""


class Word(NamedTuple):
    """What was said of an answer, as the how-manieth word on it."""

    score: float
    number: int


Said = list[tuple[str, Word]]
"""As a store keeps it: traces and what was said of them, the newest last."""


class Words:
    """`_own`, `_heard`: trace → what was said of it last, here and elsewhere."""

    def __init__(self) -> None:
        self._own: OrderedDict[str, Word] = OrderedDict()
        self._heard: dict[str, Word] = {}

    def before(self, trace: str) -> float | None:
        """The score that counts until now."""
        word = _last(self._own.get(trace), self._heard.get(trace))
        return None if word is None else word.score

    def say(self, trace: str, score: float) -> None:
        word = _last(self._own.get(trace), self._heard.get(trace))
        self._own[trace] = Word(score, 1 if word is None else word.number + 1)
        self._own.move_to_end(trace)
        while len(self._own) > REMEMBERED:
            self._own.popitem(last=False)

    # -- kept: as core.strategy.Knowledge ------------------------------------------------------------------------------
    def merged(self, packs: Iterable[Said]) -> Said:
        words: dict[str, Word] = {}
        for pack in packs:
            _add(words, pack)
        said = {trace: word for trace, word in words.items() if trace not in self._own} | self._own
        _add(said, words.items())
        return list(said.items())[-KEPT:]

    def adopt(self, pack: Said) -> None:
        for trace, word in reversed(pack):
            if trace not in self._own:
                self._own[trace] = word
                self._own.move_to_end(trace, last=False)  # older than this process's own
        _add(self._own, pack)

    def hear(self, packs: Sequence[Said]) -> None:
        self._heard = {}
        for pack in packs:
            _add(self._heard, pack)

    def forget(self) -> None:
        _add(self._heard, self._own.items())
        self._own.clear()


def _last(one: Word | None, other: Word | None) -> Word | None:
    return max((word for word in (one, other) if word is not None), key=lambda word: word.number, default=None)


def _add(words: dict[str, Word], more: Iterable[tuple[str, Word]]) -> None:
    """Of two on the same answer the last one stays."""
    for trace, word in more:
        words[trace] = _last(words.get(trace), word) or word
