"""`headgate explain`: what would be chosen, why, at what predicted cost."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from headgate.cli.client import told
from headgate.cli.output import bold, dim, fail, no_gateway, say, show_json, table

app = typer.Typer(add_completion=False)


@app.command()
def explain(
    prompt: Annotated[list[str] | None, typer.Argument()] = None,
    model: Annotated[str, typer.Option("--model", "-m")] = "auto",
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A whole chat request as JSON.")] = None,
    url: str = "http://127.0.0.1:4100",
    key: Annotated[str, typer.Option(envvar="HEADGATE_KEY")] = "local",
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """No model is called and nothing is spent."""
    if file is not None:
        try:
            body = file.read_bytes()
        except OSError as error:
            fail(f"cannot read {file}: {error.strerror}", 2)
    elif prompt:
        body = msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": " ".join(prompt)}]})
    else:
        fail("give a prompt or --file REQUEST.json", 2)
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/v1/explain", data=body, headers=headers), timeout=30
        ) as answer:
            found = msgspec.json.decode(answer.read())
    except urllib.error.HTTPError as error:
        fail(told(error))
    except OSError as error:
        no_gateway(url, error)
    if json:
        show_json(found)
        return
    _show(found)


def in_words(needs: dict[str, Any]) -> str:
    """`language en, low difficulty`, and what of it is out of the ordinary."""
    hard = needs["difficulty"]
    because = f" ({', '.join(hard['because'])})" if hard["because"] else ""
    words = [f"language {needs['language'] or 'not told'}", f"{hard['level']} difficulty{because}", *needs["protocol"]]
    return ", ".join([*words, *(f"holds {kind}" for kind in needs["sensitive"])])


def _show(found: dict[str, Any]) -> None:
    chosen, predicted = found.get("chosen") or {}, found["predicted"]
    who, why = chosen.get("model", "nobody"), chosen.get("because", "none of its models can be asked")
    say(f"{bold(str(found['requested']))} ({found['strategy']}) → {bold(who)}: {why}")
    if task := found.get("task"):
        likely = ", ".join(f"{label} {share:.2f}" for label, share in task["labels"].items())
        say(f"task {bold(task['label'])} · {likely or 'no label is likely'}")
        say(dim(f"  signals: {', '.join(task['signals']) or 'none'}"))
        if asks := (found.get("route") or {}).get("asks"):
            say(dim(f"  by the learned classifier; {asks} is asked for it when the request is answered"))
        if needs := task.get("needs"):
            say(dim(f"  needs: {in_words(needs)}"))
    if trial := found.get("experiment"):
        arms = ", ".join(f"{arm} {side['share']:.4g} → {side['model']}" for arm, side in trial["arms"].items())
        say(f"arm {bold(trial['arm'])}: {trial['because']}")
        say(dim(f"  arms: {arms}; by {trial['assign_by']}"))
    heads = ["candidate", "quality", "score", "cost", "at most", "first content", "health", "why"]
    say(table([_row(row) for row in found["candidates"]], heads))
    if (panel := found.get("ensemble")) and panel["panel"]:
        judge = panel.get("judge")
        judged = f", judged by {judge['model']} ({judge['style']})" if judge else ""
        say(f"panel: {', '.join(panel['panel'])}; mode {panel['mode']}{judged}")
    if tools := (found.get("agent") or {}).get("tools"):
        say(f"tools: {', '.join(tools)}")
    cost, worst = _usd(predicted["cost_usd"]), _usd(predicted["worst_case_usd"])
    saved = predicted.get("saved_usd")
    against = f", saving {_usd(saved)} against always {found['baseline']}" if saved is not None else ""
    say(f"predicted {cost}, at most {worst}{against}")


def _row(row: dict[str, Any]) -> list[str]:
    def number(name: str, form: str) -> str:
        return "-" if row.get(name) is None else form.format(row[name])

    return [
        row["model"],
        number("quality", "{:.2f}"),
        number("score", "{:.3f}"),
        _usd(row.get("cost_usd")),
        _usd(row.get("worst_case_usd")),
        number("latency_ms", "{:.0f} ms"),
        number("health", "{:.0%}"),
        f"out: {row['out']}" if "out" in row else row["because"],
    ]


def _usd(amount: str | None) -> str:
    return "unknown" if amount is None else f"${amount}" if not amount.startswith("-") else f"-${amount[1:]}"
