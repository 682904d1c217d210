"""`model_list` → providers and models: entries of one name are the deployments of one model."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.config.document import Path
from headgate.config.importers.litellm.providers import COSTS, Upstream, price_of, upstream_of
from headgate.config.importers.litellm.source import Source, value_of
from headgate.config.values import plain

ONLY = "-only"
"""A model that has a chain of fallbacks under its own name is `NAME-only` itself."""
SHARES = ("rpm", "tpm")
_RATES = {"rpm": "requests_per_minute", "tpm": "tokens_per_minute"}
_ENFORCED = ("usage-based-routing", "usage-based-routing-v2")
_SIZES = {"max_input_tokens": "max_context", "max_output_tokens": "max_output", "max_tokens": "max_output"}
_SILENT = ("mode", "litellm_provider", "db_model", "supports_system_messages")
"""Of `model_info`: what the catalogue and the doors know anyway."""


class Deployment(msgspec.Struct, frozen=True):
    """`key` None: the profile's own variable, or none at all."""

    path: Path
    upstream: Upstream
    key: str | None

    @property
    def params(self) -> Path:
        return (*self.path, "litellm_params")

    @property
    def info(self) -> Path:
        return (*self.path, "model_info")


class Models:
    """`entries`: name → a physical model as our file says it. `limits`: kind → name → rates. `budgeted`: (name, where,
    whether the model has several deployments) of deployments with a budget."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._credentials = _credentials(source)
        self._sections: dict[tuple[Any, ...], str] = {}
        self.renamed: frozenset[str] = frozenset()
        """Those whose name belongs to their chain."""
        self.providers: dict[str, dict[str, Any]] = {}
        self.entries: dict[str, dict[str, Any]] = {}
        self.limits: dict[str, dict[str, dict[str, int]]] = {}
        self.budgeted: list[tuple[str, Path, bool]] = []

    def read(self) -> None:
        groups: dict[str, list[Deployment]] = {}
        for index, item in enumerate(self._source.items("model_list")):
            path: Path = ("model_list", index)
            name = value_of(self._source.take(*path, "model_name")) if isinstance(item, dict) else None
            model = value_of(self._source.take(*path, "litellm_params", "model"))
            if not isinstance(name, str) or not isinstance(model, str):
                self._source.lose(path, "has no model_name, or no litellm_params.model")
            elif "*" in name or "*" in model:
                self._wildcard(path, name, model)
            elif (deployment := self._deployment(path, model)) is not None:
                groups.setdefault(name, []).append(deployment)
        for name, deployments in groups.items():
            self.entries[name] = self._entry(name, deployments)

    def named(self, chains: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """All entries, chains under the names that clients ask for."""
        out: dict[str, dict[str, Any]] = {}
        for name, entry in self.entries.items():
            out[self.physical(name)] = entry
        for name, chain in chains.items():
            out[name] = {"fallback": chain | {"order": [self.physical(target) for target in chain["order"]]}}
        return out

    def physical(self, name: str) -> str:
        return name + ONLY if name in self.renamed else name

    # -- one deployment --------------------------------------------------------------------------------------------------
    def _param(self, path: Path, name: str) -> Any:
        """Of `litellm_params`, or of the credential that they name."""
        own = value_of(self._source.take(*path, "litellm_params", name))
        if own is not None:
            return own
        credential = self._source.take(*path, "litellm_params", "litellm_credential_name")
        return self._credentials.get(credential, {}).get(name) if credential is not None else None

    def _deployment(self, path: Path, model: str) -> Deployment | None:
        source, params = self._source, (*path, "litellm_params")
        base = self._param(path, "api_base") or self._param(path, "base_url")
        upstream = upstream_of(model, source.take(*params, "custom_llm_provider"), base)
        if isinstance(upstream, str):
            source.lose(path, f"{model}: {upstream}")
            return None
        if upstream.azure:
            source.take(*params, "api_version")
            source.change(params, "Azure is asked by its v1 API (…/openai/v1); api_version is not sent")
        key = self._param(path, "api_key")
        if key is not None and "${" not in key:
            source.change((*params, "api_key"), "a key that stands in the file: better ${VARIABLE} or ${file:/path}")
        headers = {name: value_of(value) for name, value in source.section(*params, "extra_headers").items()}
        source.take(*params, "extra_headers")
        if (organization := value_of(source.take(*params, "organization"))) is not None:
            headers["OpenAI-Organization"] = organization
        return self._placed(path, upstream, key, headers)

    def _placed(self, path: Path, upstream: Upstream, key: str | None, headers: dict[str, Any]) -> Deployment:
        """Its provider's section is there afterwards."""
        default = None if upstream.key is None else f"${{{upstream.key}}}"
        own_profile = upstream.section == upstream.kind
        if own_profile and key == default:
            key = None
        elif not own_profile and key is None:
            key = default
        identity = (upstream.kind, upstream.base, *sorted(headers.items()))
        name = self._sections.get(identity)
        if name is None:
            name = upstream.section
            while name in self.providers:
                name += "-2"
            self._sections[identity] = name
            section: dict[str, Any] = {"kind": upstream.kind} if name != upstream.kind else {}
            section |= {"base_url": upstream.base} if upstream.base is not None else {}
            section |= {"headers": headers} if headers else {}
            if not own_profile and key is not None:
                section["api_key"] = key
            self.providers[name] = section
        if self.providers[name].get("api_key") == key:
            key = None
        return Deployment(path, msgspec.structs.replace(upstream, section=name), key)

    def _wildcard(self, path: Path, name: str, model: str) -> None:
        """`openai/*`: direct addressing, where nothing but the provider is named."""
        source = self._source
        prefix, _, rest = model.partition("/")
        base = self._param(path, "api_base")
        upstream = upstream_of(f"{prefix}/any", None, base)
        if rest != "*" or name != model or isinstance(upstream, str):
            source.lose(
                path, "a name with `*`: `PROVIDER/MODEL` works for every provider of the file, other names do not"
            )
            return
        placed = self._placed(path, msgspec.structs.replace(upstream, section=prefix), self._param(path, "api_key"), {})
        if placed.upstream.section != prefix:
            source.change((*path, "model_name"), f"ask for {placed.upstream.section}/MODEL instead of {name}")

    # -- one model -------------------------------------------------------------------------------------------------------
    def _entry(self, name: str, deployments: list[Deployment]) -> dict[str, Any]:
        weights = self._weights(deployments)
        self._rates(name, deployments)
        if len(deployments) == 1 and deployments[0].key is None:
            one = deployments[0].upstream
            entry: dict[str, Any] = {"provider": one.section, "upstream": one.model}
        else:
            entry = {"deployments": []}
            for deployment, weight in zip(deployments, weights, strict=True):
                said: dict[str, Any] = {
                    "provider": deployment.upstream.section,
                    "upstream": deployment.upstream.model,
                }
                said |= {"weight": weight} if weight is not None else {}
                said |= {"api_key": deployment.key} if deployment.key is not None else {}
                entry["deployments"].append(said)
        for found in (self._sizes, self._price, self._timeout, self._concurrency, self._extra):
            entry |= self._agreed(deployments, found)
        for deployment in deployments:
            if self._source.look(*deployment.params, "max_budget") is not None:
                self.budgeted.append((name, deployment.params, len(deployments) > 1))
            for silent in _SILENT:
                self._source.take(*deployment.info, silent)
        return entry

    def _agreed(self, deployments: list[Deployment], find: Any) -> dict[str, Any]:
        """What is said once for all deployments of a model: the first one's word."""
        first: dict[str, Any] = {}
        for number, deployment in enumerate(deployments):
            found = find(deployment)
            if number == 0:
                first = found
            elif found != first:
                what = ", ".join(sorted({*first, *found}))
                self._source.change(
                    deployment.path, f"{what}: said once for all deployments of a model; the first one's"
                )
        return first

    def _sizes(self, deployment: Deployment) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for theirs, ours in _SIZES.items():
            size = self._source.number(*deployment.info, theirs)
            if size:
                out.setdefault(ours, int(size))
        return out

    def _price(self, deployment: Deployment) -> dict[str, Any]:
        costs: dict[str, Any] = {}
        for section in (deployment.info, deployment.params):
            costs |= {name: cost for name in COSTS if (cost := self._source.take(*section, name)) is not None}
        try:
            price = price_of(costs)
        except ValueError as error:
            self._source.lose(deployment.params, str(error))
            return {}
        return {"price": {"input": "0", "output": "0"} | price} if price else {}

    def _timeout(self, deployment: Deployment) -> dict[str, Any]:
        total = self._source.number(*deployment.params, "timeout")
        silence = self._source.number(*deployment.params, "stream_timeout")
        given = {"first_token": silence, "idle": silence, "total": total}
        said = {name: f"{seconds:g}s" for name, seconds in given.items() if seconds}
        return {"timeout": said} if said else {}

    def _concurrency(self, deployment: Deployment) -> dict[str, Any]:
        most = self._source.number(*deployment.params, "max_parallel_requests")
        return {"concurrency": int(most)} if most else {}

    def _extra(self, deployment: Deployment) -> dict[str, Any]:
        """Parameters that its requests carry."""
        given = self._source.section(*deployment.params)
        names = [name for name in given if name in deployment.upstream.parameters]
        extra = {name: plain(value_of(self._source.take(*deployment.params, name))) for name in names}
        if extra:
            self._source.change(
                deployment.params, f"{', '.join(extra)}: sent with every request, also where the client says otherwise"
            )
        return {"extra": extra} if extra else {}

    # -- shares and limits -----------------------------------------------------------------------------------------------
    def _weights(self, deployments: list[Deployment]) -> list[float | None]:
        """`weight`, or what LiteLLM's shuffle takes for one: rpm, or else tpm, where each deployment has it."""
        for name in ("weight", *SHARES):
            found = [self._share(deployment, name) for deployment in deployments]
            if len(deployments) > 1 and any(found):
                if name in SHARES and None in found:
                    continue
                return [1 if share is None else _plain(share) for share in found]
        return [None] * len(deployments)

    def _share(self, deployment: Deployment, name: str) -> float | None:
        own = self._source.number(*deployment.params, name)
        return self._source.number(*deployment.path, name) if own is None else own

    def _rates(self, name: str, deployments: list[Deployment]) -> None:
        """rpm and tpm are limits where LiteLLM's file says that they are kept to."""
        checks = self._source.look("router_settings", "optional_pre_call_checks") or []
        enforced = "enforce_model_rate_limits" in checks
        enforced |= self._source.look("router_settings", "routing_strategy") in _ENFORCED
        names: dict[str, int] = {}
        for deployment in deployments:
            rates = {ours: int(most) for share, ours in _RATES.items() if (most := self._share(deployment, share))}
            if not rates:
                continue
            if not enforced:
                self._source.change(
                    deployment.params,
                    "rpm and tpm become shares of the traffic"
                    if len(deployments) > 1
                    else "rpm and tpm are not kept to by LiteLLM's simple-shuffle either: see `limits:`",
                )
            elif len(deployments) == 1:
                self.limits.setdefault("models", {})[name] = rates
            else:
                shown = f"{deployment.upstream.section}/{deployment.upstream.model}"
                names[shown] = names.get(shown, 0) + 1
                number = names[shown]
                key = shown if number == 1 else f"{shown}#{number}"
                self.limits.setdefault("deployments", {})[key] = rates


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number


def _credentials(source: Source) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for index, item in enumerate(source.items("credential_list")):
        if isinstance(item, dict) and isinstance(item.get("credential_values"), dict):
            source.take("credential_list", index)
            out[item.get("credential_name", "")] = {k: value_of(v) for k, v in item["credential_values"].items()}
    return out
