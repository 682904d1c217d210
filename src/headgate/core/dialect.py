"""What a wire format must do, in both directions. The room `dialects` implements it; doors and attempts use it.

A dialect is sans-I/O and stateless; parsers and renderers of streams hold the state of one stream. Bytes in, core types
out, and back. What a target cannot express is an UnsupportedFeature where leaving it out would change the meaning, else
its name goes into `Rendered.lossy`: never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from headgate.core.asked import Asked
from headgate.core.chat import ChatRequest
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.events import ChatAnswer, Event
from headgate.core.usage import Media, Usage

Op = Literal[
    "chat",
    "embeddings",
    "count_tokens",
    "completions",
    "moderations",
    "images_generations",
    "images_edits",
    "images_variations",
    "speech",
    "transcriptions",
    "translations",
    "rerank",
]


Wanted = Literal["json", "text", "sound"]
"""What a whole answer has to be. Subtitles are text."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """How one provider differs from its dialect's reference, as data from its profile. Defaults are the reference."""

    stream_usage: Literal["ask", "always", "never"] = "ask"
    """openai_chat: whether the provider must be asked (`stream_options.include_usage`), always sends, or never does."""
    output_excludes_reasoning: bool = False
    """completion_tokens leaves reasoning out (xAI's newer models). Where total_tokens decides, the parser checks it."""
    max_tokens_field: str = "max_completion_tokens"
    developer_role: bool = True
    """False: render developer messages as system."""
    prefill: bool = False
    """A last assistant message is continued rather than answered."""
    drop: frozenset[str] = frozenset()
    """Parameters that the provider rejects: left out, named in lossy."""
    reasoning_field: str | None = None
    """Where thinking is sent back in chat messages: reasoning_content, reasoning; None: not accepted back."""
    image_url: bool = True
    """False: the provider takes images only as data."""
    json_schema: bool = True
    custom_tools: bool = False
    """The provider has OpenAI's free-text tools."""
    max_output: int | None = None
    """Fills Anthropic's required max_tokens where the client gave none."""
    extra: Mapping[str, Any] = {}
    """Anything that only this provider's own profile and dialect know."""


class Peek(msgspec.Struct, kw_only=True):
    """What routing needs to know of a body without decoding it. Made by `Dialect.peek`, which also rejects bad input.

    needs        protocol features the request uses: tools, vision, audio, documents, video, json_schema, json_object,
                 reasoning, logprobs, n, web_search, ... (names of catalog features)
    input_bound  an upper bound of the input tokens (UTF-8 bytes / 3 plus constants per message and medium)
    spliceable   the top-level "model" can be replaced in the bytes without decoding them
    multi_turn   an assistant turn is in it
    """

    model: str
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    n: int = 1
    needs: frozenset[str] = frozenset()
    input_bound: int = 0
    spliceable: bool = False
    multi_turn: bool = False
    options: dict[str, Any] | None = None
    """The body field `headgate: {details, tags, max_cost, timeout}`; stripped before anything goes upstream."""
    state: str | None = None
    """previous_response_id or the like: server-side state that pins the deployment."""
    background: bool = False
    """To be answered at once, and made by the provider afterwards (Responses)."""
    dearer: str | None = None
    """The field by which the client asks for a service that its provider takes more for than the model's price."""
    wanted: Wanted = "json"
    """What the client asked for."""
    media_type: str | None = None
    """Of a body that is no JSON: a form's, with the boundary that it was read by."""
    media: Media | None = None
    """Of what is paid for beside tokens, as much as there may be of it at most."""

    def asked(self) -> Asked | None:
        """What the body asks, where that can be had without decoding the body."""
        return None


class Rendered(msgspec.Struct, frozen=True):
    """Bytes ready to send, and what they could not say."""

    body: bytes
    lossy: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    """Headers that the body needs (anthropic-beta for a feature, say)."""


class Facts(msgspec.Struct):
    """What a selected frame or a whole body tells us. Everything is optional."""

    content: bool = False
    """Holds first content: a text, reasoning, tool-call or refusal delta; not role-only, ping, created, item.added."""
    usage: Usage | None = None
    in_parts: bool = False
    """What this frame's usage leaves out is as frames before it said; else it stands for itself."""
    finish: str | None = None
    """core FinishReason where the answer (or one choice of it) ended here."""
    error: UpstreamFault | None = None
    usage_only: bool = False
    """The extra frame that only exists because usage was asked for."""
    terminal: bool = False
    """The protocol's own end mark ([DONE], message_stop, response.completed)."""
    id: str | None = None
    model: str | None = None
    pending: bool = False
    """Taken on, not answered: the provider goes on by itself, and can be asked for it by its id."""


class View(msgspec.Struct, kw_only=True):
    """What a renderer needs to know of the request whose answer it writes."""

    model: str = ""
    """Shown where the answer's own model string is empty."""
    stream: bool = False
    include_usage: bool = False
    id: str = ""
    """Used where the answer brings no id of this dialect's form."""
    created: int = 0
    request: ChatRequest | None = None
    """For formats that echo the request (Responses). None where the request was never decoded."""
    array: bool = False
    """Gemini without alt=sse: the elements of one JSON array instead of SSE. Its first bracket is the door's business, the
    last one the renderer's."""


class FrameSplitter(Protocol):
    """Bytes in any packets -> whole frames, as sent (with their blank line). `close` gives an unfinished rest."""

    def feed(self, data: bytes) -> list[bytes]: ...
    def close(self) -> bytes: ...


class EventParser(Protocol):
    """Frames of one stream -> events. Tolerates unknown frames. `close` gives what only the end makes certain."""

    def feed(self, frame: bytes) -> list[Event]: ...
    def close(self) -> list[Event]: ...


class EventRenderer(Protocol):
    """Events of one answer -> bytes for the client.

    `feed` may hold back; the ending (finish, usage, end mark) is written only by `finish`, which also carries the
    `headgate` object where details were asked for. `fail` writes an in-band error instead; after it nothing follows.
    """

    def feed(self, events: Sequence[Event]) -> bytes: ...
    def finish(self, details: Mapping[str, Any] | None = None) -> bytes: ...
    def fail(self, error: HeadgateError) -> bytes: ...


class Dialect(Protocol):
    name: str
    heartbeat: bytes
    """A frame that clients ignore, to keep a silent connection open."""

    # -- requests ------------------------------------------------------------------------------------------------
    def peek(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Peek:
        """Checks and skims a client's body. `model` and `stream` come from the path where the format has them there.
        Raises InvalidRequest (with `param`) for all that RELIABILITY calls a bad input at this level."""
        ...

    def parse_request(
        self, body: bytes, *, model: str | None = None, stream: bool | None = None, peeked: bool = False
    ) -> ChatRequest:
        """`peeked`: these bytes have been through `peek`, whose checks need not be made again."""
        ...

    def splice(self, body: bytes, peek: Peek, *, model: str, quirks: Quirks) -> bytes | None:
        """The client's own bytes with only `model` replaced and usage asked for, or None where that is not safe or
        something must be taken out (our `headgate` field). Formats with the model in the path return `body`."""
        ...

    def render_request(self, request: ChatRequest, *, model: str, quirks: Quirks) -> Rendered: ...

    def path(self, op: Op, *, model: str, stream: bool) -> str:
        """Target path below the provider's base path for this dialect, with a leading slash and any query."""
        ...

    # -- answers -------------------------------------------------------------------------------------------------
    def parse_answer(self, body: bytes, quirks: Quirks) -> ChatAnswer:
        """Raises the fault that a 200 with an error inside, HTML or no choices is."""
        ...

    def inspect_answer(self, body: bytes, quirks: Quirks, wanted: Wanted = "json") -> Facts:
        """Usage, finish, id, model or error of a complete answer, by a typed skim of the bytes. `wanted`: what the client
        asked for, where the format knows answers that are no JSON."""
        ...

    def render_answer(self, answer: ChatAnswer, view: View) -> Rendered: ...

    # -- streams -------------------------------------------------------------------------------------------------
    def splitter(self) -> FrameSplitter: ...
    def event_parser(self, quirks: Quirks) -> EventParser: ...
    def event_renderer(self, view: View) -> EventRenderer: ...

    def inspect_frame(self, frame: bytes, quirks: Quirks) -> Facts | None:
        """Facts of a frame that a byte scan selects; None, at the cost of the scan alone, for all the others.
        A selected frame is decoded before anything is concluded. Stateless."""
        ...

    # -- errors and details --------------------------------------------------------------------------------------
    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
        """Classifies a provider's error answer (status, headers with lower-case names, body, whatever it holds)."""
        ...

    def render_error(self, error: HeadgateError, request_id: str) -> bytes: ...

    def render_stream_error(self, error: HeadgateError, request_id: str) -> bytes:
        """An in-band error frame for a stream that is already open (an array's last element is `render_error`)."""
        ...

    def attach(self, body: bytes, details: Mapping[str, Any]) -> bytes:
        """A complete JSON answer's bytes with `headgate` added at the top level; nothing else changes."""
        ...

    def attach_frame(self, frames: bytes, details: Mapping[str, Any]) -> bytes:
        """The last frames of a stream with `headgate` added where every official SDK of this door tolerates it."""
        ...
