"""A request on its way through the house: still bytes as long as nobody has to understand them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.asked import Asked, asked_of
from headgate.core.bounds import content_bound, needs_of
from headgate.core.chat import ChatRequest
from headgate.core.dialect import Dialect, Op, Peek

PARAMETERS = frozenset({"temperature", "top_p", "max_tokens", "logprobs"})
"""What may be `ChatRequest.added`."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the client asked of us: from `x-headgate-*` headers, the body's `headgate` field and model suffixes."""

    details: bool = False
    tags: tuple[str, ...] = ()
    timeout: float | None = None
    """Seconds."""
    max_cost: int | None = None
    """Nano-US$."""
    restart: bool = False
    """The client takes a stream that begins anew: it throws away what it has when a chunk says so."""
    prefer: str | None = None
    """cheap | fast | best, from a suffix (`auto:cheap`)."""
    idempotency_key: str | None = None
    affinity: str | None = None
    """Hash of principal and conversation prefix: what keeps a conversation on one deployment."""
    pin: str | None = None
    """Key of the one deployment that holds the server-side state this request needs."""
    covered: int | None = None
    """Nano-US$ that hard budgets still cover, where that is less than the first plan could cost."""


class Request:
    """`body` is what the client sent; once `edited`, only `content()` counts and the bytes are never sent again."""

    __slots__ = ("_asked", "_content", "array", "body", "dialect", "headers", "is_edited", "op", "options", "peek")

    def __init__(
        self,
        *,
        op: Op,
        dialect: Dialect,
        body: bytes,
        peek: Peek,
        headers: Mapping[str, str] | None = None,
        options: Options | None = None,
        array: bool = False,
        content: ChatRequest | None = None,
        is_edited: bool = False,
    ) -> None:
        self.op: Op = op
        self.dialect = dialect
        self.body = body
        self.peek = peek
        self.headers: Mapping[str, str] = headers or {}
        """Request headers that may be passed on to a provider of the same dialect (anthropic-beta, -version, ...)."""
        self.options = options or Options()
        self.array = array
        self._content = content
        self._asked: Asked | None = None
        self.is_edited = is_edited

    @property
    def stream(self) -> bool:
        return self.peek.stream

    def content(self) -> ChatRequest:
        """The decoded request; decoded once, shared: never change it in place, use `edited`."""
        if self._content is None:
            self._content = self.dialect.parse_request(
                self.body, model=self.peek.model, stream=self.peek.stream, peeked=True
            )
        return self._content

    def asked(self) -> Asked:
        """What is asked, in words; found once."""
        if self._asked is None:
            # An edited request has its peek from the body that it was.
            said = self.peek.asked() if self._content is None and not self.is_edited else None
            self._asked = said if said is not None else asked_of(self.content())
        return self._asked

    def under(self, options: Options) -> Request:
        """The same request with other options of ours; its bytes still count."""
        return Request(
            op=self.op,
            dialect=self.dialect,
            body=self.body,
            peek=self.peek,
            headers=self.headers,
            options=options,
            array=self.array,
            content=self._content,
            is_edited=self.is_edited,
        )

    def edited(self, content: ChatRequest | None = None, *, stream: bool | None = None, **fields: Any) -> Request:
        """A request that asks something else: other content, or single fields of it replaced. What it may cost and needs
        of a model is that of what it asks now."""
        base = content if content is not None else self.content()
        if stream is not None:
            fields["stream"] = stream
        if fields:
            base = msgspec.structs.replace(base, **fields)
        if content is not None and content is not self._content:
            added = frozenset(name for name in PARAMETERS if getattr(base, name) is not None)
            base = msgspec.structs.replace(base, added=added)
        elif added := [name for name in PARAMETERS.intersection(fields) if getattr(self.content(), name) is None]:
            base = msgspec.structs.replace(base, added=base.added.union(added))
        more: dict[str, Any] = {}
        if base.messages is not self.content().messages:
            more["input_bound"] = content_bound(base)
        if content is not None or not fields.keys().isdisjoint(("messages", "tools", "output")):
            more["needs"] = needs_of(base, self.peek.needs)
        peek = msgspec.structs.replace(
            self.peek, stream=base.stream, max_tokens=base.max_tokens, spliceable=False, n=base.n or 1, **more
        )
        return Request(
            op=self.op,
            dialect=self.dialect,
            body=b"",
            peek=peek,
            headers=self.headers,
            options=self.options,
            array=self.array,
            content=base,
            is_edited=True,
        )
