"""What members answered, and what rules alone can say of it."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.chat import ChatRequest, Part, Refusal, ToolCall, text_of
from headgate.core.events import ChatAnswer
from headgate.strategies.schema import breaks_schema


class Candidate(msgspec.Struct):
    """`out`: why the rules dropped it, None while it is in. `score` is 0 to 1."""

    model: str
    weight: float
    incumbent: bool
    answer: ChatAnswer | None = None
    out: str | None = None
    score: float | None = None
    unreadable: bool = False
    latency_ms: float | None = None

    @property
    def text(self) -> str:
        return text_of(self.parts)

    @property
    def parts(self) -> list[Part]:
        return self.answer.choices[0].parts if self.answer is not None and self.answer.choices else []

    @property
    def calls(self) -> list[ToolCall]:
        return [part for part in self.parts if isinstance(part, ToolCall)]

    def shown(self) -> dict[str, Any]:
        """For the `headgate` object and the console."""
        out: dict[str, Any] = {"model": self.model, "weight": self.weight, "outcome": self.out or "valid"}
        if self.incumbent:
            out["role"] = "incumbent"
        if self.score is not None:
            out["score"] = round(self.score, 3)
        if self.unreadable:
            out["judge_unreadable"] = True
        if self.latency_ms is not None:
            out["latency_ms"] = self.latency_ms
        if self.answer is not None:
            out["text"] = self.text[:2000]
        return out


def apply_rules(candidate: Candidate, request: ChatRequest) -> None:
    """Empty, refused, truncated and schema-invalid answers drop out."""
    if candidate.out is not None or candidate.answer is None:
        return
    choice = candidate.answer.choices[0] if candidate.answer.choices else None
    if choice is None or (not candidate.text.strip() and not candidate.calls):
        candidate.out = "empty"
    elif choice.finish in ("refusal", "content_filter") or any(isinstance(part, Refusal) for part in choice.parts):
        candidate.out = "refused"
    elif choice.finish == "length":
        candidate.out = "truncated"
    elif (problem := breaks_schema(request, candidate.answer)) is not None:
        candidate.out = f"breaks the schema: {problem}"
