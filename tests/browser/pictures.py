"""Pictures of the page: what they are compared with, and those of the documentation.

    python -m tests.browser.pictures            # renew the references, after a change that was meant
    python -m tests.browser.pictures --docs     # and docs/images/dashboard-*.png; --fonts DIR: in a finer font

A reference is a quarter as wide and high as the page was drawn: what is left of an edge's smoothing is little, and of a
panel that is gone, moved or in another colour a lot.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image
from tests.browser.browsing import FONTS, chromium, until
from tests.browser.made_swarm import MadeSwarm
from tests.browser.page_server import Stage, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REFERENCES = Path(__file__).with_name("references")
DOCS = Path(__file__).parents[2] / "docs" / "images"
SMALLER = 4
FAR = 20  # of 255: what two browsers may differ in, at one place of the smaller picture
MOST_FAR = 0.006  # of all places


@dataclass(frozen=True, kw_only=True)
class View:
    """How a page is looked at."""

    width: int
    height: int
    scheme: Literal["light", "dark"]
    num_peers: int = 12
    num_brokers: int = 2
    steps: int = 480
    more: dict[str, Any] = field(default_factory=dict)


VIEWS = {
    "light": View(width=1280, height=1300, scheme="light"),
    "dark": View(width=1280, height=1300, scheme="dark"),
    "phone": View(width=360, height=1600, scheme="light"),
}
DOCS_VIEWS = {
    "light": View(width=1440, height=1090, scheme="light", num_peers=24, num_brokers=2, steps=250),
    "dark": View(width=1440, height=900, scheme="dark", num_peers=200, num_brokers=3, steps=420),
    "phone": View(width=390, height=844, scheme="dark", num_peers=12, steps=250, more={"device_scale_factor": 2}),
}


def open_still(browser: Browser, stage: Stage, view: View) -> Page:
    """The page of a stage in which nothing moves, drawn to its end."""
    page = browser.new_context(
        viewport={"width": view.width, "height": view.height}, color_scheme=view.scheme, timezone_id="UTC",
        locale="en-GB", reduced_motion="reduce",
    ).new_page()  # fmt: skip
    page.goto(stage.url)
    page.wait_for_selector("body.begun")
    until(page, "!grapevinePage.graph.isDue && grapevinePage.due === null && grapevinePage.later !== null")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page


def picture(page: Page) -> Image.Image:
    """What the page looks like, made smaller."""
    whole = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return whole.resize((whole.width // SMALLER, whole.height // SMALLER), Image.Resampling.BOX)


def share_that_differs(one: Image.Image, other: Image.Image) -> float:
    """Of two pictures the share of places at which they are far apart; 1 if they differ in size."""
    if one.size != other.size:
        return 1.0
    apart = np.abs(np.asarray(one, dtype=np.int16) - np.asarray(other, dtype=np.int16)).max(axis=2)
    return float((apart > FAR).mean())


def renew_references(browser: Browser) -> None:
    REFERENCES.mkdir(exist_ok=True)
    for name, view in VIEWS.items():
        with served(MadeSwarm(view.num_peers, num_brokers=view.num_brokers, steps=view.steps)) as stage:
            picture(open_still(browser, stage, view)).save(REFERENCES / f"{name}.png", optimize=True)


def write_docs(browser: Browser) -> None:
    """Pictures of a swarm that is at it, sparks and all."""
    DOCS.mkdir(exist_ok=True)
    for name, view in DOCS_VIEWS.items():
        swarm = MadeSwarm(view.num_peers, num_brokers=view.num_brokers, steps=view.steps, server_dies_at=2.0)
        with served(swarm) as stage:
            context = browser.new_context(
                viewport={"width": view.width, "height": view.height},
                color_scheme=view.scheme,
                timezone_id="UTC",
                **view.more,
            )
            page = context.new_page()
            page.goto(stage.url)
            page.wait_for_selector("body.begun")
            until(page, "!grapevinePage.graph.layout.isMoving")
            for _ in range(14):
                stage.advance()
                page.wait_for_timeout(150)
            shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        few = shot.quantize(colors=256, method=Image.Quantize.MEDIANCUT, kmeans=4, dither=Image.Dither.NONE)
        few.save(DOCS / f"dashboard-{name}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--fonts", type=Path, default=FONTS)
    asked = parser.parse_args()
    fonts = asked.fonts if asked.docs else FONTS
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder), fonts=fonts) as browser:
        (write_docs if asked.docs else renew_references)(browser)


if __name__ == "__main__":
    main()
