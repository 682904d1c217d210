"""Each door asked by its own official SDK; what it understood, in the words of extract.Said."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import openai
from google import genai
from google.genai import types as google_types

from conformance.extract import Said, anthropic_tokens, bare, canonical
from conformance.features import extras


class Doors:
    def __init__(self, url: str) -> None:
        self._url = url
        self._trace = ""
        hooks: Any = {"response": [self._note]}
        self._openai = openai.OpenAI(
            base_url=f"{url}/v1",
            api_key="any",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(event_hooks=hooks),
        )
        self._anthropic = anthropic.Anthropic(
            base_url=url, api_key="any", max_retries=0, http_client=anthropic.DefaultHttpxClient(event_hooks=hooks)
        )
        options = google_types.HttpOptions(base_url=url, client_args={"event_hooks": hooks})
        self._google = genai.Client(api_key="any", http_options=options)

    def ask(self, door: str, model: str, stream: bool) -> Said:
        return getattr(self, f"_{door}")(model, stream)

    def lost(self) -> list[str]:
        """What the gateway says that its last answer left out."""
        return httpx2.get(f"{self._url}/v1/traces/{self._trace}").raise_for_status().json().get("lossy", [])

    def _note(self, response: Any) -> None:
        self._trace = response.headers.get("x-headgate-trace", "")

    def _openai_chat(self, model: str, stream: bool) -> Said:
        messages: Any = [{"role": "user", "content": "hello"}]
        if not stream:
            answer = self._openai.chat.completions.create(model=model, messages=messages)
        else:
            with self._openai.chat.completions.stream(
                model=model, messages=messages, stream_options={"include_usage": True}
            ) as events:
                for _ in events:
                    pass
                answer = events.get_final_completion()
        choice, usage = answer.choices[0], answer.usage
        message = choice.message
        calls = [(c.function.name, c.function.arguments) for c in message.tool_calls or [] if c.type == "function"]
        calls += [(c.custom.name, c.custom.input) for c in message.tool_calls or [] if c.type == "custom"]
        word = {"stop": "stop", "length": "length", "content_filter": "filter", "tool_calls": "tools"}[
            choice.finish_reason
        ]
        text = (message.content or "") + (message.refusal or "")
        tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else None
        cached = usage.prompt_tokens_details.cached_tokens if usage and usage.prompt_tokens_details else 0
        # No field of the SDK's: what it keeps of the fields that it does not know is what applications read.
        thinking = (message.model_extra or {}).get("reasoning_content") or (message.model_extra or {}).get("reasoning")
        return Said(text, _calls(calls), word, tokens, bare(thinking or ""), cached or 0, extras(answer.to_dict()))

    def _openai_responses(self, model: str, stream: bool) -> Said:
        if not stream:
            answer = self._openai.responses.create(model=model, input="hello")
        else:
            # the SDK's own accumulator raises on response.incomplete, the provider's as well as ours
            last = list(self._openai.responses.create(model=model, input="hello", stream=True))[-1]
            assert last.type in ("response.completed", "response.incomplete"), last
            answer = last.response
        text, calls, thinking = "", [], ""
        for item in answer.output:
            if item.type == "message":
                text += "".join(getattr(p, "text", "") or getattr(p, "refusal", "") for p in item.content)
            elif item.type == "function_call":
                calls.append((item.name, item.arguments))
            elif item.type == "custom_tool_call":
                calls.append((item.name, item.input))
            elif item.type == "reasoning":
                thinking += "".join(piece.text for piece in [*item.summary, *(item.content or [])])
        reason = answer.incomplete_details.reason if answer.incomplete_details else None
        word = {"max_output_tokens": "length", "content_filter": "filter"}.get(
            reason or "", "tools" if calls else "stop"
        )
        usage = answer.usage
        tokens = (usage.input_tokens, usage.output_tokens) if usage else None
        cached = usage.input_tokens_details.cached_tokens if usage else 0
        return Said(text, _calls(calls), word, tokens, bare(thinking), cached, extras(answer.to_dict()))

    def _anthropic_messages(self, model: str, stream: bool) -> Said:
        messages: Any = [{"role": "user", "content": "hello"}]
        if not stream:
            answer = self._anthropic.messages.create(model=model, max_tokens=1000, messages=messages)
        else:
            with self._anthropic.messages.stream(model=model, max_tokens=1000, messages=messages) as events:
                answer = events.get_final_message()
        text = "".join(b.text for b in answer.content if b.type == "text")
        calls = [(b.name, b.input) for b in answer.content if b.type == "tool_use"]
        words = {"max_tokens": "length", "pause_turn": "pause", "refusal": "refusal", "tool_use": "tools"}
        usage = answer.usage
        thinking = "".join(b.thinking for b in answer.content if b.type == "thinking")
        word = words.get(answer.stop_reason or "", "stop")
        tokens, cached = anthropic_tokens(usage.to_dict()), usage.cache_read_input_tokens or 0
        return Said(text, _calls(calls), word, tokens, bare(thinking), cached, extras(answer.to_dict()))

    def _gemini(self, model: str, stream: bool) -> Said:
        if not stream:
            chunks = [self._google.models.generate_content(model=model, contents="hello")]
        else:
            chunks = list(self._google.models.generate_content_stream(model=model, contents="hello"))
        text, calls, finish, usage, thinking = "", [], None, None, ""
        for chunk in chunks:
            usage = chunk.usage_metadata or usage
            for candidate in chunk.candidates or []:
                finish = candidate.finish_reason or finish
                for part in (candidate.content.parts if candidate.content else None) or []:
                    if part.function_call:
                        calls.append((part.function_call.name or "", dict(part.function_call.args or {})))
                    elif part.text and part.thought:
                        thinking += part.text
                    elif part.text:
                        text += part.text
        name = finish.name if finish else ""
        word = "length" if name == "MAX_TOKENS" else "stop" if name == "STOP" else "filter" if name else "none"
        tokens = None
        if usage:
            output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
            tokens = (usage.prompt_token_count or 0, output)
        word = "tools" if calls and word == "stop" else word
        cached = (usage.cached_content_token_count if usage else 0) or 0
        more = extras([chunk.model_dump(mode="json", by_alias=True, exclude_none=True) for chunk in chunks])
        return Said(text, _calls(calls), word, tokens, bare(thinking), cached, more)


def _calls(calls: list[tuple[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, canonical(json.dumps(a) if isinstance(a, dict) else a)) for name, a in calls)
