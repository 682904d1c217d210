"""Replays recorded answers and verdicts through the real engine and writes the tables of docs/quality-ensembles.md and of
docs/quality.md.

python scripts/replay_ensembles.py      (`make quality`; about two minutes, always the same figures)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parents[1]
sys.path.insert(0, str(HERE / "tests"))

from headgate.strategies.ensemble.canonical import canonical, scalar  # noqa: E402
from support.ensembles import PANELS, Played, crossed, difference, play, rows  # noqa: E402

PAGE = HERE / "docs" / "quality-ensembles.md"
SUMMARY = HERE / "docs" / "quality.md"
BEGIN, END = "<!-- figures: scripts/replay_ensembles.py -->\n", "<!-- end of figures -->"
CLOSE = ("reka-flash-20240226", "gpt-3.5-turbo-0125", "Phi-3-mini-128k-instruct")
JUDGES = ("GPT-4/Vanilla", "GPT-4/Vanilla_NoRules", "PaLM2/Vanilla", "ChatGPT/Vanilla", "LLaMA2/Vanilla")


def _mean(played: list[Played], which: str) -> str:
    return f"{100 * sum(getattr(one, which) for one in played) / len(played):.1f}"


def _votes(short: list[str]) -> Iterator[str]:
    """Also fills the `short` table of docs/quality.md."""
    yield "| task | panel | incumbent | vote | difference | overruled | quality mode | plain majority | equal weights |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for task in ("gsm", "crux"):
        for name, ranks in PANELS.items():
            found = crossed(task, ranks, "mode: vote")
            careful = crossed(task, ranks, "mode: vote", quality=True)
            majority = crossed(task, ranks, "mode: vote, overrule: 1")
            equal = crossed(task, ranks, "mode: vote, overrule: 1.5", equal=True)
            switched = sum(one.switched for one in found)
            means = f"{_mean(found, 'incumbent')} | {_mean(found, 'ensemble')}"
            yield (
                f"| {task} | {name} | {means} | {difference(found)} | {switched} | "
                f"{difference(careful)} | {difference(majority)} | {difference(equal)} |"
            )
            short += [
                _line("vote, **quality mode**", f"{task}, {name}", careful),
                _line("vote, default", f"{task}, {name}", found),
            ]


def _line(strategy: str, what: str, played: list[Played]) -> str:
    means = f"{_mean(played, 'incumbent')} | {_mean(played, 'ensemble')}"
    return f"| {strategy} | {what} | {means} | {difference(played)} |"


def _reading() -> Iterator[str]:
    """How well the vote reads answers: equal to the reference in our form, against the checker's label."""
    for task in ("gsm", "crux"):
        right = total = 0
        for row in rows(task):
            for output in row["outputs"].values():
                ours = canonical(output["text"]) == scalar(row["reference"])
                right += ours == bool(output["score"])
                total += 1
        yield f"{task}: {100 * right / total:.1f} % of {total:,} answers"


def _scores(short: list[str]) -> Iterator[str]:
    yield "| panel | incumbent | best, judged by gpt-4-turbo | difference | incumbent unseated |\n|---|---|---|---|---|"
    for name, ranks in (("all six that it judged", slice(0, 6)), ("close three", CLOSE)):
        found = crossed("wildbench", ranks, "judge: judge")
        switched = f"{sum(one.switched for one in found)} of {len(found)}"
        means = f"{_mean(found, 'incumbent')} | {_mean(found, 'ensemble')}"
        yield f"| {name} | {means} | {difference(found)} | {switched} |"
        short.append(_line("best, by scores of gpt-4-turbo", f"wildbench, {name}", found))


def _duels(short: list[str]) -> Iterator[str]:
    yield "| judge / prompt | incumbent right | best, pairwise | difference | unseated | of those rightly |"
    yield "|---|---|---|---|---|---|"
    for judge in JUDGES:
        found: list[Played] = []
        for incumbent, other in (("A", "B"), ("B", "A")):
            weights = {incumbent: 0.6, other: 0.4}
            found += play(rows("llmbar"), weights, "judge: {model: judge, style: pairwise}", judge=judge)
        switched = [one for one in found if one.switched]
        rightly = f"{100 * sum(one.ensemble for one in switched) / len(switched):.1f} %" if switched else "–"
        means = f"{_mean(found, 'incumbent')} | {_mean(found, 'ensemble')}"
        yield f"| {judge} | {means} | {difference(found)} | {len(switched)} of {len(found)} | {rightly} |"
        short.append(_line("best, by duels", f"llmbar, judge {judge}", found))


def _write(page: Path, figures: list[str]) -> None:
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}{chr(10).join(figures)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    short = ["", "| strategy | recordings | incumbent | ensemble | difference |", "|---|---|---|---|---|"]
    parts = [
        "\n## Vote\n",
        "\n".join(_votes(short)),
        "\nRead as the checker reads them: " + "; ".join(_reading()) + ".",
        "\n## Best, by scores (wildbench, points of 100)\n",
        "\n".join(_scores(short)),
        "\n## Best, by duels in both orders (llmbar, percent right)\n",
        "\n".join(_duels(short)),
        "",
    ]
    _write(PAGE, parts)
    _write(SUMMARY, [*short, ""])
    print("\n".join(parts))


if __name__ == "__main__":
    main()
