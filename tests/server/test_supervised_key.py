"""The first key of workers that are asked to end while the first of them begins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headgate.server.options import Order, Ready
from headgate.server.supervisor import Supervisor

READY = Ready(
    url="", admin="", models=[], skipped=[], is_open=False, first_key="hg-secret", admin_token=None, drain=1.0
)


class Asked(Supervisor):
    """Is asked to end before the first worker is ready (`early`), or after."""

    early = True

    async def _keep(self, slot) -> None:
        if slot.number > 1:
            return
        steps = [self._stop.set, lambda: slot.ready.set_result(READY)]
        for step in steps if self.early else steps[::-1]:
            step()
            for _ in range(9):
                await asyncio.sleep(0)


@pytest.mark.parametrize("early", [True, False])
async def test_a_first_key_that_was_made_is_shown_whenever_the_end_was_asked_for(tmp_path: Path, early: bool) -> None:
    order = Order(worker=0, config=None, host="127.0.0.1", port=0, admin_port=0, data_dir=str(tmp_path))
    supervisor, shown = Asked(order, 2), []
    supervisor.early = early
    supervisor.on_first_key = shown.append
    async with asyncio.timeout(30):
        await supervisor.run(lambda ready: shown.append(ready.first_key))
    assert shown == ["hg-secret"]
