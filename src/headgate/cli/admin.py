"""Asking the admin API of the gateway that runs on a data directory."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

from headgate.cli.output import fail, plain


class NoGateway(Exception):
    """None runs on this data directory, or it ended without a word."""


class Refused(Exception):
    """What the admin API, or the store itself, says is wrong."""


def ask_admin(data_dir: Path, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """`path` below /admin/v1. Raises NoGateway; ends the command with what the API says is wrong."""
    try:
        return try_admin(data_dir, method, path, body)
    except Refused as error:
        fail(plain(str(error)))


def try_admin(data_dir: Path, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """`path` below /admin/v1. The running gateway says where it is in its data directory. Raises NoGateway, Refused."""
    try:
        url = (data_dir / "admin.url").read_text(encoding="utf-8").strip()
        token = (data_dir / "admin.token").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NoGateway from error
    data = None if method == "GET" else msgspec.json.encode(body or {})
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(f"{url}/admin/v1{path}", data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return msgspec.json.decode(answer.read())
    except urllib.error.HTTPError as error:
        raise Refused(msgspec.json.decode(error.read())["error"]["message"]) from error
    except OSError as error:
        raise NoGateway from error
