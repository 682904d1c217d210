"""What a plan may leave out, how its steps run, and what stops them, on virtual time."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from headgate.core.envelope import Envelope
from headgate.core.errors import HeadgateError
from headgate.core.strategy import ModelInfo, Plan
from headgate.governance.open import OpenGovernor
from headgate.server.http import Request
from headgate.simulator import script as s
from headgate.strategies.agent.team import Team
from headgate.tools.broker import ToolFailed
from headgate.tools.files import Files
from support.virtual import Heard, VirtualGateway, answer, either, streamed, virtually

CONFIG = """
providers: {{openai: {{base_url: "http://one/v1"}}}}
tools: {{files: {{root: "."}}}}
models:
  boss: {{provider: openai, upstream: boss, price: {{input: 1, output: 1}}}}
  hand: {{provider: openai, upstream: hand, price: {{input: 1, output: 1}}}}
  other: {{provider: openai, upstream: other, price: {{input: 1, output: 1}}}}
  chain: {{fallback: [other, hand]}}
  panel: {{ensemble: {{mode: vote, members: [hand, other]}}}}
  agent: {{agent: {{planner: boss, {more}}}}}
"""
USUAL = "models: [hand, other, chain, panel]"
TALK = [
    {"role": "system", "content": "Speak like a lock-keeper."},
    {"role": "user", "content": "My canal is the Kennet."},
    {"role": "assistant", "content": "Noted."},
    {"role": "user", "content": "How deep is it?"},
]


def gateway(plan: Any, more: str = USUAL, **said: Any) -> VirtualGateway:
    """`plan`: the steps of the only plan that its planner makes."""
    it, plans = VirtualGateway(CONFIG.format(more=more)), [json.dumps({"steps": plan})]

    def boss(call: Any) -> Any:
        if b"You are a planner" in call.body:
            return answer(plans.pop() if plans else "No more plans.")
        if b"was worked on in steps" in call.body:
            return answer("Written.")
        return answer("The boss's own.")

    it.fake.on("boss", boss)
    for name in ("hand", "other"):
        script = said.get(name, answer(f"By {name}."))
        it.fake.on(name, *(script if isinstance(script, tuple) else (script,)))
    return it


def prompts(it: VirtualGateway, model: str) -> list[list[dict[str, Any]]]:
    return [json.loads(call.body)["messages"] for call in it.fake.calls_of(model)]


def by_id(heard: Any) -> dict[str, dict[str, Any]]:
    return {step["id"]: step for step in heard.details["agent"]["steps"]}


def test_a_step_without_model_and_query_is_the_planner_s_and_the_user_s():
    async def main() -> None:
        it = gateway([{"name": "bare"}, {"name": "minimal", "model": "hand", "query": "Sound it."}])
        heard = await it.ask("agent", messages=TALK)
        steps = by_id(heard)
        assert (steps["bare"]["model"], steps["bare"]["result"]) == ("boss", "The boss's own.")
        assert (steps["minimal"]["model"], steps["minimal"]["result"]) == ("hand", "By hand.")
        planning, bare, writing = prompts(it, "boss")
        assert [message["content"] for message in bare] == ["How deep is it?"]
        for conversation in (planning, writing):  # who plans and who writes reads all of it
            text = json.dumps(conversation)
            for message in TALK:
                assert message["content"] in text
        assert [message["content"] for [message] in prompts(it, "hand")] == ["Sound it."]

    virtually(main)


def test_a_diamond_takes_as_long_as_its_longest_way_and_four_run_at_once():
    async def main() -> None:
        slow = answer("done", after=10.0)
        steps: list[dict[str, Any]] = [{"name": "top", "model": "hand", "query": "top"}]
        steps += [{"name": f"side{n}", "model": "other", "query": f"side {n} $top"} for n in range(4)]
        steps.append({"name": "end", "model": "hand", "query": "$side0 $side1 $side2 $side3"})
        it = gateway(steps, hand=slow, other=slow)
        heard = await it.ask("agent")
        assert all(step["status"] == "passed" for step in by_id(heard).values())
        assert heard.took == pytest.approx(30.0, abs=0.5)
        it = gateway([{"name": f"s{n}", "model": "hand", "query": "x"} for n in range(6)], hand=slow)
        assert (await it.ask("agent")).took == pytest.approx(20.0, abs=0.5)

    virtually(main)


@pytest.mark.parametrize(("entry", "said"), [("chain", "By other."), ("panel", "By hand.")])
def test_a_step_may_be_any_entry(entry: str, said: str):
    async def main() -> None:
        it = gateway([{"name": "one", "model": entry, "query": "Go"}])
        assert by_id(await it.ask("agent"))["one"]["result"] == said

    virtually(main)


def test_what_failed_is_said_to_who_tries_again():
    async def main() -> None:
        def validator(call: Any) -> Any:
            good = "Long enough." in call.body.decode()
            return answer(json.dumps({"passed": good, "reason": "too short"}))

        more = f"validator: other, {USUAL}"
        it = gateway(
            [{"name": "one", "model": "hand", "query": "Go"}],
            more,
            hand=(answer("Short."), answer("Long enough.")),
            other=validator,
        )
        step = by_id(await it.ask("agent"))["one"]
        assert (step["status"], step["tries"], step["checks"], step["result"]) == (
            "passed",
            2,
            ["validator"],
            "Long enough.",
        )
        assert "An earlier attempt failed: the validator: too short" in prompts(it, "hand")[1][0]["content"]

    virtually(main)


@pytest.mark.parametrize(
    ("check", "bad", "good", "why"),
    [
        ({"schema": {"type": "object", "required": ["m"]}}, '{"x": 1}', '{"m": 2}', "breaks its schema"),
        ({"schema": {"type": "integer"}}, "deep", "2", "the result is not JSON"),
        ({"contains": "m"}, "2", "2 m", "does not contain 'm'"),
        ({"excludes": "?"}, "2 m?", "2 m", "contains '?'"),
        ({"min_chars": 3}, "2", "2 m", "has 1 characters: at least 3"),
        ({"max_chars": 3}, "two metres", "2 m", "has 10 characters: at most 3"),
        ({"python": "int(result) > 1"}, "0", "2", "gave 'False'"),
    ],
)
def test_every_kind_of_check_holds_a_result_back(check: dict[str, Any], bad: str, good: str, why: str):
    async def main() -> None:
        it = gateway(
            [{"name": "one", "model": "hand", "query": "Go", "check": check}], hand=(answer(bad), answer(good))
        )
        step = by_id(await it.ask("agent"))["one"]
        assert (step["status"], step["tries"], step["checks"]) == ("passed", 2, list(check))
        assert why in prompts(it, "hand")[1][0]["content"]
        await it.house.snapshot.aclose()

    virtually(main)


def test_a_second_plan_keeps_what_the_first_one_has_reached():
    """What passed is not done again, and the new steps may refer to it; what failed was tried twice."""

    async def main() -> None:
        first = [{"name": "dig", "model": "hand", "query": "Dig"},
                 {"name": "fill", "model": "other", "query": "Fill $dig", "check": {"contains": "water"}}]  # fmt: skip
        second = [{"name": "pour", "model": "hand", "query": "Pour into $dig"}]
        it, plans = gateway(first, hand=(answer("a ditch"), answer("water")), other=answer("sand")), list[Any]()

        def boss(call: Any) -> Any:
            if b"You are a planner" in call.body:
                plans.append(call.body)
                return answer(json.dumps({"steps": second if len(plans) > 1 else first}))
            return answer("Written.")

        it.fake.on("boss", boss)
        heard = await it.ask("agent")
        found = {name: (step["status"], step["result"]) for name, step in by_id(heard).items()}
        assert found == {"dig": ("passed", "a ditch"), "fill": ("replaced", "sand"), "pour": ("passed", "water")}
        assert [message["content"] for [message] in prompts(it, "hand")] == ["Dig", "Pour into a ditch"]
        assert len(it.fake.calls_of("other")) == 2
        assert len(plans) == 2
        assert heard.text == "Written."

    virtually(main)


def test_there_is_one_second_plan_and_then_an_answer_that_says_what_is_missing():
    async def main() -> None:
        steps = [{"name": f"try{n}", "model": "hand", "query": "Go", "check": {"contains": "yes"}} for n in range(4)]
        it, plans = gateway([], hand=answer("no")), list[Any]()

        def boss(call: Any) -> Any:
            if b"You are a planner" in call.body:
                plans.append(call.body)
                return answer(json.dumps({"steps": [steps[len(plans) - 1]]}))
            return answer("Written.")

        it.fake.on("boss", boss)
        heard = await it.ask("agent")
        assert len(plans) == 2
        assert len(it.fake.calls_of("hand")) == 4  # each step, and its one retry
        assert heard.details["agent"]["missing"] == ["try1: contains"]
        assert "ncomplete" in heard.text

    virtually(main)


def test_a_second_plan_has_the_steps_that_the_first_one_left():
    """`max_steps` is of the whole run: a plan of three and then one of two are more than four."""

    async def main() -> None:
        first = [{"name": f"s{n}", "model": "hand", "query": "Go", "check": {"contains": "yes"}} for n in range(3)]
        second = [{"name": f"t{n}", "model": "hand", "query": "Go"} for n in range(2)]
        for most, missing in ((4, 3), (5, 0), (3, 3)):
            it, plans = gateway([], f"{USUAL}, budget: {{max_steps: {most}}}", hand=answer("no")), list[str]()

            def boss(call: Any, plans: list[str] = plans) -> Any:
                if b"You are a planner" in call.body:
                    plans.append(json.loads(call.body)["messages"][0]["content"])
                    return answer(json.dumps({"steps": second if len(plans) > 1 else first}))
                return answer("Written.")

            it.fake.on("boss", boss)
            heard = await it.ask("agent")
            assert len(heard.details["agent"].get("missing", [])) == missing
            assert sum(step["tries"] > 0 for step in heard.details["agent"]["steps"]) <= most
            assert f"At most {most} steps" in plans[0]
            assert all(f"At most {most - 3} steps" in said for said in plans[1:])
            assert len(plans) == (1 if most == 3 else 2 if most == 5 else 3)  # one that is too long is repaired once

    virtually(main)


@pytest.mark.parametrize(
    "query", ["Explain ```x = {1}``` please", "```json\n{}\n```", 'Say "{" and then ```sh\nls\n``` and "}"']
)
def test_a_query_may_hold_a_code_fence(query: str):
    async def main() -> None:
        for form in ("{}", "Here it is:\n```json\n{}\n```", "Thus: {}\nThat is all."):
            it, said = gateway([]), form.replace("{}", json.dumps({"steps": [{"name": "one", "query": query}]}))
            it.fake.on("boss", answer(said), answer("Done."))
            assert by_id(await it.ask("agent"))["one"]["status"] == "passed"
            assert prompts(it, "boss")[1][-1]["content"] == query

    virtually(main)


@pytest.mark.parametrize("levels", [60, 900, 5000])
@pytest.mark.parametrize("place", ['"tool": "read_file", "args"', '"query": "Go", "check": {"schema"'])
def test_a_plan_without_end_is_none(place: str, levels: int):
    async def main() -> None:
        deep = '{"items": ' * levels + "{}" + "}" * levels
        it = gateway([], f"{USUAL}, tools: [files]")
        ends = "}" if "check" in place else ""
        it.fake.on("boss", answer(f'{{"steps": [{{"name": "one", {place}: {deep}{ends}}}]}}'))
        heard = await it.ask("agent")
        assert heard.status == 200
        assert re.search("nested too deeply|recursion depth", heard.details["agent"]["fallback"])

    virtually(main)


@pytest.mark.parametrize("check", [{"python": "int(result) > 1"}, {"schema": {"type": "integer"}}])
def test_checks_of_steps_that_end_at_once_are_made_at_once(check: dict[str, Any]):
    """The first ones find a sandbox that has not been started yet."""

    async def main() -> None:
        it = gateway(
            [{"name": f"s{n}", "model": "hand", "query": "Go", "check": check} for n in range(4)], hand=answer("2")
        )
        heard = await it.ask("agent")
        assert [(step["status"], step["tries"]) for step in by_id(heard).values()] == [("passed", 1)] * 4
        await it.house.snapshot.aclose()

    virtually(main)


@pytest.mark.parametrize("check", [{"python": "len(result) > 1"}, {"schema": {"type": "object"}}])
@pytest.mark.parametrize("said", [r"\ud800", '{"a":' * 5000 + "1" + "}" * 5000], ids=["half a pair", "deep"])
def test_a_result_that_cannot_be_checked_has_not_passed_or_is_only_looked_at(check: dict[str, Any], said: str):
    async def main() -> None:
        it = gateway([{"name": "one", "model": "hand", "query": "Go", "check": check}], hand=answer(said))
        heard = await it.ask("agent")
        assert heard.status == 200
        assert by_id(heard)["one"]["status"] in ("passed", "failed")
        await it.house.snapshot.aclose()

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("end", ["written", "no plan", "plan only", "no writer"])
def test_usage_is_the_sum_of_all_calls_however_the_run_ends(end: str, stream: bool):
    async def main() -> None:
        it = gateway([], f"{USUAL}, autonomy: {'plan_only' if end == 'plan only' else 'read_only'}")
        said = (
            "No plan." if end == "no plan" else json.dumps({"steps": [{"name": "one", "model": "hand", "query": "Go"}]})
        )
        down = s.reply_json(500, {"error": {"message": "down"}})

        def model(call: Any) -> Any:
            if b"You are a planner" in call.body:
                return answer(said)
            if end == "no writer" and b"was worked on in steps" in call.body:
                return down
            return either(answer("Written."), streamed("Writ", "ten."))(call)

        for name in ("boss", "hand", "other"):
            it.fake.on(name, model)
        heard = await it.ask("agent", stream=stream, stream_options={"include_usage": True} if stream else None)
        usage = next(c["usage"] for c in heard.chunks if c.get("usage")) if stream else heard.json()["usage"]
        calls = [attempt for attempt in heard.details["attempts"] if attempt["outcome"] == "ok"]
        assert len(calls) == {"written": 3, "no plan": 3, "plan only": 1, "no writer": 2}[end]
        assert usage["total_tokens"] == 15 * len(calls)

    virtually(main)


ONE = [{"name": "one", "model": "hand", "query": "Go", "check": {"contains": "yes"}}]
FIVE = [{"name": f"s{n}", "model": "hand", "query": "Go", "needs": [f"s{n - 1}"] if n else []} for n in range(5)]


@pytest.mark.parametrize(
    ("plan", "budget", "calls", "missing"),
    [
        (ONE, "step: {max_calls: 1}", 1, "one: calls_exhausted"),
        (ONE, "step: {max_cost: 0.000001}", 0, "one: max_cost_exceeded"),
        (ONE, "step: {deadline: 2s}", 1, "one: deadline_exceeded"),
        (FIVE, "max_calls: 3", 2, "s2: calls_exhausted"),
        (FIVE, "deadline: 8s", 3, "s2: deadline_exceeded"),
    ],
)
def test_what_reaches_a_cap_fails_and_the_answer_says_so(plan: Any, budget: str, calls: int, missing: str):
    """`calls`: how often the step's model is asked before the cap is reached."""

    async def main() -> None:
        it = gateway(
            plan, f"{USUAL}, budget: {{{budget}}}", hand=answer("no", after=3.0 if "deadline" in budget else 0)
        )
        heard = await it.ask("agent")
        assert heard.status == 200
        assert len(it.fake.calls_of("hand")) == calls
        assert missing in heard.details["agent"]["missing"]
        assert "ncomplete" in heard.text

    virtually(main)


def test_the_registry_filters_first_and_then_weighs_strength_against_price():
    """Stubs, since the order is of numbers: strength less 0.3 of the price beside the dearest."""

    class Stub:
        def __init__(self) -> None:
            self.envelope = Envelope(1e9, money=1000)
            row = {"capabilities": ("math",), "provider": "p", "upstream": "u"}
            self.rows = {
                "strong": ModelInfo(name="strong", strength={"math": 0.9}, **row),
                "nearly": ModelInfo(name="nearly", strength={"math": 0.85}, **row),
                "cheap": ModelInfo(name="cheap", strength={"math": 0.5}, **row),
                "unknown": ModelInfo(name="unknown", **row),
                "down": ModelInfo(name="down", strength={"math": 0.99}, health=0.0, **row),
                "keyless": ModelInfo(name="keyless", usable=False, reason="no key", **row),
                "dear": ModelInfo(name="dear", strength={"math": 1.0}, **row),
                "poet": ModelInfo(name="poet", provider="p", upstream="u", capabilities=("creative",)),
                "narrow": ModelInfo(name="narrow", max_context=1, **row),
            }
            self.costs: dict[str, int | None] = {
                "strong": 900,
                "nearly": 300,
                "cheap": 10,
                "unknown": 500,
                "down": 10,
                "dear": 2000,
            }

        def model(self, name: str) -> ModelInfo | None:
            return self.rows.get(name)

        def plan(self, name: str, request: Any) -> Plan:
            return Plan(strategy="single", worst_case=self.costs.get(name, 0))

    async def main() -> None:
        it = VirtualGateway(CONFIG.format(more=USUAL))
        heard: list[Any] = []
        strategy = it.house.snapshot.strategy("hand")
        plan = strategy.plan
        strategy.plan = lambda request, run: (heard.append(request), plan(request, run))[1]  # type: ignore[method-assign]
        await it.ask("hand")
        run = Stub()
        run.rows["unpriced"] = ModelInfo(
            name="unpriced", provider="p", upstream="u", capabilities=("math",), strength={"math": 0.84}
        )
        run.costs["unpriced"] = None
        found = Team(run, [*run.rows, "a-strategy"]).choose("math", heard[0])  # type: ignore[arg-type]
        # 0.85 - 0.1 before 0.9 - 0.3; what nobody measured counts 0.5; who is cooling down comes last; what has no known
        # price is not free: 0.84 - 0.3
        assert list(found.ranked) == ["nearly", "strong", "unpriced", "cheap", "unknown", "down"]
        assert found.ranked["unpriced"] == "strength 0.84, its price unknown"
        assert found.ranked["nearly"] == "strength 0.85, 33% of the dearest's price"
        assert {name: why.split(":")[0] for name, why in found.out.items() if name != "narrow"} == {
            "keyless": "no key",
            "dear": "costs more than the run may still spend",
            "poet": "has not the capability math",
            "a-strategy": "no model but a strategy",
        }
        assert "narrow" in found.out

    virtually(main)


class Watching(OpenGovernor):
    """Notes what a request is admitted with."""

    def __init__(self) -> None:
        self.admitted: list[int | None] = []

    async def admit(self, principal: Any, **asked: Any) -> Any:
        self.admitted.append(asked["worst_case"])
        return await super().admit(principal, **asked)


@pytest.mark.parametrize(
    ("budget", "own", "worst"),
    [("max_cost: 2.00", None, 2_000_000_000), ("max_cost: 2.00", "0.05", 50_000_000), ("", "0.05", 50_000_000),
     ("max_cost: 0.01", "0.05", 10_000_000), ("", None, None)],
)  # fmt: skip
def test_what_a_run_may_cost_at_most_is_set_aside(budget: str, own: str | None, worst: int | None):
    async def main() -> None:
        governor = Watching()
        it = VirtualGateway(CONFIG.format(more=f"{USUAL}, budget: {{{budget}}}"), governor=governor)
        it.fake.on("boss", answer("No plan."))
        heard = await it.ask("agent", headers={} if own is None else {"x-headgate-max-cost": own})
        assert heard.status == 200
        assert governor.admitted == [worst]

    virtually(main)


def test_files_that_are_too_large_are_no_files(tmp_path: Any):
    (tmp_path / "big").write_bytes(b"x" * 1001)
    (tmp_path / "fits").write_bytes(b"x" * 1000)
    files = Files(str(tmp_path), max_bytes=1000)
    assert files.read("fits") == "x" * 1000
    with pytest.raises(ToolFailed, match="larger than 1000 bytes"):
        files.read("big")
    assert issubclass(ToolFailed, HeadgateError)


@pytest.mark.parametrize(("model", "kind"), [("panel", "ensemble"), ("agent", "agent")])
@pytest.mark.parametrize(
    ("path", "body"),
    [("embeddings", {"input": "x"}), ("completions", {"prompt": "x"}), ("images/generations", {"prompt": "x"})],
)
def test_what_is_no_conversation_is_told_whom_to_ask(model: str, kind: str, path: str, body: dict[str, Any]):
    """The providers of their models do have these doors."""

    async def main() -> None:
        it, heard, headers = gateway([]), Heard(), {"host": "localhost"}
        sent = json.dumps({"model": model, **body}).encode()
        await it.plane(Request("POST", f"/v1/{path}", "", headers, list(headers.items()), sent), heard)
        assert heard.status == 400
        assert heard.json()["error"]["message"].startswith(f"'{model}' is an {kind} and takes conversations only")
        assert not it.fake.calls

    virtually(main)
