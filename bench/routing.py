"""What routing costs: naming the task, and what a request to `auto` takes more than one to the model that it goes to.

    python bench/routing.py [--json] [--embedder FOLDER]

Prompts: the labelled ones of tests/data/tasks, cut or joined to lengths up to 8,000 characters, each classified once, so
that no task is remembered from before; of half of the labelled prompts, after the other half, so that common words are
known, as they are in a gateway that has run for an hour. The request: through the whole data plane without sockets, to
providers that have answered before they are asked; each prompt is asked of `auto` and of the model that `auto` chose, in
turns. CPU seconds. With an embedder also what its vector of each prompt takes, which is added to naming the task.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from path import Canned, Sink

from headgate.config.load import load_text
from headgate.engine.compile import Compiler
from headgate.engine.house import House
from headgate.governance.open import OpenGovernor
from headgate.ledger.volatile import VolatileLedger
from headgate.server.app import DataPlane
from headgate.server.http import Request
from headgate.strategies.route import learned

DATA = Path(__file__).parents[1] / "tests" / "data" / "tasks" / "dev.jsonl.gz"
LONGEST = 8000
BANDS = (500, 2000, LONGEST)
EACH = 600
"""Prompts per band of lengths."""
PASSES = 5
TABLE = """
providers: {openai: {api_key: sk-bench, base_url: "http://127.0.0.1:9/v1"}}
models:
  one: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.01}
  two: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.02}
  auto:
    route:
      tasks: {code: one, summary: two, creative: {model: one, temperature: 0.9, system: "You are a writer."}, analysis: two,
              translation: one, math: {models: [one, two], choose: {quality: 0.7, cost: 0.3}}}
      otherwise: one
"""


def halves() -> tuple[list[str], list[str]]:
    """(those that a gateway has seen, those that are measured)"""
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        rows = sorted({json.loads(line)["prompt"] for line in lines})
    random.Random(7).shuffle(rows)
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def prompts(rows: list[str]) -> dict[str, list[str]]:
    """Band of lengths → prompts of it; none twice."""
    luck = random.Random(7)
    out = {"labelled, as they are": sorted(set(luck.sample(rows, EACH)))}
    low = 0
    for high in BANDS:
        found = out[f"up to {high:,} characters"] = []
        for _ in range(EACH):
            wanted, text = luck.randint(low + 1, high), ""
            while len(text) < wanted:
                text += luck.choice(rows) + "\n\n"
            found.append(text[:wanted])
        low = high
    return out


def quantiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 3),
    }


def each(seen: list[str], bands: dict[str, list[str]], read: Callable[[str], object]) -> dict[str, Any]:
    for text in seen:
        read(text)
    gc.collect()
    gc.disable()
    out: dict[str, Any] = {}
    every: list[float] = []
    for name, texts in bands.items():
        spent: list[float] = []
        for text in texts:
            started = time.process_time()
            read(text)
            spent.append(time.process_time() - started)
        out[name] = quantiles(spent)
        every += spent
    out["all"] = quantiles(every)
    gc.enable()
    return out


async def addition(seen: list[str], bands: dict[str, list[str]]) -> dict[str, Any]:
    """What `auto` takes more, prompt by prompt, the task named anew each time. `least_ms`: the median over prompts of each
    one's least of PASSES: what it costs where nothing else on the machine disturbs it."""
    house = House(
        snapshot=Compiler({}).compile(load_text(TABLE, "bench", {}).config),
        transport=Canned(),  # type: ignore[arg-type]
        ledger=VolatileLedger(),
        governor=OpenGovernor(),
    )
    plane = DataPlane(house)
    for text in seen:
        await _ask(plane, "auto", text)
    out: dict[str, Any] = {}
    every: list[float] = []
    least: list[float] = []
    for name, texts in bands.items():
        routed: list[list[float]] = [[] for _ in texts]
        named: list[list[float]] = [[] for _ in texts]
        for _ in range(PASSES):
            learned._classified.cache_clear()
            for text, its, plain in zip(texts, routed, named, strict=True):
                its.append(await _ask(plane, "auto", text))
                plain.append(await _ask(plane, house.recent(1)[0][1].model or "one", text))
        more = [a - b for its, plain in zip(routed, named, strict=True) for a, b in zip(its, plain, strict=True)]
        fewest = [min(its) - min(plain) for its, plain in zip(routed, named, strict=True)]
        out[name] = quantiles(more) | {"least_ms": round(statistics.median(fewest) * 1000, 3)}
        every += more
        least += fewest
    out["all"] = quantiles(every) | {"least_ms": round(statistics.median(least) * 1000, 3)}
    return out


async def _ask(plane: DataPlane, model: str, text: str) -> float:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()
    headers = {"host": "127.0.0.1:4100", "content-type": "application/json", "content-length": str(len(body))}
    request = Request("POST", "/v1/chat/completions", "", headers, list(headers.items()), body, "127.0.0.1")
    sink = Sink()
    started = time.process_time()
    await plane(request, sink)
    spent = time.process_time() - started
    if sink.status != 200:
        raise SystemExit(f"the gateway answers {sink.status}: {sink.body!r}")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--embedder", help="a folder with a static model")
    options = parser.parse_args()
    seen, measured = halves()
    bands = prompts(measured)
    model = resources.files("headgate.strategies.route").joinpath(learned.FILE).read_bytes()
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "classification": each(seen, bands, learned.classify),
        "a request takes more by": asyncio.run(addition(seen, bands)),
        "model_file_mb": round(len(model) / 1e6, 2),
    }
    if options.embedder is not None:
        from headgate.strategies.route.embedder import load_embedder

        found["embedding"] = each(seen, bands, load_embedder(options.embedder).vector)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for what in ("classification", "a request takes more by", "embedding"):
        if what in found:
            print(what)
        for name, row in found.get(what, {}).items():
            least = f"  least p50 {row['least_ms']:.3f} ms" if "least_ms" in row else ""
            print(f"  {name:<26} p50 {row['p50_ms']:.3f} ms  p99 {row['p99_ms']:.3f} ms{least}")
    print(f"{'model file':<28} {found['model_file_mb']:.2f} MB")


if __name__ == "__main__":
    main()
