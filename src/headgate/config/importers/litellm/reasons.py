"""Why something of LiteLLM's file has no place in ours, and what to do instead."""

from __future__ import annotations

from headgate.config.document import Path

NONE = "there is nothing like it in Headgate's file"
_HEALTH = "health is found out of each deployment's own failures: nothing to set"
_LOGGING = "logs and metrics: GET /metrics, `headgate logs`, the console"
_PLACES: dict[tuple[str, ...], str] = {
    ("environment_variables",): "set them in the environment of headgate; values are not copied",
    ("include",): "the other file is not read: import it as well, and put the results together",
    ("guardrails",): "guards are not built yet",
    ("mcp_servers",): "MCP servers are tools of agents here: `tools: {mcp: …}`",
    (
        "general_settings",
        "master_key",
    ): "the admin token is made at the first start; clients get keys: `headgate keys create`",
    (
        "general_settings",
        "database_url",
    ): "Headgate keeps its own store (`store: {url: postgresql://…}`): a database of its "
    "own, never LiteLLM's; its keys come over by `headgate import litellm-keys`",
    ("general_settings", "completion_model"): "clients name a model; `aliases:` says what their names stand for",
    ("general_settings", "store_prompts_in_spend_logs"): "prompts and answers are not stored",
    ("general_settings", "alerting"): "alerts are not built yet",
    ("litellm_settings", "drop_params"): "always so: what a provider cannot take is named in x-headgate-lossy",
    ("litellm_settings", "cache"): "answers are not cached",
    ("litellm_settings", "cache_params"): "answers are not cached",
    ("litellm_settings", "success_callback"): _LOGGING,
    ("litellm_settings", "failure_callback"): _LOGGING,
    ("litellm_settings", "callbacks"): _LOGGING,
    ("litellm_settings", "service_callbacks"): _LOGGING,
    ("litellm_settings", "set_verbose"): _LOGGING,
    ("litellm_settings", "json_logs"): "logs are JSON",
    (
        "litellm_settings",
        "upperbound_key_generate_params",
    ): "keys are made by operators: nothing bounds them but `limits:` and `budgets:`",
    ("litellm_settings", "allowed_fails"): _HEALTH,
    ("litellm_settings", "cooldown_time"): _HEALTH,
    ("router_settings", "allowed_fails"): _HEALTH,
    ("router_settings", "allowed_fails_policy"): _HEALTH,
    ("router_settings", "cooldown_time"): _HEALTH,
    ("router_settings", "disable_cooldowns"): _HEALTH,
    ("router_settings", "enable_pre_call_checks"): "always so: models whose context is too small are passed over",
    (
        "router_settings",
        "retry_policy",
    ): "retries are told by kind of failure already; their number is the chain's `retries`",
    (
        "router_settings",
        "enable_tag_filtering",
    ): "deployments are not chosen by tags: make entries, and keys that may use them",
    ("router_settings", "provider_budget_config"): "budgets are by key, user, team, model and tag, not by provider",
}
_REDIS = "for several replicas: store: {url: postgresql://…, shared: redis://…}"
_PARAMS = {
    "order": "a fixed order is a chain: entries of their own, and `fallback: [first, second]`",
    "tags": "deployments are not chosen by tags: make entries, and keys that may use them",
    "num_retries": "retries belong to chains: `fallback: {order: …, retries: …}`",
    "max_retries": "retries belong to chains: `fallback: {order: …, retries: …}`",
    "base_model": "the catalogue's price is that of the upstream's own name: give the model a `price:`",
    "id": "deployments are named by provider and upstream",
}


def reason_for(path: Path) -> str:
    names = tuple(str(step) for step in path)
    for length in range(len(names), 0, -1):
        if (found := _PLACES.get(names[:length])) is not None:
            return found
    if "redis" in names[-1]:
        return _REDIS
    if names[0] == "model_list" and (found := _PARAMS.get(names[-1])) is not None:
        return found
    if names[-1].startswith("supports_"):
        return "what a model can do is known from the catalogue (or `features: [tools, vision, …]`)"
    return NONE
