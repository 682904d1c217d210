"""The agent end to end: planners scripted by the simulator, tools real (files, sandboxed Python, official MCP servers)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import uvicorn
from google import genai
from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from headgate.core.clock import SYSTEM
from headgate.server.frontends.sockets import bind
from headgate.simulator.app import Simulator
from support.gateway import ENV, Loop, RunningGateway
from support.injections import INJECTIONS
from support.sim import INSTANT

CONFIG = """
providers: {{anthropic: {{}}, openai: {{}}, google: {{}}}}
models:
  claude-4.7: {{provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.015}}
  gpt-5.5: {{provider: openai, upstream: gpt-5.5, cost_per_1k: 0.020}}
  gemini-3.0: {{provider: google, upstream: gemini-3-pro, cost_per_1k: 0.012, capabilities: [math]}}
  agent:
    agent: {{planner: claude-4.7, validator: gpt-5.5, models: [claude-4.7, gpt-5.5, gemini-3.0], tools: [files, python], budget: {{max_cost: 2.00, max_steps: 5, deadline: 20s}}}}
  poor: {{agent: {{planner: claude-4.7, models: [gpt-5.5], budget: {{max_cost: 0.15}}}}}}
  planner: {{agent: {{planner: claude-4.7, models: [gpt-5.5], autonomy: plan_only}}}}
  clerk: {{agent: {{planner: claude-4.7, models: [gpt-5.5], tools: [time, git]}}}}
  crew: {{agent: {{planner: claude-4.7, validator: gpt-5.5, models: [claude-4.7, gpt-5.5], tools: [files, python, time, git]}}}}
  web: {{agent: {{planner: claude-4.7, models: [gpt-5.5], tools: [web], budget: {{step: {{deadline: 2s}}}}}}}}
  math: {{agent: {{planner: claude-4.7, models: [gpt-5.5, gemini-3.0], tools: [gone, python]}}}}
tools:
  files: {{root: "{root}"}}
  python: {{timeout: 2s}}
  mcp:
    time: {{command: ["{python}", -m, mcp_server_time], allow: [convert_time]}}
    git: {{command: ["{python}", -m, mcp_server_git, --repository, "{repo}"], allow: [git_log, git_commit, git_lgo]}}
    web: {{url: "{web}", allow: [capital, flood, hang, erase]}}
    gone: {{url: "http://127.0.0.1:9/mcp", allow: [any]}}
"""  # noqa: E501  one entry a line
SUM = "n = [int(w.strip('.')) for w in '$read'.split() if w.strip('.').isdigit()]\nn[0] - n[1]"
PLANNER = "You are a planner"
WRITER = "was worked on in steps"


class Stage:
    def __init__(self, folder: Path) -> None:
        root, repo = folder / "work", folder / "repo"
        root.mkdir()
        repo.mkdir()
        (root / "report.txt").write_text("Revenue: 4200000. Costs: 3900000.")
        (folder / "secret.txt").write_text("canary-secret")
        (root / "link").symlink_to(folder / "secret.txt")
        git = ["git", "-C", str(repo), "-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run([*git, "init", "-q"], check=True)
        for message in ("Dig the ditch", "Open the sluice"):
            subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True)
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0))
        self.web = uvicorn.Server(uvicorn.Config(_web().streamable_http_app(), log_level="error"))
        sock = bind("127.0.0.1", 0)
        self.serving = self.loop.call(lambda: asyncio.create_task(self.web.serve([sock])))
        web = f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
        text = CONFIG.format(root=root, python=sys.executable, repo=repo, web=web)
        self.gateway = self.loop.call(lambda: RunningGateway(text, urls, env=ENV))
        self.loop.run(self.gateway.start())
        self.url = self.gateway.url
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0)

    def script(self, match: str, *answers: Any, **more: Any) -> None:
        self.loop.call(lambda: self.sim.scripts.on(match, *answers, **more))

    def ask(self, prompt: str, model: str = "agent", **more: Any) -> tuple[str, dict[str, Any]]:
        answer = self.client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            extra_body={"headgate": {"details": True}},
            **more,
        )
        return answer.choices[0].message.content or "", answer.model_extra["headgate"]

    def close(self) -> None:
        self.loop.run(self.gateway.house.snapshot.aclose())
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.web.should_exit = True
        self.loop.run(self.serving)
        self.loop.close()


def _web() -> MCPServer:
    """An MCP server over streamable HTTP, with the tools that one meets."""
    server = MCPServer("web")

    @server.tool()
    def capital(country: str) -> str:
        return {"France": "Paris", "Japan": "Tokyo"}[country]

    @server.tool()
    def flood() -> str:
        return "water " * 100_000

    @server.tool()
    async def hang() -> str:
        await asyncio.sleep(600)
        return "late"

    @server.tool(annotations=ToolAnnotations(read_only_hint=False, destructive_hint=True))
    def erase() -> str:
        raise AssertionError("nobody may call this")

    return server


@pytest.fixture(scope="module")
def _stage(tmp_path_factory):
    found = Stage(tmp_path_factory.mktemp("agent"))
    yield found
    found.close()


@pytest.fixture
def stage(_stage):
    _stage.loop.run(_stage.sim.mend())
    _stage.loop.call(_stage.sim.scripts.clear)
    for model in _stage.gateway.house.snapshot.models():
        for deployment in model.deployments:
            deployment.vitals.health.__init__(SYSTEM)
    return _stage


def plan(*steps: dict[str, Any]) -> str:
    return json.dumps({"steps": list(steps)})


def test_mission_files_and_python(stage):
    stage.script(
        PLANNER,
        plan(
            {"name": "read", "tool": "read_file", "args": {"path": "report.txt"}, "check": {"contains": "Revenue"}},
            {
                "name": "sum",
                "tool": "python",
                "args": {"code": SUM},
                "check": {"python": "int(result) == 300000"},
            },
        ),
        where="system",
    )
    stage.script(WRITER, "The profit is 300000.", where="user")
    text, details = stage.ask("What is the profit in report.txt?")
    steps = {step["id"]: step for step in details["agent"]["steps"]}
    assert steps["read"]["status"] == "passed"
    assert steps["sum"]["result"].strip() == "300000"
    assert steps["sum"]["checks"] == ["python"]
    assert text == "The profit is 300000."


def test_mission_models_in_parallel_with_references(stage):
    stage.script(
        PLANNER,
        plan(
            {"name": "a", "model": "gpt-5.5", "query": "Say apple"},
            {"name": "b", "model": "gemini-3.0", "query": "Say pear"},
            {"name": "c", "model": "claude-4.7", "query": "Join: $a and $b"},
        ),
        where="system",
    )
    stage.script("Say apple", "apple", where="user")
    stage.script("Say pear", "pear", where="user")
    stage.script("Join: apple and pear", "apple and pear", where="user")
    _, details = stage.ask("Fruit, please")
    assert [s["result"] for s in details["agent"]["steps"]] == ["apple", "pear", "apple and pear"]
    roles = [a.get("role") for a in details["attempts"]]
    assert (roles.count("planner"), roles.count("step"), roles.count("writer")) == (1, 3, 1)


def test_mission_the_official_time_and_git_servers(stage):
    arguments = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    stage.script(
        PLANNER,
        plan(
            {"name": "when", "tool": "convert_time", "args": arguments},
            {"name": "log", "tool": "git_log", "args": {"repo_path": str(_repo(stage))}},
        ),
        where="system",
    )
    _, details = stage.ask("When is noon in Tokyo, and what was committed?", model="clerk")
    steps = {step["id"]: step for step in details["agent"]["steps"]}
    assert "21:00" in steps["when"]["result"]
    assert "Open the sluice" in steps["log"]["result"]


@pytest.mark.parametrize(("count", "commits"), [("1", 1), ("2", 2), ("'two'", None)])
def test_mission_a_number_that_one_tool_found_is_another_tool_s_argument(stage, count, commits):
    """`max_count` of the git server is an integer, and all results are text."""
    arguments = {"repo_path": _repo(stage), "max_count": "$many"}
    stage.script(
        PLANNER,
        plan(
            {"name": "many", "tool": "python", "args": {"code": count}},
            {"name": "log", "tool": "git_log", "args": arguments},
            {"name": "less", "tool": "python", "args": {"code": "$many-$many"}},
        ),
        "No more plans.",
        where="system",
    )
    _, details = stage.ask("How many?", model="crew")
    steps = {step["id"]: step for step in details["agent"]["steps"]}
    if commits is None:
        assert "do not fit" in steps["log"]["reason"]
    else:
        assert steps["log"]["result"].count("Commit:") == commits
        assert steps["less"]["result"].strip() == "0"


def test_mission_all_tools_in_one_plan(stage):
    """Each step's result reaches whom it is for, and the trace says all of it; the books are the trace's."""
    arguments = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    steps = [
        {"name": "list", "tool": "list_files", "args": {}, "check": {"contains": "report.txt"}},
        {"name": "read", "tool": "read_file", "args": {"path": "report.txt"}, "needs": ["list"]},
        {"name": "sum", "tool": "python", "args": {"code": SUM}, "check": {"python": "int(result) == 300000"}},
        {"name": "when", "tool": "convert_time", "args": arguments},
        {"name": "log", "tool": "git_log", "args": {"repo_path": _repo(stage)}},
        {"name": "tell", "model": "gpt-5.5", "query": "Tell of $sum, then of $when, then of $log"},
    ]
    stage.loop.call(stage.sim.log.clear)
    stage.script(PLANNER, plan(*steps), where="system")
    stage.script("Tell of", "All told.", where="user")
    stage.script(WRITER, "A profit of 300000.", where="user")
    text, details = stage.ask("Report, please", model="crew")
    trace, record = stage.gateway.house.recent(1)[0]
    assert text == details["agent"]["final_answer"] == "A profit of 300000."
    assert [(step["id"], step["status"]) for step in trace.facts["agent"]["steps"]] == [
        (step["name"], "passed") for step in steps
    ]
    results = {step["id"]: step["result"] for step in trace.facts["agent"]["steps"]}
    [told] = [body for body in _bodies(stage, "Tell of") if WRITER not in body]
    for part in ("300000", "21:00", "Open the sluice"):
        assert part in told
    assert results["tell"] == "All told."
    [written] = _bodies(stage, WRITER)
    for part in ("300000", "21:00", "Open the sluice", "All told."):
        assert part in written
    roles = [attempt.role for attempt in trace.attempts]
    assert (roles.count("planner"), roles.count("step"), roles.count("writer")) == (1, 1, 1)
    assert (record.status, record.cost) == (200, sum(attempt.cost or 0 for attempt in trace.attempts))


def _bodies(stage: Stage, words: str) -> list[str]:
    """What the providers were asked that holds these words."""
    calls = stage.loop.call(lambda: [served.call.body.decode() for served in stage.sim.log])
    return [body for body in calls if words in body and PLANNER not in body and "You are a validator" not in body]


def _repo(stage: Stage) -> str:
    command = stage.gateway.config.tools.mcp["git"].command
    assert command is not None
    return command[-1]


@pytest.mark.parametrize("tool", ["git_status", "git_commit"])
def test_of_a_server_only_what_is_allowed_and_only_reads_can_be_planned(stage, tool):
    """`git_status` is not on the operator's list; `git_commit` is, and says of itself that it writes."""
    stage.script(PLANNER, plan({"name": "do", "tool": tool, "args": {"repo_path": _repo(stage)}}), where="system")
    _, details = stage.ask("Do it", model="clerk")
    assert f"there is no tool {tool!r}; there are: convert_time, git_log" in details["agent"]["fallback"]
    told = {d.over[0]: d.because for d in stage.gateway.house.recent(1)[0][0].decisions if d.kind == "tools"}
    assert told == {
        "git.git_commit": "planned without git.git_commit: it says of itself that it writes",
        "git.git_lgo": "planned without git.git_lgo: the server has no such tool",
    }


def test_mission_a_server_over_http(stage):
    stage.script(
        PLANNER,
        plan(
            {"name": "a", "tool": "capital", "args": {"country": "France"}, "check": {"excludes": "London"}},
            {"name": "b", "tool": "capital", "args": {"country": "Japan"}},
            {"name": "c", "model": "gpt-5.5", "query": "Distance from $a to $b"},
        ),
        where="system",
    )
    stage.script("Distance from Paris to Tokyo", "9,712 km", where="user")
    _, details = stage.ask("How far apart are the capitals?", model="web")
    assert [step["result"] for step in details["agent"]["steps"]] == ["Paris", "Tokyo", "9,712 km"]
    assert details["agent"]["steps"][2]["cost_usd"] > "0"


@pytest.mark.parametrize(
    ("tool", "cause"), [("hang", "tool_timeout"), ("nowhere", None), ("erase", None), ("capital", "tool_failed")]
)
def test_a_tool_that_hangs_fails_or_may_not_be_called_leaves_an_answer_that_says_so(stage, tool, cause):
    args = {"country": "Atlantis"} if tool == "capital" else {}
    stage.script(PLANNER, plan({"name": "try", "tool": tool, "args": args}), "No more plans.", where="system")
    stage.script(WRITER, "The writer hides it.", where="user")
    text, details = stage.ask("Do it", model="web")
    if cause is None:  # not known here, or one that says of itself that it writes: no plan may hold it
        assert "there is no tool" in str(details["agent"]["fallback"]) or "not a plan" in details["agent"]["fallback"]
        assert "steps" not in details["agent"]
    else:
        assert details["agent"]["missing"] == [f"try: {cause}"]
        assert text == f"The writer hides it.\n\n[Incomplete. Without: try: {cause}]"


def test_a_tool_that_floods_is_cut(stage):
    stage.script(PLANNER, plan({"name": "all", "tool": "flood", "args": {}}), where="system")
    stage.script(WRITER, "Cut.", where="user")
    _, details = stage.ask("Drown", model="web")
    assert details["agent"]["steps"][0]["status"] == "passed"
    assert details["agent"]["final_answer"] == "Cut."
    assert details["attempts"][-1]["usage"]["input"] < 12_000  # of 600,000 characters


def test_a_capability_is_given_to_the_model_that_the_registry_chooses(stage):
    """The MCP server `gone` cannot be reached: planned without it, and told."""
    stage.script(PLANNER, plan({"name": "sum", "capability": "math", "query": "Say four"}), where="system")
    stage.script("Say four", "four", where="user")
    _, details = stage.ask("Two and two", model="math")
    assert details["agent"]["steps"][0]["model"] == "gemini-3.0"
    decisions = {d.kind: d for d in stage.gateway.house.recent(1)[0][0].decisions}
    assert decisions["step_model"].chosen == "gemini-3.0"
    assert "has not the capability math" in decisions["step_model"].numbers["left_out"]["gpt-5.5"]
    assert decisions["tools"].over == ["gone"]


@pytest.mark.parametrize("broken", ["claude-4.7", "gpt-5.5"])
def test_for_a_role_whose_model_is_down_another_of_the_models_stands_in(stage, broken):
    stage.script(PLANNER, plan({"name": "one", "model": "gpt-5.5", "query": "Say one"}), where="system")
    stage.script("Say one", "one", where="user")
    stage.loop.run(stage.sim.break_model(broken, "500"))
    events: list[tuple[str, Any]] = []
    stage.gateway.house.on_event.append(lambda kind, facts: events.append((kind, facts)))
    _, details = stage.ask("One, please")
    stage.gateway.house.on_event.pop()
    assert details["agent"]["steps"][0]["status"] == "passed"
    decisions = stage.gateway.house.recent(1)[0][0].decisions
    assert any(d.kind == "stand_in" and d.over == [broken] for d in decisions)
    assert any(kind == "stand_in" and facts["over"] == [broken] for kind, facts in events)


def test_the_clients_own_tools_are_left_out_and_named(stage):
    tool = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}
    stage.script(PLANNER, plan({"name": "one", "model": "gpt-5.5", "query": "Say one"}), where="system")
    answer = stage.client.chat.completions.with_raw_response.create(
        model="agent", messages=[{"role": "user", "content": "Go"}], tools=[tool]
    )
    assert "tools" in answer.headers["x-headgate-lossy"]
    with pytest.raises(openai.BadRequestError, match="its own tools only"):
        stage.ask("Go", tools=[tool], tool_choice="required")


def test_mission_a_failed_step_is_retried_and_planned_anew(stage):
    stage.script(
        PLANNER,
        plan({"name": "one", "model": "gpt-5.5", "query": "Give the code word", "check": {"contains": "weir"}}),
        plan({"name": "two", "model": "gemini-3.0", "query": "Give the other word", "check": {"contains": "lock"}}),
        where="system",
    )
    stage.script("Give the code word", "no idea", where="user")
    stage.script("Give the other word", "lock", where="user")
    _, details = stage.ask("Words")
    assert [(s["id"], s["status"]) for s in details["agent"]["steps"]] == [("one", "replaced"), ("two", "passed")]
    trace = stage.gateway.house.recent(1)[0][0]
    assert any(d.kind == "replan" for d in trace.decisions)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("I would rather talk about it.", "not a plan"),
        ('{"steps": []}', "at least one step"),
        (plan({"name": "a", "query": "$b"}, {"name": "b", "query": "$a"}), "in a circle"),
        (plan({"name": "a", "query": "$nobody"}), "no step 'nobody'"),
        (plan({"name": "a", "tool": "shell", "args": {}}), "no tool 'shell'"),
        (plan({"name": "a", "model": "gpt-9", "query": "x"}), "is not allowed"),
        (plan(*[{"name": f"s{i}", "query": "x"} for i in range(6)]), "more than the 5"),
    ],
)
def test_a_bad_plan_is_repaired_once_or_gives_way_to_a_plain_answer(stage, bad, why):
    stage.script(PLANNER, bad, plan({"name": "fine", "model": "gpt-5.5", "query": "Say fine"}), where="system")
    _, details = stage.ask("Do it")
    assert [s["id"] for s in details["agent"]["steps"]] == ["fine"]
    stage.loop.call(stage.sim.scripts.clear)
    stage.script(PLANNER, bad, where="system")
    text, details = stage.ask("Do it")
    assert text
    assert why in details["agent"]["fallback"]


def test_a_plan_that_costs_too_much_never_starts(stage):
    steps = [{"name": f"s{i}", "model": "gpt-5.5", "query": "x"} for i in range(4)]
    stage.script(PLANNER, plan(*steps), where="system")
    _, details = stage.ask("Do it", model="poor")
    assert "costs more than the run may spend" in details["agent"]["fallback"]
    assert "step" not in [a.get("role") for a in details["attempts"]]


def test_plan_only_runs_nothing(stage):
    stage.script(PLANNER, plan({"name": "one", "model": "gpt-5.5", "query": "x"}), where="system")
    text, details = stage.ask("Do it", model="planner")
    assert text.startswith("The plan:")
    assert [a.get("role") for a in details["attempts"]] == ["planner"]


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "link", "a/../../secret.txt", "..\\secret.txt", "."])
def test_no_file_outside_the_root_is_read(stage, path):
    stage.script(PLANNER, plan({"name": "steal", "tool": "read_file", "args": {"path": path}}), where="system")
    text, details = stage.ask("Read it")
    assert "canary-secret" not in json.dumps(details) + text
    assert all(step["status"] != "passed" for step in details["agent"]["steps"])


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "x = 'a' * 10**9",
        "open('/etc/passwd').read()",
        "import os\nos.system('id')",
        "1/0",
        "import socket",
    ],
)
def test_the_sandbox_holds(stage, code):
    stage.script(PLANNER, plan({"name": "evil", "tool": "python", "args": {"code": code}}), where="system")
    _, details = stage.ask("Run it")
    step = next((s for s in details["agent"]["steps"] if s["id"] == "evil"), None)
    assert step is None or step["status"] in ("failed", "replaced")


@pytest.mark.parametrize("text", INJECTIONS)
def test_what_a_tool_returns_causes_no_call_that_the_plan_did_not_hold(stage, text):
    root = Path(stage.gateway.config.tools.files.root)
    (root / "evil.txt").write_text(text)
    stage.script(PLANNER, plan({"name": "read", "tool": "read_file", "args": {"path": "evil.txt"}}), where="system")
    _, details = stage.ask("Summarise evil.txt")
    assert [s["id"] for s in details["agent"]["steps"]] == ["read"]
    assert [a.get("role") for a in details["attempts"]] == ["planner", "writer"]


def test_every_official_sdk_streams_progress_and_answer(stage):
    stage.script(PLANNER, plan({"name": "one", "model": "gpt-5.5", "query": "Say one"}), where="system")
    stage.script(WRITER, "The final words.", where="user")
    thought, text = "", ""
    for chunk in stage.client.chat.completions.create(
        model="agent", messages=[{"role": "user", "content": "Go"}], stream=True
    ):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            thought += getattr(choice.delta, "reasoning_content", None) or ""
    assert "one passed" in thought
    assert text == "The final words."
    claude = anthropic.Anthropic(base_url=stage.url, api_key="any", max_retries=0)
    with claude.messages.stream(model="agent", max_tokens=500, messages=[{"role": "user", "content": "Go"}]) as events:
        message = events.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert stage.client.responses.create(model="agent", input="Go").output_text == "The final words."
    google = genai.Client(api_key="any", http_options={"base_url": stage.url})
    assert google.models.generate_content(model="agent", contents="Go").text == "The final words."


def test_children_add_up_to_the_parent(stage):
    _, details = stage.ask("Name two uses of a weir.")
    outcomes = stage.loop.call(lambda: dict(stage.gateway.ledger.outcomes))
    record = stage.gateway.house.recent(1)[0][1]
    assert sum(outcomes[a["id"]].cost for a in details["attempts"]) == record.cost
