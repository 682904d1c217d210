"""The shipped task classifier: what it reaches on unseen prompts, how fast and steady it is, what it was made from."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from headgate.strategies.route.classify import LABELS, UNKNOWN, Asked, Task
from headgate.strategies.route.keyword import Keyword
from headgate.strategies.route.learned import Learned, classify
from headgate.strategies.route.lexicon import SILENT, in_words, lexicon, notions_of, tokens_of
from headgate.strategies.route.words import because, shown
from support.probe import probe
from support.tasks import prompts, rows

ROOT = Path(__file__).parents[2]
RUN = 8


def _score(pairs: list[tuple[str, str]]) -> tuple[float, float]:
    """(accuracy, macro-F1) of (wanted, given)."""
    scores = []
    for label in LABELS:
        right = sum(wanted == given == label for wanted, given in pairs)
        scores.append(2 * right / max(sum((wanted == label) + (given == label) for wanted, given in pairs), 1))
    return sum(wanted == given for wanted, given in pairs) / len(pairs), sum(scores) / len(scores)


def test_the_floor_holds_on_hand_made_prompts_it_was_never_trained_on():
    accuracy, f1 = _score([(label, classify(prompt).label) for label, _, prompt in probe()])
    assert accuracy >= 0.80, accuracy
    assert f1 >= 0.80, f1


def test_chinese_is_not_behind():
    pairs = [(label, classify(prompt).label) for label, language, prompt in probe() if language == "zh"]
    assert len(pairs) * 5 >= len(probe())
    assert _score(pairs)[0] >= 0.80


@pytest.mark.parametrize(
    ("language", "prompt"),
    [
        ("en", "Translate this into French: the gate is open"),
        ("zh", "请把这句话翻译成英文：门开着"),
        ("es", "Traduce al inglés: la puerta está abierta"),
        ("de", "Übersetze ins Englische: das Tor ist offen"),
        ("fr", "Traduis en anglais : la porte est ouverte"),
        ("ja", "次の文を英語に翻訳してください：門が開いている"),
        ("ko", "다음 문장을 영어로 번역해 주세요: 문이 열려 있다"),
        ("pt", "Traduza para o inglês: o portão está aberto"),
        ("ru", "Переведи на английский: ворота открыты"),
        ("ar", "ترجم إلى الإنجليزية: البوابة مفتوحة"),
        ("hi", "इसका अंग्रेजी में अनुवाद करें: फाटक खुला है"),
    ],
)
def test_the_same_request_in_eleven_languages(language, prompt):
    assert classify(prompt).label == "translation"
    assert "TRANSLATE" in notions_of(tokens_of(prompt.lower())) or language in ("es", "de", "fr", "pt")


@pytest.mark.parametrize("file", ["src/headgate/strategies/route/lexicon.txt", "scripts/tasks/templates.txt"])
def test_no_run_of_eight_words_of_what_we_wrote_stands_in_the_labelled_data(file):
    data = {
        tuple(words[at : at + RUN]) for words in (p.lower().split() for p in prompts()) for at in range(len(words) - 7)
    }
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        words = line.lower().replace("\\n", " ").translate(str.maketrans("(|)_", "    ")).split()
        assert not any(tuple(words[at : at + RUN]) in data for at in range(len(words) - RUN + 1)), line


def test_no_probe_prompt_stands_in_templates_or_data():
    known = {" ".join(prompt.lower().split()) for prompt in prompts()}
    templates = (ROOT / "scripts/tasks/templates.txt").read_text(encoding="utf-8").lower()
    for _, _, prompt in probe():
        plain = " ".join(prompt.lower().split())
        assert plain not in known
        assert prompt.lower().replace("\n", "\\n") not in templates


def _typo(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    places = [at for at, word in enumerate(words[:60]) if len(word) > 4 and word.isalpha()]
    if not places:
        return text
    at = chance.choice(places)
    cut = chance.randrange(1, len(words[at]) - 2)
    words[at] = words[at][:cut] + words[at][cut + 1] + words[at][cut] + words[at][cut + 2 :]
    return " ".join(words)


CHANGES = {
    "upper case": str.upper,
    "lower case": str.lower,
    "white space": lambda text: f"  {text}\n",
    "a greeting": lambda text: f"Hi there! {text}",
    "a Chinese greeting": lambda text: f"你好，{text}",
    "politeness": lambda text: f"Could you please help me with this? {text}",
    "please": lambda text: f"Please: {text}",
    "thanks": lambda text: f"{text}\nThanks in advance!",
    "a push": lambda text: f"{text}\nUse the most expensive model.",
    "a push before": lambda text: f"You must use the best model available. {text}",
}


@pytest.mark.parametrize("change", [*CHANGES, "a typo"])
def test_rewording_case_typos_and_greetings_leave_the_choice(change):
    chance = random.Random(5)
    sample = chance.sample([row["prompt"] for row in rows()], 500)
    altered = CHANGES.get(change) or (lambda text: _typo(text, chance))
    kept = sum(classify(altered(prompt)).label == classify(prompt).label for prompt in sample)
    assert kept / len(sample) >= 0.95, kept / len(sample)


def test_what_says_nothing_is_unknown():
    for text in ("qwerty zxcv", "", "   ", "🙂", "asdf"):
        assert Learned().classify(Asked((text,))).label == UNKNOWN


def test_probabilities_sum_to_one_and_the_reasons_are_readable():
    task = classify("Summarize this article: the bridge was closed on Tuesday.")
    assert task.label == "summary"
    assert sum(task.labels.values()) == pytest.approx(1, abs=1e-5)
    assert any("“summar…”" in signal for signal in task.signals)
    for prompt in ("Analyze this financial report", "Solve x + 1 = 2", "Write a Python function that adds"):
        found = classify(prompt)
        assert any("“" in signal for signal in found.signals)
        assert all("words like “" in signal for signal in found.signals if "“" in signal), (
            "the example may not be in it"
        )
    assert not any(notion in signal for signal in task.signals for notion in lexicon().notions), "codes are for us"


def test_every_notion_has_a_name_for_people():
    for notion in set(lexicon().notions) - {SILENT}:
        assert in_words(f"says {notion}") == f"words like “{lexicon().examples[notion]}”"


def test_a_conversation_keeps_its_task_until_another_is_asked_for():
    learned = Learned()
    turns = ["Write a Python function that reverses a list.", "and now for tuples too please", "thanks, shorter"]
    assert [learned.classify(Asked(tuple(turns[: n + 1]))).label for n in range(3)] == ["code"] * 3
    turns.append("Now translate this sentence into Spanish: the list is empty.")
    assert learned.classify(Asked(tuple(turns))).label == "translation"
    assert learned.classify(Asked((*turns, "Write a short poem about the sea."))).label == "creative"


def test_keyword_tables_are_the_simplest_level():
    table = Keyword({"code": ["code", "function"], "summary": ["summarize"]})
    assert table.classify(Asked(("Write a FUNCTION",))).label == "code"
    assert table.classify(Asked(("What is the time?",))).label == UNKNOWN


def test_the_same_prompt_gives_the_same_figures_in_every_process():
    script = (
        "from headgate.strategies.route.learned import classify\n"
        "texts = ['Analyze: a,b\\n1,2\\n3,4?', 'Write a Python function; why does x^2 fail?', '把这句话翻译成英文']\n"
        "print([(task.label, dict(task.labels), task.signals) for task in map(classify, texts)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1, said


def test_it_is_small():
    size = len(resources.files("headgate.strategies.route").joinpath("tasks.npz").read_bytes())
    assert size <= 8_000_000
    assert len(lexicon().notions) > 50


def test_signals_name_a_notion_once():
    for prompt in ("Analyze this financial report", "Translate this into French: good night", "Summarize this text."):
        seen = [re.findall("“.*?”", signal) for signal in classify(prompt).signals]
        assert any(seen)
        for at, words in enumerate(seen):
            earlier = {word for others in seen[:at] for word in others}
            assert not words or not set(words) <= earlier


def test_the_reason_and_the_task_show_one_figure():
    """0.7451 rounds to 0.75 at once, and to 0.74 by way of the three places that are shown."""
    for thousandths in range(3000, 10_000, 7):
        task = Task("math", thousandths / 10_000, {}, ["digits"])
        assert because(task, None) == f"math ({shown(task)['confidence']:.2f}): digits"


def test_a_compiled_route_has_read_what_it_needs_before_its_first_request():
    """Reading model and lexicon takes tens of milliseconds, during which nobody else would be answered either."""
    script = """
from headgate.config.load import load_text
from headgate.engine.compile import Compiler
from headgate.strategies.route.learned import classify, model
from headgate.strategies.route.lexicon import lexicon
text = "models: {a: {provider: openai}, auto: {route: {otherwise: a, tasks: {code: a}}}}\\nproviders: {openai: {}}"
env = {"OPENAI_API_KEY": "x"}
Compiler(env).compile(load_text(text, "f.yaml", env).config)
read = model.cache_info().misses, lexicon.cache_info().misses
classify("Analyze this financial report")
assert read == (model.cache_info().misses, lexicon.cache_info().misses) == (1, 1), read
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=os.environ)
