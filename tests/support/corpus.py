"""The recorded traffic: rows as its README describes them."""

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data" / "traffic" / "dev.jsonl.gz"


@cache
def rows() -> tuple[dict[str, Any], ...]:
    """All 5,160 exchanges. Treat them as read-only: the list is shared by the tests of a process."""
    with gzip.open(DATA, "rt", encoding="utf8") as lines:
        return tuple(json.loads(line) for line in lines)


def select(*apis: str, kind: str | None = None, ok: bool | None = None, sample: int = 1) -> Iterator[dict[str, Any]]:
    """Rows of these `api`s (`*.chat` matches any provider); ok: only with (or without) status 200; every sample-th."""
    number = 0
    for row in rows():
        api = row["api"]
        if apis and not any(api == want or (want[0] == "*" and api.endswith(want[1:])) for want in apis):
            continue
        if kind is not None and row["response"]["kind"] != kind:
            continue
        if ok is not None and (row["response"]["status"] == 200) != ok:
            continue
        if number % sample == 0:
            yield row
        number += 1
