"""`headgate train --ledger`: what models are worth by the own log, judged on sources left out and on replay."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headgate.cli.main import run
from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from headgate.core.records import FeedbackRecord, RequestRecord
from headgate.engine.compile import Compiler
from headgate.insight.log import Logged
from headgate.insight.replay import Side
from headgate.insight.strengths import _t, attempt, fit, scored
from headgate.stores.sqlite import SqliteStore
from headgate.strategies.route.beliefs import MEASURED, Prior
from headgate.strategies.route.route import Route
from headgate.strategies.route.strengths import load_strengths
from support.books import NOON
from support.gateway import ENV
from support.virtual import VirtualGateway, answer, virtually

from .test_replay import FILE, SHARES, log_of, request

TEAMS = ("desk", "crm", "mail", "bot", "lab")
HIDDEN = {"math": {"strong": 0.4, "weak": 0.9}, "code": {"strong": 0.9, "weak": 0.3}}
"""What the two are really worth: the cheap one is better at mathematics, whatever was published."""


def told(
    count: int = 400,
    worth: Mapping[str, Mapping[str, float]] = HIDDEN,
    *,
    teams: tuple[str, ...] = TEAMS,
    seed: int = 5,
) -> tuple[list[RequestRecord], dict[str, float]]:
    """A log of scored answers in which chance gave some of each task to each model."""
    luck = random.Random(seed)
    records, scores = [], {}
    for number in range(count):
        task = luck.choice(list(worth))
        shares = SHARES if task == "math" else {"strong": 0.5, "weak": 0.5}
        action = "strong" if luck.random() < shares["strong"] else "weak"
        trace = f"tr_{number}"
        records.append(request(trace, task, action, shares, at=NOON + number, team=teams[number % len(teams)]))
        scores[trace] = float(luck.random() < worth[task][action])
    return records, scores


async def log(**more: Any) -> list[Logged]:
    return await log_of(*told(**more))


def side() -> Side:
    return Side(load_text(FILE, "f.yaml", ENV).config)


async def test_what_the_log_says_is_foretold_better_on_teams_left_out_and_replay_bears_it_out():
    own = side()
    rows = scored(await log(count=900), own)
    found = attempt(rows, own)
    assert (found.held_out, found.sources, found.rows) == ("sources", 5, 900)
    assert found.after < found.before
    assert found.is_better
    assert found.changed > 100, "mathematics go to the cheap model"
    assert found.quality.is_known
    assert found.quality.low is not None
    assert found.quality.low > 0
    fitted = fit(rows, own)
    assert fitted["weak"]["math"] > fitted["strong"]["math"]
    assert fitted["strong"]["code"] > fitted["weak"]["code"]
    assert fit(rows, own) == fitted


async def test_scores_of_chance_teach_nothing():
    """Each worth just what was published or assumed of it."""
    priors = {"strong": 0.85, "weak": 0.7}
    fair = {task: priors for task in ("math", "code")}
    better = 0
    for seed in range(8):
        own = side()
        better += attempt(scored(await log(worth=fair, seed=seed), own), own).is_better
    assert better <= 1


async def test_a_table_that_replay_finds_worse_is_not_better():
    own = side()
    found = attempt(scored(await log(count=900), own), own)
    quality = msgspec_replace(found.quality, mean=-0.1, low=-0.15, high=-0.05)
    worse = msgspec_replace(found, quality=quality)
    assert found.low > 0
    assert worse.does_harm
    assert not worse.is_better


def msgspec_replace(value: Any, **fields: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(value, **fields)


async def test_what_was_installed_before_has_no_part_in_what_it_is_compared_with(tmp_path: Path):
    """Installed figures were fitted to answers that are left out here."""
    file = tmp_path / "own.json"
    fitted = {"strong": {"math": 0.1, "code": 0.1}, "weak": {"math": 0.99, "code": 0.99}}
    file.write_text(json.dumps({"version": "own-1", "since": "", "until": "", "answers": {}, "strengths": fitted}))
    installed = Side(load_text(FILE.replace("explore: 0.2", f"strengths: {file}"), "f.yaml", ENV).config)
    shipped = Side(load_text(FILE.replace("explore: 0.2", "seed: 0"), "f.yaml", ENV).config)
    rows = await log()
    routes = [one.snapshot.entries["auto"].strengths for one in (installed, shipped)]  # type: ignore[attr-defined]
    assert routes == [fitted, {}]
    assert attempt(scored(rows, installed), installed) == attempt(scored(rows, shipped), shipped)


async def test_with_one_team_answers_are_left_out_and_few_of_them_are_refused():
    own = side()
    assert attempt(scored(await log(teams=("desk",)), own), own).held_out == "rows"
    with pytest.raises(ValueError, match=r"59 scored answers .* too few"):
        scored(await log(count=59), own)


async def test_a_model_with_few_answers_keeps_what_was_published():
    own = side()
    rows = scored(await log(), own)
    some = [row for row in rows if row.model == "strong"] + [row for row in rows if row.model == "weak"][:9]
    assert set(fit(some, own)) == {"strong"}


def keep(data: Path, records: list[RequestRecord], scores: Mapping[str, float]) -> None:
    async def main() -> None:
        store = SqliteStore(data / "headgate.db")
        await store.apply(records, holder="h")
        for trace, score in scores.items():
            await store.put_feedback(FeedbackRecord(trace=trace, at=NOON + 1, score=score, key_id="k1"))
        await store.aclose()

    data.mkdir()
    asyncio.run(main())


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        run(["train", *arguments])
    got = capsys.readouterr()
    assert (ended.value.code or 0) == code, got
    return got.out + got.err


def test_the_command_writes_a_version_only_when_told_and_a_route_begins_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    data, file = tmp_path / "data", tmp_path / "headgate.yaml"
    file.write_text(FILE, encoding="utf-8")
    keep(data, *told(count=900))
    asked = (
        "--ledger",
        "--config",
        str(file),
        "--data-dir",
        str(data),
        "--since",
        "2026-01-01",
        "--until",
        "2026-12-31",
    )
    shown = said(capsys, *asked)
    assert "better; --install writes it" in shown
    assert "900 scored answers from 5 sources" in shown
    assert "would go elsewhere" in shown
    assert not list(data.glob("strengths-*"))
    shown = said(capsys, *asked, "--install")
    (written,) = data.glob("strengths-own-*.json")
    assert f"strengths: {written}" in shown
    table = load_strengths(written)
    assert table.version in written.name
    assert sum(table.answers.values()) == 900
    assert json.loads(said(capsys, *asked, "--json"))["is_better"] is True

    text = FILE.replace("learn: {explore: 0.2}", f"learn: {{strengths: {written}}}")
    route = Compiler(ENV).compile(load_text(text, "f.yaml", ENV).config).entries["auto"]
    assert isinstance(route, Route)
    assert route.strengths == table.strengths


def test_without_a_choice_or_a_log_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "one of --labels" in said(capsys, code=2)
    assert "one of --labels" in said(capsys, "--ledger", "--labels", "x.jsonl", code=2)


@pytest.mark.parametrize(
    ("body", "problem"),
    [(None, "cannot read"), ("{", "is no file of"), ('{"strengths": {}}', "is no file of"), ("bad", "is not between")],
)
def test_a_file_that_is_none_is_told_at_the_start(tmp_path: Path, body: str | None, problem: str):
    path = tmp_path / "strengths.json"
    if body == "bad":
        good = {"version": "own-1", "since": "", "until": "", "answers": {}, "strengths": {"strong": {"math": 7.0}}}
        body = json.dumps(good)
    if body is not None:
        path.write_text(body, encoding="utf-8")
    text = FILE.replace("learn: {explore: 0.2}", f"learn: {{strengths: {path}}}")
    with pytest.raises(ConfigError, match=problem):
        Compiler(ENV).compile(load_text(text, "f.yaml", ENV).config)


def test_the_choice_and_its_trace_begin_from_the_own_figures(tmp_path: Path):
    path = tmp_path / "strengths.json"
    strengths = {"m": {"math": 0.4}, "n": {"math": 0.9}}
    path.write_text(
        json.dumps({"version": "own-1", "since": "", "until": "", "answers": {}, "strengths": strengths}), "utf-8"
    )
    text = f"""
providers: {{openai: {{base_url: "http://one/v1"}}}}
models:
  m: {{provider: openai, upstream: gpt-4.1, price: {{input: 1, output: 1}}, capabilities: [math]}}
  n: {{provider: openai, upstream: gpt-4.1-mini, price: {{input: 1, output: 1}}}}
  auto:
    route: {{classifier: keyword, keywords: {{math: [sum], code: [bug]}}, otherwise: m, learn: {{strengths: {path}}},
            tasks: {{math: {{models: [m, n]}}, code: {{models: [m, n]}}}}}}
"""

    async def main() -> None:
        for config, first in ((text, "n"), (text.replace(f", learn: {{strengths: {path}}}", ""), "m")):
            it = VirtualGateway(config)
            for name in ("gpt-4.1", "gpt-4.1-mini"):
                it.fake.on(name, answer("7"))
            heard = await it.ask("auto", messages=[{"role": "user", "content": "What is the sum?"}])
            assert heard.headers["x-headgate-model"] == first
            if first == "n":
                rows = {row["model"]: row["prior"] for row in heard.details["route"]["candidates"]}
                assert rows == {"m": [0.4, MEASURED], "n": [0.9, MEASURED]}
                route = it.house.snapshot.entries["auto"]
                assert isinstance(route, Route)
                assert route.learning.beliefs.quality("math", "n", Prior(0.9, MEASURED)).mean == pytest.approx(0.9)

    virtually(main)


@pytest.mark.parametrize(("freedom", "quantile"), [(2, 4.303), (3, 3.182), (4, 2.776), (10, 2.228), (100, 1.984)])
def test_the_interval_of_few_sources_is_as_wide_as_students(freedom, quantile):
    assert _t(freedom) == pytest.approx(quantile, rel=0.01)
