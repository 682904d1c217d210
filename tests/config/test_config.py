"""The configuration: everything readable, everything located, nothing executed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.document import read
from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from headgate.config.values import Secret, duration, size

PROVIDER = "providers: {openai: {}}\n"


def problems(text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "f.yaml", env or {})
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models:\n\ta: {}\n", "f.yaml:2:1"),
        ("models: {a: {provider: openai}, a: {provider: openai}}", "is there twice"),
        ("x: !!python/object:os.system {}", "is not allowed"),
        ("modles: {}", "unknown key 'modles' (did you mean 'models'?)"),
        (PROVIDER + "models: {a: {provider: opnai}}", "there is no provider 'opnai' (did you mean 'openai'?)"),
        (PROVIDER + "models: {a: {fallback: [b]}, b: {fallback: [a]}}", "go round in a circle: a → b → a"),
        (PROVIDER + "models: {a: {provider: openai, fallback: [a]}}", "exactly one strategy"),
        (PROVIDER + "models: {a: {provider: openai, price: {input: 1, output: 2}, cost_per_1k: 1}}", "say the same"),
        (PROVIDER + "models: {a: {provider: openai, timeout: {total: soon}}}", "is no duration"),
        (PROVIDER + "models: {a: }", "an empty section is written {}"),
        ("providers: {openai: {api_key: '${NOPE}'}}", "NOPE is not set"),
        ("guards: {}", "is not built yet"),
        ("limits: {keys: {request_per_minute: 5}}", "(did you mean 'requests_per_minute'?)"),
        ("budgets: {all: {monthly: much}}", "is no amount of money"),
        ("budgets: {all: {yearly: 5}}", "unknown key 'yearly'"),
        ("limits: {models: {clade: {concurrent: 1}}}", "there is no model 'clade'"),
        (
            PROVIDER + "models: {m: {provider: openai}, f: {fallback: [m]}}\nbudgets: {models: {f: {daily: 1}}}",
            "is a strategy",
        ),
        ("teams: {core: }", "an empty section is written {}"),
        (
            PROVIDER + "models: {a: {provider: openai, hedge: {after: 1s}}}",
            "a hedge goes to another deployment",
        ),
        ("tools: {search: {searxng: x}}", "the tool `search` is not built yet"),
        (PROVIDER + "models: {a: {agent: {planner: a, models: [x], autonomy: reversible}}}", "is not built yet"),
        (
            PROVIDER + "models: {m: {provider: openai}, e: {ensemble: {members: [m, f]}}, f: {fallback: [e, m]}}",
            "circle",
        ),
        (
            PROVIDER
            + "models: {m: {provider: openai}, n: {provider: openai}, e: {ensemble: {members: [m, n]}},"
            + " f: {ensemble: {members: [m, e]}}}",
            "ensembles do not nest",
        ),
    ],
)
def test_mistakes_are_told_with_place_and_reason(text, said):
    assert any(said in problem for problem in problems(text)), problems(text)


def test_an_anchor_bomb_is_refused():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{c}: &{c} [{','.join([f'*{p}'] * 10)}]\n" for p, c in zip("abcdefg", "bcdefgh", strict=True)
    )
    assert any("too large" in problem for problem in problems(bomb))


def test_a_bomb_of_merges_is_refused():
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 8)}]}}" for n in range(1, 8))]
    with pytest.raises(ConfigError, match="too large"):
        read("\n".join(lines), "f", None, merge=True)


@pytest.mark.parametrize("text", ["a: " + "[" * 3000, "{a: " * 2000])
def test_what_is_nested_without_end_is_refused(text):
    assert any("nested too deeply" in problem for problem in problems(text))


def test_a_file_of_bytes_is_no_value(tmp_path):
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    assert any("not UTF-8" in problem for problem in problems(f"a: ${{file:{tmp_path}/key}}"))


def test_scalars_stay_text_until_the_schema_types_them():
    config = load_text(
        PROVIDER + "models:\n  4.10: {provider: openai, upstream: 2024-10-21, max_context: 500_000}\n", "f", {}
    ).config
    assert config.models["4.10"].upstream == "2024-10-21"
    assert config.models["4.10"].max_context == 500_000


def test_variables_are_expanded_in_values_after_parsing(tmp_path):
    secret = tmp_path / "key"
    secret.write_text("from-file\n")
    text = f"providers: {{openai: {{api_key: '${{file:{secret}}}', base_url: '${{BASE:-http://x/v1}}'}}}}"
    config = load_text(text, "f", {"INJECT": "}, evil: {"}).config
    assert config.providers["openai"].api_key == Secret("from-file")
    assert config.providers["openai"].base_url == "http://x/v1"
    injected = load_text("providers: {openai: {base_url: '${INJECT}'}}", "f", {"INJECT": "}\nmodels: {x"}).config
    assert injected.providers["openai"].base_url == "}\nmodels: {x"


def test_secrets_never_show_themselves():
    secret = Secret("sk-canary")
    config = load_text("providers: {openai: {api_key: sk-canary, headers: {x: sk-canary}}}", "f", {}).config
    for text in (repr(secret), str(secret), f"{secret}", repr(config), str(config), config.model_dump_json()):
        assert "canary" not in text


def test_people_write_amounts_as_they_like():
    assert duration("1h30m") == 5400
    assert duration("250ms") == 0.25
    assert size("32MB") == 32_000_000
    assert size("64KiB") == 65_536


@given(st.text(max_size=300))
def test_any_text_is_a_configuration_or_a_located_error(text):
    try:
        load_text(text, "f.yaml", {})
    except ConfigError as error:
        if not error.problems:
            raise


def test_limits_budgets_and_teams_read_naturally():
    loaded = load_text(
        """
limits: {all: {concurrent: 500}, keys: {requests_per_minute: 600, tokens_per_minute: 200_000}}
budgets:
  all: {monthly: $1_000}
  keys: {daily: 2.50}
  tags: {project-x: {total: {limit: 100, hard: false}}}
teams: {core: {models: ["claude-*"], budgets: {weekly: 50}}}
""",
        "f.yaml",
        {},
    ).config
    assert loaded.limits.keys is not None
    assert loaded.limits.keys.tokens_per_minute == 200_000
    assert loaded.budgets.all is not None
    assert loaded.budgets.all.monthly is not None
    assert (loaded.budgets.all.monthly.limit, loaded.budgets.all.monthly.hard) == (1000, True)
    total = loaded.budgets.tags["project-x"].total
    assert total is not None
    assert not total.hard
    assert loaded.teams["core"].models == ["claude-*"]


def test_a_stores_password_is_not_shown():
    text = "store: {url: 'postgresql://me:hunter2@db/headgate', shared: 'redis://:hunter2@cache:6379'}"
    store = load_text(text, "t.yaml", {}).config.store
    assert "hunter2" in store.url
    assert "hunter2" not in str(store.model_dump(mode="json"))


@pytest.mark.parametrize(
    "text", ["{url: 'mysql://x/y'}", "{url: sqlite://}", "{retention: 1h}", "{unknown: free}", "{journal: 10KB}"]
)
def test_a_store_that_cannot_be_is_refused(text: str):
    with pytest.raises(ConfigError):
        load_text(f"store: {text}", "t.yaml", {})


def test_rows_may_be_kept_for_ever():
    assert load_text("store: {retention: off}", "t.yaml", {}).config.store.retention is None
    assert load_text("store: {retention: 90d}", "t.yaml", {}).config.store.retention == 90 * 86400


@pytest.mark.parametrize(
    "origin", ["app.example.com", "https://app.example.com/", "https://App.example.com", "https://a, https://b"]
)
def test_an_origin_is_a_scheme_and_a_host(origin):
    with pytest.raises(ConfigError, match="is no origin"):
        load_text(f"server: {{cors: ['{origin}']}}", "t.yaml", {})
    good = ["https://app.example.com", "http://localhost:3000", "*"]
    assert load_text(f"server: {{cors: {good}}}", "t.yaml", {}).config.server.cors == good
