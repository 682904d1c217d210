"""Names of OpenTelemetry's conventions that we use, in one table: the GenAI ones are still in development, and change.

They are those of semantic conventions 1.41.1, the last release that held the GenAI ones. What the conventions have no name
for is `headgate.*`.
"""

from __future__ import annotations

SCHEMA = "https://opentelemetry.io/schemas/1.41.1"
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
"""Seconds."""
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION = "gen_ai.usage.cache_creation.input_tokens"
TOKEN_TYPE = "gen_ai.token.type"
ERROR = "error.type"
STATUS = "http.response.status_code"
DURATION_METRIC = "gen_ai.client.operation.duration"
TOKENS_METRIC = "gen_ai.client.token.usage"

SECONDS = tuple(0.01 * 2**n for n in range(14))
"""Bounds that the conventions advise for durations: 0.01 to 81.92."""
TOKENS = tuple(4.0**n for n in range(14))
"""And for tokens: 1 to 67,108,864."""

_PROVIDERS = {
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
_OPERATIONS = {
    "responses": "chat",
    "messages": "chat",
    "library": "chat",
    "shadow": "chat",
    "judge": "chat",
    "gemini": "generate_content",
    "completions": "text_completion",
}


def provider(name: str) -> str:
    """The well-known name of a provider's entry, where the two differ."""
    return _PROVIDERS.get(name, name)


def operation(door: str) -> str:
    return _OPERATIONS.get(door, door)
