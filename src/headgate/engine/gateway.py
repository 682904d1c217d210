"""The library: the same engine in process, no server, no file needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from headgate.config.document import environment
from headgate.config.load import check_references, load_file
from headgate.config.model import Config
from headgate.core.answer import Answer as WireAnswer
from headgate.core.chat import ToolCall, text_of
from headgate.core.errors import HeadgateError, InvalidRequest
from headgate.core.events import ChatAnswer, Event
from headgate.core.ids import new_id
from headgate.core.ports import Governor, Ledger
from headgate.core.usage import Usage
from headgate.engine.compile import Compiler
from headgate.engine.house import House
from headgate.engine.pipeline import Exchange, Inbound, open_exchange
from headgate.engine.plain import Plain
from headgate.engine.zero import config_from_environment
from headgate.governance.open import OpenGovernor
from headgate.ledger.volatile import VolatileLedger
from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.protocol import Transport


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A finished answer. `model` is our name of the model that spoke; `cost` in nano-US$, None where a price is unknown."""

    text: str
    model: str
    provider: str
    cost: int | None
    usage: Usage | None
    finish: str
    tool_calls: tuple[ToolCall, ...]
    details: dict[str, Any]
    """The `headgate` object: strategy, decisions' outcome, attempts."""
    message: ChatAnswer


class Gateway:
    """Use it as an async context manager: inside, connections are pooled; on leaving, they are closed."""

    def __init__(
        self,
        config: Config,
        *,
        models: Mapping[str, Plain] | None = None,
        env: Mapping[str, str] | None = None,
        transport: Transport | None = None,
        ledger: Ledger | None = None,
        governor: Governor | None = None,
    ) -> None:
        """`models`: strategies by name, beside or in place of the configuration's. Raises ConfigError."""
        if models:
            entries = {**config.models, **{name: plain.entry for name, plain in models.items()}}
            config = config.model_copy(update={"models": entries})
            check_references(config)
        self._compiler = Compiler(environment() if env is None else env)
        self._transport = transport
        self._ledger = ledger or VolatileLedger()
        self._governor = governor or OpenGovernor()
        self._config = config
        self._house: House | None = None

    @classmethod
    def from_file(cls, path: str | Path, **more: Any) -> Gateway:
        """Raises ConfigError with every problem and its place."""
        return cls(load_file(path).config, **more)

    @classmethod
    def from_environment(cls, env: Mapping[str, str] | None = None, **more: Any) -> Gateway:
        """A gateway from the provider keys in the environment alone."""
        found = environment() if env is None else env
        return cls(config_from_environment(found), env=found, **more)

    @property
    def house(self) -> House:
        if self._house is None:
            raise RuntimeError("use the gateway inside `async with`")
        return self._house

    async def __aenter__(self) -> Gateway:
        transport = self._transport or H1Transport()
        snapshot = self._compiler.compile(self._config)
        self._house = house = House(
            snapshot=snapshot, transport=transport, ledger=self._ledger, governor=self._governor
        )
        self._compiler.memory.on_event = house.event
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        house, self._house = self._house, None
        if house is not None:
            try:
                await house.snapshot.aclose()
            finally:
                house.background.close()
                await house.transport.aclose()

    def models(self) -> list[str]:
        return list(self.house.snapshot.entries)

    async def chat(self, **request: Any) -> Answer:
        """The body of a chat completion as keyword arguments (model, messages, temperature, tools, ...). Raises
        HeadgateError."""
        exchange = await self._open({**request, "stream": False})
        try:
            assert exchange.answer is not None
            answer = await exchange.answer.read()
        except HeadgateError as error:
            await exchange.close(error)
            raise
        finally:
            await exchange.close(cancelled=True)
        return _finished(exchange, exchange.answer, answer)

    async def stream(self, **request: Any) -> AsyncIterator[Event]:
        """The answer's events as they come. Leaving the loop early cancels upstream."""
        exchange = await self._open({**request, "stream": True})
        try:
            assert exchange.answer is not None
            while (piece := await exchange.answer.pull()) is not None:
                assert not isinstance(piece, bytes)
                for event in piece:
                    yield event
            await exchange.close()
        except HeadgateError as error:
            await exchange.close(error)
            raise
        finally:
            await asyncio.shield(exchange.close(cancelled=True))

    async def _open(self, request: dict[str, Any]) -> Exchange:
        from headgate.providers.registry import dialect_of

        try:
            body = msgspec.json.encode(request)
        except (UnicodeEncodeError, TypeError, msgspec.MsgspecError) as error:
            raise InvalidRequest(f"the request cannot be written as JSON: {error}") from error
        inbound = Inbound(
            door="library", dialect=dialect_of("openai_chat"), body=body, headers={}, request_id=new_id("req")
        )
        return await open_exchange(self.house, inbound)


def _finished(exchange: Exchange, served: WireAnswer, answer: ChatAnswer) -> Answer:
    parts = answer.choices[0].parts if answer.choices else []
    trace = exchange.trace
    return Answer(
        text=text_of(parts),
        model=served.model,
        provider=served.provider,
        cost=None if trace.cost_unknown else trace.cost,
        usage=answer.usage,
        finish=answer.choices[0].finish if answer.choices else "other",
        tool_calls=tuple(part for part in parts if isinstance(part, ToolCall)),
        details=exchange.details(),
        message=answer,
    )
