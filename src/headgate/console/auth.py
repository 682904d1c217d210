"""Who may see the console: one admin token, made at first start, kept in the data directory, shown once."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from headgate.core.clock import Clock

FILE = "admin.token"
COOKIE = "headgate_session"
SESSION = 12 * 3600
PREFIX = "hga-"


def load_token(data_dir: Path) -> tuple[str, bool]:
    """(token, whether it was made just now). The file is readable by its owner only; an empty one is a start-up error."""
    path = data_dir / FILE
    data_dir.mkdir(parents=True, exist_ok=True)
    if path.exists():
        token = path.read_text(encoding="utf-8").strip()
        if len(token) < 20:
            raise ValueError(f"{path} holds no usable token: delete it to have a new one made")
        return token, False
    token = PREFIX + secrets.token_urlsafe(30)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(token + "\n")
    return token, True


class Sessions:
    """Signed cookies: `expiry.signature`. Nothing is stored; a new token ends them all."""

    def __init__(self, token: str, clock: Clock) -> None:
        self._token = token.encode()
        self._key = hashlib.sha256(b"headgate console session\0" + self._token).digest()
        self._clock = clock

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), hashlib.sha256(self._token).digest())

    def open(self) -> str:
        expiry = str(int(self._clock.time()) + SESSION)
        return f"{expiry}.{self._sign(expiry)}"

    def is_open(self, cookie: str | None) -> bool:
        expiry, dot, signature = (cookie or "").partition(".")
        if not dot or not expiry.isdigit() or not _same(signature, self._sign(expiry)):
            return False
        return int(expiry) > self._clock.time()

    def csrf(self, cookie: str | None) -> str:
        """The form token that belongs to a session (or to nobody yet)."""
        return self._sign("csrf\0" + (cookie or ""))

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _same(given: str, wanted: str) -> bool:
    """In constant time; of texts, `compare_digest` takes ASCII only."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
