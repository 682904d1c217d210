"""Which of our providers serves what LiteLLM calls `provider/model`.

Sources: LiteLLM's provider pages (names of prefixes, default environment variables and base URLs), as of October 2026."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

import msgspec

COMPATIBLE = "openai-compatible"


class Vendor(msgspec.Struct, frozen=True):
    """`kind` is our profile; `key` the variable that LiteLLM reads where the file names none; `base` where it differs from
    the profile's; `path` what our base URL has and LiteLLM's does not."""

    kind: str
    key: str | None = None
    base: str | None = None
    path: str = ""


VENDORS: dict[str, Vendor] = {
    "openai": Vendor("openai", "OPENAI_API_KEY"),
    "text-completion-openai": Vendor("openai", "OPENAI_API_KEY"),
    "anthropic": Vendor("anthropic", "ANTHROPIC_API_KEY", path="/v1"),
    "gemini": Vendor("google", "GEMINI_API_KEY"),
    "groq": Vendor("groq", "GROQ_API_KEY"),
    "mistral": Vendor("mistral", "MISTRAL_API_KEY"),
    "deepseek": Vendor("deepseek", "DEEPSEEK_API_KEY"),
    "xai": Vendor("xai", "XAI_API_KEY"),
    "openrouter": Vendor("openrouter", "OPENROUTER_API_KEY"),
    "meta_llama": Vendor("meta", "LLAMA_API_KEY"),
    "ollama": Vendor("ollama", path="/v1"),
    "ollama_chat": Vendor("ollama", path="/v1"),
    "hosted_vllm": Vendor("vllm"),
    "vllm": Vendor("vllm"),
    "custom_openai": Vendor(COMPATIBLE),
    "litellm_proxy": Vendor(COMPATIBLE),
    "lm_studio": Vendor(COMPATIBLE, base="http://127.0.0.1:1234/v1"),
    "together_ai": Vendor(COMPATIBLE, "TOGETHERAI_API_KEY", "https://api.together.xyz/v1"),
    "fireworks_ai": Vendor(COMPATIBLE, "FIREWORKS_API_KEY", "https://api.fireworks.ai/inference/v1"),
    "perplexity": Vendor(COMPATIBLE, "PERPLEXITYAI_API_KEY", "https://api.perplexity.ai"),
    "cerebras": Vendor(COMPATIBLE, "CEREBRAS_API_KEY", "https://api.cerebras.ai/v1"),
    "deepinfra": Vendor(COMPATIBLE, "DEEPINFRA_API_KEY", "https://api.deepinfra.com/v1/openai"),
    "nvidia_nim": Vendor(COMPATIBLE, "NVIDIA_NIM_API_KEY", "https://integrate.api.nvidia.com/v1"),
    "sambanova": Vendor(COMPATIBLE, "SAMBANOVA_API_KEY", "https://api.sambanova.ai/v1"),
    "moonshot": Vendor(COMPATIBLE, "MOONSHOT_API_KEY", "https://api.moonshot.ai/v1"),
}
AZURE = ("azure", "azure_text")
_BARE = (
    (re.compile(r"(gpt-|chatgpt-|o[134](-|$)|text-embedding-|dall-e|gpt-image|whisper|tts-)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
)
"""Models that LiteLLM knows without a prefix."""
_ALL_OPENAI = frozenset(
    {
        "temperature", "top_p", "max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty", "seed",
        "stop", "user", "logprobs", "top_logprobs", "reasoning_effort", "service_tier", "verbosity",
    }
)  # fmt: skip
PARAMETERS: dict[str, frozenset[str]] = {
    "anthropic": frozenset({"temperature", "top_p", "top_k", "max_tokens", "thinking"}),
    "google": frozenset(),
}
"""Parameters of requests that mean the same in the provider's own format, by profile; others take OpenAI's."""


class Upstream(msgspec.Struct, frozen=True):
    """`section` names the provider's section; `key` is the variable that is read where the file names none."""

    section: str
    kind: str
    model: str
    key: str | None
    base: str | None = None
    azure: bool = False

    @property
    def parameters(self) -> frozenset[str]:
        return PARAMETERS.get(self.kind, _ALL_OPENAI)


def upstream_of(model: str, provider: str | None, base: str | None) -> Upstream | str:
    """Whom `model` asks at the base URL that the file names, if any; or why nobody of ours is."""
    prefix, slash, rest = model.partition("/")
    if provider is not None:
        prefix, rest = provider, rest if slash and prefix == provider else model
    elif not slash or (prefix not in VENDORS and prefix not in AZURE and base is not None):
        found = next((name for pattern, name in _BARE if pattern.match(model)), None)
        if found is None and base is None:
            return f"the provider of {model!r} cannot be told from its name"
        prefix, rest = found or "openai", model
    if prefix in AZURE:
        return _azure(rest, base)
    vendor = VENDORS.get(prefix)
    if vendor is None:
        return f"Headgate has no provider for {prefix!r}"
    if vendor.kind == "openai" and base is not None and urlsplit(base).hostname != "api.openai.com":
        vendor = Vendor(COMPATIBLE, vendor.key)
    if base is None:
        if vendor.kind == COMPATIBLE and vendor.base is None:
            return f"{prefix!r} needs an api_base"
        section = prefix if vendor.kind == COMPATIBLE else vendor.kind
        return Upstream(section, vendor.kind, rest, vendor.key, vendor.base)
    if vendor.kind == "google":
        return "Gemini at another address speaks in ways that LiteLLM's file does not tell"
    base = base.rstrip("/")
    if vendor.path and not base.endswith(vendor.path):
        base += vendor.path
    return Upstream(_section(vendor.kind, base), vendor.kind, rest, vendor.key, base)


def _azure(model: str, base: str | None) -> Upstream:
    """Azure's v1 API is OpenAI's, with deployments as models; api-version is not sent."""
    base = (base or "${AZURE_API_BASE}").rstrip("/")
    if not base.endswith("/openai/v1"):
        base = base.removesuffix("/openai") + "/openai/v1"
    return Upstream(_section("azure", base), COMPATIBLE, model, "AZURE_API_KEY", base, azure=True)


def _section(kind: str, base: str) -> str:
    """A name for the server at `base`: `https://eu.example.com:8000/v1` → `eu-example-com-8000`."""
    place = re.sub(r"^\w+://", "", base).partition("/")[0]
    slug = re.sub(r"[^a-z0-9]+", "-", place.lower()).strip("-") or "server"
    if slug.startswith(kind):
        return slug
    if kind == COMPATIBLE:
        return slug if slug[0].isalpha() else f"at-{slug}"
    return f"{kind}-{slug}"


def price_of(costs: dict[str, Any]) -> dict[str, str]:
    """LiteLLM's US$ per token → US$ per million, under our names. Raises ValueError where one is no number."""
    out: dict[str, str] = {}
    for theirs, ours in COSTS.items():
        if costs.get(theirs) is not None:
            try:
                amount = Decimal(str(costs[theirs])) * 1_000_000
            except InvalidOperation as error:
                raise ValueError(f"{theirs} is no number") from error
            text = f"{amount.normalize():f}"
            out[ours] = text
    return out


COSTS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
}
