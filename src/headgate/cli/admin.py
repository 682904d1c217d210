"""Asking the admin API of the gateway that runs on a data directory."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

import msgspec

from headgate.cli.output import fail, plain

PATIENCE = 30.0
"""Seconds that an answer may take."""


class NoGateway(Exception):
    """None runs on this data directory, or it ended without a word to somebody who only looked."""


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
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return msgspec.json.decode(answer.read())
    except urllib.error.HTTPError as error:
        raise Refused(_said(error)) from error
    except (OSError, HTTPException) as error:
        reached = not isinstance(getattr(error, "reason", None), ConnectionRefusedError)
        if data is not None and reached:  # never on the store: it may be done already, and would be done twice
            raise Refused(
                f"{url} has not answered ({_reason(error)}): only a look can tell whether it was done"
            ) from error
        raise NoGateway from error


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return msgspec.json.decode(error.read(), type=_Told).error.message
    except (msgspec.MsgspecError, OSError):
        return f"the admin API answers {error.code} {error.reason}"


def _reason(error: Exception) -> object:
    return getattr(error, "reason", None) or error or type(error).__name__


class _Error(msgspec.Struct):
    message: str


class _Told(msgspec.Struct):
    error: _Error
