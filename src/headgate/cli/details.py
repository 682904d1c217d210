"""The `headgate` object in words, as commands print it."""

from __future__ import annotations

from decimal import Decimal


def members(details: dict) -> list[str]:
    """An ensemble's candidates, a line each: what became of it, its score, how long it took, what it cost."""
    panel = details.get("ensemble") or {}
    judge = f" from {panel['judge']['model']}" if "judge" in panel else ""
    return [
        " · ".join(
            [
                f"{member['model']} {member['outcome']}",
                *([f"score {member['score']:.2f}{judge}"] if "score" in member else []),
                *([f"{member['latency_ms'] / 1000:.2f} s"] if "latency_ms" in member else []),
                f"${member['cost_usd']}" if "cost_usd" in member else "cost unknown",
            ]
        )
        for member in panel.get("members") or []
    ]


def steps(details: dict) -> list[str]:
    """An agent's steps, a line each: who did it, how it was checked, how long it took, what it cost."""
    return [
        f"{step['id']} {step['status']} · {step.get('model') or 'tool ' + step.get('tool', '?')}"
        f" · checked: {', '.join(step['checks']) or 'not empty'} · {step['took_ms'] / 1000:.2f} s · ${step['cost_usd']}"
        for step in (details.get("agent") or {}).get("steps") or []
    ]


def summary(details: dict) -> str:
    """`auto → claude-4.7 · code 0.93 · 1 attempt · 0.4 s to first token · $0.0012 (saved $0.004) · tr_…`"""
    chosen = details.get("chosen") or {}
    attempts = [a for a in details.get("attempts", []) if a.get("outcome") != "skipped"]
    parts = [f"{details['requested']} → {chosen.get('model', '?')}"]
    if task := details.get("task"):
        parts.append(f"{task['label']} {task['confidence']:.2f}")
    elif chosen.get("because"):
        parts.append(chosen["because"])
    parts.append(f"{len(attempts)} attempt{'s' if len(attempts) != 1 else ''}")
    first = next((a["ttft_ms"] for a in attempts if a.get("outcome") == "ok" and "ttft_ms" in a), None)
    if "ensemble" in details or "agent" in details:  # a member's or planner's first token is not the answer's
        ended = max((a.get("at_ms", 0) + a.get("latency_ms", 0) for a in attempts), default=0)
        parts.append(f"{ended / 1000:.2f} s in all")
    elif first is not None:
        parts.append(f"{first / 1000:.2f} s to first token")
    cost = details.get("cost_usd")
    parts.append(f"${cost}" if cost is not None else "cost unknown")
    if Decimal(saved := details.get("saved_usd") or "0"):
        parts[-1] += f" ({against_best(Decimal(saved), details.get('baseline'))})"
    parts.append(details["trace"])
    return " · ".join(parts)


def against_best(amount: Decimal, baseline: str | None) -> str:
    """`saved $0.004`; where the choice cost more (`amount` below 0), `$0.004 dearer than claude-4.7`."""
    return f"saved ${amount}" if amount > 0 else f"${-amount} dearer than {baseline or 'the best model'}"
