"""A simulated model at work: how it is doing, and the script of each of its answers."""

from __future__ import annotations

import hashlib
import importlib
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from random import Random
from typing import Any

import msgspec

from headgate.core.chat import ChatRequest, Choice, Image, Part, Reasoning, Refusal, text_of
from headgate.core.clock import Clock
from headgate.core.dialect import Dialect, View
from headgate.core.errors import HeadgateError
from headgate.core.events import ChatAnswer
from headgate.core.usage import Usage
from headgate.simulator import breaks, natives, pictures, tokens
from headgate.simulator import script as steps
from headgate.simulator.breaks import Break
from headgate.simulator.delivery import Delivery, Pace, limited, sent
from headgate.simulator.minds import Mind, Scripts, Thought, shown_thinking, signature
from headgate.simulator.spec import Served, SimModel
from headgate.simulator.stored import StoredResponses

_ANYONES = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_ID = {"openai_chat": "chatcmpl-sim", "openai_responses": "resp_sim", "anthropic_messages": "msg_sim", "gemini": "sim"}

Made = Callable[[Break | None, steps.Headers, Random], steps.Script]


@cache
def dialect_of(name: str) -> Dialect:
    return importlib.import_module(f"headgate.dialects.{name}").DIALECT


class Model:
    """One running model. `broken` may be set at any time; `calls` counts by outcome."""

    def __init__(
        self, spec: SimModel, *, seed: int, clock: Clock, scripts: Scripts, stored: StoredResponses | None = None
    ) -> None:
        self.spec = spec
        self.broken: Break | None = None
        self.mishaps: tuple[Break, ...] = ()
        """What may happen to single calls, each with its `share` of them, while the model is not broken otherwise."""
        self.active = 0
        self._hits = 0
        self._seed = seed
        self._clock = clock
        self._stored = stored or StoredResponses()
        self._seen: Counter[bytes] = Counter()
        self._window = natives.Window(spec.rpm)
        self._cache = tokens.PromptCache(marked=spec.provider == "anthropic")
        self._mind = Mind((spec.name, spec.upstream), spec.skill, thinks=spec.thinks, scripts=scripts)

    def break_with(self, broken: Break | None) -> None:
        self.broken, self._hits = broken, 0

    # -- one call -------------------------------------------------------------------------------------------------
    def answer(self, served: Served, *, model: str | None, stream: bool | None) -> steps.Script:
        """The script of one answer. `model` and `stream` from the path where the format has them there."""
        return self._played(served, partial(self._answer, served, model=model, stream=stream))

    def answer_bytes(self, served: Served, op: str) -> steps.Script:
        """The script of one answer that carries no conversation: images, speech."""
        return self._played(served, lambda broken, headers, _: self._made(served, broken, headers, op))

    def _played(self, served: Served, made: Made) -> steps.Script:
        """What is `made`, unless the call is refused."""
        luck = self._luck(served)
        now = self._clock.monotonic()
        within = self._window.take(now)
        headers = natives.headers(served.dialect, self._window, now=now, wall=self._clock.time(), luck=luck)
        self.active += 1
        try:
            broken = self._hit(luck)
            served.mode = broken.mode if broken else None
            refused = self._refusal(served, broken, headers, within)
            yield from made(broken, headers, luck) if refused is None else refused
        finally:
            self.active -= 1

    def _made(self, served: Served, broken: Break | None, headers: steps.Headers, op: str) -> steps.Script:
        request = msgspec.json.decode(served.call.body)
        kind = steps.JSON
        body: bytes | None = None
        if op == "speech":
            body, kind = pictures.speech(request), "audio/wav"
        elif (made := pictures.images(request)) is not None:
            shown, served.usage = made
            if broken is not None and broken.mode == "no_usage":
                del shown["usage"]
                served.usage = None
            body = msgspec.json.encode(shown)
        if body is None:
            yield from natives.refusal(served.dialect, "bad_request", headers=headers, detail=f"no request for {op}")
            return
        slow = broken is not None and broken.mode == "slow_first_token"
        yield steps.Pause(self.spec.ttft + (broken.delay if broken is not None and slow else 0.0))
        yield from sent(body, kind, broken, headers, served.dialect)

    def _luck(self, served: Served) -> Random:
        """The same for the same body asked the same number of times, whatever else runs beside it."""
        digest = hashlib.sha256(served.call.body).digest()
        self._seen[digest] += 1
        return Random(f"{self._seed}:{self.spec.name}:{digest.hex()}:{self._seen[digest]}")

    def _hit(self, luck: Random) -> Break | None:
        broken = self.broken
        planned = broken is not None and (broken.times is None or self._hits < broken.times)
        if broken is not None and planned and (broken.share >= 1 or luck.random() < broken.share):
            self._hits += 1
            return broken
        return next((mishap for mishap in self.mishaps if luck.random() < mishap.share), None)

    def _refusal(
        self, served: Served, broken: Break | None, headers: steps.Headers, within: bool
    ) -> steps.Script | None:
        if broken is not None:
            instead = breaks.instead(broken, served.dialect, headers, self.spec.upstream)
            if instead is not None:
                return instead
        if not within:
            wait = self._window.resets_in(self._clock.monotonic())
            words = {"model": self.spec.upstream}
            return natives.refusal(served.dialect, "rate_limit", headers=headers, retry_after=wait, **words)
        if self.spec.capacity is not None and self.active > self.spec.capacity:
            return natives.refusal(served.dialect, "overloaded", headers=headers)
        return None

    def _answer(
        self,
        served: Served,
        broken: Break | None,
        headers: steps.Headers,
        luck: Random,
        *,
        model: str | None,
        stream: bool | None,
    ) -> steps.Script:
        dialect = dialect_of(served.dialect)
        keeps = served.dialect == "openai_responses"
        try:
            body = self._stored.expanded(served.call.body) if keeps else served.call.body
            request = dialect.parse_request(body, model=model, stream=stream)
        except KeyError:
            said = "Previous response with the given id was not found."
            yield from natives.refusal(served.dialect, "bad_request", headers=headers, detail=said)
            return
        except HeadgateError as error:
            yield from natives.refusal(served.dialect, "bad_request", headers=headers, detail=error.message)
            return
        served.stream = request.stream
        cannot = self._cannot(request)
        if cannot is not None:
            kind, words = cannot
            yield from natives.refusal(served.dialect, kind, headers=headers, **words)
            return
        thought = self._think(request, broken, luck)
        answer, usage = self._said(request, thought, served, luck)
        served.usage, served.text = usage, text_of(answer.choices[0].parts)
        if broken is None and thought.said is not None and thought.said.mode:
            broken = Break(thought.said.mode, after=thought.said.after)
            served.mode = broken.mode
            instead = breaks.instead(broken, served.dialect, headers, self.spec.upstream)
            if instead is not None:
                yield from instead
                return
        view = View(
            model=self.spec.upstream,
            stream=request.stream,
            include_usage=request.include_usage or served.provider != "openai",
            id=answer.id,
            created=answer.created,
            request=request,
            array=served.dialect == "gemini" and served.call.query.get("alt") != "sse",
        )
        pace = Pace.of(self.spec, thought, broken, luck)
        if keeps:
            whole = dialect.render_answer(answer, msgspec.structs.replace(view, stream=False))
            later = (
                self._clock.monotonic() + pace.first + pace.of_tokens(usage.output) if _is_background(body) else None
            )
            shown = self._stored.keep(body, whole.body, ready=later)
            if later is not None and not request.stream:
                yield from steps.reply_json(200, shown, headers)
                return
        delivery = Delivery(dialect, answer, view, headers, pace)
        yield from delivery.stream(broken, self._caught) if request.stream else delivery.whole(broken)

    def _cannot(self, request: ChatRequest) -> tuple[str, dict[str, Any]] | None:
        """Why this model refuses the request, as (kind, words); None where it takes it."""
        spec = self.spec
        size = tokens.of_request(request)
        if size > spec.context:
            return "context_length", {"model": spec.upstream, "limit": spec.context, "tokens": size}
        parts = [part for message in request.messages for part in message.content]
        needs = {
            "tools": bool(request.tools),
            "vision": any(isinstance(part, Image) for part in parts),
            "json_schema": request.output is not None and request.output.kind == "json_schema",
        }
        for feature, needed in needs.items():
            if needed and feature not in spec.supports:
                return "bad_request", {"detail": f"{spec.upstream} does not support {feature}"}
        if spec.checks_signatures:
            for part in parts:
                if isinstance(part, Reasoning) and part.signature and not self._is_ours(part):
                    return "bad_request", {"detail": "Invalid `signature` in `thinking` block"}
        return None

    def _is_ours(self, part: Reasoning) -> bool:
        return part.signature in (signature(self.spec.provider, part.text), *_ANYONES)

    def _think(self, request: ChatRequest, broken: Break | None, luck: Random) -> Thought:
        mode = broken.mode if broken else None
        if mode == "refusal":
            parts: list[Part] = [Refusal(text="I can't help with that.")]
            return Thought(parts=parts, finish="refusal")
        if mode not in ("wrong", "invalid_json"):
            return self._mind.think(request, luck)
        skill, self._mind.skill = self._mind.skill, dict.fromkeys(("general", *self._mind.skill), 0.0)
        try:
            return self._mind.think(request, luck)
        finally:
            self._mind.skill = skill

    def _said(self, request: ChatRequest, thought: Thought, served: Served, luck: Random) -> tuple[ChatAnswer, Usage]:
        """The answer as the request's limits leave it, and what it used."""
        limit = min(request.max_tokens or self.spec.max_output, self.spec.max_output)
        if served.mode == "length":
            limit = min(limit, 5)
        parts, finish, stop = limited(thought, limit, request.stop)
        usage = tokens.usage_of(request, parts, thought.thinking, self._cache)
        if thought.said is not None and thought.said.output is not None:
            usage = msgspec.structs.replace(usage, output=thought.said.output)
        if thought.thinking and self.spec.shows:
            parts = [shown_thinking(thought.thinking, served.dialect, self.spec.provider), *parts]
        number = f"{luck.getrandbits(96):024x}"
        choice = Choice(parts=parts, finish=finish, stop_sequence=stop)
        answer = ChatAnswer(
            id=_ID[served.dialect] + number,
            model=self.spec.upstream,
            created=int(self._clock.time()),
            choices=[choice] * max(1, request.n or 1),
            usage=usage,
        )
        if request.n and request.n > 1:
            answer.usage = msgspec.structs.replace(usage, output=usage.output * request.n)
        return answer, answer.usage or usage

    def _caught(self, broken: Break | None) -> Break | None:
        """How a stream that is on its way is broken now: by what it began with, or by what was set since and means
        running streams too."""
        now = self.broken
        if now is not None and now is not broken and now.running:
            return msgspec.structs.replace(now, after=0)
        return broken


def _is_background(body: bytes) -> bool:
    return b'"background"' in body and bool(msgspec.json.decode(body).get("background"))


__all__ = ["Model", "dialect_of"]
