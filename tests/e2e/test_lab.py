"""`grapevine lab` with real brokers and agents as processes of this host, through what happens to testbeds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from tests.e2e.dashboards import dashboard
from tests.e2e.household import wait_for
from typer.testing import CliRunner

from grapevine_agent.control.client import call
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.simulator.tables import read_tables
from grapevine_lab.testbed import acting
from grapevine_lab.testbed.command import register
from grapevine_lab.testbed.ending import take_down
from grapevine_lab.testbed.making import Wanted, bring_up
from grapevine_lab.testbed.store import Lab, entries, find_lab
from grapevine_lab.testbed.telling import status_of, table_of
from grapevine_proto.errors import GrapevineError

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.mosquitto,
    pytest.mark.skipif(bool(why_no_mosquitto()), reason=why_no_mosquitto() or "there is one"),
]

APP = typer.Typer()
register(APP)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Whatever runs for a lab: its folder is in their command lines, or in those of who started them."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            if each.status() != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in each.cmdline()):
                found += [each, *each.children(recursive=True)]
    return found


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three peers at two bridged brokers, learning."""
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        changes = ("nodes.heartbeat_s=0.5", "network.latency_s=0.0")
        told = bring_up(Wanted(scenario="", name="small", peers=3, brokers=2, changes=changes), lambda _text: None)
        assert told["first_merge_s"] is not None
        made = find_lab("small")
        yield made
        if made.folder.exists():
            take_down(made)


def rows(lab: Lab) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in status_of(lab)["machines"]}


def command(*words: str) -> Any:
    done = CliRunner().invoke(APP, ["lab", *words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def metrics_of(lab: Lab, name: str) -> int:
    round_: int | None = rows(lab)[name]["round"]
    return round_ or 0


def alive_at(lab: Lab, name: str) -> int:
    with suppress(GrapevineError):
        peers = call(lab.socket(lab.machine(name)), "status")["peers"]
        return int(peers["alive"])
    return -1


def test_a_lab_learns_over_two_bridged_brokers_and_says_how_it_is(lab: Lab) -> None:
    told = command("status", "--name", "small")
    states = {row["name"]: row["state"] for row in told["machines"]}
    assert states == dict.fromkeys(
        ("broker-1", "broker-2", "engineer", "reviewer-0", "reviewer-1", "peer-0", "peer-1", "peer-2"), "running"
    )
    assert {row["brokers"][0] for row in told["machines"] if row["kind"] == "peer"} == {"broker-1", "broker-2"}
    wait_for(lambda: all(metrics_of(lab, f"peer-{k}") > 1 for k in range(3)), why="everybody has rounds behind it")
    (listed,) = command("list")
    assert listed["name"] == "small"
    assert listed["state"] == "up"


def test_a_killed_peer_is_missed_and_comes_back_with_its_model(lab: Lab) -> None:
    before = metrics_of(lab, "peer-2")
    assert [command("kill", "peer-2")["state"] for _twice in range(2)] == ["killed", "killed"]
    assert rows(lab)["peer-2"]["state"] == "killed"
    wait_for(lambda: alive_at(lab, "peer-0") == 4, why="the others miss it")
    assert command("restart", "peer-2")["state"] == "running"
    wait_for(lambda: metrics_of(lab, "peer-2") > before, why="it goes on learning")


def test_a_paused_machine_stands_still_and_goes_on(lab: Lab) -> None:
    assert command("pause", "peer-1")["state"] == "paused"
    paused = [each for each in processes_of(lab.machine("peer-1").folder) if each.status() == psutil.STATUS_STOPPED]
    assert len(paused) >= 2  # the agent and its trainer
    assert command("resume", "peer-1")["state"] == "running"
    before = metrics_of(lab, "peer-1")
    wait_for(lambda: metrics_of(lab, "peer-1") > before, why="it goes on learning")


def test_a_partition_shows_and_heals(lab: Lab) -> None:
    wait_for(lambda: alive_at(lab, "peer-2") == 5, why="all hear each other")
    cut = command("partition", "broker-1", "broker-2")["cut"]
    assert ["broker-2", "broker-1"] in cut
    alone = next(peer for peer in lab.peers if peer.brokers == ("broker-2",)).name
    wait_for(lambda: alive_at(lab, alone) < 5 - 2, why="the other side is silent")
    assert rows(lab)["broker-2"]["cut_from"] == ["broker-1"]
    assert len(command("heal")["healed"]) == len(cut)
    wait_for(lambda: alive_at(lab, alone) == 5, why="all hear each other again")


def test_a_broker_that_is_killed_comes_back_with_its_peers(lab: Lab) -> None:
    away = next(peer for peer in lab.peers if peer.brokers == ("broker-2",)).name
    command("kill", "broker-2")
    wait_for(lambda: rows(lab)[away]["connected"] is False, why="its peer notices")
    command("restart", "broker-2")
    wait_for(lambda: rows(lab)[away]["connected"], why="its peer is back")


def test_what_is_done_on_the_dashboards_page_is_done_in_the_lab(lab: Lab) -> None:
    peer = lab.peer_ids["peer-1"]
    with dashboard("--lab", "small") as shown:
        wait_for(lambda: shown.state_of("peer-1") == "alive", why="the lab appears")
        shown.act("kill", peer=peer)
        assert rows(lab)["peer-1"]["state"] == "killed"
        wait_for(lambda: shown.state_of("peer-1") == "killed", within_s=3, why="the kill is shown")
        shown.act("restart", peer=peer)
        wait_for(lambda: shown.state_of("peer-1") == "alive", why="it is back")
        told = shown.act("partition", sides=[["broker-1"], ["broker-2"]])
        assert told["text"].endswith("lines are cut")
        assert rows(lab)["broker-2"]["cut_from"] == ["broker-1"]
        shown.act("heal")
        assert rows(lab)["broker-2"]["cut_from"] == []
        brokers = {each["name"] for each in shown.get("api/state")["brokers"]}
        assert brokers == {"broker-1", "broker-2"}


def test_lines_are_shaped_and_logs_and_mistakes_are_told(lab: Lab) -> None:
    assert command("delay", "peer-0", "20")["delay_ms"] == 20
    assert command("limit", "peer-0", "5000") == {"machine": "peer-0", "delay_ms": 20, "kbit_per_s": 5000}
    assert rows(lab)["peer-0"]["kbit_per_s"] == 5000
    remarks = {row[0]: row[-1] for row in table_of(status_of(lab)).rows}
    assert remarks["peer-0"] == "20 ms; 5000 kbit/s"
    assert remarks["peer-1"] == ""
    assert "connected to" in command("logs", "peer-0", "--tail", "0")["log"]
    with pytest.raises(GrapevineError, match="did you mean 'peer-0'"):
        acting.on_machine(lab, "kill", "pear-0")


def test_a_report_has_tables_a_page_and_what_the_agents_told(lab: Lab, tmp_path: Path) -> None:
    told = command("report", "--no-simulated", "--out", str(tmp_path / "out"))
    measured = read_tables(tmp_path / "out")
    assert set(measured.readings.column("node")) == {0, 1, 2}
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "kill peer-2" in page
    assert "peer-0: 20 ms, 5000 kbit/s" in page
    assert "partition broker-1 broker-2" in page
    events = entries(tmp_path / "out" / "events.jsonl")
    assert {event["peer"] for event in events} == set(lab.peer_ids.values())


def test_down_leaves_nothing(lab: Lab) -> None:
    running = processes_of(lab.folder)
    assert len(running) >= 12  # the keeper, the recorder, two brokers, six agents, their trainers
    command("pause", "peer-0")
    command("down")
    assert are_gone(running)
    assert not lab.folder.exists()


def begun(state: Path, until: Callable[[Path], bool]) -> tuple[subprocess.Popen[bytes], Path]:
    """`grapevine lab up` as a process, once its folder is as it should be."""
    folder = state / "grapevine" / "labs" / "crash"
    words = [sys.executable, "-m", "grapevine_agent", "lab", "up", "--peers", "2", "--name", "crash"]
    process = subprocess.Popen(words, env={**os.environ, "XDG_STATE_HOME": str(state)}, stderr=subprocess.DEVNULL)
    wait_for(lambda: until(folder) or process.poll() is not None, why="the lab begins")
    assert process.poll() is None
    return process, folder


def agents_run(folder: Path) -> bool:
    return any("agent.toml" in " ".join(each.cmdline()) for each in processes_of(folder) if each.is_running())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_lab_whose_command_ends_before_it_is_up_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process, folder = begun(tmp_path, agents_run)
    running = processes_of(folder)
    process.send_signal(number)
    assert process.wait(60) == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number)
    wait_for(lambda: are_gone(running) and not folder.exists(), why="everything is removed")


RUN = """
[scenario]
name = "Two at two brokers"
rounds = 16

[task]
name = "digits"

[data]
name = "digits"

[partition]
kind = "classes"
classes_per_node = 6

[[broker]]
name = "north"

[[broker]]
name = "south"

[[bridge]]
owner = "south"
to = "north"

[nodes]
num = 2
brokers = { north = 1, south = 1 }
max_share = 0.5
max_pending = 64
heartbeat_s = 0.5

[measure]
models = ["released"]

[[faults]]
kind = "offline"
nodes = [1]
at_s = 2
for_s = 3
"""


def test_a_run_does_its_timeline_and_lays_the_simulation_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "two.toml").write_text(RUN)
    out = tmp_path / "out"
    told = command("run", str(tmp_path / "two.toml"), "--out", str(out))
    assert told["in_time"]
    assert told["failed"] == []
    done = [entry["deed"] for entry in entries(out / "timeline.jsonl") if entry["what"] == "deed"]
    assert done == ["peer-1 is offline", "drop peer-1", "heal: peer-1 is offline"]
    real, simulated = read_tables(out), read_tables(out / "simulated")
    assert set(real.readings.column("node")) == set(simulated.readings.column("node")) == {0, 1}
    assert real.readings.column("round").max() == 16
    assert set(simulated.readings.column("seed")) == {0, 1}
    assert told["compared"]["num_rounds"] == 16
    assert len(told["compared"]["two_simulated"]) == 1
    assert not list((tmp_path / "state").rglob("lab.json"))


def test_a_lab_whose_keeper_is_killed_ends_and_is_cleared_up_by_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    changes = ("nodes.heartbeat_s=0.5",)
    bring_up(Wanted(scenario="", name="crash", peers=2, changes=changes), lambda _text: None)
    lab = find_lab("crash")
    running = processes_of(lab.folder)
    acting.on_machine(lab, "pause", "peer-0")
    psutil.Process(lab.keeper_pid).kill()
    wait_for(lambda: are_gone(running), why="the kernel ends them")
    with pytest.raises(GrapevineError, match="lab down --name crash"):
        status_of(lab)
    (listed,) = command("list")
    assert listed["state"] == "broken"
    took_s = -time.monotonic()
    take_down(lab)
    assert took_s + time.monotonic() < 20
    assert not lab.folder.exists()
