"""generationConfig ↔ core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate.core.chat import ChatRequest, OutputFormat, ReasoningOptions
from headgate.core.dialect import Quirks
from headgate.core.errors import InvalidRequest, UnsupportedFeature
from headgate.dialects.gemini.names import NAME, both, camel, forms, get, respell, snake, spelled
from headgate.dialects.gemini.schema import plain_schema
from headgate.dialects.residue import extension, leftover, notes_of

MOST_TOKENS = 10**9
MOST_N = 128
MOST_LOGPROBS = 20
# Effort in OpenAI's words -> thinkingBudget in tokens. The highest is the most that all models take.
BUDGETS = {"none": 0, "minimal": 1024, "low": 2048, "medium": 8192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
LARGEST_BUDGET = 24_576
_LEVELS = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high"}
_FORMAT = both("responseMimeType", "responseSchema", "responseJsonSchema")


def _whole(value: Any) -> int:
    """Proto JSON writes whole numbers as numbers (100, 100.0) or strings."""
    number = float(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or number != int(number):
        raise ValueError
    return int(number)


def _number(value: Any) -> float:
    number = float(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or number - number != 0:
        raise ValueError
    return number


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _strings(value: Any) -> list[str]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError
    return found


# wire name -> (core field, reader, least, most)
_Field = tuple[str, Callable[[Any], Any], float | None, float | None]
_FIELDS: dict[str, _Field] = {
    "maxOutputTokens": ("max_tokens", _whole, 1, MOST_TOKENS),
    "temperature": ("temperature", _number, None, None),
    "topP": ("top_p", _number, None, None),
    "topK": ("top_k", _whole, None, None),
    "stopSequences": ("stop", _strings, None, None),
    "seed": ("seed", _whole, None, None),
    "candidateCount": ("n", _whole, 1, MOST_N),
    "presencePenalty": ("presence_penalty", _number, None, None),
    "frequencyPenalty": ("frequency_penalty", _number, None, None),
    "responseLogprobs": ("logprobs", _flag, None, None),
    "logprobs": ("top_logprobs", _whole, 0, MOST_LOGPROBS),
}
_KINDS = {_whole: "a whole number", _number: "a number", _flag: "true or false", _strings: "a list of strings"}
_KNOWN = both(*_FIELDS)
CORE_NAMES = {field: name for name, (field, *_) in _FIELDS.items()}


def values_of(config: dict[str, Any]) -> dict[str, Any]:
    """Core's fields that are set. Raises InvalidRequest where one does not hold what it must."""
    out: dict[str, Any] = {}
    for name, (field, read, least, most) in _FIELDS.items():
        raw = get(config, name)
        if raw is None:
            continue
        param = f"generationConfig.{name}"
        if (other := snake(name)) != name and name in config and other in config:
            raise InvalidRequest(
                f"{param} is there twice, as {other} too: which of them counts is not known", param=param
            )
        try:
            value = read(raw)
        except (ValueError, OverflowError) as error:
            raise InvalidRequest(f"{param} must be {_KINDS[read]}", param=param) from error
        if (least is not None and value < least) or (most is not None and value > most):
            raise InvalidRequest(f"{param} must be between {least} and {most}", param=param)
        out[field] = value
    return out


def read_config(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(core fields of the request, notes for write_config)."""
    values = values_of(config)
    values["output"] = _read_output(config)
    values["reasoning"] = _read_reasoning(config)
    modalities = get(config, "responseModalities")
    values["modalities"] = [str(m).lower() for m in modalities] if isinstance(modalities, list) else []
    known = _KNOWN if values["output"] is None else _KNOWN | _FORMAT
    odd = {
        name: raw
        for name, (field, *_) in _FIELDS.items()
        if (raw := get(config, name)) is not None and raw != values[field]
    }
    notes = {
        "config_rest": leftover(config, known) or None,
        "config_forms": forms(config, known),
        "config_odd": odd or None,
    }
    return values, notes


def _read_output(config: dict[str, Any]) -> OutputFormat | None:
    mime = get(config, "responseMimeType")
    key = spelled(config, "responseJsonSchema") or spelled(config, "responseSchema")
    if mime != "application/json" and not (key and mime is None):
        return None
    schema = config.get(key) if key else None
    if schema is not None and not isinstance(schema, dict):
        raise InvalidRequest(f"generationConfig.{key} must be an object", param=f"generationConfig.{key}")
    others = {name: config[name] for name in _FORMAT if name in config and camel(name) != "responseMimeType"}
    others.pop(key or "", None)
    notes = extension(
        NAME, {}, key=key, schema=schema, mime=spelled(config, "responseMimeType"), others=others or None, form="own"
    )
    if schema is None:
        return OutputFormat(kind="json_object", extensions=notes)
    return OutputFormat(kind="json_schema", schema=plain_schema(schema), extensions=notes)


def _read_reasoning(config: dict[str, Any]) -> ReasoningOptions | None:
    """For other dialects; this one's own field stays in the rest as it came."""
    raw = get(config, "thinkingConfig")
    if not isinstance(raw, dict):
        return None
    budget, level = get(raw, "thinkingBudget"), get(raw, "thinkingLevel")
    budget = budget if isinstance(budget, int) and not isinstance(budget, bool) else None
    return ReasoningOptions(
        effort=_LEVELS.get(str(level).upper()) if level else None,
        budget=budget if budget is not None and budget > 0 else None,
        enabled=None if budget is None else budget != 0,
        extensions=extension(NAME, {}, own=True),
    )


def write_config(request: ChatRequest, quirks: Quirks, lossy: list[str]) -> dict[str, Any]:
    notes = notes_of(request, NAME)
    out: dict[str, Any] = dict(notes.get("config_rest") or {})
    odd: dict[str, Any] = notes.get("config_odd") or {}
    for name, (field, read, *_) in _FIELDS.items():
        value = getattr(request, field)
        if value not in (None, []):
            out[name] = odd[name] if name in odd and read(odd[name]) == value else value
    _write_output(request, quirks, out)
    if request.modalities and not notes.get("own") and request.modalities != ["text"]:
        out["responseModalities"] = [modality.upper() for modality in request.modalities]
    _write_reasoning(request, out, lossy)
    respell(out, notes.get("config_forms"))
    return out


def _write_output(request: ChatRequest, quirks: Quirks, out: dict[str, Any]) -> None:
    output = request.output
    if output is None or output.kind == "text":
        return
    if output.kind == "json_schema" and not quirks.json_schema:
        raise UnsupportedFeature("this model cannot be held to a JSON schema", param="response_format")
    notes = notes_of(output, NAME)
    if not notes:
        out["responseMimeType"] = "application/json"
        if output.schema is not None:
            out["responseJsonSchema"] = output.schema
        return
    out |= notes.get("others") or {}
    if notes.get("mime"):
        out[notes["mime"]] = "application/json"
    key, schema = notes.get("key"), notes.get("schema")
    if key and plain_schema(schema) == output.schema:
        out[key] = schema
    elif output.schema is not None:
        out["responseJsonSchema"] = output.schema


def _write_reasoning(request: ChatRequest, out: dict[str, Any], lossy: list[str]) -> None:
    options = request.reasoning
    if options is None or notes_of(options, NAME).get("own"):
        return
    budget = options.budget if options.budget is not None else BUDGETS.get(options.effort or "")
    if options.enabled is False:
        budget = 0
    elif budget is None:
        if not options.enabled:
            if options.effort is not None:
                lossy.append("reasoning_effort")  # a word that only its own provider knows
            return
        budget = -1  # as much as the model sees fit
    if budget > LARGEST_BUDGET:
        budget = LARGEST_BUDGET
        lossy.append("reasoning_budget")
    out["thinkingConfig"] = {"thinkingBudget": budget, **({"includeThoughts": True} if budget else {})}
