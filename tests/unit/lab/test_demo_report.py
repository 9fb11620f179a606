import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.lab.pages.reading import all_of, asks_for, parsed, rows_of, text_of

from grapevine_lab.demo.listening import Point
from grapevine_lab.demo.page import page_of
from grapevine_lab.demo.plan import make_timeline
from grapevine_lab.demo.plot import draw_accuracy
from grapevine_lab.demo.report import (
    PeerResult,
    Person,
    Report,
    ServerTimes,
    goals_of,
    mean,
    mean_of_last,
    write_report,
)
from grapevine_lab.pages import html_of


def points(*accuracies: float, every_s: float = 1.0) -> tuple[Point, ...]:
    return tuple(Point(t_s=i * every_s, round=i + 1, accuracy=accuracy) for i, accuracy in enumerate(accuracies))


def peer(*, alone: float | None = 0.4, before: float | None = 0.95, final: float | None = 0.95) -> PeerResult:
    return PeerResult(
        id="a" * 20,
        name="agent 0",
        classes=(0, 1, 2, 3),
        num_samples=576,
        accuracy_alone=alone,
        accuracy_before_loss=before,
        accuracy_final=final,
        together=points(0.1, 0.6, 0.9, 0.95),
        alone=points(0.1, 0.3, 0.4, 0.4),
    )


def report(*peers: PeerResult) -> Report:
    return Report(
        duration_s=3.0,
        total_s=12.0,
        seed=7,
        broker_engine="embedded",
        broker_url="mqtt://127.0.0.1:1",
        mqtt_version="3.1.1",
        versions={"grapevine": "0", "python": "3"},
        task="ab" * 32,
        unapproved_task="cd" * 32,
        unapproved_task_joined_by=(),
        peers=peers or (peer(), replace(peer(), id="b" * 20, name="agent 1")),
        server=ServerTimes(appeared_s=1.0, killed_s=2.0),
        rejected_messages={"replayed": 2, "malformed": 1},
        num_messages=99,
    )


def reached(found: Report) -> dict[str, bool]:
    return {goal.what: goal.reached for goal in goals_of(found)}


def unreached(found: Report) -> list[str]:
    return [what for what, is_reached in reached(found).items() if not is_reached]


def test_the_server_comes_at_one_third_and_goes_at_two_thirds() -> None:
    timeline = make_timeline(90.0, with_server=True)

    assert timeline.server_appears_s == pytest.approx(30.0)
    assert timeline.server_killed_s == pytest.approx(60.0)
    assert [timeline.phase(t_s) for t_s in (0.0, 29.9, 30.1, 59.9, 60.1)] == [
        "gossip only",
        "gossip only",
        "with a server",
        "with a server",
        "server killed, gossip only",
    ]


def test_without_a_server_it_is_gossip_all_along() -> None:
    timeline = make_timeline(90.0, with_server=False)

    assert {timeline.phase(t_s) for t_s in (0.0, 45.0, 90.0)} == {"gossip only"}


def test_one_number_is_the_mean_of_the_last_five_evaluations() -> None:
    assert mean_of_last(points(0.0, 0.5, 0.6, 0.7, 0.8, 0.9)) == pytest.approx(0.7)
    assert mean_of_last(points(0.2, 0.4)) == pytest.approx(0.3)
    assert mean_of_last(()) is None


def test_what_came_after_the_kill_does_not_count_for_before() -> None:
    series = points(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9, 0.9)

    assert mean_of_last(series, before_s=6.0) == pytest.approx((0.2 + 0.3 + 0.4 + 0.5 + 0.6) / 5)
    assert mean_of_last(series, before_s=0.0) is None


def test_a_mean_over_agents_is_not_made_up_where_one_is_missing() -> None:
    assert mean([0.5, 0.7]) == pytest.approx(0.6)
    assert mean([0.5, None]) is None
    assert mean([]) is None


def test_a_good_demo_reaches_all_goals() -> None:
    assert unreached(report()) == []
    assert len(reached(report())) == 4


@pytest.mark.parametrize(
    ("peers", "what"),
    [
        ([peer(before=0.899, final=0.899), peer()], "every agent ends at 90% or more on all ten digits"),
        ([peer(final=None), peer()], "every agent ends at 90% or more on all ten digits"),
        ([peer(alone=0.82), peer()], "every agent alone stays far below"),
        ([peer(alone=None), peer()], "every agent alone stays far below"),
        ([peer(before=0.97, final=0.95), peer(before=0.97, final=0.95)], "the loss of the server is not felt"),
        ([peer(before=0.99, final=0.95), *[peer(final=0.96)] * 5], "the loss of the server is not felt"),
        ([peer(before=None)], "the loss of the server is not felt"),
    ],
)
def test_what_was_not_shown_is_said(peers: list[PeerResult], what: str) -> None:
    assert what in unreached(report(*peers))


def test_exactly_one_point_lost_is_still_good() -> None:
    assert unreached(report(peer(before=0.96, final=0.95), peer(before=0.94, final=0.93))) == []


def test_a_member_of_the_unreviewed_task_is_a_failure() -> None:
    found = replace(report(), unapproved_task_joined_by=("a" * 20,))

    assert unreached(found) == ["nobody joined the task without reviews"]


def test_without_a_server_nothing_is_claimed_of_its_loss() -> None:
    found = replace(report(peer(before=None)), server=None)

    assert unreached(found) == []
    assert len(goals_of(found)) == 3


def test_the_report_is_json_with_the_fields_that_are_promised(tmp_path: Path) -> None:
    write_report(report(), tmp_path / "report.json")

    read = json.loads((tmp_path / "report.json").read_text())
    assert read["duration_s"] == 3.0
    assert read["server"] == {"appeared_s": 1.0, "killed_s": 2.0}
    assert read["unapproved_task_joined_by"] == []
    assert read["rejected_messages"] == {"malformed": 1, "replayed": 2}
    first = read["peers"][0]
    assert (first["id"], first["accuracy_alone"], first["accuracy_before_loss"], first["accuracy_final"]) == (
        "a" * 20,
        0.4,
        0.95,
        0.95,
    )
    assert first["series"] == {"t_s": [0.0, 1.0, 2.0, 3.0], "accuracy": [0.1, 0.6, 0.9, 0.95]}


@pytest.mark.parametrize(
    "server", [None, ServerTimes(appeared_s=1.0, killed_s=2.0), ServerTimes(appeared_s=None, killed_s=None)]
)
def test_the_plot_is_a_png_with_and_without_a_server(server: ServerTimes | None, tmp_path: Path) -> None:
    draw_accuracy(replace(report(), server=server), tmp_path / "accuracy.png")

    content = (tmp_path / "accuracy.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) > 10_000


def test_the_plot_of_a_demo_in_which_an_agent_was_never_heard_is_drawn_all_the_same(tmp_path: Path) -> None:
    draw_accuracy(report(peer(), replace(peer(), together=(), alone=())), tmp_path / "accuracy.png")

    assert (tmp_path / "accuracy.png").stat().st_size > 10_000


def test_the_page_tells_who_took_part_what_was_shown_and_when_the_server_was_there() -> None:
    eve = "<script>alert(1)</script>"
    found = replace(
        report(peer(), replace(peer(final=0.5), id="b" * 20, name=eve)),
        others=(Person(name="engineer", id="c" * 20, part="publishes the tasks"),),
        configuration='[agent]\nname = "agent 0"\n',
    )

    html = html_of(page_of(found, date="2026-11-30"))

    root = parsed(html)
    assert asks_for(root) == []
    checks = next(each for each in all_of(root, "ul") if each.get("class") == "checks")
    assert [[text_of(part) for part in each] for each in checks][::3] == [
        ["NO", "every agent ends at 90% or more on all ten digits"],
        ["yes", "nobody joined the task without reviews"],
    ]
    marks = next(each for each in all_of(root, "div") if each.get("class") == "marks")
    assert [text_of(each) for each in marks] == ["server appears", "server killed"]
    rows = rows_of(root)
    assert rows["engineer"] == ["publishes the tasks", "c" * 20]
    assert rows[eve][-1] == "b" * 20
    assert rows["malformed"] == ["1"]
    assert rows["mean"] == ["", "40.0%", "95.0%", "72.5%"]
    code = [text_of(each) for each in all_of(root, "code")]
    assert code == ["grapevine demo --peers 2 --seed 7 --seconds 3", '[agent] name = "agent 0"']
    assert html == html_of(page_of(found, date="2026-11-30"))


def test_the_page_of_a_demo_without_a_server_or_a_word_of_an_agent_is_written_all_the_same() -> None:
    silent = replace(peer(alone=None, before=None, final=None), together=(), alone=())

    root = parsed(html_of(page_of(replace(report(silent), server=None, rejected_messages={}), date="2026-11-30")))

    assert "The peers rejected none." in text_of(root)
    assert "server killed" not in text_of(root)
    rows = rows_of(root)
    assert rows["mean"] == ["", "?", "?"]
