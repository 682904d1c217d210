"""Judge, planner and validator: prompts that an orchestrator writes, answered in the form that they ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from random import Random
from typing import Any

from headgate.core.chat import ChatRequest
from headgate.simulator.minds import arithmetic, schemas

_SCORE = re.compile(
    r"\b(?:score|rate|grade)\b.{0,400}?\b(?:0|1)\s*(?:to|-|–|and)\s*10\b"
    r"|\b(?:0|1)\s*(?:to|-|–)\s*10\b.{0,200}\b(?:score|rate|grade)",
    re.IGNORECASE | re.DOTALL,
)
_PAIR = re.compile(
    r"\b(?:which|choose|pick|decide)\b.{0,200}\b(?:better|best|preferred|winner)\b"
    r"|\bcompare (?:the )?two (?:answers|candidates|responses)",
    re.IGNORECASE | re.DOTALL,
)
_PLAN = re.compile(r"\bplan(?:ner|ning)?\b.{0,600}\bsteps?\b|\"steps\"", re.IGNORECASE | re.DOTALL)
_VALIDATE = re.compile(
    r"\b(?:validat|verif|check)\w*\b.{0,300}\b(?:pass|fail|valid|correct|accept)", re.IGNORECASE | re.DOTALL
)
_CAST = re.compile(r"\s*(?:you are|you're|act as|your task|as an? \w+ (?:judge|planner|validator))\b", re.IGNORECASE)
_LONGEST = 6000
_SANDBOX = re.compile(r"\btools?\b[^\n]*\bpython\b: [^\n]*\bsandbox\b", re.IGNORECASE)
_LABEL = r"(?:candidate|answer|response|output)\s*\(?[AB12]\)?\s*[:\]>\n-]"
_CANDIDATE = re.compile(
    rf"{_LABEL.replace('[AB12]', '([AB12])')}+(.*?)(?={_LABEL}|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_FENCED = re.compile(r"<{1,3}[^<>]*>{1,3}\n?(.*?)\n?<{1,3}/?[^<>]*>{1,3}|```\w*\n(.*?)```", re.DOTALL)


def role_of(system: str, prompt: str, request: ChatRequest) -> str | None:
    """judge_score, judge_pair, planner, validator; None for a plain prompt. The system text decides where there is one,
    unless the prompt itself casts the model in a role; a coding agent's pages of rules and tools cast it in none."""
    if request.tools:
        return None
    text = prompt if not system or len(system) > _LONGEST or _CAST.match(prompt) else system
    if _SCORE.search(text):
        return "judge_score"
    if _PAIR.search(text) and re.search(r"judg|candidate|verdict|anonym", text, re.IGNORECASE):
        return "judge_pair"
    if _PLAN.search(text) and re.search(r"\bjson\b", text, re.IGNORECASE):
        return "planner"
    if _VALIDATE.search(text) and re.search(r"\bjson\b|validator|\bPASS\b", text):
        return "validator"
    return None


def answer(role: str, system: str, prompt: str, request: ChatRequest, good: bool, luck: Random) -> str:
    """The reply, as bare as such prompts ask for: a number, a letter or JSON."""
    schema = request.output.schema if request.output is not None and request.output.kind == "json_schema" else None
    match role:
        case "judge_score":
            score = score_of(prompt, luck, good)
            return _filled(schema, luck, {"score": score, "rating": score, "grade": score}) or str(score)
        case "judge_pair":
            letter = _better(prompt, luck, good)
            return _filled(schema, luck, {k: letter for k in ("winner", "verdict", "better", "choice")}) or letter
        case "planner":
            return _plan(schema, system, prompt, luck)
        case _:
            passed = {"passed": True, "pass": True, "valid": True, "ok": True, "verdict": "pass", "reason": "It holds."}
            return _filled(schema, luck, passed) or json.dumps({"passed": True, "reason": "It holds."})


def score_of(text: str, luck: Random, good: bool = True) -> int:
    """0 to 10 for the candidate in a judge's prompt: sums are worked out, the rest is judged by what marks poor
    simulated answers. A poor judge is off by some points."""
    score = _quality(text)
    return score if good else max(0, min(10, score + luck.choice((-3, -2, 2, 3))))


def _quality(text: str) -> int:
    fenced = [a or b for a, b in _FENCED.findall(text)]
    candidate = fenced[-1] if fenced else text
    asked = arithmetic.find(text.replace(candidate, " ") if fenced else text.split("\n", 1)[0])
    if asked is not None:
        numbers = re.findall(r"-?\d+(?:\.\d+)?", candidate.replace(",", ""))
        return 10 if arithmetic.shown(asked[1]) in numbers else 2
    words = len(candidate.split())
    if words == 0:
        return 0
    poor = re.search(r"I am not sure|it depends\.|very nice\. The end|data\[0$|It is about", candidate, re.MULTILINE)
    return 3 if poor else min(9, 6 + words // 25)


def _better(prompt: str, luck: Random, good: bool) -> str:
    found = {label.upper(): text for label, text in _CANDIDATE.findall(prompt)}
    first, second = ("1", "2") if "1" in found else ("A", "B")
    one, two = _quality(found.get(first, "")), _quality(found.get(second, ""))
    if one == two or not good:
        return first if luck.random() < 0.5 else second
    return first if one > two else second


def _filled(schema: Mapping[str, Any] | None, luck: Random, known: Mapping[str, Any]) -> str | None:
    """JSON of the schema with the properties that are known by name; None without a schema."""
    if schema is None:
        return None

    def hint(name: str, sub: Mapping[str, Any]) -> Any:
        value = known.get(name.lower(), schemas.MISSING)
        allowed = sub.get("enum")
        if value is not schemas.MISSING and allowed and value not in allowed:
            return next((a for a in allowed if str(a).lower() == str(value).lower()), schemas.MISSING)
        return value

    return json.dumps(schemas.instance(schema, luck, hint))


def _plan(schema: Mapping[str, Any] | None, system: str, prompt: str, luck: Random) -> str:
    names = re.findall(r"[\w.-]+", " ".join(re.findall(r"models?[^:\n]*:\s*([^\n]+)", system, re.IGNORECASE)))
    models = [n for n in names if re.search(r"\d", n)][:2]
    question = " ".join(prompt.split())[:300]
    asked = arithmetic.find(prompt)
    steps: list[dict[str, Any]] = []
    if asked is not None and _SANDBOX.search(system):  # a sum is for the tool that cannot slip
        expression = asked[0]
        steps.append({"name": "compute", "tool": "python", "args": {"code": expression.replace("^", "**")}})
        steps.append({"name": "write", "query": f"Say the result in a sentence: {expression} = $compute"})
    else:
        steps.append({"name": "gather", "query": f"Collect what is needed for: {question}"})
        steps.append({"name": "write", "query": f"Using this: $gather\n\n{question}"})
    for step, model in zip([step for step in steps if "query" in step], models * 2, strict=False):
        step["model"] = model
    plan = {"steps": steps}
    if schema is None or _accepts(schema, plan):
        return json.dumps(plan)
    counter = iter(range(1, 100))

    def hint(name: str, sub: Mapping[str, Any]) -> Any:
        if name == "id":
            return f"s{next(counter)}"
        if name in ("needs", "depends_on", "after"):
            return []
        return prompt.strip()[:300] if name in ("query", "prompt", "task", "instruction") else schemas.MISSING

    return json.dumps(schemas.instance(schema, luck, hint, optional=False))


def _accepts(schema: Mapping[str, Any], value: Any) -> bool:
    import jsonschema

    return jsonschema.Draft202012Validator(dict(schema)).is_valid(value)
