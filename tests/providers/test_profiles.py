"""The providers that are shipped: each is asked where its own documentation says, with its key where it belongs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from headgate.config.load import load_text
from headgate.engine.compile import Compiler
from headgate.providers.registry import Registry

DOCS = Path(__file__).parents[2]
BEARER = ("authorization", "Bearer sk-x")
REACHED = {
    # profile: (variable of the key, format, where, how the key is sent)
    "openai": ("OPENAI_API_KEY", "openai_chat", "https://api.openai.com/v1", BEARER),
    "anthropic": ("ANTHROPIC_API_KEY", "anthropic_messages", "https://api.anthropic.com/v1", ("x-api-key", "sk-x")),
    "google": (
        "GEMINI_API_KEY", "gemini", "https://generativelanguage.googleapis.com/v1beta", ("x-goog-api-key", "sk-x"),
    ),
    "meta": ("LLAMA_API_KEY", "openai_chat", "https://api.llama.com/compat/v1", BEARER),
    "deepseek": ("DEEPSEEK_API_KEY", "openai_chat", "https://api.deepseek.com/v1", BEARER),
    "mistral": ("MISTRAL_API_KEY", "openai_chat", "https://api.mistral.ai/v1", BEARER),
    "groq": ("GROQ_API_KEY", "openai_chat", "https://api.groq.com/openai/v1", BEARER),
    "xai": ("XAI_API_KEY", "openai_chat", "https://api.x.ai/v1", BEARER),
    "openrouter": ("OPENROUTER_API_KEY", "openai_chat", "https://openrouter.ai/api/v1", BEARER),
    "ollama": (None, "openai_chat", "http://127.0.0.1:11434/v1", None),
    "vllm": (None, "openai_chat", "http://127.0.0.1:8000/v1", None),
}  # fmt: skip


@pytest.mark.parametrize("name", REACHED)
def test_each_is_asked_at_its_own_address_with_its_own_key(name):
    variable, dialect, url, header = REACHED[name]
    env = {"NOBODYS_API_KEY": "sk-other"} | ({variable: "sk-x"} if variable else {})
    config = load_text(f"providers: {{{name}: {{}}}}\nmodels: {{m: {{provider: {name}}}}}\n", "test.yaml", env).config
    model = Compiler(env).compile(config).model("m")
    assert model is not None
    (deployment,) = model.deployments
    endpoint = deployment.endpoints[dialect]
    origin = endpoint.origin
    port = "" if origin.port in (80, 443) else f":{origin.port}"
    assert f"{origin.scheme}://{origin.host}{port}{endpoint.base_path}" == url
    sent = [pair for pair in endpoint.headers if pair[1].endswith("sk-x") or pair[1].endswith("sk-other")]
    assert sent == ([header] if header else [])


def test_those_of_the_contract_are_all_there():
    assert set(REACHED) | {"openai-compatible"} == set(Registry().names())


def test_the_published_table_is_what_the_profiles_say():
    """`make docs` writes it."""
    spec = importlib.util.spec_from_file_location("docs_script", DOCS / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (DOCS / "docs" / "profiles.md").read_text(encoding="utf-8") == script.profiles()
