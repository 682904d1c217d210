"""The tour's stop at experiments: two arms, some traffic with feedback, and what may be said of it.

The models are simulated: prices are those of the demo's file, right and wrong come from the simulator's skills."""

from __future__ import annotations

import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from headgate.cli.output import bold, dim, say
from headgate.config.document import read
from headgate.config.load import check_references
from headgate.config.model import Config, Entry

NAME = "trial"
ENTRY = """
trial:
  experiment:
    arms: {today: claude-4.7, cheaper: {model: deepseek-v4, share: 50%}}
    metric: cost             # decides; success, feedback and latency are shown beside it
    guard: {quality: 0.2}    # ends it where feedback shows that the cheaper arm is worse by so much
"""
CONVERSATIONS, AT_ONCE = 80, 40


def with_trial(config: Config) -> Config:
    """The demo's configuration and the experiment."""
    entry = Entry.model_validate(read(ENTRY, "", None).data[NAME])
    out = config.model_copy(update={"models": {**config.models, NAME: entry}})
    check_references(out)
    return out


def stop_at_trial(url: str, admin: str, token: str) -> None:
    """Sends the traffic and shows the results. Should that fail, says so: the demo goes on."""
    say(f"{bold('an experiment')}  {dim('beside the other entries of the configuration; clients ask for model=trial')}")
    for line in ENTRY.strip().splitlines():
        say(f"    {line}")
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            right = sum(pool.map(lambda number: _converse(url, number), range(CONVERSATIONS)))
        found = _results(admin, token)
    except (OSError, KeyError, msgspec.DecodeError) as error:
        say(dim(f"    the stop at experiments was not possible here: {error}\n"))
        return
    said = f"{CONVERSATIONS} sums were asked, {right} answered right; each was told so by POST /v1/feedback"
    say(dim(f"    {said}; the models and their errors are simulated"))
    for arm, about in found["arms"].items():
        say(f"    {arm:<8} {about['model']:<12} {about['requests']:>3} requests   {_shown(about)}")
    say(f"    {found['says']}")
    say(dim(f"    intervals hold however often you look: {admin}/experiments, or headgate experiments status\n"))


def _converse(url: str, number: int) -> bool:
    """One conversation of one turn; whether its answer was right, which the gateway is told."""
    a, b = 12 + number, 7 + number % 13
    question = f"What is {a} * {b}? Answer with the number."
    body = {"model": NAME, "max_tokens": 60, "messages": [{"role": "user", "content": question}]}
    headers, answer = _post(f"{url}/v1/chat/completions", body)
    is_right = str(a * b) in answer["choices"][0]["message"]["content"].replace(",", "")
    _post(f"{url}/v1/feedback", {"trace": headers["x-headgate-trace"], "thumbs": "up" if is_right else "down"})
    return is_right


def _shown(about: dict[str, Any]) -> str:
    """An arm's cost and feedback with their intervals, and what the cost is said to be against the control's."""
    parts: list[str] = []
    for metric, form in (("cost", "${:.5f}"), ("feedback", "{:.2f}")):
        if (found := about["metrics"].get(metric)) is not None:
            mean, low, high = (
                None if found[key] is None else form.format(found[key]) for key in ("mean", "low", "high")
            )
            parts.append(f"{metric} {mean}" + (f" ({low} to {high})" if low is not None else ""))
    if (cost := about.get("against_control", {}).get("cost")) is not None:
        parts.append(f"cost {cost['difference']:+.0%} ({cost['low']:+.0%} to {cost['high']:+.0%}): {cost['verdict']}")
    return " · ".join(parts)


def _results(admin: str, token: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{admin}/admin/v1/experiments/{NAME}", headers={"authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return msgspec.json.decode(answer.read())


def _post(url: str, body: dict[str, Any]) -> tuple[Any, Any]:
    request = urllib.request.Request(url, msgspec.json.encode(body), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers, msgspec.json.decode(answer.read())
