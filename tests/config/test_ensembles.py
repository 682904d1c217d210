"""What an ensemble cannot be is told with file, line and reason, before anything runs."""

import re
from pathlib import Path

import pytest

from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from support.gateway import ENV, EXAMPLE

DOCS = Path(__file__).parents[2] / "docs"

BASE = """providers: {openai: {}}
models:
  m: {provider: openai}
  n: {provider: openai}
  inner: {ensemble: {members: [m, n]}}
"""
AGENT = "  doer: {agent: {planner: m, models: [m, inner]}}\n"
CHAIN = "  chain: {fallback: [m, inner]}\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("  e:\n    ensemble:\n      members: [m, inner]\n", 8, "'inner' leads to another ensemble"),
        (CHAIN + "  e:\n    ensemble:\n      members:\n        - m\n        - chain\n", 11, "'chain' leads to another"),
        (AGENT + "  e: {ensemble: {members: {m: 1, doer: 2}}}\n", 7, "'doer' leads to another ensemble"),
        ("  e:\n    ensemble:\n      members: [m, n]\n      judge: inner\n", 9, "'inner' leads to another ensemble"),
        ("  e: {ensemble: {members: [m, {model: n, role: cheap}]}}\n", 6, "`role` as it stands here is not built yet"),
        ("  e:\n    ensemble:\n      members: [m, n]\n      budget:\n        max_steps: 3\n", 10, "`max_steps` as it"),
        (
            "  e: {ensemble: {members: [m, n], budget: {max_calls: 3}}}\n",
            6,
            "`max_calls` as it stands here is not built",
        ),
        (
            "  e: {ensemble: {members: [{model: m, role: incumbent}, {model: n, role: incumbent}]}}\n",
            6,
            "only one member can be the incumbent",
        ),
        ("  e: {ensemble: {members: [m, n], rounds: 3}}\n", 6, "unknown key 'rounds'"),
        ("  e: {ensemble: {members: [m, n], mode: debate}}\n", 6, "mode"),
        ("  e: {ensemble: {members: [m]}}\n", 6, "at least 2"),
        ("  e: {ensemble: {members: [m, o]}}\n", 6, "there is no model 'o'"),
    ],
)
def test_what_an_ensemble_cannot_be(text, line, said):
    with pytest.raises(ConfigError) as caught:
        load_text(BASE + text, "f.yaml", {"OPENAI_API_KEY": "x"})
    problems = [str(problem) for problem in caught.value.problems]
    assert any(problem.startswith(f"f.yaml:{line}:") and said in problem for problem in problems), problems


@pytest.mark.parametrize("page", ["ensemble.md", "agent.md"])
def test_the_pages_yaml_is_a_valid_configuration(page):
    """In the example's place of the same name."""
    shown = re.search(r"```yaml\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    name = shown[1].partition(":")[0]
    example = re.sub(
        rf"^  {name}:.*?\n(?=\S|\n)", "", EXAMPLE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    entry = "".join(f"  {line}\n" for line in shown[1].splitlines())
    config = load_text(example.replace("\naliases:", f"\n{entry}\naliases:", 1), page, ENV).config
    assert getattr(config.models[name], name if name == "agent" else "ensemble") is not None
