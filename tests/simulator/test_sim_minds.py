"""What simulated models say: sums by skill, tools, schemas, an orchestrator's roles, scripts."""

import json
from fractions import Fraction
from random import Random

import jsonschema
import pytest

from headgate.core.chat import (
    ChatRequest,
    Message,
    OutputFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    text_of,
)
from headgate.simulator.minds import MARK, Mind, Scripts, arithmetic, schemas, tasks
from headgate.simulator.minds.scripts import Rule


def mind(skill=1.0, **more):
    return Mind(("m",), {"general": skill}, **{"thinks": False, "scripts": Scripts(), **more})


def asking(text, *before, system=None, **fields):
    messages = [Message(role="system", content=[Text(text=system)])] if system else []
    messages += [*before, Message(role="user", content=[Text(text=text)])]
    return ChatRequest(model="m", messages=messages, **fields)


def said(thought):
    return text_of(thought.parts)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("What is 17 * 23?", 391),
        ("What is 17 times 23?", 391),
        ("compute (2 + 3) * 4 - 6 / 4", Fraction(37, 2)),
        ("1,200 plus 34", 1234),
        ("15% of 200", 30),
        ("12 squared minus 4", 140),
        ("2^10", 1024),
        ("What is 9 ÷ 3 × 2?", 6),
        ("On 2024-10-21 I had 3 + 4 apples", 7),
        ("1/0", None),
        ("pages 1-5", None),
        ("9^9^9^9^9", None),
        ("no numbers here", None),
        ("2 ** 100000", None),
    ],
)
def test_sums(text, value):
    found = arithmetic.find(text)
    assert (found and found[1]) == value


def test_skill_decides_whether_a_sum_is_right():
    request = asking("What is 17 * 23?")
    assert "391" in said(mind(1.0).think(request, Random(1)))
    wrong = said(mind(0.0).think(request, Random(1)))
    assert "391" not in wrong
    assert "The answer is" in wrong
    right = sum("391" in said(mind(0.7).think(request, Random(n))) for n in range(300))
    assert 180 < right < 240


def test_answers_say_that_they_are_simulated_but_for_bare_values():
    assert said(mind().think(asking("Tell me about lighthouses"), Random(1))).startswith(MARK)
    assert said(mind().think(asking("What is 6 * 7? Reply with only the number."), Random(1))) == "42"
    assert said(mind().think(asking('Reply with exactly: "pong"'), Random(1))) == "pong"


@pytest.mark.parametrize(
    ("text", "task", "holds"),
    [
        ("Write a Python function that reverses a string", "code", "```python"),
        ("Translate to French: good morning world", "translation", "bonjour monde"),
        ("Summarise: The bridge opened in 1932. It cost 4 million. People like it a lot.", "summary", "1932"),
        ("Write a poem about rivers", "creative", "rivers"),
        ("Analyse the trade-offs of remote work", "analysis", "Conclusion"),
        ("Why is the sky blue?", "general", "sky"),
        ("3 + 4", "math", "7"),
        ("Write SQL for the totals per customer", "code", "GROUP BY"),
        ("hello", "general", "Hello!"),
    ],
)
def test_tasks_are_told_apart_and_answered_in_kind(text, task, holds):
    assert tasks.task_of(text) == task
    good = said(mind(1.0).think(asking(text), Random(1)))
    assert holds in good
    if task != "general":
        assert said(mind(0.0).think(asking(text), Random(1))) != good


@pytest.mark.parametrize(
    "text", ["Summarize the following text:\n" + "word " * 20_000, "x" * 100_000, "Code: " + "y" * 9000]
)
def test_no_long_prompt_is_repeated_at_length(text):
    """An answer is paced as a model writes: a page of text would take minutes, and be no summary."""
    for good in (True, False):
        assert len(tasks.answer(text, tasks.task_of(text), good, Random(0))) < 1500


def test_good_answers_are_the_same_from_every_model():
    request = asking("Explain how tides work")
    other = Mind(("other",), {"general": 1.0}, thinks=False, scripts=Scripts())
    assert said(mind().think(request, Random(1))) == said(other.think(request, Random(99)))


@pytest.mark.parametrize("instruct", [False, True])
def test_an_answer_that_another_model_began_is_continued(instruct):
    whole = said(mind().think(asking("Explain how tides work"), Random(1)))
    begun = whole[:60]
    messages = [
        Message(role="user", content=[Text(text="Explain how tides work")]),
        Message(role="assistant", content=[Text(text=begun)]),
    ]
    if instruct:
        cut = "The assistant's last message was cut off by a transmission failure. Continue it exactly where it stops."
        messages.append(Message(role="user", content=[Text(text=cut)]))
    rest = said(mind().think(ChatRequest(model="m", messages=messages), Random(2)))
    assert begun + rest == whole


WEATHER = Tool(
    name="get_weather",
    description="Current weather of a city",
    schema={
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
        "required": ["city"],
    },
)
CALCULATOR = Tool(
    name="calculator",
    schema={"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)


def calls(text, **fields):
    thought = mind().think(asking(text, **{"tools": [WEATHER, CALCULATOR], **fields}), Random(3))
    return [(part.name, json.loads(part.arguments)) for part in thought.parts if isinstance(part, ToolCall)]


def test_tools_are_called_when_the_prompt_is_about_them():
    assert calls("What is the weather in Paris in celsius?") == [("get_weather", {"city": "Paris", "unit": "celsius"})]
    assert calls("What is 3 * 7?") == [("calculator", {"expression": "3 * 7"})]
    assert calls("Tell me a joke") == []
    assert calls("What is the weather in Paris?", tool_choice=ToolChoice(mode="none")) == []
    forced = ToolChoice(mode="named", names=["get_weather"])
    assert [name for name, _ in calls("Tell me a joke", tool_choice=forced)] == ["get_weather"]
    assert len(calls("Tell me a joke", tool_choice=ToolChoice(mode="required"))) == 1


def test_parallel_calls_when_several_are_meant():
    both = calls("Compare the weather in Paris and London")
    assert both == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "London"})]
    assert len(calls("Compare the weather in Paris and London", parallel_tool_calls=False)) == 1
    ids = [p.id for p in mind().think(asking("Weather in Paris and Rome", tools=[WEATHER]), Random(1)).parts]
    assert len(set(ids)) == 2


def test_named_tools_among_many_and_their_arguments():
    shell = Tool(
        name="Bash", schema={"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
    )
    read = Tool(
        name="read_file",
        schema={
            "type": "object",
            "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}},
            "required": ["path"],
        },
    )
    others = [Tool(name=f"thing_{n}", description="Runs things in the shell and files") for n in range(20)]
    assert calls("Use the Bash tool to run `ls -l`", tools=[*others, shell]) == [("Bash", {"command": "ls -l"})]
    assert calls("read_file src/main.py", tools=[*others, read]) == [("read_file", {"path": "src/main.py"})]


def test_shells_of_coding_agents_and_their_pages_of_rules():
    argv = {"type": "array", "items": {"type": "string"}}
    shell = Tool(name="shell", schema={"type": "object", "properties": {"command": argv}, "required": ["command"]})
    asked = "Please run `ls -l` and tell me what you see"
    assert calls(asked, tools=[shell]) == [("shell", {"command": ["bash", "-lc", "ls -l"]})]
    rules = "You plan in steps. Answers may be JSON. " * 300
    assert said(mind().think(asking("Why is the sky blue?", system=rules), Random(1))).startswith(MARK)
    reminded = "<system-reminder>Plan your steps as JSON.</system-reminder>Why is the sky blue?"
    assert "sky" in said(mind().think(asking(reminded), Random(1)))


def test_results_are_used_in_the_next_turn():
    request = ChatRequest(
        model="m",
        tools=[WEATHER],
        messages=[
            Message(role="user", content=[Text(text="Weather in Paris?")]),
            Message(role="assistant", content=[ToolCall(id="c1", name="get_weather", arguments='{"city": "Paris"}')]),
            Message(role="tool", content=[ToolResult(call_id="c1", content=[Text(text="18 degrees, light rain")])]),
        ],
    )
    thought = mind().think(request, Random(1))
    assert "18 degrees, light rain" in said(thought)
    assert thought.finish == "stop"


def an_object(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


TEXT = {"type": "string"}
POINT = an_object(x={"type": "number", "exclusiveMinimum": 0})
SCHEMAS = [
    an_object(name=TEXT, age={"type": "integer", "minimum": 18}),
    {**an_object(tags={"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1}), "additionalProperties": False},
    {
        "$defs": {"P": POINT},
        **an_object(p={"$ref": "#/$defs/P"}, q={"anyOf": [{"type": "null"}, {"$ref": "#/$defs/P"}]}),
    },
    an_object(
        when={"type": "string", "format": "date"},
        code={"type": "string", "pattern": "^[A-Z]{3}$"},
        kind={"const": "k"},
        share={"type": "number", "minimum": 0, "maximum": 1},
        n={"type": ["integer", "null"]},
    ),
    {"allOf": [an_object(a={"type": "boolean"}), an_object(b={"type": "string", "minLength": 30})]},
    {
        "type": "object",
        "properties": {"node": {"$ref": "#"}, "v": {"type": "integer", "multipleOf": 5, "minimum": 3}},
        "required": ["v"],
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_json_is_valid_for_the_schema_or_not_by_skill(schema):
    request = asking("Describe someone", output=OutputFormat(kind="json_schema", name="x", schema=schema))
    for number in range(10):
        value = json.loads(said(mind(1.0).think(request, Random(number))))
        jsonschema.validate(value, schema)
        broken = json.loads(said(mind(0.0).think(request, Random(number))))
        assert not jsonschema.Draft202012Validator(schema).is_valid(broken)


def test_json_object_and_answer_fields():
    value = json.loads(said(mind().think(asking("What is 2 + 2?", output=OutputFormat(kind="json_object")), Random(1))))
    assert value["simulated"] is True
    assert "4" in value["answer"]
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    request = asking("What is 2 + 2?", output=OutputFormat(kind="json_schema", schema=schema))
    assert "4" in json.loads(said(mind().think(request, Random(1))))["answer"]


JUDGE = "You are a judge. Score the answer from 0 to 10 for accuracy. Reply with only the number."


def test_judges_give_numbers_that_follow_the_truth():
    right = asking("Question: What is 17 * 23?\n<<<x>>>\nThe answer is 391.\n<<</x>>>", system=JUDGE)
    wrong = asking("Question: What is 17 * 23?\n<<<x>>>\nThe answer is 401.\n<<</x>>>", system=JUDGE)
    assert int(said(mind().think(right, Random(1)))) > int(said(mind().think(wrong, Random(1))))
    schema = {
        "type": "object",
        "properties": {"score": {"type": "integer"}, "reason": {"type": "string"}},
        "required": ["score"],
    }
    request = asking(
        text_of(right.messages[-1].content), system=JUDGE, output=OutputFormat(kind="json_schema", schema=schema)
    )
    assert json.loads(said(mind().think(request, Random(1))))["score"] == 10


@pytest.mark.parametrize("flip", [False, True])
def test_pairwise_judges_name_the_better_in_either_order(flip):
    good, poor = (
        "Tides follow the pull of the moon and the sun on the oceans, twice a day.",
        "I am not sure about tides.",
    )
    first, second = (poor, good) if flip else (good, poor)
    system = "You are a judge. Decide which of the two candidates is better. Verdict: A or B only."
    request = asking(f"Why are there tides?\nCandidate A: {first}\nCandidate B: {second}", system=system)
    assert said(mind().think(request, Random(1))) == ("B" if flip else "A")


def test_planners_plan_and_validators_pass():
    system = (
        'You are a planner. Write a plan as JSON: {"steps": [{"name", "model", "query"}]}.\nModels: claude-4.7, gpt-5.5'
    )
    plan = json.loads(said(mind().think(asking("Compare tea and coffee", system=system), Random(1))))
    assert [step["model"] for step in plan["steps"]] == ["claude-4.7", "gpt-5.5"]
    assert all(step["query"] for step in plan["steps"])
    system = "You are a validator. Verify whether the result is correct. Answer in JSON: passed, reason."
    assert json.loads(said(mind().think(asking("Result: 4", system=system), Random(1))))["passed"] is True


def test_thinking_is_there_when_asked_or_by_nature():
    from headgate.core.chat import ReasoningOptions

    assert mind().think(asking("Why?"), Random(1)).thinking == ""
    assert mind(thinks=True).think(asking("Why?"), Random(1)).thinking
    assert mind().think(asking("Why?", reasoning=ReasoningOptions(effort="low")), Random(1)).thinking
    off = ReasoningOptions(enabled=False)
    assert mind(thinks=True).think(asking("Why?", reasoning=off), Random(1)).thinking == ""


def test_scripts_in_order_by_model_and_where():
    scripts = Scripts()
    scripts.on("weather", "one", {"text": "two"}, {"tool_calls": [{"name": "f", "arguments": {"a": 1}}]})
    scripts.on("judge", "7", where="system", times=1)
    scripts.on(r"\bdeep\s+thought", "42", regex=True, model="m")
    scripts.on("never", "x", model="other")
    who = mind(scripts=scripts)
    assert [said(who.think(asking("the weather"), Random(1))) for _ in range(2)] == ["one", "two"]
    for _ in range(2):
        call = who.think(asking("the weather"), Random(1)).parts[0]
        assert (call.name, json.loads(call.arguments)) == ("f", {"a": 1})
    assert said(who.think(asking("x", system="you judge"), Random(1))) == "7"
    assert said(who.think(asking("x", system="you judge"), Random(1))) != "7"
    assert said(who.think(asking("deep  thought"), Random(1))) == "42"
    assert said(who.think(asking("never"), Random(1))) != "x"


def test_exact_prompts_and_choosers():
    scripts = Scripts()
    for number in range(2000):
        scripts.exact("m", f"prompt {number}", f"answer {number}")
    scripts.chooser(lambda model, request: "chosen" if len(request.messages) > 1 else None)
    who = mind(scripts=scripts)
    assert said(who.think(asking("prompt 1234"), Random(1))) == "answer 1234"
    assert said(who.think(asking("anything", system="s"), Random(1))) == "chosen"
    with pytest.raises(ValueError, match="unknown field"):
        scripts.add(Rule("x", [{"txt": "typo"}]))


def test_broken_schemas_do_not_hang_or_raise():
    for schema in (
        None,
        {},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"type": "object", "required": ["a"]},
        {"type": "STRING"},
    ):
        schemas.instance(schema, Random(1))
