"""From a command's words and a scenario's tables to machines, and to what is done to them."""

import json
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.config.firmware import load_profile
from grapevine_agent.config.governor import governor_limits
from grapevine_agent.core.settings import GovernorLimits
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.experiment import Prepared, begin, prepare
from grapevine_lab.simulator.scenario import Scenario, read_scenario, scenario_of
from grapevine_lab.testbed.acting import pairs_between
from grapevine_lab.testbed.command import register
from grapevine_lab.testbed.deeds import Deeds
from grapevine_lab.testbed.engine import Machine
from grapevine_lab.testbed.engines import make_engine
from grapevine_lab.testbed.furnish import furnish
from grapevine_lab.testbed.plan import changes_of, machines_of, scenario_content
from grapevine_lab.testbed.possible import check_possible
from grapevine_lab.testbed.processes import ProcessEngine
from grapevine_lab.testbed.room import check_memory
from grapevine_lab.testbed.store import Lab, append, find_lab, folder_for
from grapevine_lab.testbed.toml import as_toml
from grapevine_proto.errors import ConfigError, RequestError, StoreError


def classic(*changes: str) -> Scenario:
    return read_scenario(find_scenario("classic-testbed"), quick=True, changes=changes)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(classic())


@pytest.fixture
def lab(prepared: Prepared, tmp_path: Path) -> Lab:
    content, path = scenario_content("classic-testbed", quick=True, changes=[])
    made = Lab(
        folder=tmp_path,
        name="classic",
        engine="processes",
        seed=0,
        root="grapevine/lab-test",
        source=path.name,
        base=path.parent,
        content=content,
        machines=machines_of(prepared, tmp_path),
    )
    made.write()
    return made


# --- words of the command -------------------------------------------------------------------------


def test_brokers_stand_around_the_first_one_with_equal_parts_of_the_peers() -> None:
    content, path = scenario_content("", quick=False, changes=changes_of(peers=7, brokers=3, server=True))
    scenario = scenario_of(content, path.parent, path.name)
    assert [broker.name for broker in scenario.brokers] == ["broker-1", "broker-2", "broker-3"]
    assert [(bridge.owner, bridge.to) for bridge in scenario.bridges] == [(1, 0), (2, 0)]
    assert sorted(scenario.nodes.brokers.count((k,)) for k in range(3)) == [2, 2, 3]
    assert scenario.server.present == ((0.0, float("inf")),)


def test_profiles_say_how_many_peers_there_are_wherever_their_hyphens_are() -> None:
    content, path = scenario_content(
        "", quick=False, changes=changes_of(profiles="raspberry-pi-4b:2,raspberrypi-zero-2w:1")
    )
    scenario = scenario_of(content, path.parent, path.name)
    assert scenario.nodes.num == 3
    assert scenario.nodes.profiles == ("raspberry-pi-4b", "raspberry-pi-4b", "raspberry-pi-zero-2-w")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"profiles": "raspberry-pi-4:2"}, "did you mean 'raspberry-pi-4b'"),
        ({"profiles": "raspberry-pi-4b"}, "write a profile and how many have it"),
        ({"profiles": "generic:0"}, "write a profile and how many have it"),
        ({"profiles": "generic:3", "peers": 4}, "write as many"),
    ],
)
def test_wrong_words_are_told_with_a_remedy_as_faults_of_the_command_line(words: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        changes_of(**words)


def test_an_engine_that_is_none_is_a_fault_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--engine dockr: .*did you mean 'docker'"):
        make_engine("dockr", tmp_path, "lab")


# --- scenarios ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["testbed", "classic-testbed", "fidelity", "three-sites"])
def test_these_scenarios_can_be_done_by_real_machines(name: str) -> None:
    check_possible(read_scenario(find_scenario(name)))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ('scenario.mode="rounds"', "scenario.mode"),
        ('nodes.speeds="lognormal"', "nodes.speeds"),
        ("network.jitter_s=0.1", "network.jitter_s"),
        ("network.up_bps=1000", "network.up_bps and down_bps"),
        ('availability={kind="flaky"}', "availability.kind"),
        ('faults=[{kind="clock", ahead_s=10}]', "faults.kind"),
        ("network.cut=[{from_s=1, until_s=2, groups=[[0],[1,2,3]]}]", "network.cut.groups"),
        ("surroundings={idle_c=70}", "surroundings"),
        ('broker=[{name="north"},{name="a b"}]', "broker.name"),
    ],
)
def test_what_real_machines_cannot_do_is_named_with_what_to_write(change: str, key: str) -> None:
    changes = [change, "bridge=[]", "nodes.brokers={north=1}", "faults=[]"]
    changes = changes if "faults" not in change else [change]
    with pytest.raises(ConfigError, match=rf"{key} = .*; (write|leave|its|nodes)"):
        check_possible(classic(*sorted(changes, key=lambda each: each != change)))


def test_a_governor_is_what_the_scenario_says_or_none(lab: Lab, prepared: Prepared) -> None:
    check_possible(classic("governor={duty_cycle=0.5}"))
    furnish(lab, prepared, host_of=lambda _broker, _machine: ("127.0.0.1", 1883), listens_on="127.0.0.1")
    config = load_config(lab.machine("peer-3").folder / "agent.toml", {})
    profile = load_profile(config.agent.profile)
    assert profile.duty_cycle == 0.5
    assert governor_limits(config.governor, profile) == GovernorLimits()


def test_all_that_is_wrong_with_a_scenario_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        check_possible(classic("network.loss=0.1", "nodes.max_share=1.0", "network.wan=true"))
    assert str(raised.value).count("\n") == 2


# --- machines -------------------------------------------------------------------------------------


def test_machines_are_brokers_people_a_server_and_a_peer_for_each_node(lab: Lab) -> None:
    assert [(each.name, each.kind) for each in lab.machines] == [
        ("north", "broker"),
        ("south", "broker"),
        ("engineer", "engineer"),
        ("reviewer-0", "reviewer"),
        ("reviewer-1", "reviewer"),
        ("server", "server"),
        *((f"peer-{k}", "peer") for k in range(4)),
    ]
    assert lab.machine("south").brokers == ("north",)
    assert [peer.brokers for peer in lab.peers] == [("north",), ("north",), ("south",), ("south",)]
    assert len({broker.port for broker in lab.brokers}) == 2
    assert lab.peers[3].memory_mb == 512  # what a Zero 2 W has


def test_nodes_with_several_profiles_are_simulated_as_such(prepared: Prepared) -> None:
    devices = begin(prepared, 0).world.devices
    profiles = [device.settings.limits.profile for device in devices[:4]]
    assert profiles == ["raspberry-pi-4b"] * 2 + ["raspberry-pi-zero-2-w"] * 2
    assert devices[0].power != devices[3].power


def test_a_lab_reads_back_as_it_was_written(lab: Lab) -> None:
    assert Lab.read(lab.folder) == lab
    assert Lab.read(lab.folder).scenario == lab.scenario


def test_a_scenario_is_the_same_after_it_was_written_as_toml(lab: Lab) -> None:
    assert tomllib.loads(as_toml(lab.content)) == lab.content


def test_too_little_memory_is_told_with_how_many_peers_fit(lab: Lab) -> None:
    check_memory(lab.machines, 10_000.0)
    with pytest.raises(ConfigError, match=r"4 peers take about .* MB, .*: take --peers 2 or fewer"):
        check_memory(lab.machines, 1_300.0)


def test_a_taken_port_is_told_before_anything_starts(lab: Lab) -> None:
    engine = ProcessEngine(lab.folder, lab.name)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        broker = replace(lab.machine("north"), port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match=rf"port {broker.port}, which north .* is taken"):
            engine.check([broker])
    assert not (lab.folder / "processes.jsonl").exists()


def test_what_has_another_s_process_id_by_now_is_let_alone(lab: Lab) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        append(lab.folder / "processes.jsonl", {"name": "peer-0", "pid": bystander.pid, "started_s": 1.0})
        ProcessEngine(lab.folder, lab.name).remove()
        assert bystander.poll() is None
        assert not (lab.folder / "processes.jsonl").exists()
    finally:
        bystander.communicate(b"\n")


# --- partitions -----------------------------------------------------------------------------------


def lines_cut(machines: Sequence[Machine], a: str, b: str) -> set[tuple[str, str]]:
    return set(pairs_between(machines, a.split(","), b.split(",")))


def test_a_partition_of_two_brokers_cuts_their_bridge_and_who_is_at_both(lab: Lab) -> None:
    people = {(name, "south") for name in ("engineer", "reviewer-0", "reviewer-1", "server")}
    assert lines_cut(lab.machines, "north", "south") == {("south", "north"), *people}


def test_a_peer_goes_with_the_side_that_it_is_named_on(lab: Lab) -> None:
    assert ("server", "north") in lines_cut(lab.machines, "north", "south,server")
    assert lines_cut(lab.machines, "peer-1", "north") == {("peer-1", "north")}


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ("nort", "south", "did you mean 'north'"),
        ("peer-0", "peer-1", "partition peer-0 north"),
        ("peer-0", "peer-2", "partition north south"),
        ("north", "north", "name each once"),
    ],
)
def test_a_partition_that_cuts_nothing_says_what_would(lab: Lab, a: str, b: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        lines_cut(lab.machines, a, b)


# --- timelines ------------------------------------------------------------------------------------


def deeds_of(lab: Lab, *changes: str) -> list[tuple[float, str]]:
    path = find_scenario("classic-testbed")
    lab.content, _ = scenario_content(str(path), quick=True, changes=changes)
    return [(deed.at_s, deed.what) for deed in Deeds(lab, 1_000.0).all()]


def test_a_timeline_is_done_in_its_order(lab: Lab) -> None:
    assert deeds_of(lab) == [
        (8.0, "south is cut off"),
        (18.0, "heal: south is cut off"),
        (22.0, "kill peer-1"),
        (26.0, "kill server"),
        (30.0, "restart peer-1"),
    ]


def test_each_kind_of_fault_becomes_deeds(lab: Lab) -> None:
    faults = """faults=[
        {kind="offline", nodes=[0], at_s=1, for_s=2},
        {kind="broker", broker="south", at_s=5, for_s=1, empties=true},
        {kind="comes", nodes=[2], at_s=7}, {kind="leaves", nodes=[3], at_s=9}]"""
    assert deeds_of(lab, faults, "server.present=[]") == [
        (1.0, "peer-0 is offline"),
        (1.0, "drop peer-0"),
        (3.0, "heal: peer-0 is offline"),
        (5.0, "kill south"),
        (6.0, "restart south"),
        (7.0, "start peer-2"),
        (9.0, "peer-3 leaves"),
    ]


def test_a_server_comes_and_goes_with_its_spans(lab: Lab) -> None:
    told = deeds_of(lab, "faults=[]", "server.present=[[5, 10], [20, inf]]")
    assert told == [(5.0, "start server"), (10.0, "kill server"), (20.0, "restart server")]


# --- labs on disk ---------------------------------------------------------------------------------


def test_labs_are_found_by_name_by_folder_or_by_being_alone(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(RequestError, match="make one with grapevine lab up"):
        find_lab("")
    place = folder_for("classic", None)
    place.mkdir(parents=True)
    lab.folder = place
    lab.write()
    assert find_lab("").folder == find_lab("classic").folder == find_lab(str(place)).folder == place
    with pytest.raises(RequestError, match="did you mean 'classic'"):
        find_lab("clasic")
    with pytest.raises(RequestError, match="lab down --name classic"):
        folder_for("classic", None)
    with pytest.raises(ConfigError, match="small letters"):
        folder_for("My lab", None)
    (place / "lab.json").write_text("{")
    with pytest.raises(StoreError, match="remove the folder"):
        find_lab("classic")


def test_a_lab_in_a_folder_of_its_own_is_found_by_name_until_it_is_removed(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    place = tmp_path / "elsewhere"
    for _again in range(2):
        lab.folder = folder_for("classic", place)
        lab.lay()
        assert find_lab("classic").folder == find_lab("").folder == place
        with pytest.raises(RequestError, match="another --name"):
            folder_for("classic", tmp_path / "third")
        shutil.rmtree(place)  # by hand
        with pytest.raises(RequestError, match="there is no lab"):
            find_lab("classic")
    lab.lay()
    lab.remove()
    assert not place.exists()
    assert list((tmp_path / "state" / "grapevine" / "labs").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_with_the_remedy(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="is no folder"):
        folder_for("classic", tmp_path / "file")
    lab.folder = folder_for("classic", tmp_path / "file" / "below")
    with pytest.raises(ConfigError, match="another place with --folder"):
        lab.lay()


def test_a_damaged_lab_does_not_hide_the_others(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    lab.folder = folder_for("classic", None)
    lab.lay()
    damaged = lab.folder.parent / "damaged"
    damaged.mkdir()
    (damaged / "lab.json").write_text("{")
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, ["lab", "list", "--json"])
    assert [each["name"] for each in json.loads(done.stdout)] == ["classic"]
    assert "remove the folder" in done.stderr
