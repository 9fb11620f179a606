"""Every kind of event: its line, its JSON, and its row in the documentation."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
from pathlib import Path

import pytest

from grapevine_agent.core import events as ev
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Figure

PAGE = Path(__file__).parents[4] / "docs" / "events.md"
TASK = {"task": "9f2c", "label": "digits"}

# One of each kind, and the line that it is in the log.
SAMPLES: list[tuple[ev.Event, str]] = [
    (
        ev.Judged(**TASK, standing="waiting", why="0 of 2 approvals", publisher="eve"),
        "digits: waiting: 0 of 2 approvals",
    ),
    (
        ev.Reviewed(**TASK, reviewer="ada", approved=True, withdrawn=False, reason="", counts=True),
        "digits: ada approves",
    ),
    (
        ev.Reviewed(**TASK, reviewer="ada", approved=False, withdrawn=False, reason="too slow", counts=False),
        "digits: ada rejects, which counts for nothing here: too slow",
    ),
    (ev.Joining(**TASK, why="approved"), "digits: joining (approved)"),
    (ev.Joined(**TASK, role="server", begins_with="saved", age=0), "digits: serving"),
    (
        ev.Joined(**TASK, role="member", begins_with="ada", age=40),
        "digits: beginning with the model of ada, 40 steps old",
    ),
    (ev.WaitsInVain(**TASK), f"digits: {ev.WAITS_IN_VAIN}"),
    (ev.Stopped(**TASK, why="left"), "digits: stopped: left"),
    (
        ev.Failed(**TASK, what="training", error="no memory", num=2, is_set_back=False),
        "digits: training failed: no memory",
    ),
    (
        ev.Failed(**TASK, what="training", error="no memory", num=3, is_set_back=True),
        "digits: training failed 3 times in a row: no memory",
    ),
    (
        ev.Enough(**TASK, is_enough=True, patience=5),
        "digits: most members have not improved for 5 rounds: it merges, and trains no more",
    ),
    (ev.RecordDamaged(**TASK), "digits: its record was damaged on disk, and is dropped"),
    (
        ev.Trained(
            **TASK, round=3, version=2, age=20, num_steps=10, num_samples=320, loss=0.5, seconds=1.5, joules=None
        ),
        "digits: round 3, 10 steps in 1.50 s, loss 0.500",
    ),
    (
        ev.Measured(
            **TASK,
            round=3,
            age=20,
            metric_name="accuracy",
            metric=0.9,
            loss=0.25,
            num_evaluated=100,
            baseline=0.1,
            baseline_name="the most frequent class",
            best=Figure(metric=0.9, age=20, version=2, num_evaluated=100),
            staleness=1.5,
            staleness_bound=math.inf,
            server="none",
            num_peers=2,
            energy_j=None,
            round_energy_j=None,
        ),
        "digits: round 3, accuracy 0.900, loss 0.250, 2 peers, server none",
    ),
    (
        ev.Merged(**TASK, round=3, shares={"us": 0.5, "ada": 0.5}, num_models=1, by="arrival"),
        "digits: round 3, merged 1 model, on arrival",
    ),
    (
        ev.Sent(**TASK, receiver="ada", what="update", num_bytes=19_432),
        "digits: update to ada, about 19,432 bytes",
    ),
    (
        ev.Received(**TASK, sender="ada", what="update", num_bytes=19_432, version=2, age=20),
        "digits: update of ada, version 2, age 20, about 19,432 bytes",
    ),
    (
        ev.ServerChanged(**TASK, server="sam", state="lost", before="suspect"),
        "digits: server sam is lost (was suspect); gossip goes on among the members",
    ),
    (
        ev.Served(**TASK, model_version=7, num_members=3, age=90, num_clusters=2),
        "digits: model 7 from 3 members, age 90, 2 clusters",
    ),
    (
        ev.RolledBack(**TASK, round=50, to_round=31, age=310, lost_age=500, metric_name="accuracy", metric=0.95),
        "digits: round 50, the model has become much worse; back to the best one, of round 31"
        " (accuracy 0.950, age 310 instead of 500)",
    ),
    (
        ev.Quarantined(**TASK, sender="eve", rounds=20, why="an update of eve is far away"),
        "digits: updates of eve are not listened to for 20 rounds: an update of eve is far away",
    ),
    (ev.rejection(WireError("forged", "by eve"), "eve"), "dropped: forged: by eve"),
    (ev.Rejected(sender="eve", reason="forged", detail="", num=4), "dropped: forged (and 3 more)"),
    (ev.PeerChanged(other="ada", name="kitchen", state="silent"), "kitchen (ada) is silent"),
    (
        ev.BrokerChanged(broker=0, url="mqtt://hub", is_connected=True, why="MQTT 5"),
        "connected to mqtt://hub, MQTT 5",
    ),
    (
        ev.BrokerChanged(broker=0, url="mqtt://hub", is_connected=False, why="timeout"),
        "lost mqtt://hub: timeout; learning goes on, and so do attempts to connect",
    ),
    (
        ev.Paused(task="", limit="pause_above_c", does="pause", why="it is hot", until_ms=0),
        "training is paused: it is hot [pause_above_c]",
    ),
    (
        ev.Resumed(task="", limit="pause_above_c", does="pause", why="it is cool", still="pause"),
        "training is still paused (pause): it is cool",
    ),
    (
        ev.Unmeasured(limit="on_battery", why="no power supply"),
        "[governor] nothing can be held against on_battery: no power supply",
    ),
    (ev.ClockSet(step_s=3_600.0), "the clock was set forward by 3,600 s"),
    (
        ev.ClockSet(step_s=-90.7),
        "the clock was set back by 90 s: what seemed to have run out is asked for again",
    ),
    (ev.FellAsleep(for_s=900.0), "asleep for 900 s: the connection ends, and learning goes on"),
    (ev.WokeUp(), "awake: connecting again"),
    (ev.Placed(component="a/b"), "application component a/b is placed here"),
    (ev.Displaced(component="a/b"), "application component a/b is here no more"),
    (ev.Missed(num=1_200), "1,200 events missed"),
]


@pytest.mark.parametrize(("event", "line"), SAMPLES, ids=[each.kind for each, _ in SAMPLES])
def test_an_event_is_a_line_for_people_and_an_object_for_programs(event: ev.Event, line: str) -> None:
    assert event.text == line
    told = ev.to_json(event, number=17, at_ms=5_000, peer="us")
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    fields = [each.name for each in dataclasses.fields(event)]
    assert list(told) == ["event", "number", "at_ms", "peer", "level", "text", *fields]
    assert (told["event"], told["number"], told["at_ms"], told["peer"]) == (event.kind, 17, 5_000, "us")
    assert pickle.loads(pickle.dumps(event)) == event


def test_there_is_a_sample_of_each_kind() -> None:
    assert {each.kind for each, _ in SAMPLES} == set(ev.KINDS)
    assert all(ev.KINDS[each.kind] is type(each) for each, _ in SAMPLES)


def test_what_is_no_number_is_null_and_a_record_an_object() -> None:
    told = ev.to_json(next(each for each, _ in SAMPLES if each.kind == "measured"), number=1, at_ms=0, peer="us")
    assert told["staleness_bound"] is None
    assert told["best"]["metric"] == 0.9


def test_a_strangers_words_are_made_printable_in_the_line() -> None:
    event = ev.Stopped(task="t", label="evil\x1b[2J\u202e", why="left")
    assert event.text == "evil\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}: stopped: left"


def test_the_page_has_a_row_for_each_kind_with_its_level_and_its_fields() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([a-z ]+) \| .+ \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert {kind: re.findall(r"`(\w+)`", fields) for kind, _, fields in rows} == {
        kind: [each.name for each in dataclasses.fields(event)] for kind, event in ev.KINDS.items()
    }
    levels = {each.kind: {other.level for other, _ in SAMPLES if other.kind == each.kind} for each, _ in SAMPLES}
    for kind, level, _ in rows:
        assert levels[kind] == ({"info", "warning"} if level == "by what happened" else {level})
