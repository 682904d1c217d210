"""The JSON Schema of the configuration file, from the types themselves."""

from __future__ import annotations

from typing import Any

from headgate.config.model import Config

ADDRESS = "headgate.schema.json"


def json_schema() -> dict[str, Any]:
    schema = Config.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": ADDRESS, "title": "Headgate", **schema}
