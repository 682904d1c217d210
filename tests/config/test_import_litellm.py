"""LiteLLM's proxy files carried over: valid for us, complete or told, nobody's secret moved about."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.config.errors import ConfigError
from headgate.config.importers.litellm import import_litellm
from headgate.config.load import load_text
from headgate.config.model import Config
from headgate.engine.compile import Compiler

DATA = Path(__file__).parents[1] / "data" / "litellm"
FILES = sorted(path.name for path in DATA.glob("*.yaml"))


def imported(text: str) -> tuple[Config, list[str], list[str]]:
    """What is valid where all variables that it names are set."""
    made = import_litellm(text, "config.yaml")
    names = re.findall(r"\$\{(\w+)\}", made.text)
    env = {name: "https://example.com" if name.endswith("BASE") else f"value-of-{name}" for name in names}
    loaded = load_text(made.text, "headgate.yaml", env)
    Compiler(env).compile(loaded.config)
    return loaded.config, [str(note) for note in made.lost], [str(note) for note in made.changed]


def of_file(name: str) -> tuple[Config, list[str], list[str]]:
    return imported((DATA / name).read_text(encoding="utf-8"))


def models(*items: str, rest: str = "") -> str:
    return "model_list:\n" + "".join(f"  - {item}\n" for item in items) + rest


GPT = "{model_name: gpt, litellm_params: {model: openai/gpt-4o}}"
CLAUDE = "{model_name: claude, litellm_params: {model: anthropic/claude-sonnet-4-5}}"


@pytest.mark.parametrize("name", FILES)
def test_what_is_made_of_a_realistic_file_is_valid(name: str) -> None:
    config, _, _ = of_file(name)
    assert config.models


def test_a_team_s_file() -> None:
    config, lost, changed = of_file("team.yaml")
    eu, us = config.models["gpt-4o-only"].deployments or []
    assert (eu.upstream, eu.weight, us.upstream, us.weight) == ("gpt-4o-eu", 600, "gpt-4o-us", 300)
    assert config.providers[eu.provider].base_url == "https://example.com/openai/v1"
    assert config.providers[us.provider].base_url == "https://us.openai.azure.com/openai/v1"
    key = config.providers[eu.provider].api_key
    assert key is not None
    assert key.reveal() == "value-of-AZURE_EU_KEY"
    assert config.models["gpt-4o-only"].timeout.total == 120.0
    assert config.models["claude-sonnet"].timeout.total == 300.0
    chain = config.models["gpt-4o"].fallback
    assert chain is not None
    assert [target.model for target in chain.order] == ["gpt-4o-only", "claude-sonnet"]
    assert chain.retries == 3
    small = config.models["claude-haiku"].fallback
    assert small is not None
    assert small.move_on == ["context_length"]
    house = config.models["house-llama"]
    assert house.price is not None
    assert (str(house.price.input), str(house.price.output), house.max_context) == ("0.2", "0.6", 131_072)
    assert config.models["claude-sonnet"].extra == {"max_tokens": 4096, "temperature": 0.2}
    assert config.aliases == {"gpt-4": "gpt-4o", "hidden": "claude-haiku"}
    assert config.limits.keys is not None
    assert config.limits.keys.requests_per_minute == 100
    assert config.limits.deployments[f"{eu.provider}/gpt-4o-eu"].requests_per_minute == 600
    assert config.budgets.all is not None
    assert config.budgets.all.monthly is not None
    assert config.budgets.all.monthly.limit == 1000
    assert config.budgets.keys is not None
    assert config.budgets.keys.weekly is not None
    assert config.budgets.tags["product:chat"].daily is not None
    assert config.store.retention == 14 * 86_400
    said = "\n".join(lost)
    for path in (
        "line 37: model_list[5]: bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0",
        "line 47: router_settings.fallbacks[0].gpt-4o: falls back to 'bedrock-claude'",
        "general_settings.master_key",
        "general_settings.database_url",
        "litellm_settings.success_callback",
        "router_settings.cooldown_time",
        "router_settings.redis_host",
        "line 66: environment_variables",
    ):
        assert path in said
    assert "pk-secret" not in import_litellm((DATA / "team.yaml").read_text(), "f").text
    assert any("v1 API" in line for line in changed)


def test_a_cheap_fleet_of_compatible_servers() -> None:
    config, lost, _ = of_file("servers.yaml")
    first, second = config.models["qwen-only"].deployments or []
    assert first.provider != second.provider
    assert {config.providers[d.provider].base_url for d in (first, second)} == {
        "http://gpu-1:8000/v1",
        "http://gpu-2:8000/v1",
    }
    assert config.models["qwen-only"].balance == "least_outstanding"
    assert config.providers["together_ai"].base_url == "https://api.together.xyz/v1"
    assert config.providers["ollama-nas-11434"].base_url == "http://nas:11434/v1"
    assert {name for name, entry in config.models.items() if entry.strategy == "fallback"} == {
        "qwen",
        "small",
        "mixtral",
    }
    assert lost == [
        "line 34: router_settings.retry_policy: retries are told by kind of failure already; their number is the chain's "
        "`retries`"
    ]


def test_credentials_and_anchors_are_resolved() -> None:
    config, lost, _ = of_file("credentials.yaml")
    entry = config.models["mini"]
    assert entry.provider is not None
    provider = config.providers[entry.provider]
    assert provider.base_url == "https://gateway.example.com/v1"
    assert provider.api_key is not None
    assert provider.api_key.reveal() == "value-of-SHARED_KEY"
    assert provider.headers["OpenAI-Organization"].reveal() == "value-of-ORG"
    assert config.models["mini-2"].provider == entry.provider
    assert lost == ["line 7: defaults: there is nothing like it in Headgate's file"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            models("{model_name: x, litellm_params: {model: command-r}}"),
            "line 2: model_list[0]: command-r: the provider",
        ),
        (models("{litellm_params: {model: gpt-4o}}"), "has no model_name"),
        (models("{model_name: x, litellm_params: {model: custom_openai/m}}"), "needs an api_base"),
        (models(GPT, rest="litellm_settings: {max_budget: 5, budget_duration: 12h}"), "not for '12h'"),
        (models(GPT, rest="litellm_settings: {max_budget: much}"), "litellm_settings.max_budget: is no number"),
        (models(GPT, rest="litellm_settings: {num_retries: 2}"), "retries belong to chains"),
        (models(GPT, rest="router_settings: {routing_strategy: custom}"), "router_settings.routing_strategy"),
        (models(GPT, GPT, rest="router_settings: {routing_strategy: cost-based-routing}"), "share by weight"),
        (models(GPT, rest="litellm_settings: {fallbacks: [{gpt: [nobody]}]}"), "'nobody', which was not carried over"),
        (models(GPT, rest="litellm_settings: {fallbacks: [{'*': [gpt]}]}"), "chains are per model"),
        (models(GPT, rest="router_settings: {model_group_alias: {a: nobody}}"), "router_settings.model_group_alias.a"),
        (models("{model_name: x/*, litellm_params: {model: openai/*}}"), "a name with `*`"),
    ],
)
def test_what_cannot_be_said_is_told_with_its_line(text: str, line: str) -> None:
    made = import_litellm(text, "config.yaml")
    assert any(line in str(note) for note in made.lost), made.lost


def test_a_chain_for_refusals_goes_on_after_refusals() -> None:
    rest = "litellm_settings: {fallbacks: [{gpt: [claude]}], content_policy_fallbacks: [{gpt: [claude]}]}"
    chain = imported(models(GPT, CLAUDE, rest=rest))[0].models["gpt"].fallback
    assert chain is not None
    assert "content_policy" in chain.move_on
    assert "timeout" in chain.move_on


def test_a_default_chain_is_every_model_s_and_never_its_own_target() -> None:
    config = imported(models(GPT, CLAUDE, rest="litellm_settings: {default_fallbacks: [claude]}"))[0]
    chain = config.models["gpt"].fallback
    assert chain is not None
    assert [target.model for target in chain.order] == ["gpt-only", "claude"]
    assert config.models["claude"].strategy is None


def test_budgets_of_one_deployment_are_the_model_s() -> None:
    item = "{model_name: gpt, litellm_params: {model: openai/gpt-4o, max_budget: 3, budget_duration: 1d}}"
    config, lost, _ = imported(models(item))
    assert config.budgets.models["gpt"].daily is not None
    assert lost == []
    assert any("one of its deployments" in line for line in imported(models(item, item))[1])


def test_what_is_no_file_of_litellm_s_is_an_error() -> None:
    with pytest.raises(ConfigError, match="model_list"):
        import_litellm("- a\n- b\n", "f.yaml")
    with pytest.raises(ConfigError, match=r"f\.yaml:2"):
        import_litellm("a: 1\na: 2\n", "f.yaml")


def _mappings(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    out = [path] if isinstance(value, dict) else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return out + [found for step, below in inner for found in _mappings(below, (*path, step))]


TEAM = yaml.safe_load((DATA / "team.yaml").read_text(encoding="utf-8"))
NESTED = ("fallbacks", "model_group_alias", "tag_budget_config", "context_window_fallbacks", "environment_variables")
PLACES = [path for path in _mappings(TEAM) if not set(path) & set(NESTED)]


@given(st.sampled_from(PLACES), st.sampled_from(["zzz", "new_setting"]), st.sampled_from(["1", "[a]", "{b: c}"]))
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_in_silence(path: tuple[Any, ...], name: str, value: str) -> None:
    """Whatever LiteLLM invents next, wherever it stands: it is named."""
    data = yaml.safe_load(yaml.safe_dump(TEAM))
    place = data
    for step in path:
        place = place[step]
    place[name] = yaml.safe_load(value)
    made = import_litellm(yaml.safe_dump(data), "config.yaml")
    lost = [note.path for note in made.lost]
    whole = "model_list[5]", "model_list[7]"  # models that are lost are told as such
    shown = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in (*path, name)).lstrip(".")
    assert any(shown == found or (found in whole and shown.startswith(found)) for found in lost), (shown, lost)


def test_the_command_prints_writes_and_never_overwrites(tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "headgate.cli", *arguments],
            capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    file = str(DATA / "servers.yaml")
    code, out, err = run("import", "litellm", file)
    assert code == 0
    assert "retry_policy" in err
    (tmp_path / "made.yaml").write_text(out)
    assert run("check", "made.yaml")[0] == 0
    assert run("import", "litellm", file, "-o", "headgate.yaml")[0] == 0
    assert (tmp_path / "headgate.yaml").read_text() == out
    assert (tmp_path / "headgate.yaml").stat().st_mode & 0o077 == 0, "keys may stand in it"
    assert run("import", "litellm", file, "-o", "headgate.yaml")[0] == 1
    (tmp_path / "headgate.yaml").chmod(0o644)
    assert run("import", "litellm", file, "-o", "headgate.yaml", "--force")[0] == 0
    assert (tmp_path / "headgate.yaml").stat().st_mode & 0o077 == 0
    found = json.loads(run("import", "litellm", file, "--json")[1])
    assert found["lost"][0]["line"] == 34
    assert run("import", "litellm", "nobody.yaml")[0] == 1


def test_a_name_with_a_line_break_stays_inside_its_comment() -> None:
    made = import_litellm(f'{ONE}"x\\nserver: {{drain: 1s}}\\n#": {{y: 1}}\n', "f.yaml")
    assert set(yaml.safe_load(made.text)) == {"providers", "models"}
    assert "server" in made.text, "told all the same"


@pytest.mark.parametrize("value", ["inf", "nan", "1e999"])
def test_what_is_no_finite_number_stays_behind(value: str) -> None:
    _, lost, _ = imported(
        f"{ONE}general_settings: {{max_parallel_requests: {value}}}\nlitellm_settings: {{max_budget: {value}}}\n"
    )
    assert sum("finite" in note for note in lost) == 2


ONE = "model_list:\n- {model_name: a, litellm_params: {model: openai/gpt-4o}}\n"
