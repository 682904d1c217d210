"""The recorded outcomes as rows for the replay: a pool at a time, labels by the shipped classifier."""

import gzip
import json
from functools import cache
from pathlib import Path

import numpy

from headgate.insight.outcomes import Rows
from headgate.strategies.route.classify import Asked
from headgate.strategies.route.learned import Learned

DATA = Path(__file__).parent.parent / "data" / "outcomes" / "dev.jsonl.gz"
POOLS = ("mmlu_pro_12", "zeroeval_16", "routellm_2")


@cache
def pool(name: str, *, classified: bool = False) -> Rows:
    """`classified`: labels as the shipped classifier gives them; else the data's own, which no change of it can move."""
    with gzip.open(DATA, "rt", encoding="utf8") as lines:
        found = [row for row in map(json.loads, lines) if row["pool"] == name]
    models = list(found[0]["outcomes"])
    classify = Learned().classify
    return Rows(
        models,
        [row["id"] for row in found],
        [row["prompt"] for row in found],
        [classify(Asked((row["prompt"],))).label if classified else row["task"] for row in found],
        [row["source"] for row in found],
        numpy.array([[row["outcomes"][m][0] for m in models] for row in found], dtype=float),
        numpy.array([[row["outcomes"][m][3] for m in models] for row in found], dtype=float),
    )
