"""The endpoints under /_sim/: breaking and mending models, their log, scripted answers.

GET    /_sim/models                  every model with its state
POST   /_sim/models/NAME             {"break": "cut_stream", "after": 3, ...} or {"mend": true}
GET    /_sim/log?after=N&model=NAME  calls served, in order
POST   /_sim/script                  {"match": "...", "answers": [...], "model"?, "where"?, "regex"?, "times"?}
POST   /_sim/reset                   all models mended, scripts and log forgotten
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.simulator import script as steps
from headgate.simulator.breaks import Break
from headgate.simulator.minds import Rule
from headgate.simulator.wire import Call

if TYPE_CHECKING:
    from headgate.simulator.app import Simulator


def respond(sim: Simulator, call: Call) -> steps.Script:
    """Malformed commands get 400 with the reason, unknown models 404."""
    what, _, name = call.path.removeprefix("/_sim/").partition("/")
    try:
        match (call.method, what):
            case ("GET", "models"):
                yield from steps.reply_json(200, [_shown(sim, each) for each in sim.models])
            case ("POST", "models") if name in sim.models:
                yield steps.Wait(sim.later(name, _break_of(call.body)))
                yield from steps.reply_json(200, _shown(sim, name))
            case ("POST", "models"):
                yield from steps.reply_json(404, {"error": f"no model {name!r}; there are: {', '.join(sim.models)}"})
            case ("GET", "log"):
                yield from steps.reply_json(200, _log(sim, call.query))
            case ("POST", "script"):
                sim.scripts.add(msgspec.json.decode(call.body, type=Rule))
                yield from steps.reply_json(200, {"ok": True})
            case ("POST", "reset"):
                for each in sim.models:
                    yield steps.Wait(sim.later(each, None))
                sim.scripts.clear()
                sim.log.clear()
                yield from steps.reply_json(200, {"ok": True})
            case _:
                yield from steps.reply_json(404, {"error": f"no such command: {call.method} {call.path}"})
    except (ValueError, msgspec.MsgspecError) as error:
        yield from steps.reply_json(400, {"error": str(error)})


def _break_of(body: bytes) -> Break | None:
    command: Any = msgspec.json.decode(body or b"{}")
    if not isinstance(command, dict):
        raise ValueError("a JSON object with `break` or `mend` is needed")
    if command.pop("mend", False):
        return None
    if "break" not in command:
        raise ValueError("`break` or `mend` is needed")
    return msgspec.convert({"mode": str(command.pop("break")), **command}, Break)


def _shown(sim: Simulator, name: str) -> dict[str, Any]:
    model = sim.models[name]
    return {
        "name": name,
        "provider": model.spec.provider,
        "upstream": model.spec.upstream,
        "break": msgspec.to_builtins(model.broken),
        "active": model.active,
        "calls": len(sim.served(name)),
    }


def _log(sim: Simulator, query: dict[str, str]) -> list[dict[str, Any]]:
    after = int(query.get("after", "0"))
    model = query.get("model")
    return [each.as_json() for each in sim.log if each.number > after and model in (None, each.model)]
