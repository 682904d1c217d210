"""Writes the generated pages: the configuration's JSON Schema and the table of providers."""

from __future__ import annotations

import json
from pathlib import Path

from headgate.config.schema import json_schema
from headgate.providers.registry import Registry, describe
from headgate.server.openapi import DATA_PLANE

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    (DOCS / "headgate.schema.json").write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    (DOCS / "openapi.json").write_text(json.dumps(DATA_PLANE, indent=1) + "\n", encoding="utf-8")
    (DOCS / "profiles.md").write_text(profiles(), encoding="utf-8")
    print(f"wrote {DOCS}/headgate.schema.json, openapi.json and profiles.md")


def profiles() -> str:
    lines = ["# Provider profiles", "", "| profile | base URL | dialects | key |", "|---|---|---|---|"]
    for profile in Registry():
        row = describe(profile)
        keys = ", ".join(row["key"]) or "–"
        lines.append(f"| {row['name']} | {row['base_url'] or 'yours'} | {', '.join(row['dialects'])} | {keys} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
