"""How databases change: numbered SQL files, applied in order, each in one transaction with the number it reaches.

Expand, then contract: a step only adds what the previous release can ignore; what a release stops using is dropped by a
later one. So old and new processes may share a database while a fleet is being replaced."""

from __future__ import annotations

import re
from importlib import resources

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One migration. `statements` run in order, in one transaction."""

    version: int
    name: str
    statements: tuple[str, ...]
    oldest: int = 1
    """Releases that know only steps before this one cannot work with the schema any more: a contracting step says
    `-- oldest: N` in its file."""


_FILE = re.compile(r"(\d{4})_(\w+)\.sql")


def steps(database: str) -> tuple[Step, ...]:
    """All steps for `sqlite` or `postgres`, in order. Statements end with `;` at the end of a line."""
    found: list[Step] = []
    for entry in (resources.files(__package__ or "") / database).iterdir():
        match = _FILE.fullmatch(entry.name)
        if match is None:
            continue
        whole = entry.read_text(encoding="utf-8")
        oldest = re.search(r"^-- oldest: (\d+)$", whole, re.MULTILINE)
        text = "\n".join(line for line in whole.splitlines() if not line.lstrip().startswith("--"))
        parts = tuple(part.strip() for part in re.split(r";[ \t]*\n", text + "\n") if part.strip())
        found.append(
            Step(version=int(match[1]), name=match[2], statements=parts, oldest=int(oldest[1]) if oldest else 1)
        )
    found.sort(key=lambda step: step.version)
    if [step.version for step in found] != list(range(1, len(found) + 1)):
        raise RuntimeError(f"the migrations for {database} are not numbered 1, 2, 3, ...")
    return tuple(found)
