"""`headgate train`: what own labels teach, when they do not, and that a route uses what was installed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from headgate.cli.main import run
from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from headgate.engine.compile import Compiler
from headgate.insight.training import Labelled, compare, packed, read_labelled, refit
from headgate.strategies.route.classify import LABELS, Asked
from headgate.strategies.route.learned import classify, model
from headgate.strategies.route.route import Route
from headgate.strategies.route.trained import Trained, load_trained
from support.gateway import ENV

FORMS = {
    "desk": "{job} ticket {number}",
    "crm": "Customer {number}: {job} please",
    "mail": "Hello, could you {job} what came in for order {number}? Thanks",
    "bot": "/{job} #{number}",
}
JOBS = {"defrag": "extraction", "vorlagern": "summary", "quibble": "analysis", "zest": "creative"}
"""A company's own words for what it asks; each source has its own form of asking."""


def company(count: int = 240, *, lie: bool = False) -> list[Labelled]:
    luck = random.Random(4)
    rows: list[Labelled] = []
    for number in range(count):
        source, form = list(FORMS.items())[number % len(FORMS)]
        job = luck.choice(list(JOBS))
        label = luck.choice(LABELS) if lie else JOBS[job]
        rows.append(Labelled(form.format(job=job, number=luck.randint(100, 999)), label, source))
    return rows


def test_own_words_are_learned_and_carry_over_to_sources_left_out():
    found = compare(company(), model())
    assert (found.held_out, found.sources) == ("sources", 4)
    assert found.before < 0.5
    assert found.after > 0.7
    assert found.is_better


def test_labels_of_chance_are_no_gain():
    found = compare(company(lie=True), model())
    assert not found.is_better


def test_with_one_source_rows_are_left_out_and_it_is_said():
    rows = [Labelled(row.prompt, row.label, "desk") for row in company()]
    assert compare(rows, model()).held_out == "rows"


def test_the_rest_stays_as_it_was():
    """Prompts of which the company's say nothing keep their labels."""
    fitted = Trained(refit(company(), model()))
    for prompt in (
        "Write a Python function that reverses a linked list.",
        "Translate into French: The gate is open.",
        "Solve the equation x^2 - 5x + 6 = 0.",
        "请把下面的句子翻译成英文：门是开着的。",
        "TL;DR please: the meeting moved to Friday because the room was taken.",
    ):
        assert fitted.turn(prompt).label == classify(prompt).label


def test_the_fit_is_the_same_every_time():
    rows = company(80)
    one, two = refit(rows, model()), refit(rows, model())
    assert np.array_equal(one.weights, two.weights)
    assert one.version == two.version
    assert one.version != model().version


def test_the_file_is_what_a_route_uses(tmp_path: Path):
    rows = company()
    path = tmp_path / "own.npz"
    path.write_bytes(packed(refit(rows, model()), rows))
    assert path.stat().st_size < 8_000_000
    text = f"""
providers: {{openai: {{}}}}
models:
  gpt: {{provider: openai, upstream: gpt-5.5}}
  auto: {{route: {{trained: {path}, tasks: {{extraction: gpt}}, otherwise: gpt}}}}
"""
    snapshot = Compiler(ENV).compile(load_text(text, "f.yaml", ENV).config)
    route = snapshot.entries["auto"]
    assert isinstance(route, Route)
    assert route.classifier.classify(Asked(("defrag ticket 999",))).label == "extraction"
    assert route.classifier.classify(Asked(("qwerty zxcv",))).label == "unknown"
    assert (
        route.classifier.classify(Asked(("Translate into French: The gate is open.", "defrag ticket 12"))).label
        in LABELS
    )
    path.write_bytes(b"PK no")
    with pytest.raises(ConfigError, match="is no file of"):
        Compiler(ENV).compile(load_text(text, "f.yaml", ENV).config)
    with pytest.raises(ValueError, match="cannot read"):
        load_trained(tmp_path / "none.npz")
    with pytest.raises(ConfigError, match="for the learned classifier"):
        load_text(text.replace("{trained", "{classifier: keyword, trained"), "f.yaml", ENV)


def written(path: Path, rows: list[Labelled]) -> Path:
    lines = [json.dumps({"prompt": r.prompt, "label": r.label, "source": r.source}) for r in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        run(["train", *arguments])
    got = capsys.readouterr()
    assert (ended.value.code or 0) == code, got
    return got.out + got.err


def test_the_command_installs_only_what_is_better_and_only_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    good, bad = written(tmp_path / "good.jsonl", company()), written(tmp_path / "bad.jsonl", company(lie=True))
    data = tmp_path / "data"
    assert "better; --install writes it" in said(capsys, "--labels", str(good), "--data-dir", str(data))
    assert not data.exists()
    shown = said(capsys, "--labels", str(good), "--data-dir", str(data), "--install")
    (file,) = data.glob("tasks-own-*.npz")
    assert f"trained: {file}" in shown
    assert load_trained(file).turn("defrag ticket 999").label == "extraction"
    assert "nothing is installed" in said(capsys, "--labels", str(bad), "--data-dir", str(data), "--install", code=1)
    assert len(list(data.glob("*"))) == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"prompt": "x"}', "label"),
        ('{"prompt": "x", "label": "poetry"}', "'poetry' is none of code"),
        ('{"prompt": " ", "label": "code"}', "the prompt is empty"),
        ("x", ":1:"),
        ('{"prompt": "\udcff", "label": "code"}', "labels.jsonl:1:"),  # a byte that is no UTF-8
        ('{"prompt": "x", "label": "code"}', "too few"),
        (
            '{"prompt": "x", "label": null}',
            "0 labelled prompts are too few to judge a fit: 40 at least (1 more have no",
        ),
    ],
)
def test_bad_labels_are_told_with_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, problem: str
):
    path = tmp_path / "labels.jsonl"
    path.write_bytes(line.encode("utf-8", "surrogateescape"))
    assert problem in said(capsys, "--labels", str(path), code=2)
    with pytest.raises(ValueError, match=r"labels\.jsonl"):
        read_labelled(path)
