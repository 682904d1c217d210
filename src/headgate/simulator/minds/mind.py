"""What a simulated model says: parts for a request, by its skill and a given luck, and nothing else.

Every answer says that it is simulated: texts begin with MARK; where a bare value, JSON or a tool call was asked for,
which leaves no room for words, the answer's id and the header `x-simulated` say it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from random import Random
from typing import Any

import msgspec

from headgate.core.chat import (
    ChatRequest,
    FinishReason,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    text_of,
)
from headgate.simulator.minds import roles, schemas, tasks, tools
from headgate.simulator.minds.scripts import Said, Scripts

MARK = "[simulated] "
_CUT_OFF = re.compile(
    r"\bcontinue\b.{0,60}\b(?:exactly|where|stop|left off)|\bcut off\b.{0,80}\bcontinue\b", re.IGNORECASE | re.DOTALL
)
_ABOVE = re.compile(r"the (?:request|conversation)\b.{0,40}?\b(?:above|below)\b", re.IGNORECASE)
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)


class Thought(msgspec.Struct, kw_only=True):
    """A finished answer before usage and rendering. `thinking` is what was thought, shown or not."""

    parts: list[Part]
    finish: FinishReason = "stop"
    stop_sequence: str | None = None
    thinking: str = ""
    task: str = "general"
    good: bool = True
    said: Said | None = None


class Mind:
    """One model's way of answering.

    skill     chance of a right answer per task (and "general", "json", "judge"), 0 to 1; others default to 0.9
    thinks    reasons before it answers
    """

    def __init__(self, names: tuple[str, ...], skill: dict[str, float], *, thinks: bool, scripts: Scripts) -> None:
        self.names = names
        self.skill = skill
        self.thinks = thinks
        self.scripts = scripts

    def think(self, request: ChatRequest, luck: Random) -> Thought:
        texts = texts_of(request)
        said = self.scripts.find(self.names, request, texts)
        if said is not None:
            return _scripted(said, luck)
        begun = _begun(request, texts["user"])
        if begun is not None:
            return self._continued(*begun, luck)
        thought = self._tools(request, texts, luck) or self._words(request, texts, luck)
        if self._reasons(request):
            thought.thinking = (
                f"The question is about {tasks.topic_of(texts['about'])}. It is a {thought.task} task. "
                "I look at what is given, work through it once, and check the result before I answer."
            )
        return thought

    def _reasons(self, request: ChatRequest) -> bool:
        asked = request.reasoning
        if asked is None:
            return self.thinks
        return asked.enabled is not False and asked.effort != "none" and asked.budget != 0

    def _good(self, task: str, luck: Random) -> bool:
        return luck.random() < self.skill.get(task, self.skill.get("general", 0.9))

    def _tools(self, request: ChatRequest, texts: dict[str, str], luck: Random) -> Thought | None:
        results = tools.results_of(request)
        if results:
            return Thought(parts=[Text(text=MARK + tools.told(results))], task="tools")
        calls = tools.wanted(request, texts["user"], luck)
        if not calls:
            return None
        return Thought(parts=[*calls], finish="tool_calls", task="tools")

    def _words(self, request: ChatRequest, texts: dict[str, str], luck: Random) -> Thought:
        prompt, system = texts["about"], texts["system"]
        role = roles.role_of(system, prompt, request)
        if role is not None:
            good = self._good("judge" if role.startswith("judge") else role, luck)
            text = roles.answer(role, system, prompt, request, good, luck)
            return Thought(parts=[Text(text=text)], task=role, good=good)
        if request.output is not None and request.output.kind != "text":
            good = self._good("json", luck)
            shared = Random(prompt)  # the same prompt gives the same JSON from every model
            return Thought(parts=[Text(text=self._json(request, prompt, good, shared))], task="json", good=good)
        task = tasks.task_of(prompt)
        good = self._good(task, luck)
        body = tasks.answer(prompt, task, good, luck)
        return Thought(parts=[Text(text=body if tasks.is_terse(prompt) else MARK + body)], task=task, good=good)

    def _json(self, request: ChatRequest, prompt: str, good: bool, luck: Random) -> str:
        assert request.output is not None
        if request.output.kind == "json_object":
            return json.dumps({"simulated": True, "answer": tasks.answer(prompt, tasks.task_of(prompt), good, luck)})

        def hint(name: str, schema: Any) -> Any:
            wants_text = str(schema.get("type", "")).lower() == "string" and "enum" not in schema
            if wants_text and name.lower() in ("answer", "text", "summary", "explanation", "response", "message"):
                return tasks.answer(prompt, tasks.task_of(prompt), True, luck)
            return schemas.MISSING

        value = schemas.instance(request.output.schema, luck, hint)
        return json.dumps(value if good else schemas.spoiled(value, request.output.schema, luck), ensure_ascii=False)

    def _continued(self, before: ChatRequest, begun: str, luck: Random) -> Thought:
        """The rest of an answer that another model began: from where it stopped, if we would have begun it so too,
        else from as far into our own."""
        thought = self.think(before, luck)
        whole = text_of(thought.parts)
        marked = begun if begun.startswith(MARK) == whole.startswith(MARK) else MARK + begun
        rest = whole[len(marked) :] if whole.startswith(marked) else whole[min(len(begun), len(whole)) :]
        thought.parts = [Text(text=rest or " (That is all.)")]
        thought.finish = "stop"
        return thought


def texts_of(request: ChatRequest) -> dict[str, str]:
    """The conversation's text: all, system, the last user message (without a client's reminders), and `about`: that
    one with the request before it, where it only says what to do with that."""
    system = "\n".join(text_of(m.content) for m in request.messages if m.role in ("system", "developer"))
    users = [text for m in request.messages if m.role == "user" and (text := text_of(m.content).strip())]
    every: list[str] = []
    for message in request.messages:
        every.append(text_of(message.content))
        every += [text_of(part.content) for part in message.content if isinstance(part, ToolResult)]
    user = users[-1] if users else ""
    user = _REMINDER.sub("", user).strip() or user
    spoken = [part.text for m in request.messages if m.role == "user" for part in m.content if isinstance(part, Text)]
    about = f"{spoken[-1]}\n\n{spoken[-2]}" if len(spoken) > 1 and _ABOVE.search(spoken[-1][:200]) else user
    return {"all": "\n".join(every), "system": system, "user": user, "about": about}


def _begun(request: ChatRequest, prompt: str) -> tuple[ChatRequest, str] | None:
    """(the request before the answer began, what was said so far) where this turn is to go on with an answer."""
    messages = request.messages
    if len(messages) >= 2 and _is_words(messages[-1]):
        return msgspec.structs.replace(request, messages=messages[:-1]), text_of(messages[-1].content)
    if len(messages) >= 3 and _is_words(messages[-2]) and _CUT_OFF.search(prompt):
        return msgspec.structs.replace(request, messages=messages[:-2]), text_of(messages[-2].content)
    return None


def _is_words(message: Message) -> bool:
    calls = any(isinstance(part, ToolCall) for part in message.content)
    return message.role == "assistant" and not calls and bool(text_of(message.content).strip())


def _scripted(said: Said, luck: Random) -> Thought:
    parts: list[Part] = []
    if said.refusal:
        parts.append(Refusal(text=said.refusal))
    if said.text:
        parts.append(Text(text=said.text))
    for call in said.tool_calls:
        arguments = call.get("arguments", {})
        parts.append(
            ToolCall(
                id=call.get("id") or "call_sim" + "".join(luck.choices("abcdefghijklmnopqrstuvwxyz", k=17)),
                name=call["name"],
                arguments=arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
            )
        )
    finish: FinishReason = "tool_calls" if said.tool_calls else "refusal" if said.refusal else "stop"
    if said.finish is not None:
        finish = msgspec.convert(said.finish, FinishReason)
    return Thought(parts=parts or [Text(text="")], finish=finish, thinking=said.reasoning, task="script", said=said)


def signature(secret: str, text: str) -> str:
    """What a provider signs its thinking with, and knows again when it comes back."""
    return base64.b64encode(hashlib.sha256(f"{secret}:{text}".encode()).digest() * 2).decode()


def shown_thinking(text: str, dialect: str, secret: str) -> Reasoning:
    """The thinking as the format shows it: signed, summarised and encrypted, or plain."""
    sign = signature(secret, text)
    if dialect == "anthropic_messages":
        return Reasoning(text=text, signature=sign)
    if dialect == "openai_responses":
        own_id = "rs_sim" + hashlib.sha256(sign.encode()).hexdigest()[:40]
        return Reasoning(text=text, summary=True, encrypted=sign, id=own_id)
    return Reasoning(text=text)
