"""Does an answer hold? Verifiers from the cheapest to the dearest; the first that says no ends it.

A verifier passes an answer, fails it, or abstains where it has nothing to go by (no log probabilities, no code, prose
that cannot be compared). An answer is accepted where none failed and, if any were asked for, at least one passed.
"""

from __future__ import annotations

import ast
import asyncio
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.chat import ChatRequest, OutputFormat, ToolCall, text_of
from headgate.core.errors import HeadgateError
from headgate.core.events import ChatAnswer
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.ensemble.candidates import Candidate, apply_rules
from headgate.strategies.ensemble.canonical import canonical
from headgate.strategies.ensemble.judge import Judge
from headgate.strategies.ensemble.vote import agree, call_key
from headgate.strategies.schema import breaks_schema, breaks_tools
from headgate.tools.broker import ToolFailed
from headgate.tools.python import Python

SAMPLE_TEMPERATURE = 0.7
LONGEST_CODE = 50_000
# Models write what they like: nothing here is tried twice, so that a long line of backticks takes no longer than prose.
_BLOCK = re.compile(r"(?<!`)`{3,}+[ \t]*+(\w*+)[^\n`]*+\n(.*?)```", re.DOTALL)
_LOOKS_PYTHON = re.compile(r"^(def|class|import|from) ", re.MULTILINE)
_ASSERT = re.compile(r"^[ \t]*(assert .+)$", re.MULTILINE)
# What the sandbox cannot do says nothing of the code.
_BEYOND = re.compile(
    r"(ModuleNotFound|Import|Permission|NotImplemented|EOF|FileNotFound)Error|not (yet )?supported|cannot be shown"
)


class Consistency(msgspec.Struct, frozen=True):
    """`samples` answers in all; `agree` of them must say the same."""

    samples: int = 3
    agree: float = 0.6


class JudgeBar(msgspec.Struct, frozen=True):
    model: str
    threshold: float = 0.7
    timeout: float = 20.0


class Accept(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an answer beyond not being empty, refused, cut off or in breach of the client's own schema."""

    schema: Mapping[str, Any] | None = None
    code: bool = False
    confidence: float | None = None
    consistency: Consistency | None = None
    judge: JudgeBar | None = None


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """`passed` None: it had nothing to go by."""

    name: str
    passed: bool | None
    because: str


class Verdict(msgspec.Struct):
    """`answer` is what to serve where it was accepted: with samples, one of those that agree."""

    answer: ChatAnswer
    checks: list[Check]

    @property
    def failed(self) -> Check | None:
        return next((check for check in self.checks if check.passed is False), None)

    @property
    def accepted(self) -> bool:
        if self.failed is not None:
            return False
        asked = [check for check in self.checks if check.name != "rules"]
        return not asked or any(check.passed for check in asked)

    @property
    def because(self) -> str:
        if (failed := self.failed) is not None:
            return f"{failed.name}: {failed.because}"
        if not self.accepted:
            return "nothing could verify it: " + "; ".join(c.because for c in self.checks if c.passed is None)
        return (
            "; ".join(f"{c.name}: {c.because}" for c in self.checks if c.passed and c.name != "rules") or "rules hold"
        )


class Verifier:
    def __init__(self, accept: Accept, *, sandbox: Python | None = None) -> None:
        self.accept = accept
        self._sandbox = sandbox
        bar = accept.judge
        self._judge = Judge(bar.model, timeout=bar.timeout) if bar is not None else None

    async def retire(self) -> None:
        if self._sandbox is not None:
            await self._sandbox.retire()

    async def aclose(self) -> None:
        if self._sandbox is not None:
            await self._sandbox.aclose()

    @property
    def samples(self) -> int:
        """Answers asked of one model in all."""
        return self.accept.consistency.samples if self.accept.consistency is not None else 1

    async def verify(self, request: Request, run: Run, model: str, answer: ChatAnswer) -> Verdict:
        content = request.content()
        verdict = Verdict(answer, [])
        verdict.checks += _rules(content, answer, self.accept.schema)
        if verdict.failed is not None:
            return verdict
        if _calls(answer):
            # Words are judged below; a call is right in form or it is not.
            verdict.checks.append(_tool_calls(content, answer))
            if verdict.failed is None and self.accept.consistency is not None:
                await self._consistent(request, run, model, verdict, self.accept.consistency)
            return verdict
        if self.accept.code:
            verdict.checks.append(await self._code(content, answer))
        if verdict.failed is None and self.accept.confidence is not None:
            verdict.checks.append(_confidence(answer, self.accept.confidence))
        if verdict.failed is None and self.accept.consistency is not None:
            await self._consistent(request, run, model, verdict, self.accept.consistency)
        if verdict.failed is None and self.accept.judge is not None:
            verdict.checks.append(await self._judged(request, run, model, verdict.answer, self.accept.judge))
        return verdict

    async def _consistent(self, request: Request, run: Run, model: str, verdict: Verdict, bar: Consistency) -> None:
        """More samples of the same model; the most frequent short answer, tool call or JSON value counts."""
        first = Candidate(model, 1.0, True, answer=verdict.answer)
        key = call_key if first.calls else _short
        if key(first) is None:
            verdict.checks.append(Check("samples", None, "prose cannot be compared"))  # and no sample is paid for
            return
        more: dict[str, Any] = {} if request.content().temperature is not None else {"temperature": SAMPLE_TEMPERATURE}
        asked = request.edited(stream=False, **more)
        async with asyncio.TaskGroup() as tasks:
            replies = [tasks.create_task(_sample(asked, run, model)) for _ in range(bar.samples - 1)]
        answers = [verdict.answer, *(found for task in replies if (found := task.result()) is not None)]
        candidates = [Candidate(model, 1.0, place == 0, answer=found) for place, found in enumerate(answers)]
        if len(answers) < 2:
            verdict.checks.append(Check("samples", None, "no second sample"))
            return
        winner, share, _ = agree(candidates, key)
        held = winner is not None and share >= bar.agree
        if held and winner is not None and winner.answer is not None:
            verdict.answer = winner.answer
        verdict.checks.append(Check("samples", held, f"{share:.0%} of {len(answers)} agree"))

    async def _judged(self, request: Request, run: Run, model: str, answer: ChatAnswer, bar: JudgeBar) -> Check:
        assert self._judge is not None
        candidate = Candidate(model, 1.0, True, answer=answer)
        if not await self._judge.score(request, run, [candidate]):
            return Check("judge", None, "the judge failed")
        if candidate.unreadable or candidate.score is None:
            return Check("judge", None, "the judge's reply is unreadable")
        return Check("judge", candidate.score >= bar.threshold, f"scored {candidate.score:.2f}")

    async def _code(self, content: ChatRequest, answer: ChatAnswer) -> Check:
        """The answer's Python, then the asserts of the last user turn, in the sandbox."""
        code = _python_in(text_of(answer.choices[0].parts))
        if code is None or self._sandbox is None:
            return Check("code", None, "no Python in the answer")
        if len(code) > LONGEST_CODE:
            return Check("code", None, "too long to be run")
        try:
            ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return Check("code", False, f"not Python: {error}"[:200])
        asks = next((text_of(m.content) for m in reversed(content.messages) if m.role == "user"), "")
        tests = _ASSERT.findall(asks)
        try:
            await self._sandbox.run("\n".join([code, *tests]))
        except ToolFailed as error:
            if _BEYOND.search(str(error)) or "SyntaxError" in str(error):
                return Check("code", None, f"beyond the sandbox: {error}"[:200])
            return Check("code", False, str(error)[:200])
        return Check("code", True, f"it runs, and {len(tests)} assertions hold" if tests else "it runs")


async def _sample(request: Request, run: Run, model: str) -> ChatAnswer | None:
    try:
        answer = await run.ask(model, request, role="sample")
        try:
            return await answer.read()
        finally:
            await answer.aclose()
    except HeadgateError:
        return None  # recorded as a failed attempt; fewer samples vote


def _rules(content: ChatRequest, answer: ChatAnswer, schema: Mapping[str, Any] | None) -> list[Check]:
    candidate = Candidate("", 1.0, True, answer=answer)
    apply_rules(candidate, content)
    if candidate.out is not None:
        return [Check("rules", False, candidate.out)]
    checks = [Check("rules", True, "not empty, not refused, not cut off")]
    asked = content.output is not None and content.output.kind != "text"
    if asked and not candidate.calls:
        checks.append(Check("schema", True, "fits the client's schema"))
    if schema is not None and not candidate.calls:
        wanted = OutputFormat(kind="json_schema", schema=dict(schema))
        problem = breaks_schema(msgspec.structs.replace(content, output=wanted), answer)
        checks.append(Check("schema", problem is None, problem or "fits the schema"))
    return checks


def _calls(answer: ChatAnswer) -> list[ToolCall]:
    return [part for part in answer.choices[0].parts if isinstance(part, ToolCall)]


def _tool_calls(content: ChatRequest, answer: ChatAnswer) -> Check:
    problem = breaks_tools(content, _calls(answer))
    return Check("tool call", problem is None, problem or "names and arguments fit the tools")


def _confidence(answer: ChatAnswer, threshold: float) -> Check:
    """Geometric mean of the tokens' probabilities."""
    found = token_logprobs(answer.choices[0].logprobs)
    if not found:
        return Check("confidence", None, "the provider gave no log probabilities")
    mean = math.exp(sum(found) / len(found))
    return Check("confidence", mean >= threshold, f"mean token probability {mean:.2f}")


def token_logprobs(raw: Any) -> list[float]:
    """From chat's form (`content: [{logprob}]`, whole or in pieces) or Gemini's (`chosenCandidates`)."""
    out: list[float] = []
    for piece in raw if isinstance(raw, list) else [raw]:
        if not isinstance(piece, dict):
            continue
        rows = piece.get("content") or piece.get("chosenCandidates") or [piece]
        for row in rows if isinstance(rows, list) else []:
            value = row.get("logprob", row.get("logProbability")) if isinstance(row, dict) else None
            if isinstance(value, int | float) and value <= 0:
                out.append(float(value))
    return out


def _python_in(text: str) -> str | None:
    blocks = [(language.lower(), code) for language, code in _BLOCK.findall(text)]
    found = [code for language, code in blocks if language in ("python", "py", "python3")]
    if not found:
        found = [code for language, code in blocks if not language and _LOOKS_PYTHON.search(code)]
    return "\n".join(found) if found else None


def _short(candidate: Candidate) -> str | None:
    return canonical(candidate.text)
