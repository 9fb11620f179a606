"""A browser that goes nowhere: Debian's Chromium by Playwright, with one font, so that it draws the same everywhere."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--font-render-hinting=none",
)  # fmt: skip
FONTS = Path("/usr/share/fonts/truetype/dejavu")
# What a page knows, as a snapshot has it: to be evaluated in it.
STATE = """() => {
  const { peers, tasks, brokers, ...rest } = grapevinePage.state;
  const [all, learned, passed] = [peers, tasks, brokers].map((records) => [...records.values()]);
  return { ...rest, peers: all, tasks: learned, brokers: passed };
}"""
ONE_FONT = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>{fonts}</dir><cachedir>{folder}/cache</cachedir></fontconfig>
"""


@contextmanager
def chromium(folder: Path, *, fonts: Path = FONTS) -> Iterator[Browser]:
    """Start Chromium with the fonts of one folder; `folder` holds what it needs to write."""
    from playwright.sync_api import sync_playwright

    conf = folder / "fonts.conf"
    conf.write_text(ONE_FONT.format(fonts=fonts, folder=folder))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(QUIET), env={**os.environ, "FONTCONFIG_FILE": str(conf)}
        )
        try:
            yield browser
        finally:
            browser.close()


def until(page: Page, expression: str, wanted: Any = True, *, timeout_s: float = 15) -> None:
    """Wait until an expression of the page is what is wanted.

    Playwright's own `wait_for_function` evaluates inside the page, where our policy forbids that.
    """
    deadline = time.monotonic() + timeout_s
    while (found := page.evaluate(expression)) != wanted:
        assert time.monotonic() < deadline, f"{expression} is {found!r} after {timeout_s} s, and not {wanted!r}"
        page.wait_for_timeout(25)
