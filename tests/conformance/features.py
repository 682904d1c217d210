"""Which features of its format a recording uses, read from its raw JSON by code that shares nothing with the dialects.

Answers and requests have vocabularies of their own, in the order in which the grid shows them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from conformance.extract import Said, frames

ANSWER = (
    "whole answers",
    "streams",
    "text",
    "tool calls",
    "parallel tool calls",
    "thinking",
    "stopped by length",
    "content filter",
    "refusal",
    "pause",
    "token counts",
    "cached tokens",
    "citations",
    "server-side tools",
    "images made",
    "logprobs",
)
REQUEST = (
    "system text",
    "earlier turns",
    "tools",
    "tool choice",
    "tool results",
    "server-side tools",
    "images by data",
    "images by URL",
    "documents",
    "audio",
    "video",
    "JSON schema",
    "thinking asked for",
    "thinking sent back",
    "stop sequences",
    "temperature",
    "seed",
    "n > 1",
    "logprobs",
    "cache marks",
    "other fields",
)


def of_answer(want: Said, kind: str, body: str) -> set[str]:
    found = {"whole answers" if kind == "json" else "streams"}
    found |= {name for name, there in _said(want).items() if there}
    return found | extras(frames(body) if kind == "sse" else json.loads(body))


def extras(answer: Any) -> frozenset[str]:
    """What an answer's JSON, of any of the formats, holds beyond words, calls, finish and counts."""
    return frozenset(name for node in _objects(answer) for name in _answer_node(node))


def _said(want: Said) -> dict[str, bool]:
    return {
        "text": bool(want.text),
        "tool calls": bool(want.calls),
        "parallel tool calls": len(want.calls) > 1,
        "thinking": bool(want.thinking),
        "stopped by length": want.finish == "length",
        "content filter": want.finish == "filter",
        "refusal": want.finish == "refusal",
        "pause": want.finish == "pause",
        "token counts": want.tokens is not None,
        "cached tokens": bool(want.cached),
    }


def _answer_node(node: dict[str, Any]) -> Iterator[str]:
    kind = str(node.get("type"))
    cited = [node.get(key) for key in ("citations", "annotations", "groundingChunks")]
    if kind == "citations_delta" or any(isinstance(found, list) and found for found in cited):
        yield "citations"
    if kind == "server_tool_use" or kind.endswith(("_tool_result", "_search_call", "interpreter_call", "mcp_call")):
        yield "server-side tools"
    if "executableCode" in node or "toolCall" in node or node.get("executed_tools"):
        yield "server-side tools"
    if node.get("images") or (kind == "image_generation_call" and node.get("result")) or "inlineData" in node:
        yield "images made"
    logprobs = node.get("logprobs")
    if any(logprobs.values()) if isinstance(logprobs, dict) else isinstance(logprobs, list) and logprobs:
        yield "logprobs"
    if node.get("logprobsResult"):
        yield "logprobs"


def of_request(fmt: str, body: dict[str, Any]) -> set[str]:
    found = set(_OPTIONS[fmt](body))
    turns = body.get("messages") or body.get("input") or body.get("contents") or []
    for node in _objects(turns):
        found |= set(_request_node(node))
    for node in _objects([turns, body.get("system"), body.get("tools")]):
        if node.get("cache_control"):
            found.add("cache marks")
    return found


def _request_node(node: dict[str, Any]) -> Iterator[str]:
    kind, role = str(node.get("type")), str(node.get("role"))
    if role in ("system", "developer"):
        yield "system text"
    if role in ("assistant", "model"):
        yield "earlier turns"
    if role in ("tool", "function") or kind in ("tool_result", "function_call_output") or "functionResponse" in node:
        yield "tool results"
    if kind in ("image_url", "input_image") or (kind == "image" and "source" in node):
        yield "images by data" if '"data' in json.dumps(node)[:200] else "images by URL"
    if kind in ("file", "input_file", "document"):
        yield "documents"
    if kind == "input_audio":
        yield "audio"
    if isinstance(media := node.get("inlineData") or node.get("inline_data"), dict):
        yield _medium(str(media.get("mimeType") or media.get("mime_type")), " by data")
    if isinstance(media := node.get("fileData") or node.get("file_data"), dict):
        yield _medium(str(media.get("mimeType") or media.get("mime_type")), " by URL")
    signed = node.get("thoughtSignature") or node.get("thought_signature")
    if kind in ("thinking", "redacted_thinking", "reasoning") or node.get("reasoning_content") or signed:
        yield "thinking sent back"


def _medium(mime: str, way: str) -> str:
    family = mime.partition("/")[0]
    return f"images{way}" if family == "image" else family if family in ("audio", "video") else "documents"


def _chat(body: dict[str, Any]) -> Iterator[str]:
    yield from _common(body)
    if (body.get("response_format") or {}).get("type") == "json_schema":
        yield "JSON schema"
    if body.get("reasoning_effort") or body.get("reasoning"):
        yield "thinking asked for"
    if body.get("stop"):
        yield "stop sequences"
    if body.get("n") and body["n"] > 1:
        yield "n > 1"
    if body.get("logprobs"):
        yield "logprobs"
    yield from _tools(body, lambda tool: tool.get("type") in ("function", None))


def _responses(body: dict[str, Any]) -> Iterator[str]:
    yield from _common(body)
    if body.get("instructions"):
        yield "system text"
    if ((body.get("text") or {}).get("format") or {}).get("type") == "json_schema":
        yield "JSON schema"
    if body.get("reasoning"):
        yield "thinking asked for"
    if body.get("top_logprobs"):
        yield "logprobs"
    yield from _tools(body, lambda tool: tool.get("type") == "function")


def _messages(body: dict[str, Any]) -> Iterator[str]:
    yield from _common(body)
    if body.get("system"):
        yield "system text"
    if (body.get("output_config") or {}).get("format") or body.get("output_format"):
        yield "JSON schema"
    if (body.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        yield "thinking asked for"
    if body.get("stop_sequences"):
        yield "stop sequences"
    yield from _tools(body, lambda tool: tool.get("type") in ("custom", None))


def _gemini(body: dict[str, Any]) -> Iterator[str]:
    config = body.get("generationConfig") or body.get("generation_config") or {}
    yield from _common(config)
    if body.get("systemInstruction") or body.get("system_instruction"):
        yield "system text"
    if any(config.get(key) for key in ("responseSchema", "responseJsonSchema", "response_schema")):
        yield "JSON schema"
    if config.get("thinkingConfig") or config.get("thinking_config"):
        yield "thinking asked for"
    if config.get("stopSequences"):
        yield "stop sequences"
    if (config.get("candidateCount") or 1) > 1:
        yield "n > 1"
    if config.get("responseLogprobs"):
        yield "logprobs"
    tools = body.get("tools") or []
    for tool in tools if isinstance(tools, list) else [tools]:
        functions = tool.get("functionDeclarations") or tool.get("function_declarations")
        yield "tools" if functions else "server-side tools"
    if body.get("toolConfig") or body.get("tool_config"):
        yield "tool choice"


_OPTIONS = {"openai_chat": _chat, "openai_responses": _responses, "anthropic_messages": _messages, "gemini": _gemini}


def _common(body: dict[str, Any]) -> Iterator[str]:
    yield from (name for name in ("temperature", "seed") if body.get(name) is not None)


def _tools(body: dict[str, Any], is_function: Any) -> Iterator[str]:
    for tool in body.get("tools") or []:
        yield "tools" if is_function(tool) else "server-side tools"
    if body.get("functions"):
        yield "tools"
    if body.get("tool_choice") not in (None, "auto"):
        yield "tool choice"


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object within, but for what a tool or a schema holds as data of its own."""
    if isinstance(value, dict):
        yield value
        for key, inner in value.items():
            if key not in ("args", "arguments", "input_schema", "parameters", "response"):
                yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)
