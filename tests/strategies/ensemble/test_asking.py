"""What members, judge and fuser are asked: the same of all, nobody's name, and the best three."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.governance.open import OpenGovernor
from headgate.strategies.ensemble.canonical import canonical
from support.virtual import VirtualGateway, answer, virtually

NAMES = ("amber", "birch", "cedar", "delta")
CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  amber: {provider: openai, upstream: amber-9, price: {input: 1, output: 1}, max_output: 1000}
  birch: {provider: openai, upstream: birch-9, price: {input: 1, output: 1}, max_output: 1000}
  cedar: {provider: openai, upstream: cedar-9, price: {input: 1, output: 1}, max_output: 1000}
  delta: {provider: openai, upstream: delta-9, price: {input: 1, output: 1}, max_output: 1000}
  judge: {provider: openai, upstream: judge-9, price: {input: 1, output: 1}, max_output: 1000}
  scored: {ensemble: {members: {amber: 0.4, birch: 0.3, cedar: 0.2, delta: 0.1}, temperature: 0.3, judge: judge}}
  dueled: {ensemble: {members: {amber: 0.4, birch: 0.3, cedar: 0.2, delta: 0.1}, judge: {model: judge, style: pairwise}}}
  fused: {ensemble: {mode: fuse, members: {amber: 0.4, birch: 0.3, cedar: 0.2, delta: 0.1}, judge: judge}}
  sampled: {ensemble: {members: [{model: amber, weight: 0.5}, {model: birch, weight: 0.45, samples: 2}], judge: judge}}
  doubled: {ensemble: {mode: vote, members: [{model: amber, weight: 0.5}, {model: birch, weight: 0.45, samples: 2}]}}
"""
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How many gates?"},
    {"role": "assistant", "content": "Seven."},
    {"role": "user", "content": "And weirs?"},
]


def gateway(**said: Any) -> VirtualGateway:
    it = VirtualGateway(CONFIG)
    for name in (*NAMES, "judge"):
        script = said.get(name, answer(f"Two weirs, says {name[:1]}."))
        it.fake.on(f"{name}-9", *(script if isinstance(script, tuple) else (script,)))
    return it


def bodies(it: VirtualGateway, model: str) -> list[dict[str, Any]]:
    return [json.loads(call.body) for call in it.fake.calls_of(f"{model}-9")]


@pytest.mark.parametrize(("given", "asked"), [({}, 0.3), ({"temperature": 0.9}, 0.9)])
def test_all_members_get_the_same_conversation(given: dict[str, Any], asked: float):
    async def main() -> None:
        it = gateway(judge=answer("7"))
        await it.ask("scored", messages=TALK, **given)
        for name in NAMES:
            [body] = bodies(it, name)
            assert body["messages"] == TALK
            assert body["temperature"] == asked
        assert len({call.at for name in NAMES for call in it.fake.calls_of(f"{name}-9")}) == 1  # at once

    virtually(main)


@pytest.mark.parametrize("model", ["scored", "dueled", "fused"])
def test_nobody_s_name_reaches_a_judge_or_a_fuser(model: str):
    async def main() -> None:
        it = gateway(judge=answer("7" if model != "dueled" else "T"))
        heard = await it.ask(model, messages=TALK)
        asked = bodies(it, "judge") + bodies(it, "amber")[1:]
        assert len(asked) == {"scored": 4, "dueled": 6, "fused": 5}[model]
        for body in asked:
            said = json.dumps(body["messages"])
            assert "Two weirs" in said
            assert not [name for name in (*NAMES, "judge-9", "openai", model) if name in said]
        assert heard.status == 200

    virtually(main)


def test_the_fuser_reads_the_best_three():
    async def main() -> None:
        def judge(call: Any) -> Any:
            text = json.loads(call.body)["messages"][-1]["content"]
            return answer(next(score for letter, score in scores.items() if f"says {letter}." in text))

        scores = {"a": "2", "b": "9", "c": "5", "d": "8"}
        it = gateway(judge=judge)
        await it.ask("fused")
        fusing = json.dumps(bodies(it, "amber")[1]["messages"])
        assert [letter for letter in "abcd" if f"says {letter}." in fusing] == ["b", "c", "d"]

    virtually(main)


def test_among_the_best_by_score_the_incumbent_and_then_the_weight_decides():
    async def main() -> None:
        for best, winner in (("bcd", "birch"), ("abc", "amber"), ("cd", "cedar")):

            def judge(call: Any, best: str = best) -> Any:
                text = json.loads(call.body)["messages"][-1]["content"]
                return answer("9" if any(f"says {letter}." in text for letter in best) else "4")

            heard = await gateway(judge=judge).ask("scored")
            assert heard.details["ensemble"]["winner"] == winner

    virtually(main)


def test_a_member_with_samples_is_asked_so_often_and_each_counts():
    async def main() -> None:
        it = gateway(amber=answer("390"), birch=(answer("391"), answer("391")))
        heard = await it.ask("doubled")
        assert len(bodies(it, "birch")) == 2
        assert heard.text == "391"
        assert heard.details["ensemble"]["winner"] == "birch"

    virtually(main)


def test_of_several_samples_the_best_one_s_score_is_shown():
    """Its member has won by it."""

    async def main() -> None:
        def judge(call: Any) -> Any:
            text = json.loads(call.body)["messages"][-1]["content"]
            return answer("9" if "The first" in text else "2" if "The second" in text else "5")

        it = gateway(amber=answer("Amber's."), birch=(answer("The first."), answer("The second.")), judge=judge)
        found = (await it.ask("sampled")).details["ensemble"]
        assert (found["winner"], found["scores"]) == ("birch", {"amber": 0.5, "birch": 0.9})
        assert sorted(member["score"] for member in found["members"]) == [0.2, 0.5, 0.9]

    virtually(main)


def test_the_chosen_text_comes_in_pieces():
    async def main() -> None:
        text = "Water stands behind the weir. " * 200
        it = gateway(judge=answer("7"), **{name: answer(text) for name in NAMES})
        heard = await it.ask("scored", stream=True)
        pieces = [piece for f in heard.chunks for c in f.get("choices", []) if (piece := c["delta"].get("content"))]
        assert "".join(pieces) == text
        assert len(pieces) > 20
        assert heard.finished

    virtually(main)


class Watching(OpenGovernor):
    """Notes what a request is admitted with, and how many calls had gone out by then."""

    def __init__(self) -> None:
        self.admitted: list[tuple[int, int]] = []
        self.calls: list[Any] = []

    async def admit(self, principal: Any, **asked: Any) -> Any:
        self.admitted.append((asked["worst_case"], len(self.calls)))
        return await super().admit(principal, **asked)


@pytest.mark.parametrize("stream", [False, True])
def test_the_worst_case_of_all_is_set_aside_before_anybody_is_asked(stream: bool):
    async def main() -> None:
        governor = Watching()
        it = VirtualGateway(CONFIG, governor=governor)
        governor.calls = it.fake.calls
        for name in (*NAMES, "judge"):
            it.fake.on(f"{name}-9", answer("7"))
        heard = await it.ask("scored", stream=stream, max_tokens=500, messages=TALK)
        assert heard.status == 200
        [(worst, before)] = governor.admitted
        assert before == 0
        assert len(it.fake.calls) == 8
        reserved = sum(intent.reserved or 0 for intent in it.ledger.intents)
        assert worst >= reserved >= 4 * 500 * 1000  # nano-US$ at one US$ per million tokens
        refused = await it.ask("scored", max_tokens=500, headers={"x-headgate-max-cost": "0.00001"})
        assert refused.error is not None
        assert refused.error["code"] == "max_cost_exceeded"
        assert len(it.fake.calls) == 8, "nobody was asked"

    virtually(main)


@pytest.mark.parametrize("model", ["scored", "dueled", "fused"])
def test_a_panel_is_shrunk_until_what_is_set_aside_fits(model: str):
    """The lightest leave first, before anybody is asked; who stays is covered, the judge's reading of them too."""

    async def main() -> None:
        governor = Watching()
        it = VirtualGateway(CONFIG, governor=governor)
        for name in (*NAMES, "judge"):
            it.fake.on(name + "-9", answer("T" if model == "dueled" else "7"))
        await it.ask(model, max_tokens=500)
        full, sizes = governor.admitted[0][0], set[int]()
        for part in (1.0, 0.9, 0.6, 0.4, 0.1):
            before, limit = len(it.ledger.intents), round(full * part)
            heard = await it.ask(model, max_tokens=500, headers={"x-headgate-max-cost": f"{limit / 1e9:.9f}"})
            assert heard.status == 200
            asked = [a["model"] for a in heard.details["attempts"] if a["role"] == "member"]
            assert asked == list(NAMES[: len(asked)])
            skipped = [d.chosen for d in it.house.recent(1)[0][0].decisions if d.kind == "skip"]
            assert sorted(skipped) == sorted(NAMES[len(asked) :])
            reserved = sum(intent.reserved or 0 for intent in list(it.ledger.intents)[before:])
            assert reserved <= governor.admitted[-1][0] <= limit
            sizes.add(len(asked))
        assert sizes >= {1, 2, 4}

    virtually(main)


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (("$1,234.50", "The sum is 1,234.50.", "[simulated] 1234.50 dollars", "So:\n\n\\boxed{1234.5}"), "1234.5"),
        (("B", "(b)", "The answer is B.", "Some thoughts.\n\nAnswer: (B)"), "B"),
        (("Paris", "paris.", '"Paris"', "  Paris! "), "paris"),
        (('{"answer": 391, "reasoning": "sums"}', '```json\n{"answer": "391"}\n```', "391"), "391"),
        (("A story.\n\nIt has no end and no number.", "It is a long way, and nobody has walked it yet. " * 3), None),
    ],
)  # fmt: skip
def test_short_answers_that_say_the_same_have_one_form(texts: tuple[str, ...], form: str | None):
    assert {canonical(text) for text in texts} == {form}
