"""Core events → a Responses stream: the full sequence of typed events with their numbering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headgate.core.chat import Opaque, Reasoning
from headgate.core.dialect import View
from headgate.core.errors import HeadgateError, wire_type
from headgate.core.events import (
    CitationAdded,
    Event,
    Failed,
    Finished,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Resumed,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Used,
)
from headgate.core.usage import Usage
from headgate.dialects import sse
from headgate.dialects.jsonio import encode
from headgate.dialects.openai_responses.answer import ending, render_usage, response_id, shell
from headgate.dialects.openai_responses.items import NAME
from headgate.dialects.openai_responses.stream import render_stream_error


class EventRenderer:
    """core.dialect.EventRenderer. One item is open at a time; what opens it also closes it, in the order of the format."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._id = response_id("", view)
        self._model = view.model
        self._created = view.created
        self._number = 0
        self._begun = False
        self._items: list[dict[str, Any]] = []
        self._kind = ""
        self._part: int | None = None
        self._out: list[bytes] = []
        self._finish: Finished | None = None
        self._usage = Usage()

    def feed(self, events: Sequence[Event]) -> bytes:
        for event in events:
            self._render(event)
        return self._taken()

    def finish(self, details: Mapping[str, Any] | None = None) -> bytes:
        self._begin()
        self._close()
        end = self._finish or Finished("stop")
        response = self._response("completed") | ending(end.reason) | {"usage": render_usage(self._usage)}
        if details is not None:
            response["headgate"] = details
        self._emit(f"response.{response['status']}", response=response)
        return self._taken()

    def fail(self, error: HeadgateError) -> bytes:
        """response.failed for clients that follow the protocol; the error event before it is what the SDKs raise."""
        self._begin()
        _, code = wire_type(error)
        self._out.append(render_stream_error(error, self._view.id, self._number))
        self._number += 1
        failed = self._response("failed") | {"error": {"code": code, "message": error.message}}
        self._emit("response.failed", response=failed)
        return self._taken()

    # -- events ------------------------------------------------------------------------------------------------------
    def _render(self, event: Event) -> None:
        if getattr(event, "choice", 0):
            return  # this format has one answer; n > 1 was refused before
        match event:
            case Started():
                if event.id.startswith("resp_"):
                    self._id = event.id
                self._model = event.model or self._model
                self._created = event.created or self._created
                self._begin()
            case Resumed():
                self._model = event.model or self._model  # the final `response` object names it
            case TextDelta():
                if event.text:
                    self._say(event.part, "output_text")
                    self._item["content"][-1]["text"] += event.text
                    self._emit("response.output_text.delta", **self._place(), delta=event.text, logprobs=[])
            case RefusalDelta():
                self._say(event.part, "refusal")
                self._item["content"][-1]["refusal"] += event.text
                self._emit("response.refusal.delta", **self._place(), delta=event.text)
            case CitationAdded() if event.citation.get("kind") == NAME and self._kind == "message":
                annotation = {k: v for k, v in event.citation.items() if k != "kind"}
                found = self._item["content"][-1].setdefault("annotations", [])
                found.append(annotation)
                place = self._place() | {"annotation_index": len(found) - 1}
                self._emit("response.output_text.annotation.added", **place, annotation=annotation)
            case ReasoningDelta():
                self._think(event)
            case ToolCallStarted():
                self._call(event)
            case ToolCallDelta():
                custom = self._kind == "custom_tool_call"
                self._item["input" if custom else "arguments"] += event.arguments
                name = "custom_tool_call_input" if custom else "function_call_arguments"
                place = {"item_id": self._item["id"], "output_index": len(self._items) - 1}
                self._emit(f"response.{name}.delta", **place, delta=event.arguments)
            case PartAdded():
                self._whole(event)
            case Finished():
                self._finish = event
            case Used():
                self._usage = event.usage
            case Failed():
                self._out.append(self.fail(event.error))

    def _say(self, part: int, kind: str) -> None:
        """Opens a message item, and in it a content part; another part of words goes into the same item."""
        if self._kind == "message" and self._part == part and self._item["content"][-1]["type"] == kind:
            return
        if self._kind != "message":
            self._open(
                "message", {"type": "message", "status": "in_progress", "role": "assistant", "content": []}, "msg"
            )
        else:
            self._close_content()
        text = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        content = text if kind == "output_text" else {"type": "refusal", "refusal": ""}
        self._item["content"].append(content)
        self._part = part
        self._emit("response.content_part.added", **self._place(), part=content)

    def _think(self, event: ReasoningDelta) -> None:
        if self._kind != "reasoning" or self._part != event.part:
            if not (event.text or event.encrypted):
                return  # a bare signature of another provider means nothing here
            self._open("reasoning", {"type": "reasoning", "summary": []}, "rs", event.id)
            self._part = event.part
        item = self._item
        place = {"item_id": item["id"], "output_index": len(self._items) - 1, "summary_index": 0}
        if event.text:
            if not item["summary"]:
                item["summary"] = [{"type": "summary_text", "text": ""}]
                self._emit("response.reasoning_summary_part.added", **place, part=item["summary"][0])
            item["summary"][0]["text"] += event.text
            self._emit("response.reasoning_summary_text.delta", **place, delta=event.text)
        if event.encrypted:
            item["encrypted_content"] = event.encrypted

    def _call(self, event: ToolCallStarted) -> None:
        head = event.extensions.get(NAME, {}).get("head") or {}
        kind = "custom_tool_call" if event.custom else "function_call"
        item = {"type": kind, "status": "in_progress", "call_id": event.id, "name": event.name}
        item["input" if event.custom else "arguments"] = ""
        self._open(
            kind,
            {**item, **{k: v for k, v in head.items() if k != "id"}},
            "ctc" if event.custom else "fc",
            head.get("id"),
        )
        self._part = event.part

    def _whole(self, event: PartAdded) -> None:
        value = event.value
        if isinstance(value, Opaque) and value.dialect == NAME:
            self._open("whole", dict(value.data), "item", value.data.get("id"))
        elif isinstance(value, Reasoning) and value.encrypted:
            self._open(
                "reasoning", {"type": "reasoning", "summary": [], "encrypted_content": value.encrypted}, "rs", value.id
            )
        self._close()

    # -- items -------------------------------------------------------------------------------------------------------
    @property
    def _item(self) -> dict[str, Any]:
        return self._items[-1]

    def _open(self, kind: str, item: dict[str, Any], prefix: str, item_id: str | None = None) -> None:
        self._begin()
        self._close()
        self._items.append({"id": item_id or f"{prefix}_{self._view.id}_{len(self._items)}", **item})
        self._kind = kind
        self._emit("response.output_item.added", output_index=len(self._items) - 1, item=self._item)

    def _close(self) -> None:
        if not self._kind:
            return
        item, index = self._item, len(self._items) - 1
        place = {"item_id": item["id"], "output_index": index}
        match self._kind:
            case "message":
                self._close_content()
            case "reasoning" if item["summary"]:
                text = item["summary"][0]["text"]
                self._emit("response.reasoning_summary_text.done", **place, summary_index=0, text=text)
                self._emit("response.reasoning_summary_part.done", **place, summary_index=0, part=item["summary"][0])
            case "function_call":
                item["arguments"] = item["arguments"] or "{}"
                done = {"arguments": item["arguments"], "name": item["name"]}
                self._emit("response.function_call_arguments.done", **place, **done)
            case "custom_tool_call":
                self._emit("response.custom_tool_call_input.done", **place, input=item["input"])
        if "status" in item:
            item["status"] = "completed"
        self._emit("response.output_item.done", output_index=index, item=item)
        self._kind, self._part = "", None

    def _close_content(self) -> None:
        content = self._item["content"][-1]
        if content["type"] == "refusal":
            self._emit("response.refusal.done", **self._place(), refusal=content["refusal"])
        else:
            self._emit("response.output_text.done", **self._place(), text=content["text"], logprobs=[])
        self._emit("response.content_part.done", **self._place(), part=content)

    def _place(self) -> dict[str, Any]:
        content = len(self._item["content"]) - 1
        return {"item_id": self._item["id"], "output_index": len(self._items) - 1, "content_index": content}

    # -- the frame ---------------------------------------------------------------------------------------------------
    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self._emit("response.created", response=self._response("in_progress"))
        self._emit("response.in_progress", response=self._response("in_progress"))

    def _response(self, status: str) -> dict[str, Any]:
        out = shell(self._view, status=status, response_id=self._id, model=self._model, created=self._created)
        out["output"] = self._items
        return out

    def _emit(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        self._out.append(sse.frame(encode(event), kind))

    def _taken(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out
