"""Puts pip into an environment that was made without it (`python -m venv --without-pip`), where the distribution has cut
ensurepip out of Python, as Debian has. To be run by that environment's Python. Nothing outside of it changes, and nobody
has to be root.

The wheel is a fixed one, known by its SHA-256: whatever else comes from there is not run.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

WHEEL = "pip-26.3-py3-none-any.whl"
URL = f"https://files.pythonhosted.org/packages/07/25/ee8c38ae72d66b844ce8eb9711ba905dba21ca1a8a0c960057c41cd23337/{WHEEL}"
SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"


def main() -> int:
    try:
        with urllib.request.urlopen(URL, timeout=60) as answer:
            wheel = answer.read()
    except OSError as error:
        print(f"pip could not be fetched: {error}", file=sys.stderr)
        return 1
    if hashlib.sha256(wheel).hexdigest() != SHA256:
        print(f"what {URL} gave is not the pip that was expected", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WHEEL
        path.write_bytes(wheel)
        return subprocess.run(
            [sys.executable, f"{path}/pip", "install", "-q", "--no-index", str(path)], check=False
        ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
