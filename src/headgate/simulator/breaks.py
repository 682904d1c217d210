"""The ways in which a simulated model can be broken while it runs, by name."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headgate.simulator import natives
from headgate.simulator import script as steps

ERRORS: dict[str, tuple[str, int | None]] = {
    "500": ("server", 500),
    "502": ("server", 502),
    "503": ("overloaded", 503),
    "529": ("overloaded", 529),
    "overloaded": ("overloaded", None),
    "429": ("rate_limit", None),
    "auth": ("auth", None),
    "403": ("forbidden", None),
    "quota": ("quota", None),
    "not_found": ("not_found", None),
    "context_length": ("context_length", None),
    "content_policy": ("content_policy", None),
}
"""Break modes that are the provider's own error: mode -> (natives' kind, status in place of the usual one)."""
INSTEAD = ("refuse", "hang", "html", "empty", "no_choices", "malformed", "error_in_200", "redirect")
"""Break modes that stand in an answer's place."""
WITHIN = (
    "slow_first_token",
    "slow",
    "cut_stream",
    "reset_stream",
    "stall",
    "truncate_finish",
    "error_in_stream",
    "malformed_stream",
    "no_usage",
)
"""Break modes of an answer's way over the wire. Where the answer is no stream, they hit its body in the same spirit."""
SAYING = ("wrong", "invalid_json", "refusal", "length")
"""Break modes of what is said: a poor answer, JSON that breaks the schema, a refusal, an answer cut by length."""
MODES = frozenset((*ERRORS, *INSTEAD, *WITHIN, *SAYING))


class Break(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way of being broken.

    after        stream chunks with content that still pass (cut_stream, reset_stream, stall, error_in_stream, ...)
    retry_after  seconds that a 429, 503 or 529 asks for
    delay        seconds that slow_first_token adds
    factor       how many times slower slow is
    share        of the calls that are hit, by the seed
    times        so many calls are hit, then the model is well again
    running      streams that have already begun are hit too, at their next chunk
    """

    mode: str
    after: int = 3
    retry_after: float | None = None
    delay: float = 30.0
    factor: float = 10.0
    share: float = 1.0
    times: int | None = None
    running: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"no break mode {self.mode!r}; there are: {', '.join(sorted(MODES))}")


def instead(broken: Break, dialect: str, headers: steps.Headers, model: str) -> Sequence[steps.Step] | None:
    """The script that stands in the answer's place; None where the mode lets an answer begin."""
    mode = broken.mode
    if mode in ERRORS:
        kind, status = ERRORS[mode]
        retry_after = broken.retry_after if kind in ("rate_limit", "overloaded", "server") else None
        words = {"model": model, "limit": 8192, "tokens": 8193}
        if status is not None:
            words["status"] = status
        return natives.refusal(dialect, kind, headers=headers, retry_after=retry_after, **words)
    match mode:
        case "refuse":
            return [steps.Reset()]
        case "hang":
            return [steps.Hang()]
        case "html":
            return steps.html()
        case "empty":
            return steps.reply(200, b"", headers)
        case "no_choices":
            return steps.reply_json(200, {}, headers)
        case "malformed":
            return steps.reply(200, b'{"id": "sim", "choices": [{"mess', headers)
        case "error_in_200":
            return steps.reply_json(200, natives.error_body(dialect, "server", model=model)[1], headers)
        case "redirect":
            return steps.redirect("http://169.254.169.254/latest/meta-data/")
    return None
