"""The dashboard's state: whatever is told, patches add up to the snapshot, and all of it stays bounded."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.dashboard.book import MOST_PEERS, MOST_TASKS
from grapevine_agent.dashboard.details import peer_detail, task_detail
from grapevine_agent.dashboard.overview import Overview
from grapevine_agent.dashboard.patches import MOST_LINES, apply
from grapevine_agent.dashboard.selection import MOST_SHOWN
from grapevine_lab.bench.made_events import BEGIN_MS, TASK, MadeSwarm

LINE = {"at_ms": BEGIN_MS, "level": "info", "text": "something"}
KINDS = (
    *("joining", "joined", "stopped", "failed", "trained", "measured", "merged", "sent", "received", "rejected"),
    *("judged", "reviewed", "server-changed", "served", "peer-changed", "broker-changed", "paused", "resumed"),
    *("fell-asleep", "woke-up", "missed", "unheard-of"),
)


def new_overview() -> Overview:
    return Overview(title="a swarm", source={"kind": "replay", "name": "x", "actions": []})


def by_id(state: dict[str, Any]) -> dict[str, Any]:
    """A state whose lists of things with an id are in an order that does not depend on when they came."""
    return state | {key: sorted(state[key], key=lambda each: each["id"]) for key in ("peers", "tasks", "brokers")}


ids = st.sampled_from(["a", "b", "c", "d", 7, ""])
numbers = st.one_of(st.none(), st.integers(-5, 10**9), st.floats(-10, 10), st.just(10**30), st.booleans())
texts = st.sampled_from(
    ["alive", "silent", "gone", "pause", "member", "server", "<b>\u202e", "x" * 900, "mqtt://h:1883"]
)
anything = st.recursive(st.one_of(numbers, texts), lambda each: st.dictionaries(st.text(max_size=3), each, max_size=3))
lines = st.fixed_dictionaries(
    {"event": st.sampled_from(KINDS), "peer": ids},
    optional={
        **dict.fromkeys(("task", "receiver", "sender", "other", "reviewer", "server", "publisher"), ids),
        **dict.fromkeys(("metric", "round", "age", "staleness", "staleness_bound", "num_bytes", "joules"), numbers),
        **dict.fromkeys(
            ("label", "state", "name", "role", "reason", "url", "does", "limit", "standing", "text"), texts
        ),
        **dict.fromkeys(("shares", "best", "why", "at_ms", "level", "num"), anything),
        **dict.fromkeys(("is_connected", "counts"), st.booleans()),
    },
)
steps = st.lists(st.one_of(lines, st.integers(0, 700_000), st.just("look")), max_size=60)


@given(steps)
def test_a_snapshot_and_the_patches_after_it_add_up_to_the_snapshot_of_later(steps: list[Any]) -> None:
    overview, now_ms = new_overview(), BEGIN_MS
    overview.patch()
    page = copy.deepcopy(overview.snapshot())
    for step in steps:
        match step:
            case "look":
                patch = overview.patch()
                apply(page, json.loads(json.dumps(patch, allow_nan=False)))
            case int():
                now_ms += step
                overview.advance(now_ms)
            case _:
                overview.tell(step, now_ms)
    apply(page, overview.patch())
    assert by_id(page) == by_id(overview.snapshot())
    assert overview.patch() == {}


def test_curves_that_are_thinned_out_still_add_up() -> None:
    overview, page = new_overview(), None
    for number, event in enumerate(MadeSwarm(3).events(2_400)):
        overview.tell(event, event["at_ms"])
        overview.advance(event["at_ms"])
        if number % 200 == 0:
            patch = overview.patch()
            if page is None:
                page = copy.deepcopy(overview.snapshot())
            else:
                apply(page, patch)
    assert page is not None
    apply(page, overview.patch())
    told = overview.snapshot()
    assert page["series"] == told["series"]
    assert 100 < len(told["series"][TASK]["all"]) <= 480
    assert all(100 < len(points) <= 240 for points in told["series"][TASK]["peers"].values())


def test_a_multitude_is_shown_in_groups_and_patches_still_add_up() -> None:
    overview, page = new_overview(), None
    for number, event in enumerate(MadeSwarm(400).events(8)):
        overview.tell(event, event["at_ms"])
        overview.advance(event["at_ms"])
        if number % 311 == 0:
            patch = overview.patch()
            if page is None:
                page = copy.deepcopy(overview.snapshot())
            else:
                apply(page, patch)
    assert page is not None
    apply(page, overview.patch())
    told = overview.snapshot()
    assert by_id(page) == by_id(told)
    shown = told["shown"]
    assert (shown["peers"], shown["of"], len(told["peers"])) == (MOST_SHOWN, 404, MOST_SHOWN)
    assert sum(group["num"] for group in shown["groups"]) == 404 - MOST_SHOWN
    drawn = {each["id"] for each in told["peers"]} | {each["id"] for each in shown["groups"]}
    assert told["links"]
    assert all(link["from"] in drawn and link["to"] in drawn for link in told["links"])
    assert any(link["to"].startswith("group:") for link in told["links"])
    roles = [each["role"] for each in told["peers"]]
    assert [roles.count(each) for each in ("server", "engineer", "reviewer")] == [1, 1, 2]


def test_whatever_is_invented_the_book_stays_bounded() -> None:
    overview = new_overview()
    for number in range(MOST_PEERS + 10):
        now_ms = BEGIN_MS + number
        about = {"peer": f"p{number}", "task": f"t{number}", "label": "x" * 5_000}
        overview.tell({"event": "measured", "metric": 0.5, **about, **LINE}, now_ms)
        overview.tell({"event": "rejected", "reason": f"r{number}", **about, **LINE}, now_ms)
        counts = number % 2 == 0
        overview.tell({"event": "reviewed", "reviewer": f"p{number}", "counts": counts, **about, **LINE}, now_ms)
        overview.tell({"event": "reviewed", "reviewer": f"p{number}", **about, "task": "t0", "counts": counts}, now_ms)
        overview.tell({"event": "broker-changed", "url": f"mqtt://{number}", "is_connected": True, **about}, now_ms)
    book = overview.book
    assert len(book.peers) <= MOST_PEERS
    for number in range(200):
        overview.tell({"event": "paused", "peer": "p", "does": "pause", "limit": f"l{number}", **LINE}, BEGIN_MS)
    assert len(book.peers["p"].pauses) <= 64
    assert len(book.tasks) <= MOST_TASKS
    assert all(len(each.reviews) == len(each.counting) <= 50 for each in book.tasks.values())
    assert len(book.rejected) <= 65
    assert len(book.brokers) <= 64
    overview.patch()
    assert len(json.dumps(overview.snapshot())) < 1_500_000


def test_a_task_that_made_room_and_came_again_begins_anew() -> None:
    overview = new_overview()
    overview.patch()
    page = copy.deepcopy(overview.snapshot())
    for number in [*range(MOST_TASKS + 3), 0]:
        line = {"event": "measured", "peer": f"p{number}", "task": f"t{number}", "metric": 0.5, **LINE}
        overview.tell({**line, "at_ms": BEGIN_MS + number}, BEGIN_MS + number)
        apply(page, overview.patch())
    assert by_id(page) == by_id(overview.snapshot())
    assert "t1" not in {task["id"] for task in page["tasks"]}


def test_the_story_of_a_swarm_is_all_there() -> None:
    overview = new_overview()
    swarm = MadeSwarm(6)
    for event in swarm.events(120):
        overview.tell(event, event["at_ms"])
        overview.advance(event["at_ms"])
    overview.patch()
    told = overview.snapshot()
    task = next(each for each in told["tasks"] if each["id"] == TASK)
    assert (task["label"], task["num_members"], task["metric_name"], task["server"]) == (
        "digits",
        7,
        "accuracy",
        "present",
    )
    assert task["publisher_name"] == "engineer"
    assert {each["name"] for each in task["reviews"]} == {"reviewer 0", "reviewer 1"}
    assert task["standings"] == {"approved": 7}
    refused = next(each for each in told["tasks"] if each["label"] == "faces")
    assert [each["approved"] for each in refused["reviews"]] == [False, False]
    assert [broker["peers"] for broker in told["brokers"]] == [5, 5]
    last = told["series"][TASK]["all"][-1]
    assert last[3] >= last[1] >= last[2] > 0.5
    assert last[6] == 6
    assert told["totals"]["sent"] == told["totals"]["received"] > 100
    assert told["rates"][-1][1] > 0
    kinds = [each["event"] for each in told["log"]]
    assert "joined" in kinds
    assert "measured" not in kinds
    assert 12 < len(kinds) <= MOST_LINES
    assert told["totals"]["joules"] == 1.5 * 180
    detail = peer_detail(overview.book, swarm.members[0])
    assert detail is not None
    assert [each["label"] for each in detail["verdicts"]] == ["digits", "faces"]
    assert len(detail["curves"][TASK]) == 30
    assert len(detail["shares"]) == 10
    assert detail["traffic"][0]["sent"] > 0
    about = task_detail(overview.book, TASK)
    assert about is not None
    assert len(about["members"]) == 7
    assert peer_detail(overview.book, "nobody") is None


def test_names_and_reasons_full_of_markup_and_control_characters_become_plain_text() -> None:
    overview = new_overview()
    evil = "<script>\u202e\x1b[2J\n"
    told = {"event": "peer-changed", "peer": "a", "other": "b", "name": evil, "state": "alive", **LINE, "text": evil}
    overview.tell(told, BEGIN_MS)
    overview.patch()
    state = overview.snapshot()
    assert {each["name"] for each in state["peers"]} == {"a", "<script>\ufffd\ufffd[2J\ufffd"}
    assert state["log"][0]["text"] == "<script>\ufffd\ufffd[2J\ufffd"


def test_how_an_agent_is_its_socket_says_and_others_where_there_is_none() -> None:
    overview = new_overview()
    overview.met("b", "bee", BEGIN_MS)
    said = {"event": "peer-changed", "peer": "a", "other": "b", "state": "silent", **LINE}
    overview.tell(said, BEGIN_MS)
    assert overview.book.peers["b"].state == "alive"
    overview.lost("b", "killed")
    overview.tell(said, BEGIN_MS)
    assert overview.book.peers["b"].state == "killed"
    overview.lost("b", "offline")
    assert overview.book.peers["b"].state == "offline"
    overview.tell(said, BEGIN_MS)
    assert overview.book.peers["b"].state == "silent"


def test_a_broker_is_the_same_whoever_logs_in_there_and_whichever_mqtt_it_speaks() -> None:
    overview = new_overview()
    for peer, url in (
        ("a", "mqtt://ada@hub:1883"),
        ("b", "mqtt://bob:secret@hub:1883?version=5"),
        ("c", "mqtt://hub:1883"),
    ):
        overview.tell({"event": "broker-changed", "peer": peer, "url": url, "is_connected": True, **LINE}, BEGIN_MS)
    overview.patch()
    (broker,) = overview.snapshot()["brokers"]
    assert (broker["id"], broker["name"], broker["peers"]) == ("mqtt://hub:1883", "hub:1883", 3)


def test_a_pause_of_all_training_shows_until_it_is_over() -> None:
    overview = new_overview()
    held = {"peer": "a", "limit": "pause", "does": "pause", **LINE}
    overview.tell({"event": "paused", "task": "", **held}, BEGIN_MS)
    assert overview.book.peers["a"].shown()["state"] == "paused"
    overview.tell({"event": "resumed", "task": "", **held}, BEGIN_MS)
    assert overview.book.peers["a"].shown()["state"] == "alive"
    overview.tell({"event": "paused", "task": "t", **held}, BEGIN_MS)
    assert overview.book.peers["a"].shown()["state"] == "alive"
