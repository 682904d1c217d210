"""Keys, teams, budgets and activity as an operator uses them: Chromium, a served gateway, its store."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from headgate.console.app import whole_money
from support.browser import executable
from support.served import ServedGateway

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
MORE = "budgets: {models: {claude-4.7: {daily: 2}}}\nteams: {ops: {name: Operations, budgets: {monthly: 100}}}\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    found = ServedGateway(tmp_path_factory.mktemp("served"), MORE)
    yield found
    found.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=executable(), args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, gateway: ServedGateway) -> Iterator[Page]:
    context = browser.new_context()
    found = context.new_page()
    found.set_default_timeout(30_000)
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("dialog", lambda dialog: dialog.accept())
    found.goto(gateway.admin)
    found.fill("#token", gateway.token)
    found.click("button")
    found.get_by_role("heading", name="Overview").wait_for()
    yield found
    assert problems == []
    context.close()


def shown_secret(page: Page, other: str = "") -> str:
    """The one that the page shows now, once it is not `other` any more."""
    code = page.locator("#secret-text")
    expect(code).to_have_text(re.compile(r"^hg-\w{32}$"))
    expect(code).not_to_have_text(other or "-")
    return code.inner_text()


@pytest.mark.timeout(180)
def test_a_key_is_made_used_rotated_and_revoked(page: Page, gateway: ServedGateway) -> None:
    page.goto(f"{gateway.admin}/keys")
    page.get_by_label("Name").fill("checkout")
    page.get_by_label("User").fill("ann")
    page.get_by_label("Team").select_option("ops")
    page.get_by_label("Tags").fill("search, web")
    page.get_by_label("Requests a minute").fill("600")
    page.get_by_label("Total budget, US$").fill("0.05")
    page.get_by_role("button", name="Create key").click()
    first = shown_secret(page)
    row = page.locator("tbody tr").filter(has_text="checkout")
    expect(row).to_contain_text("600 requests/min")
    expect(row).to_contain_text("$0.05 total")
    assert gateway.chat(first)[0] == 200

    row.get_by_role("button", name="Rotate").click()
    second = shown_secret(page, first)
    expect(page.locator("tbody tr").filter(has_text="ending")).to_have_count(1)
    assert [gateway.chat(secret)[0] for secret in (first, second)] == [200, 200]

    page.locator("tbody tr").filter(has_text="ending").get_by_role("button", name="Revoke").click()
    expect(page.locator("tbody tr").filter(has_text="revoked")).to_have_count(1)
    assert [gateway.chat(secret)[0] for secret in (first, second)] == [401, 200]
    page.reload()
    assert not {first, second} & set(re.findall(r"hg-\w{32}", page.content())), "a secret outlived its one showing"


@pytest.mark.timeout(180)
def test_what_is_wrong_with_a_form_is_said(page: Page, gateway: ServedGateway) -> None:
    page.goto(f"{gateway.admin}/keys")
    if not page.get_by_label("Name").is_visible():
        page.locator("summary").click()
    page.get_by_label("Name").fill("x")
    page.get_by_label("Doors").fill("window")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#problem")).to_contain_text("there is no door")


@pytest.mark.timeout(180)
def test_teams_budgets_and_activity_show_what_was_spent(page: Page, gateway: ServedGateway) -> None:
    made = gateway.ask_admin("/keys", {"name": "nightly", "team": "ops", "user": "bob", "tags": ["batch"],
                                       "budgets": {"total": "0.01"}})  # fmt: skip
    while gateway.chat(made["secret"])[0] == 200:
        pass
    page.goto(f"{gateway.admin}/teams")
    page.locator("summary").click()
    page.get_by_label("Id").fill("shop")
    page.get_by_label("Monthly budget, US$").fill("500")
    page.get_by_role("button", name="Save team").click()
    expect(page.locator("tbody tr").filter(has_text="shop")).to_contain_text("$500.00 monthly")
    cells = page.locator("tbody tr").filter(has_text="Operations").locator("td").all_inner_texts()
    assert cells[1].isdecimal()
    assert int(cells[1]) >= 1
    assert cells[-1] == "the configuration file"

    page.goto(f"{gateway.admin}/budgets")
    bar = page.locator("tbody tr").filter(has_text="nightly")
    for _ in range(100):  # the books are a few tenths of a second behind
        if float(bar.locator("meter").get_attribute("value") or 0) > 0.5:
            break
        page.wait_for_timeout(100)
        page.reload()
    expect(bar).to_contain_text("402")
    assert float(bar.locator("meter").get_attribute("value") or 0) > 0.5

    page.goto(f"{gateway.admin}/activity")
    for heading in ("By day", "Keys", "Users", "Teams", "Models", "Tags", "What operators did"):
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    expect(page.locator("table").nth(2)).to_contain_text("bob")
    answer = page.request.get(f"{gateway.admin}/activity.csv")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(answer.text()))}
    assert float(rows["nightly"]["cost_usd"]) > 0.005


def test_downloads_need_a_session(gateway: ServedGateway, browser: Browser) -> None:
    context = browser.new_context()
    assert context.request.get(f"{gateway.admin}/activity.csv").status == 401
    context.close()


def test_usage_by_any_dimension_for_programs(gateway: ServedGateway) -> None:
    made = gateway.ask_admin("/keys", {"name": "program", "team": "ops", "user": "eve"})
    assert gateway.chat(made["secret"])[0] == 200
    deadline = time.monotonic() + 20
    while not (rows := gateway.ask_admin("/usage?by=team,model&since=1h&user=eve")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [(row["team"], row["model"], row["attempts"]) for row in rows] == [("ops", "claude-4.7", 1)]
    assert gateway.ask_admin("/usage?by=colour")["error"]["code"] == "invalid_request"
    assert gateway.ask_admin("/usage?since=yesterday-ish")["error"]["code"] == "invalid_request"
    assert gateway.ask_admin("/usage?colour=red")["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0.001200", "$0.001200"), ("-1234.500000", "-$1,234.500000"), ("0.000000300", "$0.000000300")],
)
def test_amounts_in_columns_keep_every_place(amount, shown):
    assert whole_money(amount) == shown
