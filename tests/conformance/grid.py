"""The grid of docs/translation.md: format × format × feature, written from what the conformance run found.

`python -m conformance.grid` (with tests/ on the path) reads the results that the tests of this folder left and writes the
page between its markers. What the page says is therefore what was measured; test_grid.py holds it against the corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from conformance import features
from conformance.extract import FORMATS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / ".tools" / "conformance"
PAGE = ROOT / "docs" / "translation.md"
BEGIN, END = "<!-- grid: written by `make conformance` -->", "<!-- grid: end -->"

CANNOT = {
    # (door, finish): what the door's format has no word for, and what it says instead
    ("gemini", "refusal"): ("a finish for refusals", "the refusal as text, STOP"),
    ("gemini", "pause"): ("a paused turn (`pause_turn`)", "STOP"),
    ("openai_chat", "pause"): ("a paused turn (`pause_turn`)", "`stop`"),
    ("openai_responses", "pause"): ("a paused turn (`pause_turn`)", "`completed`"),
    ("openai_chat", "refusal"): ("a finish for refusals", "`message.refusal`, `stop`"),
    ("openai_responses", "refusal"): ("a status for refusals", "a refusal part, `completed`"),
    ("anthropic_messages", "filter"): ("a finish for filtered answers", "`refusal`"),
}


class Pairs(msgspec.Struct):
    """Recorded answers of one format read at one door. `of`: feature → answers that have it; `kept`, `named`: those in
    which it arrived, or was left out and named. `cannot`: finish → answers whose finish the door cannot say."""

    fmt: str
    door: str
    pairs: int = 0
    of: dict[str, int] = {}
    kept: dict[str, int] = {}
    named: dict[str, int] = {}
    cannot: dict[str, int] = {}


class Own(msgspec.Struct):
    """Recorded answers at their own format's door: unchanged bytes, and why the others are not compared."""

    fmt: str
    same: int = 0
    aside: dict[str, int] = {}


class Requests(msgspec.Struct):
    """Recorded requests of one format, written in another: feature → those that have it, that kept it, that left it out and
    named it, that were refused for it."""

    fmt: str
    target: str
    of: dict[str, int] = {}
    kept: dict[str, int] = {}
    named: dict[str, int] = {}
    refused: dict[str, int] = {}


Result = Pairs | Own | Requests


def save(result: Result) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    other = getattr(result, "door", getattr(result, "target", "own"))
    name = f"{type(result).__name__.lower()}-{result.fmt}-{other}.json"
    (RESULTS / name).write_bytes(msgspec.json.encode(result))


def load(kind: type[Any]) -> list[Any]:
    return [
        msgspec.json.decode(path.read_bytes(), type=kind) for path in sorted(RESULTS.glob(f"{kind.__name__.lower()}-*"))
    ]


def count(counter: dict[str, int], names: Iterable[str]) -> None:
    for name in names:
        counter[name] = counter.get(name, 0) + 1


# -- the page ----------------------------------------------------------------------------------------------------------


def render(owns: Sequence[Own], pairs: Sequence[Pairs], requests: Sequence[Requests]) -> str:
    return "\n\n".join([_own_table(owns), _cannot_table(pairs), *_tables(pairs), *_tables(requests)])


def _own_table(owns: Sequence[Own]) -> str:
    lines = ["### At its own door", "", "| format | byte for byte | not compared |", "|---|---|---|"]
    for own in owns:
        aside = "; ".join(f"{n} {why}" for why, n in sorted(own.aside.items())) or "–"
        lines.append(f"| {own.fmt} | {own.same} of {own.same} | {aside} |")
    return "\n".join(lines)


def _cannot_table(pairs: Sequence[Pairs]) -> str:
    total, affected = sum(p.pairs for p in pairs), sum(sum(p.cannot.values()) for p in pairs)
    lines = [
        "### What a door cannot say",
        "",
        f"{affected} of {total} pairs ({100 * affected / total:.2f} %). All else is equal in these too.",
        "",
        "| recorded | door | pairs | the door's format lacks | it says |",
        "|---|---|---|---|---|",
    ]
    lines += [_cannot_row(pair, finish) for pair in pairs for finish in sorted(pair.cannot)]
    return "\n".join(lines)


def _cannot_row(pair: Pairs, finish: str) -> str:
    lacks, says = CANNOT[pair.door, finish]
    return f"| {pair.fmt} | {pair.door} | {pair.cannot[finish]} of {pair.pairs} | {lacks} | {says} |"


def _tables(found: Sequence[Pairs] | Sequence[Requests]) -> Iterable[str]:
    for fmt in FORMATS:
        mine = [result for result in found if result.fmt == fmt]
        names = features.ANSWER if isinstance(mine[0], Pairs) else features.REQUEST
        head = [column(result) for result in mine]
        lines = [f"### {title(mine[0])}", "", f"| feature | {' | '.join(head)} |", "|---" * (len(mine) + 1) + "|"]
        for name in names:
            if any(name in result.of for result in mine):
                lines.append(f"| {name} | {' | '.join(cell(result, name) for result in mine)} |")
        yield "\n".join(lines)


def title(result: Pairs | Requests) -> str:
    what = "Answers of {}, by door" if isinstance(result, Pairs) else "Requests of {}, by the provider's format"
    return what.format(result.fmt)


def column(result: Pairs | Requests) -> str:
    return result.door if isinstance(result, Pairs) else result.target


def cell(result: Pairs | Requests, name: str) -> str:
    """The number alone where all of them arrived."""
    total, kept, named = result.of.get(name, 0), result.kept.get(name, 0), result.named.get(name, 0)
    if not total:
        return "–"
    if isinstance(result, Pairs):
        third, word = total - kept - named, "said otherwise"
    else:
        third, word = result.refused.get(name, 0), "refused"
    if not named and not third:
        return str(kept)
    return ", ".join(f"{n} {label}" for n, label in ((kept, "kept"), (named, "named"), (third, word)) if n)


def committed(title: str) -> dict[str, dict[str, str]]:
    """A table of the page by its heading: first column → column → cell."""
    section = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = next(part for part in section if part.startswith(title + "\n"))
    lines = [line.strip("| ").split(" | ") for line in found.splitlines() if line.startswith("| ")]
    return {line[0]: dict(zip(lines[0][1:], line[1:], strict=True)) for line in lines[1:]}


def main() -> None:
    owns, pairs, requests = load(Own), load(Pairs), load(Requests)
    expected = len(FORMATS) * (len(FORMATS) - 1)
    if (len(owns), len(pairs), len(requests)) != (len(FORMATS) + 1, expected, expected):
        raise SystemExit("not every pair of formats was measured: run `make conformance`")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{render(owns, pairs, requests)}\n{END}{after}", encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)} from {sum(pair.pairs for pair in pairs)} pairs")


if __name__ == "__main__":
    main()
