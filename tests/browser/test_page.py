"""What the dashboard's page shows of a swarm, in a real browser."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.browser.browsing import STATE, until
from tests.browser.conftest import Opener
from tests.browser.made_swarm import DIGITS, MadeSwarm
from tests.browser.page_server import Stage, served
from tests.browser.tools import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

MARKUP = '<img src=x onerror="globalThis.hit=1"><b>bold</b>'


def colours_of_the_graph(page: Page) -> int:
    """How many different colours the graph is drawn in, of every 50th pixel."""
    count = page.evaluate(
        """() => {
          const canvas = document.querySelector("#graph canvas");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const seen = new Set();
          for (let place = 0; place < data.length; place += 200) seen.add(data.slice(place, place + 4).join());
          return seen.size;
        }"""
    )
    return int(count)


def peer(stage: Stage, name: str) -> dict[str, Any]:
    return next(one for one in stage.swarm.peers.values() if one["name"] == name)


def test_a_swarm_appears(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    expect(page.locator("h1")).to_have_text("A household learns")
    expect(page.locator(".figure").first).to_contain_text("of 12")
    expect(page.locator("#legend")).to_contain_text("8 alive")
    expect(page.locator(".task").first).to_contain_text("Handwritten digits")
    expect(page.locator(".task").nth(1)).to_contain_text("8 waiting, 1 rejected")
    expect(page.locator("#log .line").first).to_be_visible()
    expect(page.locator("#brokers li")).to_have_count(2)
    assert colours_of_the_graph(page) > 20
    page.get_by_role("button", name="Table", exact=True).click()
    expect(page.locator("#peer-rows tr")).to_have_count(12)
    expect(page.locator("#peer-rows tr").first).to_contain_text("hub")


def test_what_happens_is_shown_as_it_happens(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    sent = page.locator(".figure", has_text="Messages/s").locator(".note")
    before = sent.inner_text()
    stage.advance(24)
    expect(sent).not_to_have_text(before)
    until(page, "grapevinePage.state.now_ms", stage.swarm.now_ms)


def test_a_peer_that_dies_shows_within_three_seconds(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    expect(page.locator("#legend")).not_to_contain_text("killed")
    begin = time.monotonic()
    peer(stage, "barn")["state"] = "killed"
    stage.tell({"peers": [peer(stage, "barn")]})
    expect(page.locator("#legend")).to_contain_text("1 killed", timeout=3000)
    expect(page.locator("#news")).to_contain_text("barn is killed", timeout=3000)
    assert time.monotonic() - begin < 3


def test_who_listens_is_told_of_brokers_and_servers(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    lost, learned = stage.swarm.brokers()[0], stage.swarm.tasks()[0]
    stage.tell({"brokers": [{**lost, "connected": False}], "tasks": [{**learned, "server": "reachable"}]})
    expect(page.locator("#news")).to_contain_text("broker home is not connected")
    expect(page.locator("#news")).to_contain_text("server of Handwritten digits: reachable")


def test_a_peer_that_is_dragged_goes_back_and_a_broker_stays(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    where = """id => {
      const { layout, drawing } = grapevinePage.graph;
      const { left, top } = grapevinePage.graph.canvas.getBoundingClientRect();
      const node = layout.nodes.get(id);
      const [x, y] = drawing.toScreen(node.x, node.y);
      return { x: x + left, y: y + top, isHeld: node.fx != null };
    }"""
    for place, is_held in ((peer(stage, "shed")["id"], False), ("b0", True)):
        begin = page.evaluate(where, place)
        page.mouse.move(begin["x"], begin["y"])
        page.mouse.down()
        page.mouse.move(begin["x"] + 30, begin["y"] + 40, steps=3)
        page.mouse.up()
        assert page.evaluate(where, place)["isHeld"] is is_held
    expect(page.locator("#drawer")).to_be_hidden()  # it was no click


def test_the_page_adds_patches_up_to_what_the_server_has(open_page: Opener) -> None:
    with served(MadeSwarm(12, steps=40)) as stage:
        page = open_page(stage)
        stage.advance(60)
        until(page, "grapevinePage.state.now_ms", stage.swarm.now_ms)
        state = page.evaluate(STATE)
        wanted = stage.swarm.snapshot()
        for key in ("log", "rates"):  # the page keeps more of them than a snapshot tells
            assert state.pop(key)[-len(wanted[key]) :] == wanted.pop(key)
        assert state == wanted


def test_peers_that_are_gone_leave_the_page(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    page.get_by_role("button", name="Table", exact=True).click()
    gone = stage.swarm.peers.pop(peer(stage, "barn")["id"])
    stage.tell({"gone": [gone["id"]]})
    expect(page.locator("#peer-rows tr")).to_have_count(11)


def test_a_peer_is_looked_at_closely(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    page.get_by_role("button", name="Table", exact=True).click()
    page.get_by_role("button", name="shed").click()
    drawer = page.locator("#drawer")
    expect(drawer.locator("h2")).to_have_text("shed")
    expect(drawer).to_contain_text("raspberry-pi-zero-2w")
    expect(drawer.locator("#drawer-shares li").first).to_contain_text("60.0 %")
    expect(drawer.locator("#drawer-curve canvas")).to_be_visible()
    expect(drawer.locator("#drawer-verdicts li").nth(1)).to_contain_text("0 of 2 approvals")
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(page.get_by_role("button", name="shed")).to_be_focused()


def test_a_click_in_the_graph_opens_the_peer_under_it(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    shed = peer(stage, "shed")["id"]
    x, y = page.evaluate(
        """id => {
          const { layout, drawing } = grapevinePage.graph;
          const { x, y } = layout.nodes.get(id);
          return drawing.toScreen(x, y);
        }""",
        shed,
    )
    page.locator("#graph canvas").first.hover(position={"x": x, "y": y})
    expect(page.locator(".tip")).to_contain_text("shed")
    page.locator("#graph canvas").first.click(position={"x": x, "y": y})
    expect(page.locator("#drawer h2")).to_have_text("shed")


def test_events_are_filtered(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    page.locator("#log-words").fill("hub is silent")
    expect(page.locator("#log .line")).to_have_count(1)
    page.locator("#log-words").fill("nothing says this")
    expect(page.locator("#no-log")).to_be_visible()
    page.locator("#log-words").fill("")
    page.locator("#log-level").select_option("warning")
    expect(page.locator("#log .level-info")).to_have_count(0)
    expect(page.locator("#log .level-warning").first).to_be_visible()


def test_a_review_that_counts_for_nobody_says_so(stage: Stage, open_page: Opener) -> None:
    stage.swarm.reviews[0].update(counts=True)
    stage.swarm.reviews[1].update(counts=False)
    rows = open_page(stage).locator(".reviews").first.locator("li")
    expect(rows.nth(0)).not_to_contain_text("counts for nobody")
    expect(rows.nth(1)).to_contain_text("approved, which counts for nobody here")


def test_markup_in_names_and_texts_is_text(stage: Stage, open_page: Opener) -> None:
    swarm = stage.swarm
    for one in swarm.peers.values():
        one.update(name=MARKUP, profile=MARKUP, site=MARKUP)
    swarm.rejected = {MARKUP: 3}
    swarm.reviews[0].update(name=MARKUP, reason=MARKUP)
    for line in swarm.log:
        line.update(name=MARKUP, text=MARKUP, event=MARKUP)
    page = open_page(stage)
    page.get_by_role("button", name="Table", exact=True).click()
    page.locator("#peer-rows button").first.click()
    for place in ("#peer-rows", "#log", "#rejected", ".reviews", "#drawer-facts", "#drawer h2", "#drawer-traffic"):
        expect(page.locator(place).first).to_contain_text(MARKUP)
    assert page.evaluate("document.querySelectorAll('main img, aside img, main b, aside b').length") == 0
    assert page.evaluate("globalThis.hit") is None


def test_what_is_called_as_javascript_calls_its_own_is_a_name_like_others(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    points = {"peers": {"__proto__": [[0, 0.5]], "constructor": [[0, 0.5]]}, "all": [[0, 1, 1, 1, 1, 1, 1]]}
    stage.tell({"series": {"__proto__": points, "constructor": points}, "now_ms": 7})
    until(page, "grapevinePage.state.now_ms", 7)
    assert page.evaluate("[{}.all, {}.peers, Object.all].every((value) => value === undefined)")
    assert page.evaluate("Object.keys(grapevinePage.state.series.constructor.peers)") == ["__proto__", "constructor"]


def test_what_is_gone_leaves_nothing_behind(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    points = {"peers": {"a": [[1, 0.5]], "b": [[1, 0.5]]}, "all": [[1, 1, 1, 1, 1, 1, 1]]}
    task = {**stage.swarm.snapshot()["tasks"][0], "id": "short lived"}
    stage.tell({"tasks": [task], "series": {task["id"]: points}, "now_ms": 7})
    stage.tell({"resampled": {task["id"]: {"peers": {"a": []}}}, "now_ms": 8})
    until(page, "grapevinePage.state.now_ms", 8)
    assert page.evaluate("Object.keys(grapevinePage.state.series['short lived'].peers)") == ["b"]
    assert page.evaluate("grapevinePage.news.facts.has('task short lived')")
    stage.tell({"gone": [task["id"]], "now_ms": 9})
    until(page, "grapevinePage.state.now_ms", 9)
    assert not page.evaluate("'short lived' in grapevinePage.state.series")
    assert not page.evaluate("grapevinePage.news.facts.has('task short lived')")


def test_a_lost_connection_is_shown_and_comes_back(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    expect(page.locator("#line")).to_have_text("live")
    stage.is_away = True
    stage.hang_up()
    expect(page.locator("#line")).to_contain_text("connection lost")
    peer(stage, "barn")["state"] = "killed"
    stage.is_away = False
    expect(page.locator("#line")).to_have_text("live")
    expect(page.locator("#legend")).to_contain_text("1 killed")


def test_two_thousand_peers_are_told_in_groups_and_the_page_comes_to_rest(open_page: Opener) -> None:
    with served(MadeSwarm(2000, num_brokers=5, steps=24)) as stage:
        page = open_page(stage, reduced_motion="no-preference")
        expect(page.locator(".figure").first).to_contain_text("of 2,000")
        assert page.evaluate("grapevinePage.graph.layout.nodes.size") == 300 + 5 + 5
        stage.advance(8)
        until(page, "grapevinePage.state.now_ms", stage.swarm.now_ms)
        until(page, "grapevinePage.graph.sparks.length === 0 && !grapevinePage.graph.layout.isMoving")
        until(page, "grapevinePage.graph.isDue", wanted=False)
        frames = page.evaluate(
            """async () => {
              const before = grapevinePage.graph.frames;
              for (let frame = 0; frame < 10; frame += 1) await new Promise(requestAnimationFrame);
              return grapevinePage.graph.frames - before;
            }"""
        )
        assert frames <= 1  # nothing moves, so nothing is drawn


def test_messages_fly_unless_less_motion_is_wanted(stage: Stage, open_page: Opener) -> None:
    flying, still = open_page(stage, reduced_motion="no-preference"), open_page(stage)
    for page in (flying, still):
        page.evaluate(
            "() => { const { graph } = grapevinePage; graph.most = 0; const send = graph.send.bind(graph);"
            " graph.send = (links) => { send(links); graph.most = Math.max(graph.most, graph.sparks.length); }; }"
        )
    stage.advance(12)
    until(flying, "grapevinePage.graph.most > 0")
    until(still, "grapevinePage.state.now_ms", stage.swarm.now_ms)
    assert still.evaluate("grapevinePage.graph.most") == 0


def test_another_task_is_chosen_for_the_curves(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    expect(page.locator("#learning-title")).to_have_text("Handwritten digits")
    page.get_by_role("button", name="Vibration of pumps").click()
    expect(page.locator("#learning-title")).to_have_text("Vibration of pumps")
    expect(page.locator("#no-curve")).to_be_visible()
    assert page.evaluate("grapevinePage.task.id") != DIGITS


def test_a_page_of_which_something_was_not_loaded_is_asked_for_again(stage: Stage, open_page: Opener) -> None:
    page = open_page(stage)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("**/layout.js", lambda route: route.abort(), times=1)
    page.reload()
    page.wait_for_selector("body.begun")
    assert sum(url.endswith("/layout.js") for url in asked) > 1
    assert page.evaluate("sessionStorage.length") == 0
