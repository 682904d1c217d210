"""The labelled prompts: rows as their README describes them."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data" / "tasks" / "dev.jsonl.gz"


@cache
def rows() -> tuple[dict[str, Any], ...]:
    with gzip.open(DATA, "rt", encoding="utf8") as lines:
        return tuple(json.loads(line) for line in lines)


def prompts() -> list[str]:
    return [row["prompt"] for row in rows()]
