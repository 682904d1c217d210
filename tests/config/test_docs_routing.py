"""What docs/routing.md shows in YAML is a configuration that loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headgate.config.load import load_text
from headgate.engine.compile import Compiler
from headgate.strategies.route.classify import Asked
from headgate.strategies.route.route import Route
from support.gateway import ENV

PAGE = Path(__file__).parents[2] / "docs" / "routing.md"


def test_the_pages_yaml_is_a_valid_configuration():
    route, code, own, learn, cascade = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    base, _, rest = route.partition("        translation:")
    head = "providers: {anthropic: {}, openai: {}, deepseek: {}}\n" + re.sub(r"        code: .*\n", "", base)
    config = load_text(f"{head}{code}        translation:{rest}{own}{learn}{cascade}", "routing.md", ENV).config
    auto, thrifty = config.models["auto"].route, config.models["thrifty"].cascade
    assert auto is not None
    assert thrifty is not None
    assert len(auto.tasks["code"]) == 4
    assert auto.embedder == "./models/ours"
    assert auto.learn.explore == 0.03
    load_text("providers: {anthropic: {}, openai: {}, deepseek: {}}\n" + route, "routing.md", ENV)


@pytest.mark.parametrize(
    ("prompt", "label", "model"),
    [
        ("Why does this function return None?", "code", "claude-4.7"),
        ("TL;DR of the minutes, please", "summary", "gpt-5.5"),
        ("Translate this into Dutch: good night", "translation", "gpt-5.5"),
        ("Analyze this financial report", "analysis", "claude-4.7"),
        ("A poem about the sea", "creative", "gemini-3.0"),
        ("What is the time in Oslo?", "unknown", "reliable"),
    ],
)
def test_the_example_of_a_keyword_table_routes_by_its_words(prompt: str, label: str, model: str):
    file = PAGE.with_name("examples") / "keywords.yaml"
    auto = Compiler(ENV).compile(load_text(file.read_text(encoding="utf-8"), str(file), ENV).config).entries["auto"]
    assert isinstance(auto, Route)
    found = auto.classifier.classify(Asked((prompt,)))
    assert found.label == label
    assert (auto.rules[label][0].models[0] if label in auto.rules else auto.otherwise) == model
