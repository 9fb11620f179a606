"""What agents answer fills in what events do not say, and whatever it is, it harms nothing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.dashboard.details import peer_detail
from grapevine_agent.dashboard.looks import look_at_peers, look_at_reviews, look_at_status
from grapevine_agent.dashboard.overview import Overview

NOW_MS = 1_770_000_000_000
TASK = "t" * 64
KEYS = (
    *(
        "peer",
        "peers",
        "name",
        "role",
        "scope",
        "site",
        "governor",
        "held",
        "does",
        "limit",
        "rejected",
        "brokers",
        "url",
    ),
    *("connected", "tasks", "id", "joined", "standing", "publisher", "metric", "round", "model_version", "reviews"),
    *("reviewer", "approved", "made_at_ms", "alive", "asleep", "member", "sleep", "uptime_s", "memory_mb", "unsaved"),
)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["a", "t", "mqtt://h", "pause", "\x1b<b>"])
)
anything = st.recursive(
    leaves,
    lambda each: st.one_of(st.lists(each, max_size=3), st.dictionaries(st.sampled_from(KEYS), each, max_size=8)),
    max_leaves=30,
)
objects = st.dictionaries(st.sampled_from(KEYS), anything, max_size=12)


def new_overview() -> Overview:
    overview = Overview(title="a swarm", source={"kind": "agent", "name": "x", "actions": []})
    overview.met("a", "ada", NOW_MS)
    return overview


@given(objects, objects, anything)
def test_whatever_an_agent_answers_the_state_can_be_told(status: Any, peers: Any, reviews: Any) -> None:
    overview = new_overview()
    book = overview.book
    look_at_status(book, book.peers["a"], status, NOW_MS)
    look_at_peers(book, peers, NOW_MS)
    look_at_reviews(book, book.peers["a"], reviews, NOW_MS)
    json.dumps(overview.patch(), allow_nan=False)
    json.dumps(overview.snapshot(), allow_nan=False)
    json.dumps(peer_detail(book, "a"), allow_nan=False)


def test_a_task_that_an_agent_is_asked_about_has_its_reviews_and_its_version() -> None:
    overview = new_overview()
    book = overview.book
    line = {
        "id": TASK,
        "name": "digits",
        "version": 2,
        "publisher": "e",
        "strategy": "average",
        "standing": "approved",
        "joined": True,
        "round": 4,
        "metric": 0.5,
        "metric_name": "mse",
        "baseline": 0.9,
        "peers": 3,
        "why": "",
    }
    look_at_status(book, book.peers["a"], {"tasks": [line], "governor": {"bytes_today": 7}}, NOW_MS)
    reviews = [
        {"reviewer": "r", "approved": False, "reason": "why so", "made_at_ms": 5, "counts": True},
        {"reviewer": "s", "approved": True, "withdrawn": True, "counts": True},
    ]
    answer = [{"task": TASK, "name": "digits", "description": "of hands", "reviews": reviews}]
    look_at_reviews(book, book.peers["a"], answer, NOW_MS)
    overview.patch()
    (task,) = overview.snapshot()["tasks"]
    assert task["higher_is_better"] is False
    assert (task["strategy"], task["num_members"], task["standings"]) == ("average", 4, {"approved": 1})
    assert [(each["approved"], each["withdrawn"], each["at_ms"]) for each in task["reviews"]] == [
        (False, False, 5),
        (True, True, NOW_MS),
    ]
    roles = {each["id"]: each["role"] for each in overview.snapshot()["peers"]}
    assert roles == {"a": "member", "e": "engineer", "r": "reviewer", "s": "reviewer"}
    look_at_status(book, book.peers["a"], {"tasks": [line | {"joined": False, "why": "it was left"}]}, NOW_MS)
    overview.patch()
    (task,) = overview.snapshot()["tasks"]
    assert task["verdicts"] == [
        {"peer": "a", "name": "ada", "standing": "approved", "why": "it was left", "joined": False}
    ]


def test_however_many_strangers_review_a_task_those_whose_word_counts_come_first_and_stay() -> None:
    overview = new_overview()
    book = overview.book
    book.task(TASK, "digits", NOW_MS)
    strangers = [{"reviewer": f"s{number}", "name": "", "approved": True, "counts": False} for number in range(60)]
    trusted = {"reviewer": "r", "name": "Ada, as I call her", "approved": False, "counts": True}
    for reviews in ([*strangers, trusted], [trusted, *strangers], strangers):
        look_at_reviews(book, book.peers["a"], [{"task": TASK, "reviews": reviews}], NOW_MS)
    overview.patch()
    (task,) = overview.snapshot()["tasks"]
    first, *others = task["reviews"]
    assert (first["reviewer"], first["name"], first["approved"], first["counts"]) == (
        "r",
        "Ada, as I call her",
        False,
        True,
    )
    assert len(others) == 10
    assert not any(each["counts"] for each in others)
    assert {each["id"]: each["role"] for each in overview.snapshot()["peers"]} == {"a": "member", "r": "reviewer"}


def test_what_an_agent_has_rejected_is_counted_once_however_many_reasons_it_names() -> None:
    overview = new_overview()
    book = overview.book
    for number in range(70):
        overview.tell({"event": "rejected", "peer": "a", "reason": f"r{number}", "num": 2}, NOW_MS)
    told = {f"r{number}": 2 for number in range(10, 70)} | {"bad\u202e" + "x" * 500: 1}
    for _ in range(3):
        look_at_status(book, book.peers["a"], {"rejected": told}, NOW_MS)
    assert sum(book.rejected.values()) == 140
    other = new_overview().book
    look_at_status(other, other.peers["a"], {"rejected": told}, NOW_MS)
    assert max(map(len, other.rejected)) <= 64
    assert all(reason.isprintable() for reason in other.rejected)


def test_a_reviewer_who_is_trusted_no_more_counts_no_more() -> None:
    overview = new_overview()
    book = overview.book
    overview.met("b", "bob", NOW_MS)
    book.task(TASK, "digits", NOW_MS)
    said = {"reviewer": "r", "approved": True}
    for teller, counts, is_shown_to_count in (
        ("a", True, True),
        ("b", True, True),
        ("a", False, True),
        ("b", False, False),
    ):
        answer = [{"task": TASK, "reviews": [said | {"counts": counts}]}]
        look_at_reviews(book, book.peers[teller], answer, NOW_MS)
        overview.patch()
        assert overview.snapshot()["tasks"][0]["reviews"][0]["counts"] is is_shown_to_count


def test_a_flood_of_tasks_by_strangers_takes_the_place_of_no_task_that_matters_and_changes_nothing_twice() -> None:
    overview = new_overview()
    book = overview.book
    waiting = {"event": "judged", "peer": "a", "task": "waits for reviews", "label": "w", "standing": "waiting"}
    overview.tell(waiting, NOW_MS)
    flood = [{"id": f"{number:064d}", "name": "n", "publisher": f"e{number}", "joined": False} for number in range(200)]
    status = {"tasks": [*flood, {"id": TASK, "name": "digits", "joined": True}]}
    look_at_status(book, book.peers["a"], status, NOW_MS + 1)
    assert {TASK, "waits for reviews"} <= set(book.tasks)
    assert not any(each.role == "engineer" for each in book.peers.values())
    overview.patch()
    look_at_status(book, book.peers["a"], status, NOW_MS + 2)
    patch = overview.patch()
    assert "tasks" not in patch
    assert "gone" not in patch


def test_a_peer_that_an_agent_knows_is_as_that_agent_says() -> None:
    overview = new_overview()
    known = {"peer": "b", "name": "bob", "site": "lakeside", "brokers": ["mqtt://h:1883?version=5"]}
    said = [
        ({"alive": True, "member": True}, "alive"),
        ({"alive": False, "member": True}, "silent"),
        ({"alive": False, "member": True, "asleep": True}, "asleep"),
        ({"alive": False, "member": False}, "offline"),
    ]
    for words, state in said:
        look_at_peers(overview.book, {"peer": "a", "peers": [known | words]}, NOW_MS)
        shown = overview.book.peers["b"].shown()
        assert (shown["state"], shown["name"], shown["site"]) == (state, "bob", "lakeside")
    assert shown["brokers"] == ["mqtt://h:1883"]
