"""Which providers the environment can reach, and their best models."""

from __future__ import annotations

from collections.abc import Mapping

from headgate.catalog.catalog import listed_models, lookup
from headgate.config.model import Config
from headgate.config.zero import Candidate, zero_config
from headgate.providers.registry import Registry, find_key

MOST_MODELS = 60
# The model of each provider that stands for it in chains, as of the snapshot's date; a name that the catalogue does not
# list is passed over.
_BEST = {
    "openai": ("gpt-5.5", "gpt-5.4", "gpt-5"),
    "anthropic": ("claude-opus-4-7", "claude-opus-4-6", "claude-sonnet-4-6"),
    "google": ("gemini-3-pro-preview", "gemini-2.5-pro"),
    "deepseek": ("deepseek-chat",),
    "x-ai": ("grok-4",),
    "mistral": ("mistral-large-latest",),
}


def config_from_environment(env: Mapping[str, str], registry: Registry | None = None) -> Config:
    """Empty where no key is found."""
    candidates: list[Candidate] = []
    for profile in registry or Registry(env.get("HEADGATE_PROFILES")):
        reachable = bool(find_key(profile, env)) or bool(profile.base_url_env and env.get(profile.base_url_env))
        if not reachable or not (profile.base_url or profile.base_url_env):
            continue
        names = _models_of(profile.catalogue) if profile.catalogue else []
        candidates.append(Candidate(profile.name, names))
    return zero_config(candidates)


def _models_of(catalogue: str) -> list[str]:
    listed = [name for name in listed_models(catalogue) if "embed" not in name]
    best = [name for name in _BEST.get(catalogue, ()) if lookup(catalogue, name).price is not None]
    return list(dict.fromkeys([*best, *listed]))[:MOST_MODELS]
