"""The page looks as it did when somebody looked last (`python -m tests.browser.pictures` takes new pictures)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from tests.browser.made_swarm import MadeSwarm
from tests.browser.page_server import served
from tests.browser.pictures import MOST_FAR, REFERENCES, VIEWS, open_still, picture, share_that_differs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Each of these somebody would notice: a panel that is gone, one that moved, another colour, an empty graph.
DAMAGES = {
    "no-log": "document.querySelector('.log-card').style.visibility = 'hidden'",
    "moved": "document.querySelector('main').style.paddingTop = '32px'",
    "colour": "document.documentElement.style.setProperty('--card', '#ffe9e9')",
    "no-graph": "document.querySelector('#graph canvas').style.visibility = 'hidden'",
    "no-curve": "document.querySelector('#learning').style.visibility = 'hidden'",
}


def reference(name: str) -> Image.Image:
    return Image.open(REFERENCES / f"{name}.png").convert("RGB")


@pytest.mark.parametrize("name", VIEWS)
def test_the_page_looks_as_it_did(browser: Browser, name: str, tmp_path: Path) -> None:
    view = VIEWS[name]
    with served(MadeSwarm(view.num_peers, num_brokers=view.num_brokers, steps=view.steps)) as stage:
        page = open_still(browser, stage, view)
        now = picture(page)
        page.context.close()
    now.save(tmp_path / f"{name}.png")
    differs = share_that_differs(now, reference(name))
    assert differs <= MOST_FAR, (
        f"{differs:.1%} of the page looks different: compare {tmp_path / name}.png with {REFERENCES / name}.png. "
        "If that was meant: python -m tests.browser.pictures"
    )


def test_what_somebody_would_notice_is_noticed(browser: Browser) -> None:
    view = VIEWS["light"]
    with served(MadeSwarm(view.num_peers, num_brokers=view.num_brokers, steps=view.steps)) as stage:
        page = open_still(browser, stage, view)
        for name, damage in DAMAGES.items():
            page.evaluate(f"() => {{ {damage}; }}")
            assert share_that_differs(picture(page), reference("light")) > MOST_FAR, name
            page.evaluate(
                "() => { for (const one of document.querySelectorAll('[style]')) "
                "for (const name of ['visibility', 'padding-top', '--card']) one.style.removeProperty(name); }"
            )
        assert share_that_differs(picture(page), reference("light")) <= MOST_FAR
        page.context.close()
