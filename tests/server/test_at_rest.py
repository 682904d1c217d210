"""The check that stands behind every bad input's test sees what it is there to see."""

from __future__ import annotations

import threading

from server.test_bad_inputs import CHAT, GOOD, post
from support.at_rest import held
from support.polling import until


def test_a_request_under_way_is_seen_with_all_that_it_holds(stage):
    def found() -> list[str]:
        return stage.loop.call(lambda: held(stage.gateway, stage.sim))

    stage.loop.run(stage.sim.break_model("claude-4.7", "hang"))
    asking = threading.Thread(target=post, args=(stage, CHAT, GOOD))
    try:
        asking.start()
        until(lambda: any("reserved" in line for line in found()) and any("upstream" in line for line in found()))
        said = "\n".join(found())
        for holds in ("1 requests under way", "handled: ", "1 in its gate", "never settled", "upstream: "):
            assert holds in said, said
        for scope in ("all", "model:claude-4.7"):
            assert f"{scope}: 1 running" in said, said
            assert any(line.startswith(f"{scope}: ") and line.endswith(" reserved") for line in found()), said
    finally:
        asking.join()  # `post` leaves after five seconds
        stage.loop.run(stage.sim.mend())


def test_money_that_the_ledger_has_not_is_seen(stage):
    assert post(stage, CHAT, GOOD)[0] == 200
    windows = [w for (scope, _), w in stage.governor.book.windows.items() if scope == "all"]
    assert windows
    assert sum(w.settled for w in windows) > 0
    windows[0].settled += 1
    try:
        assert any("the budget has paid" in line for line in stage.loop.call(lambda: held(stage.gateway, stage.sim)))
    finally:
        windows[0].settled -= 1
