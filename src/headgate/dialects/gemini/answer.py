"""Complete generateContent answers: JSON ↔ core, and the skim that passthrough needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.chat import ChatRequest, Choice, FinishReason, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.dialect import Facts, Quirks, View
from headgate.core.errors import HeadgateError, UpstreamFault, fault, http_status
from headgate.core.events import ChatAnswer
from headgate.core.usage import Usage
from headgate.dialects.faults import classify
from headgate.dialects.gemini.names import NAME, get
from headgate.dialects.gemini.parse import _Contents
from headgate.dialects.gemini.render import RequestRenderer
from headgate.dialects.jsonio import decode_upstream
from headgate.dialects.residue import extension, leftover, notes_of, rest_of

_FILTERED = (
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MODEL_ARMOR",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "LANGUAGE",
)
FINISH: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "1": "stop",
    "MAX_TOKENS": "length",
    "2": "length",
    **dict.fromkeys(_FILTERED, "content_filter"),
}
NATIVE: Mapping[FinishReason, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "STOP",
    "pause": "STOP",
    "other": "OTHER",
}
STATUS: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ANSWER = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId"})
_CANDIDATE = frozenset({"content", "finishReason", "index", "logprobsResult"})


def finish_of(native: Any, parts: list[Part]) -> FinishReason:
    """STOP is said even where functions were called."""
    reason = FINISH.get(str(native), "other") if native is not None else "stop"
    if reason in ("stop", "other") and any(isinstance(part, ToolCall) for part in parts):
        return "tool_calls"
    return reason


def parse_answer(body: bytes, quirks: Quirks) -> ChatAnswer:
    """Raises the fault that an error inside a 200, or nothing at all, is. A blocked prompt is a filtered answer."""
    raw = decode_upstream(body)
    if isinstance(raw, list) and raw and all(isinstance(x, dict) for x in raw) and "error" in raw[0]:
        raw = raw[0]
    if not isinstance(raw, dict):
        raise fault("invalid_answer", "the provider's answer is not an object")
    if raw.get("error"):
        raise error_of(raw["error"], None, {})
    candidates = raw.get("candidates")
    if not candidates and not raw.get("promptFeedback"):
        raise fault("invalid_answer", "the provider's answer holds no candidates")
    choices = [parse_candidate(c) for c in candidates or []]
    if not choices:
        reason = (raw.get("promptFeedback") or {}).get("blockReason") or "SAFETY"
        choices = [Choice(finish="content_filter", native_finish=reason, extensions=extension(NAME, {}, blocked=True))]
    return ChatAnswer(
        id=raw.get("responseId") or "",
        model=raw.get("modelVersion") or "",
        choices=choices,
        usage=parse_usage(raw.get("usageMetadata")),
        extensions=extension(
            NAME,
            leftover(raw, _ANSWER),
            usage=raw.get("usageMetadata"),
            candidates=None if "candidates" in raw else False,
        ),
    )


def parse_candidate(raw: Any) -> Choice:
    content = raw.get("content") or {}
    reader = _Contents()
    parts = [reader.part(part, "content.parts") for part in content.get("parts") or []]
    native = raw.get("finishReason")
    return Choice(
        parts=parts,
        finish=finish_of(native, parts),
        native_finish=None if native is None else str(native),
        logprobs=raw.get("logprobsResult"),
        extensions=extension(
            NAME,
            leftover(raw, _CANDIDATE),
            index=raw.get("index"),
            content={k: v for k, v in content.items() if k != "parts"} if "content" in raw else None,
            partless=None if content.get("parts") is not None else True,
            native=native,
            form="candidate",
        ),
    )


def parse_usage(raw: Any) -> Usage | None:
    """promptTokenCount includes cached tokens; candidatesTokenCount excludes thoughts; the tokens of tools' results that
    were read come on top (true in all recorded blocks: total = prompt + candidates + thoughts + toolUsePrompt)."""
    if not isinstance(raw, dict):
        return None
    prompt = _count(raw, "promptTokenCount") + _count(raw, "toolUsePromptTokenCount")
    thoughts = _count(raw, "thoughtsTokenCount")
    output = _count(raw, "candidatesTokenCount") + thoughts
    if not prompt and not output:
        return None
    return Usage(
        input=prompt,
        output=output,
        cached_input=min(_count(raw, "cachedContentTokenCount"), prompt),
        reasoning=thoughts,
        audio_input=_audio(raw, "promptTokensDetails"),
        audio_output=_audio(raw, "candidatesTokensDetails"),
    )


def render_usage(usage: Usage) -> dict[str, Any]:
    out = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "totalTokenCount": usage.total,
    }
    if usage.cached_input:
        out["cachedContentTokenCount"] = usage.cached_input
    if usage.reasoning:
        out["thoughtsTokenCount"] = usage.reasoning
    return out


def _count(raw: Any, key: str) -> int:
    value = get(raw, key) if isinstance(raw, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def _audio(raw: dict[str, Any], key: str) -> int:
    rows = get(raw, key)
    found = (
        [row for row in rows if isinstance(row, dict) and row.get("modality") == "AUDIO"]
        if isinstance(rows, list)
        else []
    )
    return sum(_count(row, "tokenCount") for row in found)


def render_answer(answer: ChatAnswer, view: View) -> tuple[dict[str, Any], list[str]]:
    lossy: list[str] = []
    notes = notes_of(answer, NAME)
    out = rest_of(answer, NAME)
    if notes.get("candidates") is None:
        out["candidates"] = [_candidate(choice, index, lossy) for index, choice in enumerate(answer.choices)]
    if notes.get("usage") is not None:
        out["usageMetadata"] = notes["usage"]
    elif answer.usage is not None:
        out["usageMetadata"] = render_usage(answer.usage)
    if answer.model or view.model:
        out["modelVersion"] = answer.model or view.model
    if answer.id or view.id:
        out["responseId"] = answer.id or view.id
    return out, lossy


def _candidate(choice: Choice, index: int, lossy: list[str]) -> dict[str, Any]:
    notes, out = notes_of(choice, NAME), rest_of(choice, NAME)
    parts = [wire for part in choice.parts if (wire := render_part(part, lossy)) is not None]
    if notes.get("form") == "candidate":
        if notes.get("content") is not None:
            out["content"] = dict(notes["content"])
            if parts or not notes.get("partless"):
                out["content"]["parts"] = parts
        if notes.get("index") is not None:
            out["index"] = notes["index"]
        if notes.get("native") is not None:
            out["finishReason"] = notes["native"]
    else:
        out |= {"content": {"parts": parts, "role": "model"}, "finishReason": native_of(choice), "index": index}
    if choice.logprobs is not None:
        if NAME in choice.extensions:
            out["logprobsResult"] = choice.logprobs
        else:
            lossy.append("logprobs")
    return out


def native_of(choice: Choice) -> str:
    return choice.native_finish if choice.native_finish in FINISH and choice.native_finish else NATIVE[choice.finish]


def render_part(part: Part, lossy: list[str]) -> Any:
    """One part of an answer, None where the format has none for it."""
    if isinstance(part, Reasoning) and NAME not in part.extensions:
        if part.encrypted or part.signature:
            lossy.append("reasoning_signature")
        return {"text": part.text, "thought": True} if part.text else None
    if isinstance(part, Text | Refusal) and NAME not in part.extensions:
        if isinstance(part, Text) and part.citations:
            lossy.append("citations")
        signature = part.signature if isinstance(part, Text) else None
        return {"text": part.text, "thoughtSignature": signature} if signature else {"text": part.text}
    if isinstance(part, ToolCall) and NAME not in part.extensions:
        return call_part(part.id, part.name, part.arguments, part.signature)
    if isinstance(part, Opaque) and part.dialect != NAME:
        lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
        return None
    return RequestRenderer(ChatRequest(model="", messages=[], extensions={NAME: {"own": True}}), Quirks())._part(part)


def call_part(call_id: str | None, name: str, arguments: str, signature: str | None) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(arguments or "{}")
    except msgspec.DecodeError:
        value = {"input": arguments}
    call: dict[str, Any] = {"name": name, "args": value if isinstance(value, dict) else {"input": value}}
    if call_id:
        call["id"] = call_id
    out: dict[str, Any] = {"functionCall": call}
    if signature:
        out["thoughtSignature"] = signature
    return out


class _SkimCandidate(msgspec.Struct):
    finishReason: str | int | None = None  # noqa: N815  the wire's name


class _Skim(msgspec.Struct):
    candidates: list[_SkimCandidate] | None = None
    promptFeedback: Any = None  # noqa: N815
    usageMetadata: Any = None  # noqa: N815
    responseId: str | None = None  # noqa: N815
    modelVersion: str | None = None  # noqa: N815
    error: Any = None


_skim = msgspec.json.Decoder(_Skim)


def skim(body: bytes) -> Facts:
    """Facts of one answer or chunk; an error or nothing at all is a fault in it."""
    try:
        raw = _skim.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            parse_answer(body, Quirks())
        except UpstreamFault as error:
            return Facts(error=error)
        return Facts(content=True)
    if raw.error:
        return Facts(error=error_of(raw.error, None, {}))
    native = next((c.finishReason for c in raw.candidates or [] if c.finishReason is not None), None)
    blocked = not raw.candidates and raw.promptFeedback
    finish: str | None = "content_filter" if blocked else None
    if native is not None:
        finish = FINISH.get(str(native), "other")
    return Facts(usage=parse_usage(raw.usageMetadata), finish=finish, id=raw.responseId, model=raw.modelVersion)


def inspect_answer(body: bytes, quirks: Quirks) -> Facts:
    facts = skim(body)
    if facts.error is not None:
        return facts
    if facts.finish is None:
        try:
            answer = parse_answer(body, quirks)
        except UpstreamFault as error:
            return Facts(error=error)
        facts.finish = answer.choices[0].finish
    facts.content = facts.terminal = True
    return facts


_DELAY = re.compile(r"(\d+(?:\.\d+)?)s")


def error_of(raw: Any, status: int | None, headers: Mapping[str, str]) -> UpstreamFault:
    """`{"code", "message", "status", "details": [...]}`; the wait of a 429 stands in a RetryInfo detail."""
    if not isinstance(raw, dict):
        return classify(status=status, headers=headers, message=str(raw)[:500])
    code = raw.get("code")
    details = raw.get("details") if isinstance(raw.get("details"), list) else []
    reason = next((str(d["reason"]) for d in details or [] if isinstance(d, dict) and d.get("reason")), None)
    message = raw.get("message") if isinstance(raw.get("message"), str) else ""
    found = classify(
        status=status if status is not None else code if isinstance(code, int) else None,
        headers=headers,
        message=message or "",
        code=reason,
        type=raw.get("status") if isinstance(raw.get("status"), str) else None,
    )
    wait = next(
        (_DELAY.fullmatch(str(d["retryDelay"])) for d in details or [] if isinstance(d, dict) and "retryDelay" in d),
        None,
    )
    if wait is not None:
        # Gemini words its rate limits as quotas; one that says when to come back is a rate limit.
        kind = "rate_limit" if found.kind == "quota" else found.kind
        after = found.retry_after if found.retry_after is not None else float(wait[1])
        return fault(
            kind, found.message, upstream_status=found.upstream_status, native_code=found.native_code, retry_after=after
        )
    return found


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
    text = body.strip()
    if text.startswith(b"data:"):
        text = text[5:].strip()  # a refused stream tells its error in a frame
    try:
        raw: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = "" if text.startswith(b"<") else text[:500].decode("utf-8", "replace")
        return classify(status=status, headers=headers, message=message)
    if isinstance(raw, list) and raw:
        raw = raw[0]
    return error_of(raw.get("error", raw) if isinstance(raw, dict) else raw, status, headers)


def render_error(error: HeadgateError, request_id: str) -> dict[str, Any]:
    code = http_status(error)
    out: dict[str, Any] = {
        "code": code,
        "message": error.message,
        "status": STATUS.get(code, "INVALID_ARGUMENT" if code < 500 else "INTERNAL"),
    }
    if error.retry_after is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        out["details"] = [{"@type": kind, "retryDelay": f"{error.retry_after:g}s"}]
    return {"error": out}
