"""How the classifier does on the labelled prompts: accuracy, macro-F1, share of unknown, by source, and its time."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from headgate.strategies.route.classify import LABELS
from headgate.strategies.route.learned import classify
from support.tasks import rows


def main() -> None:
    right, given, wanted, by_source, times = Counter(), Counter(), Counter(), Counter(), []
    sizes = Counter(row["source"] for row in rows())
    for row in rows():
        began = time.perf_counter()
        found = classify(row["prompt"]).label
        times.append(time.perf_counter() - began)
        given[found] += 1
        wanted[row["label"]] += 1
        if found == row["label"]:
            right[found] += 1
            by_source[row["source"]] += 1
    scores = []
    for label in LABELS:
        precision, recall = right[label] / max(given[label], 1), right[label] / wanted[label]
        scores.append(2 * precision * recall / max(precision + recall, 1e-9))
    times.sort()
    print(
        json.dumps(
            {
                "accuracy": sum(right.values()) / len(rows()),
                "macro_f1": sum(scores) / len(scores),
                "unknown": given["unknown"] / len(rows()),
                "p50_ms": times[len(times) // 2] * 1000,
                "p99_ms": times[int(len(times) * 0.99)] * 1000,
                "by_source": {source: round(by_source[source] / sizes[source], 2) for source in sorted(sizes)},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
