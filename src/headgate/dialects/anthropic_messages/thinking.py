"""How hard to think: effort, budgets and switches of all formats → Anthropic's `thinking` and `effort`."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import ChatRequest, ReasoningOptions
from headgate.core.dialect import Quirks
from headgate.dialects.anthropic_messages.parse import NAME
from headgate.dialects.residue import notes_of

LEAST = 1024
# Effort in OpenAI's words -> a budget in tokens, for models that take one.
BUDGETS = {"minimal": LEAST, "low": 2048, "medium": 8192, "high": 24_576, "xhigh": 32_768, "max": 32_768}
# ... -> the effort of models that think as they see fit.
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max", "max": "max"}


def think(request: ChatRequest, out: dict[str, Any], model: str, quirks: Quirks, lossy: list[str]) -> None:
    """Sets `thinking` in a rendered body. A request of this format has said it in its own words already.

    Thinking and a forced tool exclude each other: the tool is what the answer depends on, so thinking gives way."""
    options = request.reasoning
    if options is None or notes_of(options, NAME).get("own") or not _is_wanted(options):
        return  # silence is this format's default
    if out.get("tool_choice", {}).get("type") in ("any", "tool"):
        lossy.append("reasoning")
        return
    if any(fragment in model for fragment in quirks.extra.get("adaptive_models", ())):
        out["thinking"] = {"type": "adaptive"}
        if (effort := _effort(options)) is not None:
            out["output_config"] = {**out.get("output_config", {}), "effort": effort}
    elif not _enable(options, out):
        lossy.append("reasoning")
        return
    for key in ("temperature", "top_p", "top_k"):  # thinking allows only the defaults
        if (value := out.pop(key, None)) is not None and value != 1:
            lossy.append(key)


def _is_wanted(options: ReasoningOptions) -> bool:
    if options.enabled is False or options.effort == "none" or options.budget == 0:
        return False
    return bool(options.effort or options.budget or options.enabled)


def _effort(options: ReasoningOptions) -> str | None:
    if options.effort is not None:
        return EFFORTS.get(options.effort, "medium")
    if options.budget is None or options.budget < 0:
        return None
    return next((effort for effort in ("low", "medium", "high") if options.budget <= BUDGETS[effort]), "max")


def _enable(options: ReasoningOptions, out: dict[str, Any]) -> bool:
    """With a budget below max_tokens, of which it is a part. False where there is no room, or where the last call's
    thinking is missing: an answer to a tool's result must begin with the thinking that led to the call."""
    budget = options.budget if options.budget is not None and options.budget > 0 else 0
    budget = max(budget or BUDGETS.get(options.effort or "medium", BUDGETS["medium"]), LEAST)
    if budget >= out["max_tokens"]:
        budget = out["max_tokens"] // 2
    if budget < LEAST or _calls_without_thinking(out["messages"]):
        return False
    out["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


def _calls_without_thinking(turns: list[dict[str, Any]]) -> bool:
    """Whether the last turn answers calls whose turn does not begin with thinking."""
    if len(turns) < 2 or not _holds(turns[-1]["content"], "tool_result"):
        return False
    calling = turns[-2]["content"]
    return _holds(calling, "tool_use") and calling[0].get("type") not in ("thinking", "redacted_thinking")


def _holds(content: Any, kind: str) -> bool:
    return isinstance(content, list) and any(block.get("type") == kind for block in content)
