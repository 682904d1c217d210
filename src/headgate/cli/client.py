"""What commands that ask a running gateway share: which models it serves, and its errors without their JSON."""

from __future__ import annotations

import urllib.error
import urllib.request

import msgspec


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
