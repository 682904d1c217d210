"""Mistakes in a route, a cascade or an experiment: each is told at its place, with what to write instead; none is a rule
that silently never counts."""

from __future__ import annotations

import pytest

from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from support.gateway import ENV

HEAD = """
providers: {anthropic: {}, openai: {}, deepseek: {zone: eu}}
models:
  strong: {provider: anthropic, upstream: claude-opus-4-7, capabilities: [code, analysis], cost_per_1k: 0.015}
  middle: {provider: openai, upstream: gpt-5.5, capabilities: [vision], cost_per_1k: 0.010}
  cheap: {provider: deepseek, upstream: deepseek-chat, cost_per_1k: 0.001}
  chain: {fallback: [middle, cheap]}
"""


def told(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load_text(HEAD + text, "f.yaml", ENV)
    (problem,) = raised.value.problems
    assert (problem.file, problem.line >= 8, problem.column > 1) == ("f.yaml", True, True)
    return problem.message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            "tasks: {coding: strong}",
            "no request is ever named 'coding' (did you mean 'code'?): tasks are code, summary,",
        ),
        ("tasks: {Summary: strong}", "did you mean 'summary'?"),
        ("code: strong", "unknown key 'code': rules stand under `tasks:`, as `tasks: {code: ...}`"),
        ("tasks: [code]", "each with a name of your own, NAME: ..."),
        ("tasks: {code: [strong, middle]}", "Candidates of one rule are written `models: [...]`"),
        ("tasks: {code: [strong, {model: middle, tags: [x]}]}", "those after it never count"),
        ("tasks: {code: {models: strong}}", "a list is expected here: [strong]"),
        ("tasks: {code: {models: []}}", "at least 1 is needed here, not 0"),
        ("tasks: {code: {models: [strong, strong]}}", "`models` names one twice"),
        ("tasks: {code: {model: strong, zone: private}}", "no model is in the zone 'private': there are eu"),
        ("tasks: {code: {model: strong, capabilities: [cod]}}", "has the capability 'cod' (did you mean 'code'?)"),
        ("tasks: {code: {model: strong, hours: '8-18'}}", "'8-18' is not of the form that is read here: `08:00-18:00`"),
        ("tasks: {code: {model: strong, temperature: 20}}", "at most 2 is expected here, not '20'"),
        ("tasks: {code: {model: strong, max_tokens: 0}}", "at least 1 is expected here, not '0'"),
        ("tasks: {code: {model: strong, downgrade: cheap}}", "a list is expected here: [cheap]"),
        ("tasks: {code: {model: strong, downgrade: [strong]}}", "the rule's only model: name cheaper ones"),
        ("tasks: {code: {model: strong, downgrade: [chain]}}", "'chain', a strategy, whose cost is not its own"),
        ("tasks: {code: {model: strong, choose: {at_least: 80}}}", "not '80': a part of one, as 0.8 for 80 %"),
        ("tasks: {code: {model: strong, choose: {at_least: 80%}}}", "not '80%': a part of one, as 0.8 for 80 %"),
        ("tasks: {code: {model: strong, choose: {at_least: 0.8, cost: 1}}}", "weights are not looked at beside it"),
        ("tasks: {code: {model: strong, choose: {quality: 0}}}", "all weights are 0: nothing would choose"),
        (
            "tasks: {code: {model: strong, choose: {speed: 1}}}",
            "unknown key 'speed': known are quality, cost, latency,",
        ),
        ("tasks: {code: {model: strong, max_cost: 1, choose: {max_cost: 1}}}", "it means the same: leave one out"),
        ("model: cheap", "`model:` is of the model that classifies: it needs `classifier: model`"),
        ("deadline: 1s", "`deadline:` is of the model that classifies"),
        ("{classifier: model, model: cheap, deadline: 0s}", "more than 0 is expected here, not '0s'"),
        ("classifier: keyword", "`classifier: keyword` needs `keywords:`, as in {code: [python, function]}"),
        ("keywords: {code: [python]}", "`keywords:` needs `classifier: keyword`; this route has `classifier: learned`"),
        ("{classifier: keyword, keywords: {code: ['']}}", "an empty text says nothing here"),
        ("{classifier: keyword, keywords: {a: [b]}, tasks: {c: cheap}}", "'c': it has no words under `keywords:`"),
        ("learn: {judge: cheap}", "a section (key: value) is expected here: {model: ..., daily: ...}"),
        ("learn: {explore: 5%}", "a number is expected here, not '5%': a part of one, as 0.05 for 5 %"),
    ],
)
def test_a_routes_mistake_is_told_with_what_to_write(settings: str, says: str) -> None:
    inner = settings[1:-1] if settings.startswith("{") else settings
    assert says in told(f"  auto: {{route: {{otherwise: chain, {inner}}}}}\n")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("cascade: {try: [cheap]}", "at least 2 are needed here, not 1"),
        ("cascade: [cheap, strong]", "a section (key: value) is expected here: {try: ...}"),
        ("cascade: {try: [cheap, strong], accept: {schema: {type: objekt}}}", "no JSON Schema at type: 'objekt'"),
        ("cascade: {try: [cheap, strong], accept: {code: python}}", "true or false is expected here, not 'python'"),
        ("experiment: {arms: {a: strong, b: {model: cheap, share: 5}}}", "not '5': a part of one, as 0.05 for 5 %"),
        ("experiment: {arms: [strong, cheap]}", "each with a name of your own, NAME: ..."),
        ("experiment: {arms: {a: strong, b: {model: cheap, temperature: 3}}}", "at most 2 is expected here, not '3'"),
        ("route: {otherwise: [strong, cheap]}", "one name or text is expected here, not a list"),
    ],
)
def test_other_strategies_mistakes_too(entry: str, says: str) -> None:
    assert says in told(f"  wrong: {{{entry}}}\n")


def test_what_is_meant_is_taken() -> None:
    """A rule for what nobody can name, own labels with words for them, a default rule after those with conditions, and a
    downgrade to one of several candidates."""
    text = """
  named:
    route:
      otherwise: chain
      tasks:
        unknown: cheap
        code:
          - {model: strong, tags: [release], capabilities: [code], zone: eu}
          - {models: [strong, middle], capabilities: [vision], downgrade: [middle, cheap]}
  worded: {route: {classifier: keyword, keywords: {poem: [rhyme]}, tasks: {poem: cheap}, otherwise: chain}}
"""
    assert set(load_text(HEAD + text, "f.yaml", ENV).config.models) >= {"named", "worded"}
