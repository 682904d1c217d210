"""What the heart says between an answer's frames."""

from __future__ import annotations

import asyncio

from headgate.server import relay


class Listener:
    """A responder that keeps what is written."""

    started = True

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def write(self, data: bytes) -> None:
        await self.heard.put(data)


def test_news_is_cut_between_characters_since_sdks_decode_each_line(monkeypatch):
    monkeypatch.setattr(relay, "BEAT", 0.02)
    monkeypatch.setattr(relay, "OPEN_AFTER", 0.02)
    plan = "x计划：先问价格，\n再比较。" * 60

    async def main() -> list[str]:
        listener = Listener()
        heart = relay.Heart(listener, [], b": ping\n\n")  # type: ignore[arg-type]
        await heart.tell(plan, {})
        data = await asyncio.wait_for(listener.heard.get(), 20)
        await heart.stop()
        return [line.decode("utf-8") for line in data.splitlines()]

    assert asyncio.run(main()) == [": " + " ".join(plan.split())[: relay.LONGEST_NEWS], ": ping", ""]
