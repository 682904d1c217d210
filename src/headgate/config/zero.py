"""No file at all: the provider keys in the environment make a working gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from headgate.config.model import Config


class Candidate(msgspec.Struct, frozen=True):
    """A provider that can be used, and its models, best first."""

    provider: str
    models: Sequence[str]


def zero_config(candidates: Sequence[Candidate]) -> Config:
    """Every catalogue model under its own id; `reliable`, `auto`, `careful` and `agent` from the best of each provider.

    With a single model to choose from the strategies are left out: a chain of one is no chain."""
    models: dict[str, object] = {}
    best: list[str] = []
    for candidate in candidates:
        for model in candidate.models:
            models.setdefault(model, {"provider": candidate.provider, "upstream": model})
        if candidate.models:
            best.append(candidate.models[0])
    seconds = [model for candidate in candidates for model in candidate.models[1:2]]
    chain = list(dict.fromkeys([*best, *seconds]))[:4]
    if len(chain) > 1:
        models["reliable"] = {"fallback": chain}
        models["auto"] = {"route": {"tasks": {}, "otherwise": "reliable"}}
        models["careful"] = {"ensemble": {"members": chain[:3], "judge": {"model": chain[-1]}}}
        models["agent"] = {"agent": {"planner": chain[0], "models": chain, "tools": [], "budget": {"max_cost": "2.00"}}}
    providers: Mapping[str, object] = {candidate.provider: {} for candidate in candidates}
    return Config.model_validate({"providers": providers, "models": models})
