"""The panel on virtual time, its providers written out: who is waited for, who is cancelled, what failure looks like."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headgate.dialects.openai_chat import DIALECT as CHAT
from headgate.engine.pipeline import Inbound, prepare
from headgate.simulator import script as s
from support.virtual import SSE_HEAD, VirtualGateway, answer, either, streamed, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  a: {provider: openai, upstream: a, price: {input: 1, output: 1}, max_output: 1000}
  b: {provider: openai, upstream: b, price: {input: 1, output: 1}, max_output: 1000}
  c: {provider: openai, upstream: c, price: {input: 1, output: 1}, max_output: 1000}
  d: {provider: openai, upstream: d, price: {input: 1, output: 1}, max_output: 1000}
  j: {provider: openai, upstream: j, price: {input: 1, output: 1}, max_output: 1000}
  plain: {ensemble: {members: {a: 0.4, b: 0.35, c: 0.25}, grace: 2s}}
  timed: {ensemble: {members: {a: 0.4, b: 0.35, c: 0.25}, grace: 2s, budget: {deadline: 5s}}}
  voted: {ensemble: {mode: vote, members: {a: 0.4, b: 0.35, c: 0.25}}}
  majority: {ensemble: {mode: vote, overrule: 1, members: {a: 0.45, b: 0.3, c: 0.25}}}
  defended: {ensemble: {mode: vote, members: {a: 0.45, b: 0.3, c: 0.25}}}
  named: {ensemble: {mode: vote, members: [{model: a, weight: 4, role: incumbent}, {model: b, weight: 6}]}}
  peers: {ensemble: {mode: vote, members: [{model: a, weight: 3, role: peer}, {model: b, weight: 1}]}}
  judged: {ensemble: {members: {a: 0.4, b: 0.35, c: 0.25}, judge: j}}
  dueled: {ensemble: {members: {a: 0.4, b: 0.35, c: 0.25}, judge: {model: j, style: pairwise}}}
  fused: {ensemble: {mode: fuse, members: {a: 0.4, b: 0.35, c: 0.25}}}
  nested: {ensemble: {members: {chain: 0.6, c: 0.4}}}
  chain: {fallback: [a, b]}
  after: {fallback: [plain, d]}
  around: {fallback: {order: [plain, d], move_on: [content_policy]}}
  hung: {ensemble: {members: [{model: a, weight: 3, role: incumbent}, {model: b, weight: 4}, {model: c, weight: 3}]}}
  capped: {ensemble: {members: {a: 0.4, b: 0.35, c: 0.25}, judge: j, budget: {max_cost: 0.01}}}
"""
HANG = [s.Hang()]
NUMBER = {"messages": [{"role": "user", "content": "How many?"}]}


def gateway(**said: Any) -> VirtualGateway:
    it = VirtualGateway(CONFIG)
    for name, script in said.items():
        it.fake.on(name, *(script if isinstance(script, tuple) else (script,)))
    return it


def members(heard: Any) -> dict[str, dict[str, Any]]:
    return {member["model"]: member for member in heard.details["ensemble"]["members"]}


def check(it: VirtualGateway) -> None:
    """Nothing of the request is left anywhere, and the books are closed."""
    assert it.transport.open == 0
    assert it.house.inflight == 0
    it.ledger.check()


def test_once_two_answers_are_there_the_third_gets_the_grace_and_is_cancelled_at_its_provider():
    async def main() -> None:
        it = gateway(a=answer("One.", after=1.0), b=answer("Two.", after=3.0), c=HANG)
        heard = await it.ask("plain")
        assert heard.text == "One."
        assert 4.9 <= heard.took <= 5.1
        assert members(heard)["c"]["outcome"] == "too slow: cancelled"
        [call] = it.fake.calls_of("c")
        assert call.left is not None
        assert 4.9 <= call.left <= 5.1
        [late] = [a for a in heard.details["attempts"] if a["model"] == "c"]
        assert late["outcome"] == "cancelled"
        check(it)

    virtually(main)


def test_an_answer_that_the_rules_drop_starts_no_grace():
    async def main() -> None:
        it = gateway(a=answer("One.", after=1.0), b=answer("", after=1.0), c=answer("Three.", after=20.0))
        heard = await it.ask("plain")
        assert members(heard)["b"]["outcome"] == "empty"
        assert members(heard)["c"]["outcome"] == "valid"
        assert heard.took >= 20.0

    virtually(main)


def test_the_deadline_cuts_whoever_is_late_even_with_one_answer():
    async def main() -> None:
        it = gateway(a=HANG, b=answer("Two.", after=1.0), c=HANG)
        heard = await it.ask("timed")
        assert heard.text == "Two."
        assert 4.9 <= heard.took <= 5.2
        assert [call.left is not None for call in it.fake.calls if call.status is None or call.status == 0] == [
            True
        ] * 2
        check(it)

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_every_member_within_a_second(stream):
    async def main() -> None:
        it = gateway(a=HANG, b=answer("Two.", after=30.0), c=[s.Pause(30.0), SSE_HEAD, s.Hang()])
        task = asyncio.ensure_future(it.ask("plain", stream=stream))
        await asyncio.sleep(3.0)
        assert it.transport.open == 3
        task.cancel()
        await asyncio.wait([task])
        assert it.clock.monotonic() <= 4.0
        assert all(call.left is not None and call.left <= 4.0 for call in it.fake.calls)
        check(it)

    virtually(main)


def test_no_valid_answer_is_503_with_the_attempts_and_429_where_all_were_rate_limits():
    async def main() -> None:
        down = s.reply_json(503, {"error": {"message": "down"}})
        it = gateway(a=down, b=answer(""), c=[s.Reset()])
        heard = await it.ask("plain")
        assert (heard.status, heard.error["code"]) == (503, "all_models_unavailable")
        assert {a["model"] for a in heard.details["attempts"]} == {"a", "b", "c"}
        assert heard.headers["x-should-retry"] == "false"
        check(it)
        busy = s.reply_json(429, {"error": {"message": "slow down"}}, (("retry-after", "7"),))
        it = gateway(a=busy, b=busy, c=busy)
        heard = await it.ask("plain", headers={"x-headgate-timeout": "3s"})
        assert (heard.status, heard.headers["retry-after"]) == (429, "7")
        check(it)

    virtually(main)


REFUSAL = s.reply_json(
    200,
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": None, "refusal": "I will not say."},
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    },
)
POLICY = s.reply_json(
    400,
    {"error": {"message": "violates our policy", "code": "content_policy_violation", "type": "invalid_request_error"}},
)


@pytest.mark.parametrize("said", [(REFUSAL, REFUSAL, REFUSAL), (POLICY, REFUSAL, REFUSAL)])
def test_where_everybody_refuses_the_error_says_so_and_a_chain_does_not_go_round_it(said):
    async def main() -> None:
        it = gateway(**dict(zip("abc", said, strict=True)), d=answer("I will."))
        heard = await it.ask("plain")
        assert (heard.status, heard.error["code"]) == (503, "all_models_unavailable")
        assert "refused to answer: content policy" in heard.error["message"]
        assert {a["model"] for a in heard.details["attempts"]} == {"a", "b", "c"}
        assert heard.headers["x-should-retry"] == "false"
        trace = it.house.recent(1)[0][0]
        assert any(d.kind == "ensemble" and "refused" in d.because for d in trace.decisions)
        assert trace.facts["ensemble"]["winner"] is None
        assert (await it.ask("after")).error["code"] == "all_models_unavailable"
        assert not it.fake.calls_of("d")
        assert (await it.ask("around")).text == "I will."
        check(it)

    virtually(main)


def cut(text: str, tokens: int) -> list[s.Step]:
    message = {"role": "assistant", "content": text}
    return s.reply_json(
        200,
        {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "length", "message": message}],
            "usage": {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens},
        },
    )


@pytest.mark.parametrize("model", ["plain", "voted", "judged", "fused"])
def test_an_answer_as_long_as_the_request_lets_it_be_stands_where_nobody_gave_a_whole_one(model):
    async def main() -> None:
        it = gateway(a=cut("The answer is 3", 10), b=cut("The answer is", 10), c=answer("391."), j=answer("7"))
        heard = await it.ask(model, max_tokens=10)
        assert heard.text == "391."
        assert members(heard)["a"]["outcome"] == "cut off at the request's max_tokens"
        it.fake.on("c", cut("I think", 9))
        heard = await it.ask(model, max_tokens=10)
        assert heard.text == "The answer is 3"
        assert heard.json()["choices"][0]["finish_reason"] == "length"
        assert heard.details["ensemble"]["winner"] == "a"
        assert "agreement" not in heard.details["ensemble"]
        assert len(it.fake.calls_of("j")) == 0
        check(it)

    virtually(main)


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ("plain", {}, cut("The answer is 3", 10)),
        ("capped", {}, cut("The answer is 3", 4096)),
        ("plain", {"max_tokens": 100}, cut("The answer is 3", 10)),
        ("plain", {"max_tokens": 10}, cut("", 10)),
        ("plain", {"max_tokens": 10, "response_format": {"type": "json_object"}}, cut('{"answer": 3', 10)),
    ],
    ids=["no bound", "the ensemble's own bound", "short of the bound", "no words", "half an object"],
)
def test_an_answer_cut_off_by_anything_else_is_none(model, more, said):
    async def main() -> None:
        it = gateway(a=said, b=said, c=said)
        heard = await it.ask(model, **more)
        assert (heard.status, heard.error["code"]) == (503, "all_models_unavailable")
        assert {a["outcome"] for a in heard.details["attempts"]} == {"ok"}
        check(it)

    virtually(main)


def test_what_is_wrong_with_the_request_is_told_as_by_a_single_model():
    async def main() -> None:
        bad = s.reply_json(
            400, {"error": {"message": "temperature must be at most 2", "type": "invalid_request_error"}}
        )
        it = gateway(a=bad, b=bad, c=bad)
        heard = await it.ask("plain")
        assert heard.status == 400
        assert "temperature" in heard.error["message"]
        it = gateway(a=answer("x"), b=answer("x"), c=answer("x"))
        heard = await it.ask("plain", headers={"x-headgate-max-cost": "0.000001"})
        assert heard.error["code"] == "max_cost_exceeded"
        assert not it.fake.calls

    virtually(main)


@pytest.mark.parametrize(
    ("model", "said", "winner"),
    [
        ("voted", ("391", "The answer is 390.", "390"), "b"),  # 1.5 times the incumbent's weight
        ("named", ("391", "390", "390"), "a"),  # 1.5 times: a named incumbent needs 2
        ("defended", ("391", "390", "390"), "a"),  # 1.22 times: not enough
        ("majority", ("391", "390", "390"), "b"),
        ("voted", ("390", "391", "392"), "a"),
        ("voted", ("I would rather not say how I feel about it.\n\nIt is long.", "7", "7"), "b"),
        ("voted", ("I would rather not say how I feel about it.\n\nIt is long.", "7", "8"), "a"),
        ("peers", ("5", "6", ""), "a"),  # three times the weight of the incumbent, which a peer is not
    ],
)
def test_a_vote_overrules_the_incumbent_only_with_enough_weight(model, said, winner):
    async def main() -> None:
        it = gateway(**{name: answer(text) for name, text in zip("abc", said, strict=True)})
        heard = await it.ask(model, **NUMBER)
        assert heard.details["ensemble"]["winner"] == winner, heard.details["ensemble"]["rule"]
        assert heard.headers["x-headgate-model"] == winner

    virtually(main)


@pytest.mark.parametrize(
    ("model", "said", "judged", "winner", "agreement"),
    [
        ("plain", ("391", "390", "390"), "7", "a", 0.4),
        ("plain", ("391", "The answer is 391.", "390"), "7", "a", 0.75),
        ("judged", ("391", "391", "390"), "10", "c", 0.25),
        ("dueled", ("390", "391", "391"), "10", "b", 0.6),
        ("judged", ("391", "391", "It depends.\n\nMuch is to be said."), "10", "c", None),
        ("plain", ("It depends.\n\nMuch is to be said.", "391", "391"), "7", "a", None),
    ],
)
def test_agreement_is_the_weight_of_those_who_say_what_the_winner_says(model, said, judged, winner, agreement):
    """Whatever chose it; not there where what it says cannot be compared. The judge prefers whatever the winner says."""
    preferred = said["abc".index(winner)].partition("\n")[0]

    def judge(call: Any) -> s.Script:
        prompt = json.loads(call.body)["messages"][-1]["content"]
        if model == "dueled":
            return answer("A" if prompt.index(preferred) < prompt.index("Candidate B:") else "B")
        return answer(judged if preferred in prompt else "3")

    async def main() -> None:
        it = gateway(**{name: answer(text) for name, text in zip("abc", said, strict=True)}, j=judge)
        found = (await it.ask(model, **NUMBER)).details["ensemble"]
        assert found["winner"] == winner, found["rule"]
        assert found.get("agreement") == agreement

    virtually(main)


def test_agreement_on_a_call_is_on_the_one_that_is_returned():
    async def main() -> None:
        it = gateway(a=tool_call('"Rome"'), b=tool_call('"Oslo"'), c=tool_call('"Bern"'))
        found = (await it.ask("hung", tools=[WEATHER])).details["ensemble"]
        assert (found["winner"], found["agreement"]) == ("a", 0.3)

    virtually(main)


def test_json_is_voted_by_leaf_and_its_reasoning_stays_with_its_answer():
    async def main() -> None:
        it = gateway(
            a=answer('{"city": "Paris", "people": 3, "why": "as I recall"}'),
            b=answer('{"city": "Lyon", "people": 2, "why": "as told"}'),
            c=answer('{"city": "Lyon", "people": 2.0, "why": "so it says"}'),
        )
        heard = await it.ask("voted", **NUMBER)
        assert heard.text == '{"city": "Lyon", "people": 2, "why": "as told"}'
        it.fake.on("b", answer('{"city": "Lyon", "people": 3, "why": "as told"}'))
        it.fake.on("c", answer('{"city": "Lyon", "people": 2, "why": "so it says"}'))
        heard = await it.ask("voted", **NUMBER)
        assert heard.text == '{"city": "Lyon", "people": 3, "why": "as told"}'
        it.fake.on("a", answer('{"city": "Lyon", "people": 2, "why": "as I recall"}'))
        it.fake.on("b", answer('{"city": "Lyon", "people": 3, "why": "as told"}'))
        it.fake.on("c", answer('{"city": "Paris", "people": 3, "why": "so it says"}'))
        heard = await it.ask("voted", **NUMBER)
        assert heard.json()["choices"][0]["message"]["content"] == '{"city": "Lyon", "people": 3, "why": "as told"}'

    virtually(main)


def test_ties_of_scores_keep_the_incumbent_and_the_judge_s_calls_are_told_and_paid_for():
    async def main() -> None:
        it = gateway(a=answer("One."), b=answer("Two."), c=answer("Three."), j=answer("7"))
        heard = await it.ask("judged")
        assert heard.details["ensemble"]["winner"] == "a"
        assert heard.details["ensemble"]["judge"] == {
            "model": "j",
            "style": "score",
            "calls": 3,
            "cost_usd": "0.000045",
        }
        assert {m["cost_usd"] for m in members(heard).values()} == {"0.000015"}

    virtually(main)


@pytest.mark.parametrize(
    ("replies", "winner", "score"),
    [
        ({"One.": "4", "Two.": "Certainly! I would say nine.", "Three.": "3"}, "b", 0.5),  # 0.5 is more than 0.4
        ({"One.": "6", "Two.": "Certainly! I would say nine.", "Three.": "3"}, "a", 0.5),
        ({"One.": "5", "Two.": "", "Three.": "3"}, "a", 0.5),  # a tie, which the incumbent keeps
    ],
)
def test_a_reply_of_the_judge_that_cannot_be_read_counts_half_and_is_marked(replies, winner, score):
    def judge(call: Any) -> s.Script:
        prompt = json.loads(call.body)["messages"][-1]["content"]
        return answer(next(reply for said, reply in replies.items() if said in prompt))

    async def main() -> None:
        it = gateway(a=answer("One."), b=answer("Two."), c=answer("Three."), j=judge)
        heard = await it.ask("judged")
        found = members(heard)
        assert heard.details["ensemble"]["winner"] == winner
        assert (found["b"]["score"], found["b"]["judge_unreadable"]) == (score, True)
        assert "judge_unreadable" not in found["a"].keys() | found["c"].keys()

    virtually(main)


@pytest.mark.parametrize(
    ("replies", "verdict", "unreadable", "winner"),
    [
        (("T", "T"), "tie", False, "a"),
        (("B", "T"), "the orders disagree", False, "a"),  # better in one order only
        (("B", "B"), "the orders disagree", False, "a"),  # whoever stands second
        (("B", "Both are fine."), "no verdict", True, "a"),
        (("B", "A"), "better", False, "b"),
        (("A", "B"), "worse", False, "a"),
    ],
)
def test_a_duel_that_both_orders_do_not_win_keeps_the_incumbent(replies, verdict, unreadable, winner):
    """`replies`: with the incumbent as A, and as B."""

    def judge(call: Any) -> s.Script:
        prompt = json.loads(call.body)["messages"][-1]["content"]
        return answer(replies[prompt.index("One.") > prompt.index("Candidate B:")])

    async def main() -> None:
        it = gateway(a=answer("One."), b=answer("Two."), c=s.reply_json(500, {"error": {"message": "x"}}), j=judge)
        heard = await it.ask("dueled")
        assert heard.details["ensemble"]["winner"] == winner
        found = members(heard)["b"]
        assert (found["verdict"], found.get("judge_unreadable", False)) == (verdict, unreadable)
        assert len(it.fake.calls_of("j")) == 2

    virtually(main)


FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "required": ["n"]}}}


@pytest.mark.parametrize("model", ["plain", "judged", "dueled", "voted", "fused"])
@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (answer('{"m": 1}'), "breaks the schema"),
        (answer("n is 1"), "breaks the schema"),
        (answer(""), "empty"),
        (REFUSAL, "refused"),
        (cut('{"n": 1', 10), "truncated"),
    ],
)
def test_what_the_rules_drop_is_never_judged_and_never_wins(model, said, outcome):
    """Two of three are dropped, the incumbent with them: the third is all that there is, and nobody is asked about it."""

    async def main() -> None:
        it = gateway(a=said, b=said, c=answer('{"n": 1}'), j=answer("7"))
        heard = await it.ask(model, response_format=FORM)
        found = members(heard)
        assert (heard.text, heard.details["ensemble"]["winner"]) == ('{"n": 1}', "c")
        assert found["a"]["outcome"].startswith(outcome)
        assert found["b"]["outcome"].startswith(outcome)
        assert found["c"]["outcome"] == "valid"
        assert len(it.fake.calls_of("j")) == 0
        check(it)

    virtually(main)


def test_duels_are_held_at_once_and_need_both_orders():
    async def main() -> None:
        def judge(call: Any) -> s.Script:
            """Prefers Three to anything, and whoever stands first otherwise."""
            text = call.body.decode()
            first, second = text.index("Candidate A:"), text.index("Candidate B:")
            at = text.rfind("Three.")
            return answer("A" if at < 0 or first < at < second else "B", after=4.0)

        it = gateway(a=answer("One."), b=answer("Two."), c=answer("Three."), j=judge)
        heard = await it.ask("dueled")
        assert heard.details["ensemble"]["winner"] == "c"
        assert {name: m.get("verdict") for name, m in members(heard).items()} == {
            "a": None,
            "b": "the orders disagree",
            "c": "better",
        }
        assert len(it.fake.calls_of("j")) == 4
        assert heard.took <= 4.5

    virtually(main)


def test_a_judge_is_paid_for_and_planned_for_by_what_it_reads():
    """Not by the client's short question: a judge's prompt holds the whole answers."""

    async def main() -> None:
        long = "word " * 2000
        it = gateway(a=answer(long), b=answer("Two."), c=answer("Three."), j=answer("7"))
        heard = await it.ask("judged", max_tokens=3000)
        worst = [intent.reserved for intent in it.ledger.intents if intent.role == "judge"]
        assert len(worst) == 3
        assert max(worst) > len(long) // 4 * 1000  # nano-US$ at one US$ per million tokens
        planned = heard.details["ensemble"]
        assert planned["winner"] == "a"
        body = json.dumps({"model": "judged", "max_tokens": 3000, **NUMBER}).encode()
        request = Inbound(door="chat", dialect=CHAT, body=body, headers={})
        plan = prepare(it.house, request, it.house.governor.authenticate([]), 0.0, 0.0).plan
        members = 3 * 3000 * 1000
        assert plan.worst_case >= members + sum(worst)
        # What is predicted is for answers of 600 tokens, written and read.
        assert 3 * 600 * 1000 < plan.predicted_cost - 3 * 600 * 1000 < 2 * 3 * 600 * 1000

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_a_fuser_that_fails_leaves_the_best_answer(stream):
    async def main() -> None:
        down = s.reply_json(500, {"error": {"message": "down"}})
        it = gateway(a=(answer("One."), down), b=answer("Two."), c=answer("Three."))
        heard = await it.ask("fused", stream=stream)
        assert heard.text == "One."
        assert not stream or heard.finished
        check(it)

    virtually(main)


def test_a_fuser_that_breaks_off_is_continued_by_another_member_or_ends_with_an_error():
    async def main() -> None:
        cut_off = streamed("The sum ", "of both ", ending=s.Reset())
        it = gateway(a=(answer("One."), cut_off), b=either(answer("Two."), streamed("of both ", "is 12.")))
        it.fake.on("c", s.reply_json(500, {"error": {"message": "down"}}))
        heard = await it.ask("fused", stream=True)
        assert heard.text == "The sum of both is 12."
        assert heard.finished
        assert heard.details["attempts"][-1]["role"] == "rescue"
        check(it)
        it = gateway(a=(answer("One."), cut_off), b=(answer("Two."), s.reply_json(500, {"error": {"message": "down"}})))
        it.fake.on("c", s.reply_json(500, {"error": {"message": "down"}}))
        heard = await it.ask("fused", stream=True)
        assert heard.text == "The sum of both "
        assert heard.error is not None
        assert not heard.finished
        check(it)

    virtually(main)


def test_what_the_fuser_wrote_must_pass_the_rules_too():
    async def main() -> None:
        it = gateway(a=(answer("One."), answer("")), b=answer("Two."), c=answer("Three."))
        assert (await it.ask("fused")).text == "One."

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_usage_is_the_sum_of_all_calls_also_where_the_fuser_streams(stream):
    async def main() -> None:
        fusing = either(answer("Fused."), streamed("Fu", "sed."))
        it = gateway(a=(answer("One."), fusing), b=answer("Two."), c=answer("Three."))
        heard = await it.ask("fused", stream=stream, stream_options={"include_usage": True} if stream else None)
        assert heard.text == "Fused."
        usage = next(c["usage"] for c in heard.chunks if c.get("usage")) if stream else heard.json()["usage"]
        assert usage["total_tokens"] == 4 * 15
        assert sum(a["usage"]["input"] + a["usage"]["output"] for a in heard.details["attempts"]) == 60

    virtually(main)


def test_a_member_may_be_any_entry_and_the_one_that_served_is_named():
    async def main() -> None:
        it = gateway(a=s.reply_json(500, {"error": {"message": "down"}}), b=answer("Two."), c=answer("Three."))
        heard = await it.ask("nested")
        assert heard.text == "Two."
        assert heard.headers["x-headgate-model"] == "b"
        assert members(heard)["chain"]["served_by"] == "b"
        check(it)

    virtually(main)


def tool_call(city: str, name: str = "weather") -> list[s.Step]:
    call = {"id": f"call_{city}", "type": "function", "function": {"name": name, "arguments": f'{{"city": {city}}}'}}
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "tool_calls",
             "message": {"role": "assistant", "content": None, "tool_calls": [call]}}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }  # fmt: skip
    return s.reply_json(200, body)


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.mark.parametrize("model", ["plain", "voted", "judged", "dueled", "fused"])
@pytest.mark.parametrize(
    ("said", "city"),
    [
        ((tool_call('"Rome"'), tool_call('"Oslo"'), tool_call(' "Oslo"')), '"Oslo"'),
        ((tool_call('"Rome"'), tool_call('"Oslo"'), tool_call('"Bern"')), '"Rome"'),
        ((answer("It is sunny."), answer("It rains."), tool_call('"Bern"')), '"Bern"'),
        ((tool_call("7"), tool_call('"Oslo"', "wether"), tool_call('"Bern"')), '"Bern"'),
    ],
)
def test_in_a_turn_with_tools_the_agreed_call_is_returned_whole_and_nothing_else_is_asked(model, said, city):
    async def main() -> None:
        it = gateway(**dict(zip("abc", said, strict=True)), j=answer("7"))
        heard = await it.ask(model, tools=[WEATHER])
        [call] = heard.json()["choices"][0]["message"]["tool_calls"]
        assert call["function"]["arguments"] == f'{{"city": {city}}}'
        assert len(it.fake.calls) == 3
        heard = await it.ask(model, tools=[WEATHER], stream=True)
        said_so = [c["delta"].get("tool_calls") for f in heard.chunks for c in f.get("choices", [])]
        assert "".join(t["function"].get("arguments", "") for calls in said_so if calls for t in calls) == (
            f'{{"city": {city}}}'
        )
        assert heard.text == ""

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_who_cannot_serve_the_request_takes_nobody_s_seat(stream):
    """Not for want of tools or of room; under a budget for one the next by weight has it."""
    small = CONFIG.replace("upstream: a,", "upstream: a, features: [json_schema], max_context: 1000,")
    tight = "budget: {max_cost: 0.0007}"
    small += f"  tight: {{ensemble: {{members: {{a: 0.4, b: 0.35, c: 0.25}}, {tight}}}}}\n"

    async def main() -> None:
        it = VirtualGateway(small)
        for name in "bc":
            it.fake.on(name, either(answer("It rains."), streamed("It ", "rains.")))
        for model, asked in (("plain", ["b", "c"]), ("tight", ["b"])):
            for more in ({"tools": [WEATHER]}, {"messages": [{"role": "user", "content": "x" * 30_000}]}):
                if model == "tight" and "messages" in more:
                    continue
                heard = await it.ask(model, stream=stream, max_tokens=500, **more)
                assert heard.text == "It rains."
                assert sorted(a["model"] for a in heard.details["attempts"]) == asked
                [skip] = [d for d in it.house.recent(1)[0][0].decisions if d.kind == "skip" and d.chosen == "a"]
                assert "a does not support tools" in skip.because or "a's context" in skip.because
        assert not it.fake.calls_of("a")
        check(it)

    virtually(main)


def test_where_no_member_can_serve_it_that_is_the_client_s_error_and_nobody_is_asked():
    async def main() -> None:
        it = VirtualGateway(CONFIG.replace("max_output: 1000}", "max_output: 1000, features: [json_schema]}"))
        heard = await it.ask("plain", tools=[WEATHER])
        assert (heard.status, heard.error["code"]) == (400, "unsupported_feature")
        assert not it.fake.calls
        assert (await it.ask("after", tools=[WEATHER])).status == 400

    virtually(main)


def test_a_member_without_a_known_price_keeps_nobody_dear_on_the_panel():
    """What nobody knows is not counted; what is known must fit."""

    async def main() -> None:
        it = VirtualGateway(
            CONFIG.replace("upstream: a, price: {input: 1, output: 1}", "upstream: a")
            + "  half: {ensemble: {members: {a: 0.4, b: 0.35, c: 0.25}, budget: {max_cost: 0.0007}}}\n"
        )
        for name in "abc":
            it.fake.on(name, answer("One."))
        heard = await it.ask("half", max_tokens=500)
        assert sorted(a["model"] for a in heard.details["attempts"]) == ["a", "b"]
        assert any(d.kind == "skip" and d.chosen == "c" for d in it.house.recent(1)[0][0].decisions)

    virtually(main)


def test_a_member_that_is_over_its_cap_in_a_judged_panel_costs_no_more_than_the_cap():
    async def main() -> None:
        it = gateway(a=answer("One."), b=answer("Two."), c=answer("Three."), j=answer("7"))
        heard = await it.ask("capped", messages=[{"role": "user", "content": "x" * 9000}], max_tokens=1000)
        asked = {attempt["model"] for attempt in heard.details["attempts"]}
        assert "a" in asked
        assert "c" not in asked
        assert float(heard.details["cost_usd"]) <= 0.01

    virtually(main)
