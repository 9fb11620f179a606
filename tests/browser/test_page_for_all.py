"""The page for everybody: by keyboard and screen reader, in light and dark, on a phone; nothing leaves its origin."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.browser.browsing import until
from tests.browser.conftest import Opener
from tests.browser.page_server import STATIC, TOKEN, Stage
from tests.browser.tools import expect, serious

MOST_BYTES = 300_000
PHONE = {"width": 360, "height": 780}
FORBIDDEN = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "new Function",
    "DOMParser",
    'setAttribute("style',
)


@pytest.mark.parametrize(
    "wanted",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"color_scheme": "light", "viewport": PHONE}],
    ids=["light", "dark", "phone"],
)
def test_axe_finds_nothing_serious(stage: Stage, open_page: Opener, wanted: dict[str, Any]) -> None:
    del stage.swarm.log[:-12]  # axe looks at each line for seconds
    page = open_page(stage, f"#token={TOKEN}", **wanted)
    page.locator("summary").first.click()
    assert serious(page) == []
    page.get_by_role("button", name="Table", exact=True).click()
    page.get_by_role("button", name="shed").click()
    expect(page.locator("#drawer-log .line").first).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="Kill…").click()
    assert serious(page) == []


def test_axe_sees_what_is_wrong(stage: Stage, open_page: Opener) -> None:
    del stage.swarm.log[:]
    page = open_page(stage)
    page.evaluate("document.getElementById('theme').removeAttribute('aria-label')")
    page.evaluate("document.getElementById('theme').removeAttribute('title')")
    assert [name for name, _ in serious(page)] == ["button-name"]


def test_the_page_is_walked_by_keyboard_alone(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "CANVAS":
            break
    expect(page.locator("#graph canvas").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tip")).to_be_visible()
    said = page.locator("#news")
    for _ in range(12):
        before = page.evaluate("grapevinePage.graph.hovered")
        page.keyboard.press("ArrowRight")
        if page.evaluate("grapevinePage.graph.hovered") == before:  # the edge was reached
            break
    page.keyboard.press("ArrowLeft")
    expect(said).to_contain_text(re.compile("alive|asleep|broker|silent|suspect|paused"), timeout=8000)
    for key in ("ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight") * 3:
        if page.evaluate("grapevinePage.graph.layout.nodes.get(grapevinePage.graph.hovered).kind") == "peer":
            break
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.locator("#drawer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#graph canvas").first).to_be_focused()


def test_light_and_dark_are_chosen_and_remembered(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    page.wait_for_selector("body.begun")
    assert page.evaluate(ground) == dark


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_is_wider_than_the_screen(stage: Stage, open_page: Opener, width: int) -> None:
    for one in stage.swarm.peers.values():
        one["name"] = "a-name-without-any-place-to-break-it-" * 4
    page = open_page(stage, f"#token={TOKEN}", viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("id => grapevinePage.open(id)", next(iter(stage.swarm.peers)))
    expect(page.locator("#drawer-shares li").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_no_figure_at_the_head_is_cut_at_any_width(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    for width in (360, 640, 700, 1000, 1181, 1300, 1366, 1440, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        cut = """[...document.querySelectorAll(".figure .value, .figure .note")].filter((one) =>
          one.scrollWidth > one.clientWidth
          || one.getBoundingClientRect().right > one.closest(".figure").getBoundingClientRect().right
        ).map((one) => one.textContent)"""
        assert page.evaluate(cut) == [], width
    assert "guessing" in page.locator("#figures").inner_text()


def test_no_request_leaves_the_origin_and_no_policy_is_violated(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    # An interface that comes or goes, as beside tests with containers, is not the page's fault.
    page.on("console", lambda line: said.append(line.text) if "ERR_NETWORK_CHANGED" not in line.text else None)
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => console.error('violated', e.violatedDirective))"
    )
    page.reload()
    page.wait_for_selector("body.begun")
    stage.advance(8)
    page.evaluate("id => grapevinePage.open(id)", list(stage.swarm.peers)[1])
    expect(page.locator("#drawer-curve canvas")).to_be_visible()
    page.get_by_role("button", name="Light or dark").click()
    assert asked
    assert [url for url in asked if not url.startswith((stage.url, "data:"))] == []
    assert said == []


def test_a_violated_policy_would_be_seen(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    page.evaluate(
        """() => {
          globalThis.violated = [];
          addEventListener("securitypolicyviolation", (event) => violated.push(event.violatedDirective));
          const element = document.createElement("div");
          element.setAttribute("style", "color: red");
          document.body.append(element);
        }"""
    )
    until(page, "violated.length > 0")


def test_the_page_weighs_less_than_it_may(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    sizes: dict[str, int] = {}
    page.on("response", lambda answer: sizes.update({answer.url: int(answer.headers.get("content-length", 0))}))
    page.reload()
    page.wait_for_selector("body.begun")
    names = {url.rsplit("/", 1)[-1] for url in sizes}
    assert {"app.js", "style.css", "uPlot.iife.min.js", "d3-force.min.js"} <= names
    total = sum(size for url, size in sizes.items() if "/api/" not in url)
    assert 100_000 < total <= MOST_BYTES, json.dumps(sizes, indent=1)


def test_our_own_scripts_never_read_markup_from_text() -> None:
    scripts = sorted(STATIC.glob("*.js"))
    assert len(scripts) > 10
    for script in scripts:
        text = script.read_text()
        assert [word for word in FORBIDDEN if word in text] == [], script.name
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|\bstyle=|<style|\son\w+=|https?://", page) == []


def test_what_others_wrote_lies_beside_its_licence_and_version() -> None:
    folders = [folder for folder in (STATIC / "vendor").iterdir() if folder.is_dir()]
    assert {folder.name for folder in folders} == {"uplot", "d3-force"}
    for folder in folders:
        assert "Permission" in (folder / "LICENSE").read_text()
        assert re.search(r"\d+\.\d+\.\d+", (folder / "VERSION").read_text())
