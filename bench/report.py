"""Figures as a Markdown table, JSON and a picture: medians, and ratios to a bare reverse proxy in the same run."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from harness import Server


def table(servers: list[Server], base: str = "nginx") -> str:
    names = list(dict.fromkeys(name for server in servers for name in server.figures))
    reference = next((s for s in servers if s.name == base), None)
    lines = ["| | " + " | ".join(s.name for s in servers) + " |", "|---" * (len(servers) + 1) + "|"]
    for name in names:
        cells: list[str] = []
        for server in servers:
            values = server.figures.get(name)
            if values is None:
                cells.append("–")
                continue
            median = statistics.median(values)
            text = f"{median:,.0f}" if median >= 1000 else f"{median:.3g}"
            bare = 0.0 if reference is None else statistics.median(reference.figures.get(name, [0.0]))
            if server is not reference and bare > 0:
                text += f" ({median / bare:.2g}×)"
            cells.append(text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(servers: list[Server], facts: dict[str, Any], out: Path) -> None:
    result = {"facts": facts, "servers": {s.name: {"figures": s.figures, "start_s": s.start_s} for s in servers}}
    out.write_text(json.dumps(result, indent=1))


def plot(servers: list[Server], out: Path) -> None:
    """Bars on a logarithmic scale: CPU per request of all that were measured; none where it was not."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    name = "CPU us per 1 KB request"
    rows = sorted((statistics.median(s.figures[name]), s.name) for s in servers if name in s.figures)
    if not rows:
        return
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(rows) + 1.2))
    bars = axes.barh([row[1] for row in rows], [row[0] for row in rows])
    axes.bar_label(bars, [f" {row[0]:,.0f} µs" for row in rows])
    axes.set_xscale("log")
    axes.set_xlim(right=rows[-1][0] * 3)
    axes.invert_yaxis()
    axes.set_title("CPU per 1 KB request, one core (median of rounds)")
    figure.tight_layout()
    figure.savefig(out, dpi=120)
