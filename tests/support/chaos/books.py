"""What a store holds, read past all of our own code: plain SQL on the tables."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

TABLES = ("attempts", "requests", "spent", "leases", "usage_days")
Row = dict[str, Any]


@dataclass
class Tables:
    attempts: list[Row]
    requests: list[Row]
    spent: list[Row]
    leases: list[Row]
    usage_days: list[Row]


def read_tables(store: str) -> Tables:
    """`store`: a file's path or a PostgreSQL URL."""
    if store.startswith("postgresql://"):
        with ThreadPoolExecutor(1) as pool:
            return Tables(**pool.submit(asyncio.run, _postgres(store)).result())
    connection = sqlite3.connect(f"{Path(store).as_uri()}?mode=ro", uri=True, timeout=20)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("BEGIN")  # one moment for all tables
        return Tables(**{t: [dict(r) for r in connection.execute(f"SELECT * FROM {t}")] for t in TABLES})  # noqa: S608
    finally:
        connection.close()


async def _postgres(url: str) -> dict[str, list[Row]]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return {t: [dict(r) for r in await connection.fetch(f"SELECT * FROM {t}")] for t in TABLES}  # noqa: S608
    finally:
        await connection.close()
