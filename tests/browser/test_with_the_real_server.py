"""The page with its real server: the command, agents' sockets, and its guards."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.browser.browsing import STATE, until
from tests.browser.tools import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
TASK = "t" * 64
NETWORK = "ERR_NETWORK_CHANGED"  # an interface came or went on this machine, as beside tests with containers
LEARNT = {"task": TASK, "label": "digits"}
MARKUP = "<img src=x onerror=alert(1)>"


@contextmanager
def dashboard(*options: str) -> Iterator[list[str]]:
    """The addresses that the command prints: to look, and to act where it can."""
    words = [sys.executable, "-m", "grapevine_agent", "dashboard", "--port", "0", "--no-open", *options]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield [word.rstrip(")") for word in process.stdout.readline().split() if word.startswith("http")]
    finally:
        process.kill()
        process.communicate()


@contextmanager
def scripted_agent(folder: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A process with an agent's control socket, which tells what is written to it, and writes what it is asked."""
    folder.mkdir()
    words = ["-m", "tests.unit.agent.dashboard.scripted_agent", str(folder / "agent.sock"), f"peer-{name}", name]
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], event: str, **fields: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"event": event, **fields}) + "\n")
    process.stdin.flush()


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[tuple[Page, list[str]]]:
    """The page, and whatever the browser complains of: errors, and what the policy forbids."""
    complaints: list[str] = []
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.on("console", lambda line: complaints.append(line.text) if NETWORK not in line.text else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    page.wait_for_selector("body.begun")
    yield page, complaints
    context.close()


def test_a_swarm_appears_is_approved_and_a_kill_shows_within_three_seconds(browser: Browser, tmp_path: Path) -> None:
    with contextlib.ExitStack() as running:
        ada = running.enter_context(scripted_agent(tmp_path / "ada", "ada"))
        bob = running.enter_context(scripted_agent(tmp_path / "bob", MARKUP))
        urls = running.enter_context(dashboard("--agents", f"{tmp_path}/*/agent.sock"))
        page, complaints = running.enter_context(opened(browser, urls[1]))
        page.get_by_role("button", name="Table", exact=True).click()
        for name in ("ada", MARKUP):
            expect(page.get_by_role("button", name=name)).to_be_visible()
        expect(page.locator("#legend")).to_contain_text("3 alive")  # they, and one that they know
        tell(ada, "judged", **LEARNT, standing="waiting", why="0 of 1 approvals", publisher="marie")
        page.get_by_role("button", name="Approve…").click()
        page.locator("#ask-owner").select_option(label="ada")
        page.locator("#ask-reason").fill("looked at")
        page.get_by_role("button", name="Approve", exact=True).click()
        assert ada.stdout is not None
        method, asked = json.loads(ada.stdout.readline())
        assert asked["approved"]
        assert (method, asked["task"], asked["reason"]) == ("review", TASK, "looked at")
        expect(page.locator("#toast.shown")).to_contain_text("approved")
        begin = time.monotonic()
        bob.kill()
        expect(page.locator("#legend")).to_contain_text("1 killed", timeout=3000)
        assert time.monotonic() - begin < 3
        assert complaints == []


@pytest.mark.parametrize("num", [20, 1000])
def test_a_replay_shows_what_the_server_says(browser: Browser, tmp_path: Path, num: int) -> None:
    told = tmp_path / "events.jsonl"
    with told.open("w") as lines:
        making = [sys.executable, "-m", "grapevine_lab.bench.made_events", "--peers", str(num), "--seconds", "12"]
        subprocess.run(making, stdout=lines, check=True)
    with (
        dashboard("--replay", str(told), "--speed", "12") as urls,
        opened(browser, urls[0]) as (page, complaints),
    ):
        expect(page.locator("#log .line").first).to_be_visible()
        url = f"{urls[0]}api/state"
        until(page, "grapevinePage.state.totals.merged > 0")
        before = None
        while before != (before := _asked(url)["totals"]["sent"]):
            page.wait_for_timeout(500)  # told to its end
        whole = _asked(url)
        until(page, "grapevinePage.state.totals", whole["totals"])
        state = page.evaluate(STATE)
        assert state["series"] == whole["series"]
        assert state["shown"] == whole["shown"]
        for key in ("peers", "tasks", "brokers"):
            assert {one["id"]: one for one in state[key]} == {one["id"]: one for one in whole[key]}
        expect(page.locator(".task").first).to_contain_text("digits")
        assert complaints == []


def _asked(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        state: dict[str, Any] = json.load(answer)
        return state
