"""Writes src/headgate/catalog/data/strengths.json: how good published results say models are, per task, on one scale.

The pools of tests/data/outcomes hold different questions, so their scores cannot be averaged. They are joined as tests are
equated: logit(right) = ability of the model in the task + easiness of the question set; models that answered several
sets tie them together. Abilities are then shifted so that the best model of a task stands at ANCHOR, where the gateway
puts a model that nobody measured but whose capabilities name the task.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy

HERE = Path(__file__).parents[1]
DATA = HERE / "tests" / "data" / "outcomes" / "dev.jsonl.gz"
OUT = HERE / "src" / "headgate" / "catalog" / "data" / "strengths.json"
ANCHOR = 0.85
RIDGE = 40.0
"""Answers at which half of a model's deviation from its own average over tasks is believed."""
# The names in the data → prefixes of the ids that providers and resellers use.
NAMES = {
    "gpt-4o-2024-08-06": ["gpt-4o-2024", "gpt-4o"],
    "gpt-4o-mini-2024-07-18": ["gpt-4o-mini"],
    "gpt-4-1106-preview": ["gpt-4-1106", "gpt-4-turbo"],
    "gpt-3.5-turbo-0125": ["gpt-3.5-turbo"],
    "claude-3-5-sonnet-20241022": ["claude-3-5-sonnet"],
    "claude-3-5-haiku-20241022": ["claude-3-5-haiku"],
    "claude-3-haiku-20240307": ["claude-3-haiku"],
    "claude-3-opus-20240229": ["claude-3-opus"],
    "gemini-1.5-pro": ["gemini-1.5-pro"],
    "gemini-1.5-pro-002": ["gemini-1.5-pro"],
    "gemini-1.5-flash": ["gemini-1.5-flash"],
    "gemini-1.5-flash-002": ["gemini-1.5-flash"],
    "Llama-3.1-405B-Inst@sambanova": ["llama-3.1-405b", "meta-llama-3.1-405b"],
    "Meta-Llama-3.1-70B-Instruct": ["llama-3.1-70b", "meta-llama-3.1-70b"],
    "Meta-Llama-3_1-70B-Instruct": ["llama-3.1-70b", "meta-llama-3.1-70b"],
    "Meta-Llama-3.1-8B-Instruct": ["llama-3.1-8b", "meta-llama-3.1-8b"],
    "Meta-Llama-3_1-8B-Instruct": ["llama-3.1-8b", "meta-llama-3.1-8b"],
    "Mistral-Large-2": ["mistral-large-2407"],
    "deepseek-v2.5-0908": ["deepseek-v2.5"],
    "gemma-2-9b-it": ["gemma-2-9b", "gemma2-9b"],
    "Phi-3.5-mini-instruct": ["phi-3.5-mini"],
    "Phi-3-mini-4k-instruct": ["phi-3-mini"],
    "Mixtral-8x7B-Instruct-v0.1": ["mixtral-8x7b", "open-mixtral-8x7b"],
    "Mistral-7B-Instruct-v0.2": ["mistral-7b", "open-mistral-7b"],
    "c4ai-command-r-v01": ["command-r-03-2024", "c4ai-command-r-v01"],
    "Qwen1.5-72B-Chat": ["qwen1.5-72b"],
    "Qwen1.5-7B-Chat": ["qwen1.5-7b"],
    "mathstral-7B": ["mathstral-7b"],
    "jamba-1.5-large": ["jamba-1.5-large"],
}
SOURCES = [
    "TIGER-AI-Lab/MMLU-Pro @f418b116db00 (Apache-2.0): 8 subjects, 5-shot",
    "WildEval/ZeroEval @8c1485edf12c (Apache-2.0; GSM8K MIT, CRUXEval MIT): zero-shot",
    "lm-sys/RouteLLM @0b64fdafe049 (Apache-2.0; MMLU MIT)",
]


def counts() -> dict[tuple[str, str, str], tuple[float, int]]:
    """(model by its first prefix, task, question set) → (right, answers)."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0])
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            where = row["source"] if row["pool"] != "routellm_2" else "RouteLLM/mmlu"
            for name, (score, *_) in row["outcomes"].items():
                cell = found[NAMES[name][0], row["task"], where]
                cell[0] += score
                cell[1] += 1
    return {key: (right, int(n)) for key, (right, n) in found.items()}


def fitted(cells: dict[tuple[str, str, str], tuple[float, int]]) -> tuple[dict, dict]:
    """Newton's method on the penalised likelihood. Returns ability over all tasks, and per (model, task)."""
    models = sorted({m for m, _, _ in cells})
    pairs = sorted({(m, t) for m, t, _ in cells})
    sets = sorted({s for _, _, s in cells})
    place = {("m", m): i for i, m in enumerate(models)}
    place |= {("p", p): len(models) + i for i, p in enumerate(pairs)}
    place |= {("s", s): len(models) + len(pairs) + i for i, s in enumerate(sets)}
    ridge = numpy.array([1e-3] * len(models) + [RIDGE / 4] * len(pairs) + [1e-3] * len(sets))
    design = numpy.zeros((len(cells), len(place)))
    right, total = numpy.zeros(len(cells)), numpy.zeros(len(cells))
    for i, ((m, t, s), (r, n)) in enumerate(cells.items()):
        design[i, [place["m", m], place["p", (m, t)], place["s", s]]] = 1
        right[i], total[i] = r, n
    beta = numpy.zeros(len(place))
    for _ in range(50):
        p = 1 / (1 + numpy.exp(-design @ beta))
        gradient = design.T @ (right - total * p) - ridge * beta
        hessian = (design.T * (total * p * (1 - p))) @ design + numpy.diag(ridge)
        beta += numpy.linalg.solve(hessian, gradient)
    whole = {m: float(beta[place["m", m]]) for m in models}
    return whole, {(m, t): whole[m] + float(beta[place["p", (m, t)]]) for m, t in pairs}


def main() -> None:
    cells = counts()
    whole, ability = fitted(cells)
    anchor = float(numpy.log(ANCHOR / (1 - ANCHOR)))
    shift = {task: anchor - max(a for (_, t), a in ability.items() if t == task) for _, task in ability}
    shift["*"] = anchor - max(whole.values())
    rows = []
    for model in whole:
        values = {t: a + shift[t] for (m, t), a in ability.items() if m == model} | {"*": whole[model] + shift["*"]}
        strength = {task: round(float(1 / (1 + numpy.exp(-v))), 3) for task, v in sorted(values.items())}
        prefixes = sorted({prefix for names in NAMES.values() if names[0] == model for prefix in names})
        answers = sum(n for (m, _, _), (_, n) in cells.items() if m == model)
        rows.append({"match": prefixes, "answers": answers, "strength": strength})
    rows.sort(key=lambda row: -row["strength"]["*"])
    file = {
        "date": "2026-11-24",
        "note": "Made by scripts/strengths.py from tests/data/outcomes (its README: origin, commits, licences). Multiple "
        "choice, maths and code reasoning only; models of 2023 and 2024. `*` is the strength over all tasks. Not a share "
        "of right answers: abilities on one scale, the best measured model of a task at 0.85. A model that is not here "
        "is assumed by its capabilities.",
        "sources": SOURCES,
        "models": rows,
    }
    head = json.dumps({key: value for key, value in file.items() if key != "models"}, indent=0)
    lines = ",\n".join(json.dumps(row) for row in rows)
    text = f'{head[:-2]},\n"models": [\n{lines}\n]\n}}'
    OUT.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {OUT}: {len(rows)} models")


if __name__ == "__main__":
    main()
