"""`headgate train --embedder`: what a static embedder adds, that it must earn its place, and every way it can be wrong.

The embedder is a small one made here (support/embedder.py), read by the real library.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openai
import pytest
from model2vec import StaticModel, quantize_model
from safetensors.numpy import save_file

from headgate.cli.main import run
from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from headgate.engine.compile import Compiler
from headgate.insight.training import Labelled, compare, packed, refit
from headgate.simulator.app import Simulator
from headgate.strategies.route.classify import LABELS, Asked
from headgate.strategies.route.embedder import FIRST, LAST, Embedder, load_embedder
from headgate.strategies.route.learned import classify, model
from headgate.strategies.route.trained import BY_MEANING, Trained, load_trained
from support.embedder import make_embedder
from support.gateway import ENV, Loop, RunningGateway
from support.sim import INSTANT
from support.tasks import rows as labelled

SPOKEN = {
    "extraction": ("defrag", "winkle", "unspool", "glean", "sluice"),
    "summary": ("vorlage", "kurzen", "nutshell", "précis", "boildown"),
    "analysis": ("quibble", "sondage", "plumb", "assay", "fathom"),
    "creative": ("zest", "jazz", "embroider", "conjure", "daydream"),
}
"""A company's words for four kinds of work: each of its teams has its own, which no lexicon knows."""
TEAMS = ("desk", "crm", "mail", "bot", "field")
FORMS = (
    "{job} ticket {number}",
    "{job} order {number} now",
    "ticket {number}: {job}",
    "{job} {number}",
    "do {job} {number}",
)
NEW = ("rootle", "gist", "gauge", "fable")
"""A sixth team's words, which stand in the handbook and in no labelled prompt."""
STEPS = {
    "extraction": "fields records",
    "summary": "digest minutes",
    "analysis": "causes figures",
    "creative": "slogans tales",
}


def handbook() -> list[str]:
    """What the company has written: which of its words are the same work."""
    luck = random.Random(9)
    said: list[str] = []
    for (label, words), new in zip(SPOKEN.items(), NEW, strict=True):
        for _ in range(60):
            one, other = luck.sample([*words, new], 2)
            said.append(f"{one} {STEPS[label]} {other}")
    return said


def company(count: int = 240, *, lie: bool = False) -> list[Labelled]:
    luck = random.Random(4)
    made: list[Labelled] = []
    for number in range(count):
        team = number % len(TEAMS)
        label = luck.choice(list(SPOKEN))
        said = FORMS[team].format(job=SPOKEN[label][team], number=luck.randint(100, 999))
        made.append(Labelled(said, luck.choice(LABELS) if lie else label, TEAMS[team]))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("embedder"), handbook())


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("other"), handbook(), dimensions=32)


@pytest.fixture(scope="module")
def installed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "own.npz"
    path.write_bytes(packed(refit(company(), model(), load_embedder(folder)), company()))
    return path


# -- what it adds --------------------------------------------------------------------------------------------------------
def test_other_words_for_the_same_work_carry_over_to_teams_left_out(folder: Path):
    found = compare(company(), model(), load_embedder(folder))
    beside = found.embedder
    assert beside is not None
    assert found.held_out == "sources"
    assert beside.without < 0.5
    assert found.after > 0.7
    assert beside.low > 0.2
    assert found.is_better


def test_own_words_in_chance_order_gain_nothing_by_it(folder: Path):
    assert not compare(company(lie=True), model(), load_embedder(folder)).is_better


def test_where_words_say_it_all_it_does_not_earn_its_place(folder: Path):
    """Every team with the same words: the fit alone knows them, and the embedder's reading would be for nothing."""
    same = [Labelled(f"{SPOKEN[row.label][0]} {row.prompt.split()[-1]}", row.label, row.source) for row in company()]
    found = compare(same, model(), load_embedder(folder))
    assert found.embedder is not None
    assert found.low > 0
    assert found.embedder.low <= 0
    assert not found.is_better


def test_the_rest_stays_as_it_was(folder: Path):
    """No other prompt is near to the company's; and what the embedder explains is not laid on shapes that others share."""
    embedder = load_embedder(folder)
    fitted = refit(company(), model(), embedder)
    alone, whole = Trained(refit(company(), model())), Trained(fitted, embedder=embedder)
    prompts = [row["prompt"] for row in labelled()[::20]]
    assert fitted.meaning is not None
    assert sum(fitted.meaning.is_near(embedder.vector(prompt)) for prompt in prompts) <= len(prompts) / 100

    def kept(one: Trained) -> float:
        return float(np.mean([one.turn(prompt).label == classify(prompt).label for prompt in prompts]))

    assert kept(whole) >= max(0.9, kept(alone))


def test_the_fit_is_the_same_every_time(folder: Path):
    one, two = (refit(company(80), model(), load_embedder(folder)) for _ in range(2))
    assert one.meaning is not None
    assert two.meaning is not None
    assert np.array_equal(one.meaning.weights, two.meaning.weights)
    assert one.version == two.version != refit(company(80), model()).version


# -- what may be wrong -------------------------------------------------------------------------------------------------
CONFIG = """
providers: {{openai: {{}}, anthropic: {{}}}}
models:
  gpt: {{provider: openai, upstream: gpt-5.5}}
  claude: {{provider: anthropic, upstream: claude-opus-4-7}}
  auto: {{route: {{{keys}, tasks: {{extraction: claude}}, otherwise: gpt}}}}
"""


def config(keys: str) -> str:
    return CONFIG.format(keys=keys)


def refused(keys: str) -> str:
    with pytest.raises(ConfigError) as raised:
        Compiler(ENV).compile(load_text(config(keys), "f.yaml", ENV).config)
    return str(raised.value)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        run([*arguments])
    got = capsys.readouterr()
    assert (ended.value.code or 0) == code, got
    return got.out + got.err


def test_weights_and_embedder_belong_together(installed: Path, folder: Path, other: Path, tmp_path: Path):
    fine = load_text(config(f"trained: {installed}, embedder: {folder}"), "f.yaml", ENV).config
    assert "auto" in Compiler(ENV).compile(fine).entries
    assert "name its folder as `embedder:`" in refused(f"trained: {installed}")
    wrong = refused(f"trained: {installed}, embedder: {other}")
    assert "models.auto.route.trained" in wrong
    assert load_embedder(folder).fingerprint in wrong
    assert load_embedder(other).fingerprint in wrong
    plain = tmp_path / "plain.npz"
    plain.write_bytes(packed(refit(company(60), model()), company(60)))
    assert "fitted without an embedder" in refused(f"trained: {plain}, embedder: {folder}")
    assert "needs `trained:`" in refused(f"embedder: {folder}")


def test_the_same_embedder_elsewhere_is_the_same(installed: Path, folder: Path, tmp_path: Path):
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    found = load_trained(installed, embedder=load_embedder(moved))
    assert found.turn("rootle ticket 77").label == "extraction"


def test_a_folder_that_cannot_be_read_says_so(installed: Path, folder: Path, tmp_path: Path, capsys):
    for broken, problem in (
        ("none", "is no folder"),
        ("empty", "model.safetensors and tokenizer.json are not both there"),
        ("cut", "holds no static model that can be read"),
        ("tokens", "holds no static model that can be read"),
        ("nan", "not all of its numbers are finite"),
    ):
        place = tmp_path / broken
        if broken == "empty":
            place.mkdir()
        elif broken != "none":
            shutil.copytree(folder, place)
        if broken == "cut":
            whole = (place / "model.safetensors").read_bytes()
            (place / "model.safetensors").write_bytes(whole[: len(whole) // 2])
        elif broken == "tokens":
            (place / "tokenizer.json").write_text("{}", encoding="utf-8")
        elif broken == "nan":
            spoilt = StaticModel.from_pretrained(folder)
            spoilt.embedding[3, 3] = np.nan
            spoilt.save_pretrained(place)
        told = refused(f"trained: {installed}, embedder: {place}")
        assert "models.auto.route.embedder" in told
        assert problem in told
        file = tmp_path / "f.yaml"
        file.write_text(config(f"trained: {installed}, embedder: {place}"), encoding="utf-8")
        assert problem in said(capsys, "check", str(file), code=1)


def test_without_the_extra_it_says_what_to_install(folder: Path, installed: Path, tmp_path: Path, monkeypatch, capsys):
    unread = shutil.copytree(folder, tmp_path / "unread")
    monkeypatch.setitem(sys.modules, "model2vec", None)
    assert "pip install 'headgate[embedder]'" in refused(f"trained: {installed}, embedder: {unread}")
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(json.dumps(msgspec.to_builtins(row)) for row in company(60)), encoding="utf-8")
    told = said(capsys, "train", "--labels", str(labels), "--embedder", str(unread), code=2)
    assert "pip install 'headgate[embedder]'" in told


def test_embedder_is_for_labels(capsys, folder: Path):
    assert "--embedder is for --labels" in said(capsys, "train", "--ledger", "--embedder", str(folder), code=2)


def test_nobody_is_asked_on_any_network(folder: Path, installed: Path, tmp_path: Path):
    """In a process of its own whose hub is a socket here, so that also libraries that are not Python's would be heard; the
    wrong folder has the form of a hub's model, which the library would fetch if it were asked."""
    file = tmp_path / "f.yaml"
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.setblocking(False)
        place = f"http://127.0.0.1:{hub.getsockname()[1]}"
        env = {**os.environ, **ENV, "HF_ENDPOINT": place, "HTTPS_PROXY": place, "HTTP_PROXY": place, "NO_PROXY": ""}
        for named, code, told in ((folder, 0, "ok, 3 models"), ("minishlab/potion-base-8M", 1, "is no folder")):
            file.write_text(config(f"trained: {installed}, embedder: {named}"), encoding="utf-8")
            command = [sys.executable, "-m", "headgate.cli", "check", str(file)]
            done = subprocess.run(
                command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == code, done
            assert told in done.stdout + done.stderr
        with pytest.raises(BlockingIOError):
            hub.accept()


# -- how it reads --------------------------------------------------------------------------------------------------------
def test_a_turn_is_read_once_and_no_further_than_its_ends(installed: Path, folder: Path):
    class Counting:
        def __init__(self, real: Embedder) -> None:
            self.fingerprint, self._real, self.read = real.fingerprint, real, list[str]()

        def vector(self, text: str) -> np.ndarray:
            self.read.append(text)
            return self._real.vector(text)

    counting = Counting(load_embedder(folder))
    found = load_trained(installed, embedder=counting)
    turns = ("rootle ticket 77", "gist order 9 now", "rootle ticket 77")
    for _ in range(3):
        found.classify(Asked(turns))
    assert sorted(counting.read) == sorted(set(turns))
    middle = " fable" * 400
    embedder = load_embedder(folder)
    long = f"rootle {'ticket ' * 100}{middle}{' order' * 60} 77"
    short = long[:FIRST] + "\n" + long[-LAST:]
    assert len(short) < len(long)
    assert np.array_equal(embedder.vector(long), embedder.vector(short))
    assert not embedder.vector("☃ ☃").any()


def test_every_form_that_is_promised_is_read(folder: Path, tmp_path: Path):
    """Tables of smaller numbers, and sentence-transformers' folders with the table in a folder of its own."""
    asked, real = "rootle ticket 77", StaticModel.from_pretrained(folder)
    wanted = load_embedder(folder).vector(asked)
    assert wanted @ wanted == pytest.approx(1.0, abs=1e-5)
    for form in ("int8", "float16"):
        quantize_model(real, quantize_to=form).save_pretrained(tmp_path / form)
    nested = tmp_path / "sentence-transformers"
    (nested / "0_StaticEmbedding").mkdir(parents=True)
    save_file({"embedding.weight": real.embedding}, nested / "0_StaticEmbedding" / "model.safetensors")
    shutil.copy(folder / "tokenizer.json", nested / "0_StaticEmbedding")
    (nested / "config_sentence_transformers.json").write_text("{}", encoding="utf-8")
    for form in ("int8", "float16", "sentence-transformers"):
        found = load_embedder(tmp_path / form).vector(asked)
        assert found.dtype == np.float32
        assert float(found @ wanted) > 0.99, form
        assert load_embedder(tmp_path / form).fingerprint != load_embedder(folder).fingerprint


def test_a_folder_is_read_once_until_its_files_are_others(folder: Path, other: Path, tmp_path: Path):
    place = shutil.copytree(folder, tmp_path / "place")
    first = load_embedder(place)
    assert load_embedder(place) is first
    shutil.copytree(other, place, dirs_exist_ok=True)
    assert load_embedder(place).fingerprint == load_embedder(other).fingerprint != first.fingerprint


def test_it_is_named_only_where_it_decided(installed: Path, folder: Path):
    found = load_trained(installed, embedder=load_embedder(folder))
    decided = found.turn("rootle ticket 77")
    assert (decided.label, decided.signals[0]) == ("extraction", BY_MEANING)
    assert sum(decided.labels.values()) == pytest.approx(1.0)
    for prompt in ("Translate into French: the gate is open", "Write a Python function that reverses a list", "☃ ☃ ☃"):
        assert BY_MEANING not in found.turn(prompt).signals
    assert found.turn("qwerty zxcv").label == "unknown"


# -- all of it -----------------------------------------------------------------------------------------------------------
def test_labels_to_answers(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Labels are fitted and installed, a gateway uses them; a word that no labelled prompt has goes where it belongs."""
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(json.dumps(msgspec.to_builtins(row)) for row in company()), encoding="utf-8")
    asked = ("train", "--labels", str(labels), "--embedder", str(folder), "--data-dir", str(tmp_path))
    shown = said(capsys, *asked, "--install")
    assert "the same fit without the embedder:" in shown
    assert f"embedder: {folder}" in shown
    (file,) = tmp_path.glob("tasks-own-*.npz")
    loop, sim = Loop(), Simulator(INSTANT)
    try:
        urls = loop.run(sim.start(0, port_each=True))
        text = config(f"trained: {file}, embedder: {folder}")
        gateway = loop.call(lambda: RunningGateway(text, urls, env=ENV))
        loop.run(gateway.start())
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0)
        answer = client.chat.completions.with_raw_response.create(
            model="auto",
            messages=[{"role": "user", "content": "rootle ticket 77"}],
            extra_body={"headgate": {"details": True}},
        )
        details: dict[str, Any] = answer.parse().model_extra["headgate"]
        assert details["task"]["label"] == "extraction", details
        assert answer.headers["x-headgate-model"] == "claude", details
        assert details["task"]["signals"][0] == BY_MEANING
        told = said(capsys, "explain", "rootle ticket 77", "--url", gateway.url)
        assert "task extraction" in told
        assert BY_MEANING in told
        loop.run(gateway.stop())
    finally:
        loop.run(sim.aclose())
        loop.close()
