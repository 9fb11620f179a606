"""A browser for all, and a page of a made swarm for each test; skipped where there is none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.browser.browsing import CHROMIUM, FONTS, chromium
from tests.browser.made_swarm import MadeSwarm
from tests.browser.page_server import Stage, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Opener = Callable[..., "Page"]


def missing() -> str:
    if importlib.util.find_spec("playwright") is None:
        return "needs Playwright: make setup"
    if not Path(CHROMIUM).exists():
        return "needs Chromium on this machine: apt-get install chromium"
    if not FONTS.is_dir():
        return "needs the fonts that pictures are compared in: apt-get install fonts-dejavu-core"
    return ""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for each file: while it is there Playwright's event loop runs in this thread, and no test of asyncio can."""
    if missing():
        pytest.skip(missing())
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A household of twelve, in which time stands still until a test lets it pass."""
    with served(MadeSwarm(12)) as opened:
        yield opened


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """Open the page of a stage; at the end nothing may have been thrown in it."""
    thrown: list[str] = []
    said: list[str] = []  # shown with a test that fails
    with ExitStack() as closing:

        def open_one(stage: Stage, fragment: str = "", **wanted: Any) -> Page:
            wanted = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **wanted}
            context = browser.new_context(timezone_id="UTC", locale="en-GB", **wanted)
            context.set_default_timeout(30_000)
            closing.callback(context.close)
            page = context.new_page()
            page.on("pageerror", lambda error: thrown.append(str(error)))
            page.on("console", lambda line: said.append(line.text))
            page.on("requestfailed", lambda request: said.append(f"{request.url}: {request.failure}"))
            page.goto(stage.url + fragment)
            page.wait_for_selector("body.begun")
            return page

        yield open_one
        print("\n".join(said))  # noqa: T201
    assert thrown == []
