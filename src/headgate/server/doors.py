"""Paths → doors. Each door is served with and without `/v1` where that is unambiguous."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headgate.core.dialect import Dialect, Op
from headgate.core.errors import MethodNotAllowed, NotFound
from headgate.dialects.anthropic_messages import DIALECT as ANTHROPIC
from headgate.dialects.gemini import DIALECT as GEMINI
from headgate.dialects.openai_audio import DIALECT as AUDIO
from headgate.dialects.openai_chat import DIALECT as CHAT
from headgate.dialects.openai_completions import DIALECT as COMPLETIONS
from headgate.dialects.openai_embeddings import DIALECT as EMBEDDINGS
from headgate.dialects.openai_images import DIALECT as IMAGES
from headgate.dialects.openai_moderations import DIALECT as MODERATIONS
from headgate.dialects.openai_rerank import DIALECT as RERANK
from headgate.dialects.openai_responses import DIALECT as RESPONSES
from headgate.server.http import Request


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """`what`: ask (a model is called) or the name of another handler. `forward`: request headers that a provider of the
    same dialect may see."""

    name: str
    dialect: Dialect
    what: str = "ask"
    op: Op = "chat"
    forward: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("POST",)


class Match(msgspec.Struct):
    door: Door
    model: str | None = None
    stream: bool | None = None
    array: bool = False
    id: str | None = None


_READ = ("GET", "HEAD")
_ANTHROPIC_FORWARD = ("anthropic-beta", "anthropic-version")
CHAT_DOOR = Door(name="chat", dialect=CHAT)
RESPONSES_DOOR = Door(name="responses", dialect=RESPONSES)
MESSAGES_DOOR = Door(name="messages", dialect=ANTHROPIC, forward=_ANTHROPIC_FORWARD)
COUNT_DOOR = Door(name="count_tokens", dialect=ANTHROPIC, what="count", op="count_tokens", forward=_ANTHROPIC_FORWARD)
GEMINI_DOOR = Door(name="gemini", dialect=GEMINI)
GEMINI_COUNT_DOOR = Door(name="gemini_count", dialect=GEMINI, what="count", op="count_tokens")
EMBEDDINGS_DOOR = Door(name="embeddings", dialect=EMBEDDINGS, op="embeddings")
COMPLETIONS_DOOR = Door(name="completions", dialect=COMPLETIONS, op="completions")
MODERATIONS_DOOR = Door(name="moderations", dialect=MODERATIONS, op="moderations")
IMAGES_DOOR = Door(name="images", dialect=IMAGES, op="images_generations")
IMAGE_EDITS_DOOR = Door(name="images", dialect=IMAGES, op="images_edits")
IMAGE_VARIATIONS_DOOR = Door(name="images", dialect=IMAGES, op="images_variations")
SPEECH_DOOR = Door(name="audio", dialect=AUDIO, op="speech")
TRANSCRIPTIONS_DOOR = Door(name="audio", dialect=AUDIO, op="transcriptions")
TRANSLATIONS_DOOR = Door(name="audio", dialect=AUDIO, op="translations")
RERANK_DOOR = Door(name="rerank", dialect=RERANK, op="rerank")
FILES_DOOR = Door(name="files", dialect=CHAT, what="files", methods=("GET", "POST", "DELETE"))
BATCHES_DOOR = Door(name="batches", dialect=CHAT, what="files", methods=("GET", "POST"))
MODELS_DOOR = Door(name="models", dialect=CHAT, what="models", methods=_READ)
GEMINI_MODELS_DOOR = Door(name="gemini_models", dialect=GEMINI, what="models", methods=_READ)
RESPONSE_DOOR = Door(name="response", dialect=RESPONSES, what="response", methods=(*_READ, "DELETE", "POST"))
TRACE_DOOR = Door(name="trace", dialect=CHAT, what="trace", methods=_READ)
EXPLAIN_DOOR = Door(name="explain", dialect=CHAT, what="explain")
FEEDBACK_DOOR = Door(name="feedback", dialect=CHAT, what="feedback")

_EXACT: Mapping[str, Door] = {
    "/chat/completions": CHAT_DOOR,
    "/responses": RESPONSES_DOOR,
    "/messages": MESSAGES_DOOR,
    "/messages/count_tokens": COUNT_DOOR,
    "/embeddings": EMBEDDINGS_DOOR,
    "/completions": COMPLETIONS_DOOR,
    "/moderations": MODERATIONS_DOOR,
    "/images/generations": IMAGES_DOOR,
    "/images/edits": IMAGE_EDITS_DOOR,
    "/images/variations": IMAGE_VARIATIONS_DOOR,
    "/audio/speech": SPEECH_DOOR,
    "/audio/transcriptions": TRANSCRIPTIONS_DOOR,
    "/audio/translations": TRANSLATIONS_DOOR,
    "/rerank": RERANK_DOOR,
    "/files": FILES_DOOR,
    "/batches": BATCHES_DOOR,
    "/explain": EXPLAIN_DOOR,
    "/feedback": FEEDBACK_DOOR,
    "/models": MODELS_DOOR,
}
_WITH_V1 = {**_EXACT, **{f"/v1{path}": door for path, door in _EXACT.items()}}
_WITH_ID = (
    ("/responses/", RESPONSE_DOOR),
    ("/traces/", TRACE_DOOR),
    ("/files/", FILES_DOOR),
    ("/batches/", BATCHES_DOOR),
)
_GEMINI = {
    "generateContent": (GEMINI_DOOR, False),
    "streamGenerateContent": (GEMINI_DOOR, True),
    "countTokens": (GEMINI_COUNT_DOOR, False),
}
_NOT_SERVED = ("/responses/compact", "/responses/input_tokens")
"""OpenAI's, and no ids of responses."""
_OPERATIONS = {
    name: Door(name=name, dialect=CHAT, what=name, methods=_READ)
    for name in ("livez", "readyz", "health", "metrics", "openapi.json")
}


def match(request: Request) -> Match:
    """Raises NotFound or MethodNotAllowed."""
    path = request.path
    found = _match(path.rstrip("/") if len(path) > 1 else path, request)
    if request.method not in found.door.methods:
        raise MethodNotAllowed(f"this path takes {' and '.join(found.door.methods)}")
    return found


def _match(path: str, request: Request) -> Match:
    if (door := _WITH_V1.get(path)) is not None:
        return Match(door)
    beta = path.startswith("/v1beta/")
    rest = path[7:] if beta else path[3:] if path.startswith("/v1/") else path
    if not beta and (door := _OPERATIONS.get(path[1:])) is not None:
        return Match(door)
    if rest.startswith("/models"):
        return _models(rest, beta, request)
    if rest in _NOT_SERVED:
        raise NotFound(f"{path} is not served here: only the provider's own API has it")
    for prefix, door in _WITH_ID:
        if not beta and rest.startswith(prefix) and rest.count("/") <= 3:
            return Match(door, id=rest[len(prefix) :])
    raise NotFound("there is nothing at this path")


def _models(rest: str, beta: bool, request: Request) -> Match:
    door = GEMINI_MODELS_DOOR if beta else MODELS_DOOR
    if rest == "/models":
        return Match(door)
    if not rest.startswith("/models/"):
        raise NotFound("there is nothing at this path")
    name, colon, method = rest[8:].rpartition(":")
    if colon and method in _GEMINI:
        door, stream = _GEMINI[method]
        array = stream and request.argument("alt") != "sse"
        return Match(door, model=name, stream=stream, array=array)
    return Match(door, id=rest[8:])


def fallback_dialect(path: str, headers: Mapping[str, str]) -> Dialect:
    """In whose words an error is told before (or without) a door."""
    if path.startswith("/v1beta") or "x-goog-api-key" in headers:
        return GEMINI
    if "/messages" in path or "anthropic-version" in headers:
        return ANTHROPIC
    return CHAT
