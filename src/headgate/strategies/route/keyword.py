"""The plain keyword table of the configuration: the first label one of whose words is in the last turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headgate.strategies.route.classify import UNKNOWN, Asked, Level, Task


class Keyword:
    level: Level = "keyword"

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        self.table = {label: tuple(word.lower() for word in words) for label, words in table.items()}

    def classify(self, asked: Asked) -> Task:
        lowered = asked.last.lower()
        for label, words in self.table.items():
            for word in words:
                if word in lowered:
                    return Task(label, 1.0, {label: 1.0}, [f"keyword {word!r}"])
        return Task(UNKNOWN, 0.0, {}, [])
