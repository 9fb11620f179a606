"""Long runs: what goes wrong does go wrong, what must hold is held against the truth, and a month of the year holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.swarm.simulations import prepared_of, written
from tests.swarm.test_simulated_runs import simulate

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.rest import Rest
from grapevine_agent.core.learning.told import Told
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.experiment import begin, prepare
from grapevine_lab.simulator.life_report import LifeReport
from grapevine_lab.simulator.run import run_seed
from grapevine_lab.simulator.scenario import read_scenario
from grapevine_lab.simulator.world import World
from grapevine_proto.topics import PeerTopic

HOUR_S, DAY_S = 3600.0, 86_400.0
TEN_YEARS_S = 3650 * DAY_S

HOUSE = """
[scenario]
duration_s = 86_400

[task]
name = "digits"

[task.training]
round_interval_s = 600.0

[data]
name = "digits"

[nodes]
num = 6
trainer = "none"
step_s = 0.001
heartbeat_s = 300
save_every_s = 600
look_every_s = 600

[topology]
kind = "open"

[measure]
every_rounds = 10

[review]
reviewers = [1, 2]

[life]
look_every_s = 600
settled_s = 7_200
known_within_s = 1_800
joins_within_s = 1_200

[[words]]
kind = "publish"
node = 0
task = "first"
[[words]]
kind = "approve"
node = 1
task = "first"
at_s = 60
[[words]]
kind = "approve"
node = 2
task = "first"
at_s = 60
"""


def house(folder: Path, *faults: str, changes: tuple[str, ...] = ()) -> World:
    text = HOUSE + "".join(f"\n[[faults]]\n{fault}\n" for fault in faults)
    return begin(prepared_of(folder, text, *changes), 0).world


def learning(world: World) -> list[bool]:
    return [bool(device.core and device.core.tasks.learning) for device in world.devices]


def told(world: World) -> dict[str, bool | None]:
    assert world.ledger is not None
    return {each.name: each.holds for each in LifeReport.of(world.ledger).invariants}


def test_a_task_that_an_owner_publishes_names_the_scenarios_server(tmp_path: Path) -> None:
    world = house(tmp_path, changes=("server.present=[[0, inf]]",))
    world.run(HOUR_S)
    publisher = world.devices[0].core
    assert publisher is not None
    (entry,) = publisher.book.entries.values()
    assert [server == world.devices[-1].peer for server in entry.manifest.servers] == [True]


def test_devices_find_each_other_and_what_owners_say_is_heard_by_all(tmp_path: Path) -> None:
    world = house(tmp_path)
    world.run(2 * HOUR_S)
    assert learning(world) == [True] * 6
    for device in world.devices:
        assert device.core is not None
        assert device.settings.neighbours is None
        (learner,) = device.core.tasks.learning.values()
        assert len(learner.targets(world.now(device))) == 5


def test_a_retracted_task_is_trained_by_nobody_and_a_revision_takes_a_tasks_place(tmp_path: Path) -> None:
    words = """
[[words]]
kind = "publish"
node = 0
task = "again"
continues = "first"
at_s = 7_200
[[words]]
kind = "approve"
node = 1
task = "again"
at_s = 7_300
[[words]]
kind = "approve"
node = 2
task = "again"
at_s = 7_300
[[words]]
kind = "retract"
node = 0
task = "again"
at_s = 14_400
"""
    world = begin(prepared_of(tmp_path, HOUSE + words), 0).world
    world.run(3 * HOUR_S)
    assert [name for name, task in world.course.tasks.items() if world.devices[3].learner(task)] == ["again"]
    world.run(5 * HOUR_S)
    assert world.ledger is not None
    assert world.ledger.unapproved == 0
    assert world.devices[3].learner(world.course.tasks["again"]) is None


def test_somebody_who_goes_on_with_a_retracted_task_is_found_out(tmp_path: Path) -> None:
    words = "\n[[words]]\nkind = 'retract'\nnode = 0\ntask = 'first'\nat_s = 14_400\n"
    world = begin(prepared_of(tmp_path, HOUSE + words), 0).world
    world.run(4 * HOUR_S - 1)
    device, ledger = world.devices[3], world.ledger
    learner = device.learner(world.course.tasks["first"])
    assert ledger is not None
    assert learner is not None
    step = fx.Train(task=learner.task, parameters=learner.model.parameters, buffers=learner.model.buffers, num_steps=1)
    world.do(device, [step])
    world.run(4 * HOUR_S + 30)
    world.do(device, [step])  # as if its core had not taken the tombstone: it might still be on its way
    assert ledger.unapproved == 0
    world.run(4 * HOUR_S + 90)
    world.do(device, [step])
    assert ledger.unapproved == 1
    assert told(world)["rounds of tasks that are not approved"] is False


def test_a_device_that_falls_silent_has_no_will_and_one_that_is_switched_off_has(tmp_path: Path) -> None:
    world = house(
        tmp_path,
        "kind = 'off'\nnodes = [4]\nat_s = 7_200\nfor_s = 7_200",
        "kind = 'off'\nnodes = [5]\nat_s = 7_200\nfor_s = 7_200\nsilent = true",
    )
    world.run(2 * HOUR_S + 60)  # who was heard just now is asked before its will is believed
    peers = {device.index: device.peer for device in world.devices}
    core = world.devices[3].core
    assert core is not None
    assert [core.members.peers[peers[node]].online for node in (4, 5)] == [False, True]
    assert learning(world)[4:] == [False, False]
    world.run(5 * HOUR_S)
    assert learning(world) == [True] * 6
    assert world.ledger is not None
    ghosts = sum(day.ghosts for day in world.ledger.days.values())
    assert 0 < ghosts < 0.05 * sum(day.sends for day in world.ledger.days.values())


def test_a_device_starts_again_from_what_its_store_kept(tmp_path: Path) -> None:
    world = house(tmp_path, "kind = 'off'\nnodes = [1, 3]\nat_s = 36_000\nfor_s = 60")
    world.run(10 * HOUR_S - 1)
    reviewer, member = world.devices[1], world.devices[3]
    learner = member.learner(world.course.tasks["first"])
    assert learner is not None
    version, session = learner.model.version, member.sealer.session
    world.run(10 * HOUR_S + 30)
    assert [each.core for each in (reviewer, member)] == [None, None]
    world.run(10 * HOUR_S + 120)
    again = member.learner(learner.task)
    assert again is not None
    assert again is not learner
    assert again.model.version >= version - 1  # models are saved every ten minutes, as long as a round
    assert member.sealer.session > session
    assert reviewer.outbox._records  # its verdict is said again at every connection


def test_records_that_ran_out_are_no_news_after_a_restart(tmp_path: Path) -> None:
    far = ("review.renew=false", "review.valid_days=0.1", "nodes.num=4")
    world = house(tmp_path, "kind = 'off'\nnodes = [3]\nat_s = 36_000\nfor_s = 60", changes=far)
    world.run(11 * HOUR_S)
    device = world.devices[3]
    assert device.core is not None
    assert len(device.disk.sequences) == 2  # two reviews
    assert set(device.disk.sequences) <= set(device.core.records._sequences)


def test_a_broker_that_restarts_empty_is_given_everything_back(tmp_path: Path) -> None:
    world = house(tmp_path, "kind = 'broker'\nat_s = 7_200\nfor_s = 60\nempties = true")
    world.run(2 * HOUR_S + 1)
    assert not any(device.online for device in world.devices)
    assert len(world.post.broker._retained) == 0
    world.run(2 * HOUR_S + 300)
    assert all(device.online for device in world.devices)
    leaves = sorted(message.topic.rsplit("/", 1)[-1] for message in world.post.broker._retained.matching("#"))
    assert leaves == ["announcement"] * 6 + ["manifest", "review", "review"] + ["state"] * 6
    world.run(4 * HOUR_S)
    assert told(world)["members of an approved task know each other within"] is True


def test_a_broker_that_restarts_keeps_what_it_retained_and_sends_no_wills(tmp_path: Path) -> None:
    world = house(tmp_path, "kind = 'broker'\nat_s = 7_200\nfor_s = 600")
    world.run(2 * HOUR_S + 1)
    said = {message.topic: message.payload for message in world.post.broker._retained.matching("#")}
    assert len(said) == 15
    topic = PeerTopic(world.devices[4].peer, "state").below_root()
    assert world.devices[4].core is not None
    before = said[topic]
    world.run(2 * HOUR_S + 599)
    assert world.post.broker._retained.get(topic).payload == before  # type: ignore[union-attr]


@pytest.mark.parametrize("silent", ["true", "false"])
def test_who_leaves_for_good_does_not_come_back_and_says_goodbye_unless_silent(tmp_path: Path, silent: str) -> None:
    world = house(
        tmp_path,
        f"kind = 'leaves'\nnodes = [5]\nat_s = 7_200\nsilent = {silent}",
        "kind = 'off'\nnodes = [5]\nat_s = 7_000\nevery_s = 600\nfor_s = 10",
    )
    world.run(2 * HOUR_S + 30)
    core, gone = world.devices[3].core, world.devices[5]
    assert core is not None
    assert core.members.peers[gone.peer].online is (silent == "true")
    world.run(8 * HOUR_S)
    assert not gone.running


def test_a_new_device_joins_what_was_approved_before_it_came(tmp_path: Path) -> None:
    world = house(tmp_path, "kind = 'comes'\nnodes = [5]\nat_s = 14_400")
    world.run(4 * HOUR_S - 1)
    assert not world.devices[5].running
    world.run(4 * HOUR_S + 900)
    assert learning(world) == [True] * 6


def test_a_clock_ahead_ends_what_it_says_has_run_out_and_a_right_one_lasts(tmp_path: Path) -> None:
    world = house(
        tmp_path,
        f"kind = 'clock'\nnodes = [4]\nat_s = 7_200\nahead_s = {TEN_YEARS_S}\nfor_s = 600",
        f"kind = 'clock'\nnodes = [5]\nat_s = 7_200\nahead_s = -{TEN_YEARS_S}\nfor_s = 600",
        "kind = 'drift'\nnodes = [3]\nat_s = 7_200\nppm = 1000",
    )
    world.run(2 * HOUR_S + 60)
    assert learning(world) == [True, True, True, True, False, False]
    world.run(3 * HOUR_S)
    assert learning(world)[5]  # whoever was in the past has lost nothing
    assert world.devices[3].wall.wrong_by_s(3 * HOUR_S) == pytest.approx(3.6)
    assert world.devices[4].wall.wrong_by_s(3 * HOUR_S) == 0.0


def test_a_board_without_a_battery_wakes_in_the_past_and_is_told_the_time(tmp_path: Path) -> None:
    fault = "kind = 'off'\nnodes = [4]\nat_s = 7_200\nfor_s = 60\nwakes_ahead_s = -1_700_000_000\nwrong_for_s = 300"
    world = house(tmp_path, fault)
    world.run(2 * HOUR_S + 120)
    device = world.devices[4]
    assert device.running
    assert world.now(device).wall_ms < 100_000_000_000  # in 1971
    assert not learning(world)[4]
    world.run(2 * HOUR_S + 400)
    assert learning(world)[4]


def test_a_long_run_repeats_and_goes_on_after_a_break_to_the_same_figures(tmp_path: Path) -> None:
    faults = (
        "kind = 'off'\nevery_s = 20_000\nfor_s = [30, 900]",
        "kind = 'broker'\nat_s = 30_000\nfor_s = 60\nempties = true",
    )
    text = HOUSE + "".join(f"\n[[faults]]\n{fault}\n" for fault in faults)
    prepared = prepared_of(tmp_path, text, "scenario.duration_s=43_200")
    whole = run_seed(prepared, 7)
    looks: Iterator[bool] = iter([False] * 3 + [True] + [False] * 10**6)
    from grapevine_lab.simulator import run as module

    kept, before = tmp_path / "kept", module.LOOK_EVERY_S
    module.LOOK_EVERY_S = 0.0
    try:
        with pytest.raises(KeyboardInterrupt):
            run_seed(prepared, 7, keep=kept, stopping=lambda: next(looks))
    finally:
        module.LOOK_EVERY_S = before
    again = run_seed(prepared, 7, keep=kept, resume=True)
    assert again.num_events == whole.num_events
    assert again.life == whole.life
    assert whole.life is not None
    assert len(whole.life.days) == 1


def test_the_ledger_counts_a_save_of_what_the_disk_holds_already(tmp_path: Path) -> None:
    world = house(tmp_path)
    world.run(3 * HOUR_S)
    device, ledger = world.devices[3], world.ledger
    assert ledger is not None
    assert device.core is not None
    (learner,) = device.core.tasks.learning.values()
    save = learner.save()
    assert isinstance(save, fx.SaveModel)
    world.do(device, [save])
    before = ledger.day(world.clock.now_s).same_saves
    world.do(device, [save])
    assert ledger.day(world.clock.now_s).same_saves == before + 1


def test_the_command_shows_the_invariants_and_fails_with_what_does_not_hold(tmp_path: Path) -> None:
    path = written(tmp_path, HOUSE.replace("86_400", "28_800").replace("settled_s = 7_200", "settled_s = 600"))
    done = simulate(path, tmp_path / "out", "--set", "life.max_written_mb=0", "--set", "life.max_same_saves=1")
    assert done.returncode == 1
    assert "did not hold: seed 0: written, a day and device" in done.stderr
    assert "| size: records" in done.stdout
    assert "size: records" in (tmp_path / "out" / "summary.html").read_text()
    done = simulate(
        path, tmp_path / "out", "--json", "--set", "life.max_same_saves=1", "--set", "life.max_disbelieved=1"
    )
    assert done.returncode == 0, done.stdout
    assert all(each["holds"] is not False for each in json.loads(done.stdout)["invariants"]["0"])
    assert (tmp_path / "out" / "plots" / "life-0.svg").exists()
    assert (tmp_path / "out" / "seed-0" / "life-sizes.csv").read_text().startswith("day,name,most,allowed,mean\n")


def test_who_stays_is_believed_when_most_have_left(tmp_path: Path) -> None:
    changes = ("nodes.num=9", "life.settled_s=0")
    world = house(tmp_path, "kind = 'leaves'\nnodes = [3, 4, 5, 6, 7, 8]\nat_s = 3_600", changes=changes)
    world.run(16 * HOUR_S)
    assert learning(world) == [True] * 3 + [False] * 6
    assert world.ledger is not None
    assert sum(day.taken for day in world.ledger.days.values()) > 200
    assert told(world)["claims of honest members not believed"] is True


def test_a_finished_task_is_sent_at_the_pace_of_heartbeats_and_no_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "updates of finished tasks, a heartbeat and device"
    text = HOUSE.replace('task = "first"\n[[words]]', 'task = "first"\nnum_rounds = 5\n[[words]]', 1)
    changes = ("nodes.heartbeat_s=3600", "nodes.num=8", "life.settled_s=0")

    def run() -> World:
        world = begin(prepared_of(tmp_path, text, *changes), 0).world
        world.run(60 * HOUR_S)
        return world

    assert told(run())[name] is True
    monkeypatch.setattr(Rest, "is_resting", False)
    monkeypatch.setattr(Told, "lacking", lambda _self, _model, peers, _now_s: [peer for peer, _ in peers])
    assert told(run())[name] is False  # neither rule holds: it comes to rest, and nothing is sent twice


# --- a month of the year --------------------------------------------------------------------------


NAMES = [
    "members of an approved task know each other within",
    "and who the others say they are within",
    "approved tasks are joined within",
    "rounds of tasks that are not approved",
    "updates sent to devices that are not there",
    "and nobody sends to one that has been gone for",
    "claims of honest members not believed",
    "saves of models that had not changed",
    "written, a day and device",
    "size: records",
    "size: sequences",
    "size: members",
    "size: replays",
    "size: tasks",
    "size: claims",
    "size: versions",
    "size: outbox",
    "size: stored",
]


@pytest.mark.timeout(600)  # of which a free core takes half a minute
def test_a_month_of_the_year_holds() -> None:
    outcome = run_seed(prepare(read_scenario(find_scenario("a-year"), quick=True)), 0)
    assert outcome.num_delivered > 50_000
    assert outcome.life is not None
    found = {name: [each for each in outcome.life.invariants if each.name == name] for name in NAMES}
    assert [name for name, those in found.items() if len(those) != 1] == []
    assert [each for (each,) in found.values() if not each.holds] == []
