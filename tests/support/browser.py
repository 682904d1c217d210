"""Where Chromium is: Debian's package, which scripts/browser.sh installs when it is missing."""

import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "browser.sh"


def executable() -> str:
    found = shutil.which("chromium")
    if found is None:
        subprocess.run(["sh", str(SCRIPT)], check=True)
        found = shutil.which("chromium")
    assert found is not None, "chromium is missing and could not be installed: see scripts/browser.sh"
    return found
