"""Actions: offered and sent only with the token of the address, and only after a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.conftest import Opener
from tests.browser.made_swarm import PUMPS
from tests.browser.page_server import TOKEN, Stage
from tests.browser.tools import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page


def approve(page: Page, reason: str) -> None:
    page.locator(".task", has_text="Vibration of pumps").get_by_role("button", name="Approve…").click()
    expect(page.get_by_role("dialog")).to_contain_text("Vibration of pumps")
    page.locator("#ask-reason").fill(reason)
    page.get_by_role("button", name="Approve", exact=True).click()


def test_an_approval_is_posted_with_the_token(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage, f"#token={TOKEN}")
    approve(page, "reads what it says, and no more")
    expect(page.locator("#toast")).to_contain_text("approve: done")
    expect(page.get_by_role("dialog")).to_be_hidden()
    [(action, given, body)] = stage.posted
    own = [peer["id"] for peer in stage.swarm.peers.values() if peer["own"]]
    assert (action, given) == ("approve", f"Bearer {TOKEN}")
    assert body == {"task": PUMPS, "reason": "reads what it says, and no more", "peer": own[0]}


def test_who_approves_a_task_is_told_which_one_beyond_doubt(stage: Stage, open_page: Opener) -> None:
    twin = {
        **next(each for each in stage.swarm.snapshot()["tasks"] if each["id"] == PUMPS),
        "id": "twin",
        "publisher": "p2",
    }
    page = open_page(stage, f"#token={TOKEN}")
    stage.tell({"tasks": [twin], "now_ms": 7})
    page.locator(".task", has_text="Vibration of pumps").nth(1).get_by_role("button", name="Approve…").click()
    expect(page.get_by_role("dialog")).to_contain_text("Task twin, published by p2")


def test_the_token_leaves_the_address_at_once_and_is_stored_nowhere(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage, f"#token={TOKEN}")
    expect(page.locator("#rights")).to_have_text("actions allowed")
    assert TOKEN not in page.url
    assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie") == "{}"


def test_without_a_token_nothing_is_offered(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    expect(page.locator("#rights")).to_have_text("read only")
    page.evaluate("id => grapevinePage.open(id)", next(iter(stage.swarm.peers)))
    for name in ("Approve…", "Reject…", "Partition…", "Heal…", "Kill…", "Pause…"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    assert stage.posted == []


def test_what_the_source_does_not_offer_is_not_there(stage: Stage, open_page: Opener) -> None:
    whole = stage.swarm.snapshot()
    stage.swarm.snapshot = lambda: {**whole, "source": {**whole["source"], "actions": ["approve"]}}  # type: ignore[method-assign]
    page = open_page(stage, f"#token={TOKEN}")
    expect(page.get_by_role("button", name="Approve…").first).to_be_visible()
    for name in ("Reject…", "Partition…", "Heal…"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)


def test_a_refusal_is_shown_with_its_remedy_and_can_be_tried_again(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage, f"#token={TOKEN}")
    stage.token = "another, since the server was started again"
    approve(page, "")
    expect(page.get_by_role("alert")).to_contain_text("open the page by the address for actions that was printed")
    expect(page.get_by_role("button", name="Approve", exact=True)).to_be_enabled()


def test_a_wrong_token_is_said_at_once_and_offers_nothing(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage, "#token=wrong")
    expect(page.locator("#toast")).to_contain_text("an action needs the token")
    expect(page.locator("#rights")).to_have_text("read only")
    expect(page.get_by_role("button", name="Approve…")).to_have_count(0)


def test_a_rejection_needs_a_reason(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage, f"#token={TOKEN}")
    page.get_by_role("button", name="Reject…").first.click()
    page.get_by_role("button", name="Reject", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert stage.posted == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_lab_is_cut_healed_and_loses_a_peer(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage, f"#token={TOKEN}")
    page.get_by_role("button", name="Partition…").click()
    page.get_by_role("button", name="Cut").click()
    expect(page.get_by_role("alert")).to_contain_text("each side needs somebody")
    page.get_by_label("home").check()
    page.get_by_role("button", name="Cut").click()
    expect(page.locator("#toast")).to_contain_text("partition: done")
    page.get_by_role("button", name="Heal…").click()
    page.get_by_role("button", name="Heal", exact=True).click()
    expect(page.locator("#toast")).to_contain_text("heal: done")
    shed = next(peer["id"] for peer in stage.swarm.peers.values() if peer["name"] == "shed")
    page.evaluate("id => grapevinePage.open(id)", shed)
    page.get_by_role("button", name="Kill…").click()
    page.get_by_role("button", name="Kill", exact=True).click()
    expect(page.locator("#toast")).to_contain_text("kill: done")
    assert [(action, body) for action, _, body in stage.posted] == [
        ("partition", {"sides": [["b0"], ["b1"]]}),
        ("heal", {}),
        ("kill", {"peer": shed}),
    ]
