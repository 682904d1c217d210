"""Sums of what was used and spent, as they are shown: the same rows for commands, programs and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headgate.core.money import dollars
from headgate.core.records import UsageRow

SUMS = ("attempts", "failed", "input", "output", "cached", "cost_usd", "unknown_cost")
"""`unknown_cost` counts attempts without a price."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "|")


def usage_rows(by: Sequence[str], found: Iterable[UsageRow]) -> list[dict[str, Any]]:
    """The dimensions asked for, then SUMS."""
    return [
        {
            **dict(zip(by, row.group, strict=True)),
            "attempts": row.attempts,
            "failed": row.failed,
            "input": row.input,
            "output": row.output,
            "cached": row.cached,
            "cost_usd": dollars(row.cost),
            "unknown_cost": row.unknown_cost,
        }
        for row in found
    ]


def csv_text(heads: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow([inert(row[head]) for head in heads])
    return out.getvalue()


def inert(cell: Any) -> Any:
    """What a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
