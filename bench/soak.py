"""Many requests through one gateway in this process, in front of simulated models: memory must not grow with them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from headgate import Gateway
from headgate.config.load import load_text
from headgate.simulator.app import Simulator
from support.gateway import ENV, EXAMPLE
from support.sim import INSTANT

MOST_GROWTH_KB = 1024
"""Per 100,000 requests, once caches and rings are full."""


def rss_kb() -> int:
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS:")).split()[1])


async def soak(requests: int) -> list[tuple[int, int]]:
    simulator = Simulator(INSTANT, keep=100)
    urls = await simulator.start(0)
    config = load_text(EXAMPLE.read_text(encoding="utf-8"), "soak", ENV).config
    providers = {n: p.model_copy(update={"base_url": urls[n]}) if n in urls else p for n, p in config.providers.items()}
    seen: list[tuple[int, int]] = []
    async with Gateway(config.model_copy(update={"providers": providers}), env=ENV) as gateway:
        ask = [{"role": "user", "content": "What is a weir?"}]
        for number in range(requests):
            await gateway.chat(model="reliable", messages=ask)
            if number % max(requests // 20, 1) == 0:
                seen.append((number, rss_kb()))
    await simulator.aclose()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args()
    seen = asyncio.run(soak(options.requests))
    (first, low), (last, high) = seen[len(seen) // 2], seen[-1]
    slope = (high - low) / max(last - first, 1) * 100_000
    print(json.dumps({"rss_kb": seen, "growth_kb_per_100k": round(slope)}))
    if slope > MOST_GROWTH_KB and high - low > 2048:
        raise SystemExit(f"memory grows by {slope:.0f} KB per 100,000 requests")


if __name__ == "__main__":
    main()
