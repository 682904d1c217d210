"""`headgate explain`: what would be chosen, why, at what predicted cost."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headgate.cli.output import bold, dim, fail, say, show_json

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
        body = file.read_bytes()
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
        fail(error.read().decode()[:500])
    except OSError as error:
        fail(f"no gateway answers at {url}: {error}")
    if json:
        show_json(found)
        return
    chosen = found.get("chosen") or {}
    say(
        f"{bold(str(found['requested']))} ({found['strategy']}) → {bold(str(chosen.get('model')))}: {chosen.get('because')}"
    )
    for other in found.get("alternatives", []):
        say(dim(f"  not {other['model']}: {other['because']}"))
    predicted = found["predicted"]
    cost, worst = predicted["cost_usd"], predicted["worst_case_usd"]
    say(f"predicted {f'${cost}' if cost else 'cost unknown'}, at most {f'${worst}' if worst else 'unknown'}")
