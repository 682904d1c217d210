"""What commands that ask a running gateway share: which models it serves, and its errors without their JSON."""

from __future__ import annotations

import difflib
import urllib.error
import urllib.request
from typing import NoReturn

import msgspec

from headgate.cli.output import fail


def served(url: str, key: str) -> set[str]:
    """The models that the key may use; empty where nobody answers: the request itself then says why."""
    try:
        return listed(url, key)
    except urllib.error.HTTPError:
        return set()


def listed(url: str, key: str) -> set[str]:
    """As `served`. Raises HTTPError where a gateway answers and says no."""
    request = urllib.request.Request(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return {model["id"] for model in msgspec.json.decode(answer.read())["data"]}
    except urllib.error.HTTPError:
        raise
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return set()


def told(error: urllib.error.HTTPError) -> str:
    """`404 model_not_found: The model ...`."""
    try:
        said = msgspec.json.decode(error.read())["error"]
        return f"{error.code} {said['code'] or said['type']}: {said['message']}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"the gateway answered {error.code}"


def refused(error: urllib.error.HTTPError, url: str, key: str, model: str) -> NoReturn:
    """Ends the command with what the gateway said; a name that is nearly one of its models is put right."""
    near = difflib.get_close_matches(model, served(url, key), 1) if error.code == 404 else []
    fail(told(error) + (f" Did you mean {near[0]!r}?" if near else ""))
