"""What docs/routing.md shows in YAML is a configuration that loads."""

from __future__ import annotations

import re
from pathlib import Path

from headgate.config.load import load_text
from support.gateway import ENV

PAGE = Path(__file__).parents[2] / "docs" / "routing.md"


def test_the_pages_yaml_is_a_valid_configuration():
    route, code, learn, cascade = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    base, _, rest = route.partition("        translation:")
    head = "providers: {anthropic: {}, openai: {}, deepseek: {}}\n" + re.sub(r"        code: .*\n", "", base)
    config = load_text(f"{head}{code}        translation:{rest}{learn}{cascade}", "routing.md", ENV).config
    auto, thrifty = config.models["auto"].route, config.models["thrifty"].cascade
    assert auto is not None
    assert thrifty is not None
    assert len(auto.tasks["code"]) == 4
    assert auto.learn.explore == 0.03
    load_text("providers: {anthropic: {}, openai: {}, deepseek: {}}\n" + route, "routing.md", ENV)
