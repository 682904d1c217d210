"""The console as a person uses it: Chromium, the real admin plane, the demo's models."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from headgate.core.errors import fault
from headgate.server.admin import AdminPlane
from headgate.simulator.app import Simulator
from headgate.upstream.health import Health
from support.browser import executable
from support.gateway import ENV, EXAMPLE, Loop, RunningGateway
from support.sim import INSTANT

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Stage:
    def __init__(self, data_dir: Any) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0))
        more = "  trial: {experiment: {arms: {old: claude-4.7, new: gpt-5.5}}}\n"
        more += "  named: {route: {classifier: model, model: llama-4, tasks: {math: gpt-5.5}, otherwise: reliable}}\n"
        text = EXAMPLE.read_text(encoding="utf-8").replace("\naliases:", f"\n{more}\naliases:", 1)
        self.gateway = self.loop.call(lambda: RunningGateway(text, urls, env=ENV))
        self.loop.run(self.gateway.start())
        self.admin = AdminPlane(
            self.gateway.house,
            data_dir=data_dir,
            host="127.0.0.1",
            port=0,
            config=lambda: self.gateway.config,
            reload=lambda: None,
        )
        self.admin.start(self.gateway.url)

    def close(self) -> None:
        self.admin.stop()
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    found = Stage(tmp_path_factory.mktemp("data"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=executable(), args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, stage: Stage) -> Iterator[Page]:
    context = browser.new_context()
    found = context.new_page()
    problems: list[str] = []
    found.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.goto(stage.admin.url)
    found.fill("#token", stage.admin.token)
    found.click("button")
    found.get_by_role("heading", name="Overview").wait_for()
    yield found
    assert problems == []
    context.close()


def api(stage: Stage, path: str, token: str | None, body: bytes | None = None) -> tuple[int, Any]:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(stage.admin.url + path, data=body, headers=headers), timeout=10
        ) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def test_the_playground_streams_and_the_request_is_there_to_read(page, stage):
    page.get_by_role("link", name="Playground", exact=True).click()
    page.select_option("select[name=model]", "reliable")
    page.fill("#prompt", "What is a weir?")
    page.get_by_role("button", name="Ask").click()
    page.locator("#about", has_text="tr_").wait_for()
    assert "[simulated]" in page.locator("#answer").inner_text()
    page.locator("#about a").click()
    page.get_by_role("heading", name="Attempts").wait_for()
    page.get_by_role("link", name="Requests").click()
    page.locator("tbody a").first.click()
    page.get_by_role("heading", name="Attempts").wait_for()
    assert "anthropic/claude-opus-4-7" in page.inner_text("main")


def test_what_was_refused_is_counted_apart_from_what_failed(page, stage):
    def recent() -> dict[str, int]:
        return api(stage, "/admin/v1/status", stage.admin.token)[1]["recent"]

    def ask(model: str) -> int:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000})
        headers = {"x-headgate-max-cost": "0.0001"} if model == "gpt-5.5" else {}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{stage.gateway.url}/v1/chat/completions", body.encode(), headers), timeout=20
            ) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    before = recent()
    assert ask("gpt-5.5") == 402
    stage.loop.run(stage.sim.break_model("llama-4", "500"))
    try:
        assert ask("llama-4") >= 500
    finally:
        stage.loop.run(stage.sim.mend())
    after = recent()
    assert {name: after[name] - before[name] for name in ("requests", "failed", "refused", "left")} == {
        "requests": 2,
        "failed": 1,
        "refused": 1,
        "left": 0,
    }
    page.reload()
    cards = page.locator("dl.cards").inner_text()
    assert f"Failed\n{after['failed']}" in cards
    assert f"Refused\n{after['refused']}" in cards


def test_what_a_model_says_is_text_never_markup(page, stage):
    # the simulated model repeats words of the prompt
    page.goto(stage.admin.url + "/playground")
    page.fill("#prompt", "<img src=x onerror=alert(1)> what is this?")
    page.get_by_role("button", name="Ask").click()
    page.locator("#about", has_text="tr_").wait_for()
    assert page.locator("#answer img").count() == 0


def test_models_show_state_and_price(page):
    page.get_by_role("link", name="Models").click()
    row = page.get_by_role("row", name="claude-4.7").first.inner_text()
    assert "15.00" in row
    assert "well" in row
    assert "ready" in row
    assert "claude-4.7 → gpt-5.5 → gemini-3.0 → llama-4" in page.get_by_role("row", name="reliable").first.inner_text()
    assert "claude-4.7, gpt-5.5, gemini-3.0, llama-4" in page.get_by_role("row", name="careful").first.inner_text()


def test_a_model_that_cools_down_is_not_called_ready(page, stage):
    """The alternative is the truth of its breakers: none well, some well."""
    house = stage.gateway.house
    told = fault("rate_limit", "too many", retry_after=60.0)

    def cool(model: str, number: int) -> None:
        health = house.snapshot.model(model).deployments[number].vitals.health
        health.failed(told, health.beside())

    def pill(model: str) -> str:
        page.goto(stage.admin.url + "/models")
        return page.get_by_role("row", name=model).first.locator(".pill").first.inner_text()

    stage.loop.call(lambda: cool("llama-4", 0))
    stage.loop.call(lambda: cool("gpt-5.5", 1))
    assert [pill(model) for model in ("claude-4.7", "llama-4", "gpt-5.5")] == ["ready", "cooling down", "partly ready"]
    shown = page.get_by_role("row", name="llama-4").first.inner_text()
    assert re.search(r"rate limited by the provider; asked again in \d+\.\d s", shown), shown
    for model in ("llama-4", "gpt-5.5"):
        for deployment in house.snapshot.model(model).deployments:
            deployment.vitals.health = Health(house.clock)


def test_every_page_has_a_json_twin(page, stage, browser):
    """All that the navigation leads to, and a request's own page; for those who are signed in."""
    paths = page.eval_on_selector_all("nav a", "all => all.map(one => one.pathname)")
    assert len(paths) >= 11
    client = openai.OpenAI(base_url=f"{stage.gateway.url}/v1", api_key="any", max_retries=0)
    client.chat.completions.create(model="gpt-5.5", messages=[{"role": "user", "content": "hi"}])
    page.goto(stage.admin.url + "/requests")
    paths.append(page.locator("tbody a").first.get_attribute("href"))
    stranger = browser.new_context()
    for path in paths:
        twin = stage.admin.url + ("/overview.json" if path == "/" else f"{path}.json")
        answer = page.request.get(twin)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), path
        assert answer.json(), path
        assert stranger.request.get(twin).status == 401, path
    stranger.close()


def test_the_literal_test_of_the_mission_in_the_console(page, stage):
    client = openai.OpenAI(base_url=f"{stage.gateway.url}/v1", api_key="any", max_retries=0)
    client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": "Analyze this financial report"}]
    )
    page.get_by_role("link", name="Requests").click()
    row = page.locator("tbody tr").first
    assert "auto route, analysis" in row.inner_text()
    assert "claude-4.7" in row.inner_text()
    row.get_by_role("link").click()
    page.get_by_role("heading", name="Decisions").wait_for()
    assert page.locator(".labels .is span").first.inner_text() == "analysis"
    assert page.locator("dl.cards dd").first.inner_text() == "claude-4.7"
    decision = page.locator(".decisions li", has_text="route")
    assert "route → claude-4.7" in decision.inner_text()
    assert "analysis (" in decision.inner_text()


def test_a_prompt_is_explained_and_no_model_called(page, stage):
    before = stage.loop.call(lambda: len(stage.sim.log))
    page.get_by_role("link", name="Routes", exact=True).click()
    assert page.get_by_role("row", name="math deepseek-v4").inner_text().split("\t")[2:4] == [
        "deepseek-v4, claude-4.7",
        "quality 0.7, cost 0.3",
    ]
    page.fill("#asked", "Solve 3x + 5 = 20 for x. <img src=x onerror=alert(1)>")
    page.get_by_role("button", name="Explain").click()
    page.locator("#explained").wait_for(state="visible")
    shown = page.locator("#explained")
    assert "auto (route) → deepseek-v4: math" in shown.inner_text()
    assert shown.locator(".labels .is").inner_text().startswith("math")
    assert shown.locator("img").count() == 0
    assert "Saved against claude-4.7" in shown.inner_text()
    rows = shown.locator("tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["deepseek-v4", "claude-4.7", "reliable"]
    assert "no better than deepseek-v4 in anything" in rows[1]
    assert "claude-4.7 → gpt-5.5 → gemini-3.0 → llama-4" in rows[2]
    page.select_option("#explain select", "careful")
    page.get_by_role("button", name="Explain").click()
    page.locator("#explained [data-is=chosen]", has_text="careful (ensemble)").wait_for()
    panel = "Panel: claude-4.7, gpt-5.5, gemini-3.0 · mode best, judged by llama-4 (score) · incumbent claude-4.7"
    assert shown.locator("[data-is=may]").inner_text() == panel
    page.select_option("#explain select", "named")
    page.get_by_role("button", name="Explain").click()
    page.locator("#explained [data-is=chosen]", has_text="named (route) → gpt-5.5").wait_for()
    assert "llama-4 is asked for it when the request is answered" in shown.locator("[data-is=may]").inner_text()
    page.select_option("#explain select", "agent")
    page.get_by_role("button", name="Explain").click()
    page.locator("#explained [data-is=chosen]", has_text="agent (agent)").wait_for()
    may = "Models: claude-4.7, gpt-5.5, gemini-3.0, llama-4, deepseek-v4 · tools: files, python · at most 20 steps"
    assert shown.locator("[data-is=may]").inner_text() == may
    assert not shown.get_by_role("heading", name="Task").is_visible()
    assert stage.loop.call(lambda: len(stage.sim.log)) == before


def test_explain_over_the_admin_api_says_what_is_wrong(page, stage):
    def explain(body: bytes, token: str | None) -> tuple[int, Any]:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{stage.admin.url}/admin/v1/explain", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    asked = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "TL;DR please: it rains."}]}).encode()
    status, found = explain(asked, stage.admin.token)
    assert (status, found["task"]["label"], found["chosen"]["model"]) == (200, "summary", "gpt-5.5")
    assert explain(asked, None)[0] == 401
    status, found = explain(b'{"model": "none", "messages": []}', stage.admin.token)
    assert (status, "error" in found) == (400, True)
    assert explain(b"x", stage.admin.token)[0] == 400


def test_the_mix_of_tasks_and_what_was_saved(page, stage):
    body = {"model": "auto", "messages": [{"role": "user", "content": "Escribe un poema sobre el mar y la luna."}]}
    request = urllib.request.Request(f"{stage.gateway.url}/v1/chat/completions", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        trace = answer.headers["x-headgate-trace"]
        saved = answer.headers["x-headgate-saved-usd"]
    said = json.dumps({"trace": trace, "score": 1}).encode()
    urllib.request.urlopen(f"{stage.gateway.url}/v1/feedback", data=said, timeout=20).close()
    page.get_by_role("link", name="Tasks", exact=True).click()
    page.select_option("select[name=requested]", "auto")
    page.get_by_role("button", name="Show").click()
    row = page.locator("tbody", has=page.get_by_role("rowheader", name="creative")).locator("tr", has_text="gemini-3.0")
    assert "1.00 0.21 to 1.00" in row.inner_text()
    assert page.locator("svg.mix rect title", has_text="creative: 1").count() == 1
    found = api(stage, "/admin/v1/insight/tasks?task=creative&days=1", stage.admin.token)[1]
    assert (found["requests"], found["saved_usd"]) == (1, saved)
    assert api(stage, "/admin/v1/insight/tasks?days=x", stage.admin.token)[0] == 200
    page.get_by_role("link", name="Overview").click()
    assert "Saved, 30 days" in page.inner_text("dl.cards")


def test_without_signing_in_there_is_nothing(stage, browser):
    page = browser.new_context().new_page()
    page.goto(stage.admin.url + "/requests")
    assert page.url.endswith("/sign-in")
    page.fill("#token", "wrong")
    page.click("button")
    assert "not the admin token" in page.inner_text("main")
    page.context.close()


def test_no_page_runs_or_shows_anything_that_is_not_the_consoles_own_file(page, stage):
    """The policy that browsers are told; pages need nothing beyond it: no script or style within, no other host."""
    links = page.eval_on_selector_all("nav a", "all => all.map(one => one.pathname)")
    assert {"/", "/requests", "/models", "/playground"} <= set(links)
    for path in (*links, "/sign-in"):
        answer = page.request.get(stage.admin.url + path)
        assert answer.status == 200, path
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'", "form-action": "'self'"
        }  # fmt: skip
        text = answer.text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", text), path
        assert all(
            url.startswith("/") for url in re.findall(r"<(?:script|link|img)[^>]*?(?:src|href)=\"([^\"]*)", text)
        )


def test_every_admin_route_refuses_strangers(stage):
    from headgate.console.openapi import ADMIN_API

    for path, methods in ADMIN_API["paths"].items():
        for method in methods:
            for token in (None, "wrong", "hg-datakey"):
                body = b"{}" if method == "post" else None
                assert api(stage, path.replace("{id}", "tr_1"), token, body)[0] == 401, (method, path)


def test_every_route_of_the_app_is_documented_or_a_page(stage):
    from starlette.routing import Route

    from headgate.console.app import _Console
    from headgate.console.experiments import Experiments
    from headgate.console.openapi import ADMIN_API

    routes = [
        r.path for r in _Console(None, None, None, None, Experiments(None, None)).routes() if isinstance(r, Route)
    ]  # type: ignore[arg-type]
    assert {path for path in routes if path.startswith("/admin/")} == set(ADMIN_API["paths"])


def test_an_experiment_is_shown_stopped_and_begun_anew(page, stage):
    trial = stage.gateway.house.snapshot.entries["trial"].trial
    for number in range(60):
        values = {"errors": float(number % 10 == 0), "cost": 0.01 + number % 7 / 1000, "latency": 0.5 + number % 5 / 10}
        values |= {f"unit:{name}": value for name, value in values.items()}
        stage.loop.call(
            lambda values=values, number=number: trial.note("p", ("old", "new")[number % 2], values, at=1e9)
        )
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{stage.admin.url}/experiments")
    assert "undecided after 60 of about" in page.inner_text("main")
    assert page.locator("svg.span").count() == 1
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("everybody gets arm 'old'").wait_for()
    assert trial.stopped is not None
    assert (trial.stopped.by, trial.stopped.arm) == ("console", "old")
    page.get_by_role("button", name="Begin anew").click()
    page.get_by_text("undecided after 0 of about").wait_for()
    twin = page.evaluate("async () => (await (await fetch('/experiments.json')).json()).experiments[0]")
    assert (twin["name"], twin["state"], twin["units"]) == ("trial", "running", 0)


def test_the_configuration_shows_no_key(stage):
    status, config = api(stage, "/admin/v1/config", stage.admin.token)
    assert status == 200
    assert "canary" not in json.dumps(config)
    assert config["models"]["gpt-5.5"]["deployments"][1]["api_key"] == "***"


def test_the_candidates_of_an_ensemble_stand_side_by_side(page, stage):
    stage.loop.run(stage.sim.break_model("gpt-5.5", "500"))
    try:
        page.goto(stage.admin.url + "/playground")
        page.select_option("select[name=model]", "careful")
        page.fill("#prompt", "What is 17 * 23? Answer with the number.")
        page.get_by_role("button", name="Ask").click()
        page.locator("#about", has_text="tr_").wait_for()
    finally:
        stage.loop.run(stage.sim.mend())
    page.get_by_role("link", name="Requests").click()
    page.locator("tbody a").first.click()
    page.get_by_role("heading", name="Candidates").wait_for()
    assert "judged by llama-4 (score, 2 calls, $" in page.inner_text("main")
    winner, broken, other = (page.get_by_role("article", name=n) for n in ("claude-4.7", "gpt-5.5", "gemini-3.0"))
    for card in (winner, other):
        text = card.inner_text()
        assert "391" in text
        assert "Score" in text
        assert "$0.00" in text
        assert " ms" in text
    assert page.locator("article.won").count() == 1
    assert "incumbent" in winner.inner_text()
    assert "failed: unavailable" in broken.inner_text()
    tops = {card.bounding_box()["y"] for card in (winner, broken, other)}
    assert len(tops) == 1
    id = page.url.rpartition("/")[2]
    status, twin = api(stage, f"/admin/v1/traces/{id}", stage.admin.token)
    assert status == 200
    assert {m["model"]: m.get("score") for m in twin["ensemble"]["members"]}["gpt-5.5"] is None


def test_the_plan_of_an_agent_stands_with_its_steps(page, stage):
    page.goto(stage.admin.url + "/playground")
    page.select_option("select[name=model]", "agent")
    page.fill("#prompt", "Name two uses of a weir.")
    page.get_by_role("button", name="Ask").click()
    page.locator("#about", has_text="tr_").wait_for()
    page.get_by_role("link", name="Requests").click()
    page.locator("tbody a").first.click()
    page.get_by_role("heading", name="Plan").wait_for()
    rows = [row.inner_text().split("\t") for row in page.locator("h2:has-text('Plan') + div tbody tr").all()]
    assert [row[0].split("\n") for row in rows] == [
        ["gather", "Collect what is needed for: Name two uses of a weir."],
        ["write", "Using this: $gather Name two uses of a weir."],
    ]
    assert rows[1][2] == "gather"
    for row in rows:
        assert row[3].strip() == "passed"
        assert row[4] == "validator"
        assert row[6].endswith(" ms")
        assert row[7].startswith("$0.")
    id = page.url.rpartition("/")[2]
    _, twin = api(stage, f"/admin/v1/traces/{id}", stage.admin.token)
    assert [step["id"] for step in twin["agent"]["steps"]] == ["gather", "write"]
    assert twin["agent"]["final_answer"]


@pytest.mark.parametrize("path", ["/playground", "/routes", "/keys", "/teams"])
def test_a_form_is_not_sent_before_its_script_is_there(page, stage, path):
    """Else the browser would send it by itself: the prompt in the URL, and nothing done."""
    page.route("**/static/*.js", lambda route: route.fulfill(content_type="text/javascript", body=""))
    page.goto(f"{stage.admin.url}{path}")
    forms = page.locator("main form:not([method])")
    assert forms.count() >= 1
    for button in forms.locator("button:not([type=button])").all():
        assert button.is_disabled()
    page.unroute("**/static/*.js")
    page.reload()
    page.wait_for_function(
        "document.querySelectorAll('main form:not([method]) button:not([type=button]):disabled').length === 0"
    )
