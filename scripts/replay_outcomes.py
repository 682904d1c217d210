"""Replays the recorded outcomes through every routing policy: prints docs/quality-routing.md's tables, draws its plots.

python scripts/replay_outcomes.py [--plots]      (plots need the extra `plot`)
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parents[1]
sys.path.insert(0, str(HERE / "tests"))

from headgate.insight.outcomes import Result, Split, cascade, does_no_harm, ends, judged, splits  # noqa: E402
from support.outcomes import POOLS, pool  # noqa: E402

FIGURES = HERE / "docs" / "figures"
RIGHT = (0.9, 0.8, 0.7)
STYLES = {"Headgate": {"lw": 2.2, "zorder": 5}, "oracle": {"ls": ":"}, "random": {"ls": "--"}}


def main() -> None:
    plots = "--plots" in sys.argv[1:]
    for name in POOLS:
        rows = pool(name, classified=True)
        print(f"\n### {name}: {len(rows.ids)} prompts, {len(rows.models)} models\n")
        drawn: list[tuple[Split, dict[str, Result]]] = []
        for split in splits(rows):
            results = judged(split)
            _table(split, results)
            drawn.append((split, results))
        if plots:
            _draw(name, drawn)


def _table(split: Split, results: dict[str, Result]) -> None:
    _, strong = ends(split)
    best, cost = split.test.scores[:, strong].mean(), split.test.costs[:, strong].mean()
    harm = "" if not split.unseen else f"; does no harm: {'yes' if does_no_harm(results) else 'NO'}"
    print(f"**{split.name}** ({len(split.test.ids)} prompts; best single model {best:.3f}{harm})\n")
    print("| policy | AIQ | at 25 % | at 50 % | at 100 % of cost | APGR |\n|---|---|---|---|---|---|")
    for policy, result in results.items():
        f = result.figures
        at = " | ".join(f"{value:.3f}" for value in f.at)
        print(f"| {policy} | {f.aiq:.3f} | {at} | {f.apgr:.2f} |")
    found = [(right, *cascade(split, right=right)) for right in RIGHT]
    words = "; ".join(f"right in {r:.0%}: {q:.3f} at {c / cost:.2f} of the cost" for r, c, q in found)
    print(f"\nCascade cheap → best, verifier {words}\n")


def _draw(name: str, drawn: list[tuple[Split, dict[str, Result]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    FIGURES.mkdir(exist_ok=True)
    figure, axes = pyplot.subplots(1, len(drawn), figsize=(3.6 * len(drawn), 3.6), sharey=False, squeeze=False)
    for axis, (split, results) in zip(axes[0], drawn, strict=True):
        _, strong = ends(split)
        unit = split.test.costs[:, strong].mean()
        for policy, result in results.items():
            style = {"Headgate": {"lw": 2.2, "zorder": 5}, "oracle": {"ls": ":"}, "random": {"ls": "--"}}.get(
                policy, {"lw": 1.0}
            )
            axis.plot([c / unit for c in result.curve.costs], result.curve.qualities, label=policy, **style)
        costs, scores = split.test.costs.mean(axis=0) / unit, split.test.scores.mean(axis=0)
        axis.scatter(costs, scores, s=12, c="black", zorder=6, label="single models")
        for right in RIGHT:
            cost, quality = cascade(split, right=right)
            axis.scatter(
                [cost / unit], [quality], s=30, marker="^", c="tab:red", label="cascade" if right == RIGHT[0] else None
            )
        axis.set_xlim(0, 1.3)
        axis.set_title(split.name, fontsize=9)
        axis.set_xlabel("cost / best single model", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0][0].set_ylabel("quality", fontsize=8)
    axes[0][-1].legend(fontsize=6, loc="lower right")
    figure.suptitle(f"{name}: cascades with verifiers right in 90, 80, 70 %", fontsize=10)
    figure.tight_layout()
    figure.savefig(FIGURES / f"outcomes-{name}.png", dpi=80)


if __name__ == "__main__":
    main()
