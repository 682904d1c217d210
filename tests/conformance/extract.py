"""What a recording says, read from its raw JSON by code that shares nothing with the dialects under test.

text, thinking left out · tool calls as (name, arguments as JSON values) · finish in one closed vocabulary · tokens in/out ·
thinking, white space left out (formats cut it into paragraphs differently) · tokens read from a cache.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Said(NamedTuple):
    text: str
    calls: tuple[tuple[str, str], ...]
    finish: str
    tokens: tuple[int, int] | None
    thinking: str = ""
    cached: int = 0
    extras: frozenset[str] = frozenset()
    """Features beyond these that a client found in its answer (names of features.ANSWER)."""


FORMATS = {
    "openai_chat": lambda api: (
        (api.endswith(".chat") and not api.startswith(("cohere", "ollama."))) or api.endswith("openai_chat")
    ),
    "openai_responses": lambda api: api.endswith(".responses"),
    "anthropic_messages": lambda api: api in ("anthropic.messages", "vertexai.anthropic"),
    "gemini": lambda api: api in ("gemini.generateContent", "gemini.streamGenerateContent"),
}


def format_of(api: str) -> str | None:
    return next((name for name, test in FORMATS.items() if test(api)), None)


def canonical(arguments: Any) -> str:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except ValueError:
            return arguments
    return json.dumps(arguments, sort_keys=True)


STREAMS = ("sse", "json_array")
"""Kinds of recordings: as server-sent events, and as the array that Gemini sends without `alt=sse`."""


def frames(body: str) -> list[dict[str, Any]]:
    out = []
    for line in body.replace("\r\n", "\n").split("\n"):
        if line.startswith("data:") and line[5:].strip() not in ("", "[DONE]"):
            out.append(json.loads(line[5:]))
    return out


def said(fmt: str, kind: str, body: str) -> Said | None:
    """None where the recording holds no finished answer of one choice (an error, a cut stream, n > 1: test_several)."""
    whole = json.loads(body) if kind != "sse" else None
    chunks = frames(body) if kind == "sse" else whole if kind == "json_array" else [whole]
    return globals()[f"_{fmt}"](chunks, kind != "json")


def _openai_chat(chunks: list[dict[str, Any]], stream: bool) -> Said | None:
    text, calls, finish, usage, refused, thinking = "", {}, None, None, False, ""
    last, answered = None, False
    for chunk in chunks:
        if chunk.get("error"):
            return None
        answered = answered or bool(chunk.get("choices"))
        for source in (chunk.get("usage"), (chunk.get("x_groq") or {}).get("usage")):
            usage = source or usage
        for choice in chunk.get("choices") or []:
            if choice.get("index"):
                return None
            message = choice.get("delta" if stream else "message") or choice.get("message") or {}
            content = message.get("content")
            thinking += message.get("reasoning_content") or message.get("reasoning") or _thought(content)
            if isinstance(content, list):
                content = "".join(p.get("text", "") for p in content if isinstance(p, dict) and p.get("type") == "text")
            text += (content or "") + (message.get("refusal") or "")
            refused = refused or bool(message.get("refusal"))
            for position, call in enumerate(message.get("tool_calls") or []):
                function = call.get("function") or call.get("custom") or {}
                key = call.get("index")
                if key is None:
                    key = (call.get("id"), position, len(calls)) if call.get("id") or function.get("name") else last
                last = key
                name, arguments = calls.get(key, ("", ""))
                piece = function.get("arguments", function.get("input")) or ""
                calls[key] = (
                    name or function.get("name") or "",
                    arguments + (piece if isinstance(piece, str) else json.dumps(piece)),
                )
            if message.get("function_call"):
                name, arguments = calls.get("legacy", ("", ""))
                call = message["function_call"]
                calls["legacy"] = (name or call.get("name") or "", arguments + (call.get("arguments") or ""))
            finish = choice.get("finish_reason") or finish
    if finish is None and answered and (not stream or chunks[-1].get("usage")):
        finish = "stop"  # Snowflake and some routers never say how it ended
    if not chunks or finish is None:
        return None
    word = {
        "stop": "stop",
        "length": "length",
        "content_filter": "filter",
        "tool_calls": "tools",
        "function_call": "tools",
    }.get(finish, "stop")
    if refused and word == "stop":
        word = "refusal"
    tokens = None
    if usage and usage.get("prompt_tokens") is not None:
        prompt, output = usage["prompt_tokens"], usage.get("completion_tokens") or 0
        reasoning = (
            (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or usage.get("reasoning_tokens") or 0
        )
        total = usage.get("total_tokens") or 0
        if reasoning > output + output // 4 and total <= prompt + output:
            output += reasoning  # more thinking than output cannot be part of it
        elif prompt and output:
            output = max(output, total - prompt)  # what the total holds beyond the parts is thinking too
        tokens = (prompt, output)
    usage = usage or {}
    cached = (
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0
    )
    cached = min(cached or usage.get("num_cached_tokens") or 0, usage.get("prompt_tokens") or 0)  # some count oddly
    return _done(text, calls.values(), word, tokens, thinking, cached)


def _thought(content: Any) -> str:
    """Mistral's thinking: a part of the content that is a list of texts."""
    pieces = (
        [p for p in content if isinstance(p, dict) and p.get("type") == "thinking"] if isinstance(content, list) else []
    )
    return "".join(t.get("text", "") for p in pieces for t in p.get("thinking") or [])


def _openai_responses(chunks: list[dict[str, Any]], stream: bool) -> Said | None:
    if stream:
        ends = [c["response"] for c in chunks if c.get("type") in ("response.completed", "response.incomplete")]
        if not ends:
            return None
        final = dict(ends[-1])
        items = {c["output_index"]: c["item"] for c in chunks if c.get("type") == "response.output_item.done"}
        final["output"] = final.get("output") or [item for _, item in sorted(items.items())]
    else:
        final = chunks[0]
    if final.get("error") or final.get("status") not in ("completed", "incomplete") or "output" not in final:
        return None
    text, calls = "", []
    for item in final["output"]:
        if item.get("type") == "message":
            text += "".join(p.get("text") or p.get("refusal") or "" for p in item["content"])
        elif item.get("type") == "function_call":
            calls.append((item["name"], item.get("arguments") or ""))
        elif item.get("type") == "custom_tool_call":
            calls.append((item["name"], item.get("input") or ""))
    reason = (final.get("incomplete_details") or {}).get("reason")
    refused = any(
        p.get("type") == "refusal" for i in final["output"] if i.get("type") == "message" for p in i["content"]
    )
    word = {"max_output_tokens": "length", "content_filter": "filter"}.get(reason, "refusal" if refused else "stop")
    thinking = "".join(
        piece.get("text") or ""
        for item in final["output"]
        if item.get("type") == "reasoning"
        for piece in [*(item.get("summary") or []), *(item.get("content") or [])]
    )
    usage = final.get("usage") or {}
    tokens = (usage["input_tokens"], usage["output_tokens"]) if usage else None
    cached = (usage.get("input_tokens_details") or {}).get("cached_tokens") or 0
    return _done(text, calls, word, tokens, thinking, cached)


def _anthropic_messages(chunks: list[dict[str, Any]], stream: bool) -> Said | None:
    blocks: dict[int, dict[str, Any]] = {}
    usage: dict[str, Any] = {}
    stop = None
    if stream:
        for event in chunks:
            kind = event.get("type")
            if kind == "error":
                return None
            if kind == "message_start":
                usage.update(event["message"].get("usage") or {})
            elif kind == "content_block_start":
                blocks[event["index"]] = dict(event["content_block"])
            elif kind == "content_block_delta":
                block, delta = blocks[event["index"]], event["delta"]
                if delta["type"] == "text_delta":
                    block["text"] = block.get("text", "") + delta["text"]
                elif delta["type"] == "thinking_delta":
                    block["thinking"] = block.get("thinking", "") + delta["thinking"]
                elif delta["type"] == "input_json_delta":
                    block["json"] = block.get("json", "") + delta["partial_json"]
            elif kind == "message_delta":
                usage.update({k: v for k, v in (event.get("usage") or {}).items() if v is not None})
                stop = event["delta"].get("stop_reason") or stop
        content = [block for _, block in sorted(blocks.items())]
    else:
        body = chunks[0]
        if body.get("type") == "error":
            return None
        content, usage, stop = body["content"], body.get("usage") or {}, body.get("stop_reason")
    if stop is None:
        return None
    text = "".join(b.get("text", "") for b in content if b["type"] == "text")
    calls = [(b["name"], b.get("json") or b.get("input") or {}) for b in content if b["type"] == "tool_use"]
    word = {
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "pause_turn": "pause",
        "refusal": "refusal",
    }.get(stop, "stop")
    thinking = "".join(b.get("thinking") or "" for b in content if b["type"] == "thinking")
    return _done(text, calls, word, anthropic_tokens(usage), thinking, usage.get("cache_read_input_tokens") or 0)


def anthropic_tokens(usage: dict[str, Any]) -> tuple[int, int]:
    """(input, output) that are billed: what compacting the conversation used stands in `iterations` only."""
    of = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    parts = [usage, *(one for one in usage.get("iterations") or [] if one.get("type") == "compaction")]
    return sum(part.get(k) or 0 for part in parts for k in of), sum(part.get("output_tokens") or 0 for part in parts)


def _gemini(chunks: list[dict[str, Any]], stream: bool) -> Said | None:
    text, calls, finish, usage, blocked, thinking = "", [], None, None, False, ""
    for chunk in chunks:
        if chunk.get("error"):
            return None
        usage = chunk.get("usageMetadata") or usage
        blocked = blocked or bool((chunk.get("promptFeedback") or {}).get("blockReason"))
        for candidate in chunk.get("candidates") or []:
            if candidate.get("index"):
                return None
            for part in (candidate.get("content") or {}).get("parts") or []:
                if "functionCall" in part:
                    calls.append((part["functionCall"]["name"], part["functionCall"].get("args") or {}))
                elif part.get("thought"):
                    thinking += part.get("text") or ""
                elif "text" in part:
                    text += part["text"]
            finish = candidate.get("finishReason") or finish
    if finish is None and not blocked:
        return None
    if finish in ("MAX_TOKENS", 2):
        word = "length"
    elif finish in ("STOP", 1):
        word = "stop"
    else:
        word = "filter" if blocked or "TOOL_CALL" not in str(finish) else "stop"
    tokens = None
    if usage and (usage.get("promptTokenCount") or usage.get("candidatesTokenCount")):
        given = (usage.get("promptTokenCount") or 0) + (usage.get("toolUsePromptTokenCount") or 0)
        tokens = (given, (usage.get("candidatesTokenCount") or 0) + (usage.get("thoughtsTokenCount") or 0))
    return _done(text, calls, word, tokens, thinking, (usage or {}).get("cachedContentTokenCount") or 0)


def _done(text: str, calls: Any, word: str, tokens: tuple[int, int] | None, thinking: str, cached: int) -> Said:
    found = tuple((name, canonical(arguments)) for name, arguments in calls if name)  # a call of nothing is none
    word = "tools" if found and word in ("stop", "tools") else word
    return Said(text, found, word, tokens, bare(thinking), cached)


def bare(thinking: str) -> str:
    return "".join(thinking.split())
