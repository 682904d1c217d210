"""When a simulated model calls a tool, with which arguments, and what it makes of the results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from headgate.core.chat import ChatRequest, Tool, ToolCall, ToolResult, text_of
from headgate.simulator.minds import arithmetic, schemas

_VERBS = frozenset(
    re.findall(
        r"\S+", ("get set list fetch find run do make create call show tell look lookup query current tool use new the")
    )
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_PROPER = re.compile(r"\b([A-Z][a-zà-ÿ]+(?:[ -][A-Z][a-zà-ÿ]+)*)")
_NOT_NAMES = frozenset(
    re.findall(
        r"\S+",
        (
            "What Where When Who Why How Use Call Please The A In Is Are Tell Give Find Get Run Read Compare And Then "
            "I Also Calculate Compute Search Look Show List Check Write Open Can Could Would You Do Does My It This "
            "That"
        ),
    )
)
_PATH = re.compile(r"(?<![\w/])(?:\.{0,2}/[\w./-]+|[\w-]+(?:/[\w.-]+)+|[\w-]+\.[a-z]{1,5})(?![\w/])")
_URL = re.compile(r"https?://[^\s\"'<>)]+")
_TICKS = re.compile(r"`+([^`]+)`+|\"([^\"]+)\"|“([^”]+)”")
_SHELL = re.compile(r"bash|shell|exec|terminal|command", re.IGNORECASE)
_RUN = re.compile(r"\b(?:run|execute|shell|command|terminal)\b", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def results_of(request: ChatRequest) -> list[ToolResult]:
    """The tool results that this turn brings: those after the last assistant message."""
    found: list[ToolResult] = []
    for message in reversed(request.messages):
        if message.role == "assistant":
            break
        found = [part for part in message.content if isinstance(part, ToolResult)] + found
    return found


def told(results: Sequence[ToolResult]) -> str:
    """An answer that uses the results."""
    lines: list[str] = []
    for result in results:
        text = text_of(result.content).strip() or "(nothing)"
        cut = text if len(text) <= 1200 else text[:1200] + " …"
        lines.append(f"{'The tool failed: ' if result.is_error else 'The tool says: '}{cut}")
    return "\n".join(lines)


def wanted(request: ChatRequest, prompt: str, luck: Random) -> list[ToolCall]:
    """The calls that a model would make now; none where no tool is meant."""
    offered = [tool for tool in request.tools if tool.vendor is None]
    choice = request.tool_choice
    if choice is not None and choice.mode == "none":
        return []
    if choice is not None and choice.mode == "named":
        offered = [tool for tool in offered if tool.name in choice.names] or offered
        forced = True
    else:
        forced = choice is not None and choice.mode == "required"
    if not offered:
        return []
    meant = [tool for tool in offered if _is_meant(tool, prompt, len(offered))]
    if not meant and forced:
        meant = offered[:1]
    calls = [call for tool in meant for call in _calls_of(tool, prompt, luck)]
    if request.parallel_tool_calls is False:
        calls = calls[:1]
    return calls[:8]


def _words(text: str) -> set[str]:
    return {word.lower().rstrip("s") for word in _WORD.findall(text.replace("_", " "))}


def _is_meant(tool: Tool, prompt: str, offered: int) -> bool:
    if re.search(rf"(?<![\w-]){re.escape(tool.name)}(?![\w-])", prompt):
        return True
    if re.search(rf"\b{re.escape(tool.name)} tool\b", prompt, re.IGNORECASE):
        return True
    if _SHELL.search(tool.name) and _RUN.search(prompt) and "`" in prompt:
        return True
    said = _words(prompt)
    names = {word for word in _words(tool.name) if word not in _VERBS}
    if names and names <= said and not (len(names) == 1 and offered > 8):
        return True
    if re.search(r"calc|math|arith|eval", tool.name, re.IGNORECASE) and arithmetic.find(prompt):
        return True
    described = {word for word in _words(tool.description or "") if len(word) > 3}
    return offered <= 6 and len(described & {word for word in said if len(word) > 3}) >= 3


def _calls_of(tool: Tool, prompt: str, luck: Random) -> list[ToolCall]:
    if tool.custom:
        return [ToolCall(id=_id(luck), name=tool.name, arguments=_quoted(prompt) or prompt, custom=True)]
    places = _places(prompt) if _takes_place(tool.schema or {}) else []
    subjects: list[str | None] = [*places] if len(places) > 1 else [None]
    calls: list[ToolCall] = []
    for subject in subjects:
        arguments = schemas.instance(_plain(tool), luck, _Hints(prompt, subject), optional=False)
        calls.append(ToolCall(id=_id(luck), name=tool.name, arguments=json.dumps(arguments, ensure_ascii=False)))
    return calls


def _plain(tool: Tool) -> Mapping[str, Any]:
    """The tool's parameters. Of a shell only what must be said: folders, limits and the like would be guesses."""
    schema = {"type": "object", **(tool.schema or {})}
    required = schema.get("required")
    if _SHELL.search(tool.name) and required:
        schema["properties"] = {n: s for n, s in schema.get("properties", {}).items() if n in required}
    return schema


def _id(luck: Random) -> str:
    return "call_sim" + "".join(luck.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=17))


def _takes_place(schema: Mapping[str, Any]) -> bool:
    return any(_is_place(name) for name in schema.get("properties", {}))


def _is_place(name: str) -> bool:
    return bool(re.search(r"city|location|place|town|country|name|person", name, re.IGNORECASE))


def _places(prompt: str) -> list[str]:
    """Proper names; a capital that only begins a sentence counts where there is no other."""
    inside, first = [], []
    for match in _PROPER.finditer(prompt):
        if match.group().split()[0] in _NOT_NAMES:
            continue
        begins = re.search(r"(?:^|[.!?:]\s+)$", prompt[: match.start()])
        (first if begins else inside).append(match.group())
    return list(dict.fromkeys(inside or first))


def _quoted(prompt: str) -> str | None:
    """What stands between backticks, else between quotation marks; the last of them, for what is asked comes last."""
    found = _TICKS.findall(prompt)
    ticked = [groups[0] for groups in found if groups[0]]
    quoted = [groups[1] or groups[2] for groups in found if not groups[0]]
    return next(iter((ticked or quoted)[::-1]), None)


class _Hints:
    """Values for a tool's properties, found in the prompt by the property's name."""

    def __init__(self, prompt: str, place: str | None) -> None:
        self._prompt = prompt
        self._numbers = iter(_NUMBER.findall(prompt))
        self._place = place or next(iter(_places(prompt)), None)

    def __call__(self, name: str, schema: Mapping[str, Any]) -> Any:
        low = self._prompt.lower()
        named = [value for value in schema.get("enum") or () if isinstance(value, str) and value.lower() in low]
        if schema.get("enum"):
            return named[0] if named else schemas.MISSING
        declared = schema.get("type")
        kinds = {str(kind).lower() for kind in (declared if isinstance(declared, list) else [declared])}
        if kinds & {"integer", "number"}:
            return self._number("integer" in kinds)
        if "array" in kinds and _SHELL.search(name) and _quoted(self._prompt):
            return ["bash", "-lc", _quoted(self._prompt)]
        if "string" not in kinds:
            return schemas.MISSING
        return self._text(name.lower())

    def _number(self, integer: bool) -> Any:
        found = next(self._numbers, None)
        if found is None:
            return schemas.MISSING
        return int(float(found)) if integer else float(found)

    def _text(self, name: str) -> Any:
        url, path, quoted = _URL.search(self._prompt), _PATH.search(self._prompt), _quoted(self._prompt)
        found: str | None = None
        if _is_place(name):
            found = self._place or quoted
        elif re.search(r"url|uri|link", name):
            found = url.group() if url else quoted
        elif re.search(r"path|file|dir|folder", name):
            found = (path.group() if path else None) or quoted or "."
        elif re.search(r"command|cmd|code|script|source|program", name):
            found = quoted or ("print(" + self._expression() + ")" if self._expression() else "ls")
        elif re.search(r"expr|formula|sum|equation", name):
            found = self._expression() or quoted
        elif re.search(r"query|text|question|prompt|input|message|content|topic|q$", name):
            found = quoted or self._prompt.strip()[:400]
        return schemas.MISSING if found is None else found

    def _expression(self) -> str:
        found = arithmetic.find(self._prompt)
        return found[0].replace("^", "**") if found else ""
