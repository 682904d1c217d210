"""What a rule or an arm adds to a request: system text and parameters."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.chat import Message, Text
from headgate.core.request import Request
from headgate.core.strategy import Run

_PARAMETERS = ("temperature", "top_p", "max_tokens")


class Touch(msgspec.Struct, frozen=True, kw_only=True):
    system: str | None = None
    system_always: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None

    def touched(self, request: Request) -> Request:
        """Only where the client has set none (or `system_always`); a request that nothing changes stays the bytes it is."""
        if self == NONE:
            return request
        content = request.content()
        fields: dict[str, Any] = {
            name: value
            for name in _PARAMETERS
            if (value := getattr(self, name)) is not None and getattr(content, name) is None
        }
        if content.reasoning is not None:
            fields.pop("temperature", None)  # thinking models take only their own
        has_system = any(message.role in ("system", "developer") for message in content.messages)
        if self.system is not None and (self.system_always or not has_system):
            system = Message(role="system", content=[Text(text=self.system)])
            fields["messages"] = [system, *content.messages]
        return request.edited(**fields) if fields else request

    def apply(self, request: Request, run: Run) -> Request:
        """As `touched`, and says what is left out."""
        if self.temperature is not None:
            content = request.content()
            if content.reasoning is not None and content.temperature is None:
                run.decide("parameter", None, over=["temperature"], because="the request asks for reasoning: left out")
        return self.touched(request)


NONE = Touch()
