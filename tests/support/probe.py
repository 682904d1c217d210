"""The hand-made prompts of tests/data/tasks_probe: (label, language, prompt), in the order of the file."""

import re
from functools import cache
from pathlib import Path

PROBE = Path(__file__).parent.parent / "data" / "tasks_probe" / "probe.txt"


@cache
def probe() -> tuple[tuple[str, str, str], ...]:
    found, label = [], ""
    for line in PROBE.read_text(encoding="utf-8").splitlines():
        if re.fullmatch(r"\[\w+\]", line):
            label = line[1:-1]
        elif line and not line.startswith("#"):
            language, _, text = line.partition(": ")
            found.append((label, language, text.replace("\\n", "\n")))
    return tuple(found)
