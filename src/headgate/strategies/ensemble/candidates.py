"""What members answered, and what rules alone can say of it."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.chat import ChatRequest, Part, Refusal, ToolCall, text_of
from headgate.core.envelope import Envelope
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.events import ChatAnswer
from headgate.core.money import dollars
from headgate.core.usage import Usage
from headgate.strategies.schema import breaks_schema, breaks_tools

SHOWN = 2000
"""Characters of a candidate's text that the `headgate` object shows."""
REFUSED = "refused"
AS_ASKED = "cut off at the request's max_tokens"
"""Short of a whole answer, but as long as it was asked to be: it stands where nobody gave a whole one."""


class Candidate(msgspec.Struct):
    """`out`: why the rules dropped it, None while it is in. `score` is 0 to 1. `served`: model, provider and deployment
    that really answered (a member may be a strategy). `purse`: what its calls were paid from."""

    model: str
    weight: float
    incumbent: bool
    answer: ChatAnswer | None = None
    out: str | None = None
    score: float | None = None
    unreadable: bool = False
    latency_ms: float | None = None
    verdict: str | None = None
    error: HeadgateError | None = None
    served: tuple[str, str, str] | None = None
    purse: Envelope | None = None

    @property
    def valid(self) -> bool:
        return self.answer is not None and self.out is None

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
        if self.served is not None and self.served[0] != self.model:
            out["served_by"] = self.served[0]
        if self.score is not None:
            out["score"] = round(self.score, 3)
        if self.unreadable:
            out["judge_unreadable"] = True
        if self.verdict is not None:
            out["verdict"] = self.verdict
        if self.latency_ms is not None:
            out["latency_ms"] = self.latency_ms
        if self.purse is not None:
            out["cost_usd"] = dollars(self.purse.spent)
        if self.answer is not None:
            out["text"] = self.text[:SHOWN]
        if self.calls:
            out["content"] = [f"{call.name}({call.arguments[:SHOWN]})" for call in self.calls]
        return out


def apply_rules(candidate: Candidate, request: ChatRequest) -> None:
    """Empty, refused, truncated and schema-invalid answers drop out, and calls of tools that there are not."""
    if candidate.out is not None or candidate.answer is None:
        return
    choice = candidate.answer.choices[0] if candidate.answer.choices else None
    cut = choice is not None and choice.finish == "length"
    as_asked = cut and _reached(candidate.answer.usage, request.max_tokens)
    if choice is None or (not candidate.text.strip() and not candidate.calls):
        candidate.out = f"empty, {AS_ASKED}" if as_asked else "empty"
    elif choice.finish in ("refusal", "content_filter") or any(isinstance(part, Refusal) for part in choice.parts):
        candidate.out = REFUSED
    elif cut and not as_asked:
        candidate.out = "truncated"
    elif (problem := breaks_schema(request, candidate.answer)) is not None:
        candidate.out = f"breaks the schema: {problem}"
    elif candidate.calls and request.tools and (problem := breaks_tools(request, candidate.calls)) is not None:
        candidate.out = f"cannot be called: {problem}"
    elif as_asked:
        candidate.out = AS_ASKED


def refused(candidate: Candidate) -> bool:
    """For its content: in the answer, or by the provider with an error."""
    error = candidate.error
    return candidate.out == REFUSED or (isinstance(error, UpstreamFault) and error.kind == "content_policy")


def _reached(usage: Usage | None, bound: int | None) -> bool:
    """An answer was as long as the request let it be. Within a tenth: what a provider holds back at the end (half of a
    character, the beginning of a stop sequence) it may not count. Without a count the bound is taken for the reason."""
    return bound is not None and (usage is None or usage.estimated or usage.output * 10 >= bound * 9)
