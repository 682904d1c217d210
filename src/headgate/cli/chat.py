"""`headgate chat`: talk to any model name in the terminal."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from typing import Annotated, Any

import msgspec
import typer

from headgate.cli.client import served, told
from headgate.cli.details import summary
from headgate.cli.output import dim, fail, no_gateway, say, show_json

app = typer.Typer(add_completion=False)


@app.command()
def chat(
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            help="[MODEL] PROMPT: a model's name may come first. No prompt: a conversation, one line a turn."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Left out: auto.")] = None,
    url: str = "http://127.0.0.1:4100",
    key: Annotated[str, typer.Option(envvar="HEADGATE_KEY", help="Virtual key.")] = "local",
    system: str | None = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object with text and details.")] = False,
) -> None:
    """Streams the answer; the last line says who answered, why, attempts, time to first token, cost and trace."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    model, prompt = _named(url, key, model, prompt or [])
    if prompt:
        messages.append({"role": "user", "content": " ".join(prompt)})
        _turn(url, key, model, messages, as_json=json)
        return
    if not sys.stdin.isatty():
        asked = sys.stdin.read()
        if not asked.strip():
            fail("nothing is asked: give a prompt, or a text on standard input", 2)
        messages.append({"role": "user", "content": asked})
        _turn(url, key, model, messages, as_json=json)
        return
    say(dim(f"talking to {model}; an empty line or Ctrl-D ends"))
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            return
        if not line.strip():
            return
        messages.append({"role": "user", "content": line})
        messages.append({"role": "assistant", "content": _turn(url, key, model, messages, as_json=json)})


def _named(url: str, key: str, model: str | None, words: list[str]) -> tuple[str, list[str]]:
    """(model, prompt). Without -m, a first word that is a model's name is one where it cannot be a word of the prompt: the
    rest is one quoted argument, or there is no rest."""
    if model is None and len(words) in (1, 2) and " " not in words[0]:
        names = served(url, key)
        if words[0] in names:
            return words[0], words[1:]
    return model or "auto", words


def _turn(url: str, key: str, model: str, messages: list[dict[str, Any]], *, as_json: bool) -> str:
    body = {"model": model, "messages": messages, "stream": True}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}", "x-headgate-details": "true"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", data=msgspec.json.encode(body), headers=headers)
    said: list[str] = []
    details: dict[str, Any] | None = None
    try:
        with urllib.request.urlopen(request, timeout=700) as answer:
            for raw in answer:
                if not raw.startswith(b"data: ") or raw.startswith(b"data: [DONE]"):
                    continue
                chunk = msgspec.json.decode(raw[6:])
                if chunk.get("error"):
                    fail(f"\nthe answer broke off: {chunk['error']['message']}")
                details = chunk.get("headgate") or details
                _show(chunk, said, quiet=as_json)
    except urllib.error.HTTPError as error:
        fail(told(error))
    except OSError as error:
        no_gateway(url, error)
    text = "".join(said)
    if as_json:
        show_json({"text": text, "headgate": details})
    else:
        say()
        if details is not None:
            say(dim(summary(details)))
    return text


def _show(chunk: dict[str, Any], said: list[str], *, quiet: bool) -> None:
    for choice in chunk.get("choices", []):
        delta = choice.get("delta") or {}
        if (thought := delta.get("reasoning_content") or delta.get("reasoning")) and not quiet:
            sys.stdout.write(dim(printable(thought)))
        if piece := delta.get("content"):
            said.append(piece)
            if not quiet:
                sys.stdout.write(printable(piece))
    sys.stdout.flush()


def printable(text: str) -> str:
    """A model's words must not drive the terminal: escape sequences and other controls are shown, not sent."""
    return "".join(c if c in "\n\t" or c.isprintable() or c == " " else "\ufffd" for c in text)
