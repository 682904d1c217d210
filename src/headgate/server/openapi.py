"""The data plane's doors as OpenAPI 3.1. Bodies are the providers' own formats: only what we look at is spelt out."""

from __future__ import annotations

from typing import Any

from headgate import __version__

_JSON = "application/json"


def _body(required: list[str], **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties, "additionalProperties": True}
    return {"required": True, "content": {_JSON: {"schema": schema}}}


def _answers(*, stream: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {_JSON: {}}
    if stream:
        content["text/event-stream"] = {}
    error = {"description": "An error in this door's own shape.", "content": {_JSON: {}}}
    return {"200": {"description": "As the provider's own API answers.", "content": content}, "default": error}


def _post(summary: str, body: dict[str, Any], *, stream: bool = False, path: tuple[str, ...] = ()) -> dict[str, Any]:
    out: dict[str, Any] = {"summary": summary, "requestBody": body, "responses": _answers(stream=stream)}
    if path:
        out["parameters"] = [_in_path(name) for name in path]
    return {"post": out}


def _form(summary: str, *files: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": _MODEL, **{name: {"type": "string"} for name in files}}
    schema = {"type": "object", "properties": fields, "additionalProperties": True}
    return _post(summary, {"required": True, "content": {"multipart/form-data": {"schema": schema}}})


def _get(summary: str, *path: str) -> dict[str, Any]:
    return {"get": {"summary": summary, "parameters": [_in_path(name) for name in path], "responses": _answers()}}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


_MODEL: dict[str, Any] = {"type": "string", "minLength": 1}
_MESSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {"role": {"enum": ["system", "user", "assistant"]}, "content": {"type": "string"}},
}
_MESSAGES: dict[str, Any] = {"type": "array", "minItems": 1, "items": _MESSAGE}
_TOKENS: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 1_000_000_000}
_HEADGATE: dict[str, Any] = {
    "type": "object",
    "description": "What is asked of the gateway itself; never sent on.",
    "properties": {"details": {"type": "boolean"}, "timeout": {"type": "string"}, "max_cost": {"type": "string"}},
    "additionalProperties": False,
}
_CHAT = _body(
    ["model", "messages"],
    model=_MODEL,
    messages=_MESSAGES,
    stream={"type": "boolean"},
    max_tokens=_TOKENS,
    temperature={"type": "number"},
    headgate=_HEADGATE,
)
_CONTENT: dict[str, Any] = {
    "type": "object",
    "required": ["parts"],
    "properties": {
        "role": {"enum": ["user", "model"]},
        "parts": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
        },
    },
}
_GEMINI = _body(["contents"], contents={"type": "array", "minItems": 1, "items": _CONTENT})
_MESSAGES_BODY: dict[str, Any] = {"model": _MODEL, "messages": {**_MESSAGES}, "max_tokens": _TOKENS}
_EMBED: dict[str, Any] = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]
}

DATA_PLANE: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Headgate data plane", "version": __version__},
    "components": {
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            "x-goog-api-key": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
        }
    },
    "paths": {
        "/v1/chat/completions": _post("OpenAI chat.", _CHAT, stream=True),
        "/v1/responses": _post(
            "OpenAI Responses.",
            _body(["model", "input"], model=_MODEL, input={"type": "string"}, stream={"type": "boolean"}),
            stream=True,
        ),
        "/v1/responses/{id}": {
            **_get("A response that its provider has stored.", "id"),
            "delete": _get("Forget it.", "id")["get"],
        },
        "/v1/responses/{id}/cancel": {"post": _get("End one that runs in the background.", "id")["get"]},
        "/v1/messages": _post("Anthropic messages.", _body(["model", "messages"], **_MESSAGES_BODY), stream=True),
        "/v1/messages/count_tokens": _post(
            "Anthropic token count.", _body(["model", "messages"], model=_MODEL, messages=_MESSAGES)
        ),
        "/v1beta/models/{model}:generateContent": _post("Gemini.", _GEMINI, path=("model",)),
        "/v1beta/models/{model}:streamGenerateContent": _post(
            "Gemini, streamed.", _GEMINI, stream=True, path=("model",)
        ),
        "/v1beta/models/{model}:countTokens": _post("Gemini token count.", _GEMINI, path=("model",)),
        "/v1/embeddings": _post("OpenAI embeddings.", _body(["model", "input"], model=_MODEL, input=_EMBED)),
        "/v1/completions": _post(
            "Plain completions, where the model's provider has them.",
            _body(["model", "prompt"], model=_MODEL, prompt=_EMBED, stream={"type": "boolean"}),
            stream=True,
        ),
        "/v1/moderations": _post("Moderations, passed through.", _body(["input"], model=_MODEL, input=_EMBED)),
        "/v1/images/generations": _post(
            "Images, passed through.", _body(["model", "prompt"], model=_MODEL, prompt={"type": "string"})
        ),
        "/v1/images/edits": _form("Edited images, passed through.", "image", "prompt"),
        "/v1/images/variations": _form("Variations of an image, passed through.", "image"),
        "/v1/audio/speech": _post(
            "Speech, passed through: the answer is sound.",
            _body(["model", "input"], model=_MODEL, input={"type": "string"}, voice={"type": "string"}),
        ),
        "/v1/audio/transcriptions": _form("Transcriptions, passed through.", "file"),
        "/v1/audio/translations": _form("Translations of speech, passed through.", "file"),
        "/v1/rerank": _post(
            "Documents in the order of their relevance.",
            _body(["model", "query", "documents"], model=_MODEL, query={"type": "string"}, documents=_EMBED),
        ),
        "/v1/files": {
            **_get("My files at their provider (`?provider=`)."),
            **_form("A file for its provider.", "file"),
        },
        "/v1/files/{id}": _get("One of my files.", "id"),
        "/v1/files/{id}/content": _get("Its content.", "id"),
        "/v1/batches": {
            **_get("My batches at their provider (`?provider=`)."),
            **_post("A batch, at the provider that holds its file.", _body(["input_file_id"], input_file_id=_MODEL)),
        },
        "/v1/batches/{id}": _get("One of my batches.", "id"),
        "/v1/models": _get(
            "What may be asked for; Anthropic's shape with `anthropic-version`, Google's with `x-goog-api-key`."
        ),
        "/v1/models/{id}": _get("One of them.", "id"),
        "/v1beta/models": _get("The same in Google's shape."),
        "/v1/traces/{id}": _get("What happened to one of my own requests, decision by decision.", "id"),
        "/v1/explain": _post("What would be chosen, why, at what predicted cost; no model is called.", _CHAT),
        "/v1/feedback": _post(
            "What an answer was worth.",
            _body(["trace"], trace={"type": "string"}, score={"type": "number"}, thumbs={"enum": ["up", "down"]}),
        ),
        "/livez": _get("The process answers."),
        "/readyz": _get("New requests are welcome."),
        "/health": _get("Models and their deployments' health."),
    },
}
