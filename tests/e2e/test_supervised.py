"""The service as systemd runs it: what it says on its socket, and what SIGHUP and SIGTERM do to it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e.household import household, village, wait_for

from grapevine_agent.control.client import call
from grapevine_agent.doctor import configured
from grapevine_agent.doctor.situation import find_out
from grapevine_broker import start_broker

pytestmark = pytest.mark.timeout(400)

DRAIN_S = 10.0
WATCHDOG_S = 3.0


@dataclass
class Unit:
    """A process and the supervisor's end of its socket."""

    process: subprocess.Popen[bytes]
    ear: socket.socket
    heard: list[str] = field(default_factory=list)

    def listen(self, wanted: str, within_s: float = 60.0) -> list[str]:
        """Everything that is said until something matches."""
        until, first = time.monotonic() + within_s, len(self.heard)
        while not any(re.search(wanted, each) for each in self.heard[first:]):
            assert time.monotonic() < until, f"{wanted} was not said: {self.heard}"
            self.ear.settimeout(max(0.01, until - time.monotonic()))
            self.heard.append(self.ear.recv(65_536).decode())
        return self.heard[first:]

    def is_silent(self, for_s: float) -> bool:
        """Whether nothing more is said for so long, after what was on its way."""
        time.sleep(0.2)
        self.ear.setblocking(False)
        with suppress(BlockingIOError):
            while self.ear.recv(65_536):
                pass
        self.ear.settimeout(for_s)
        try:
            return not self.ear.recv(65_536)
        except TimeoutError:
            return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "agent.toml").write_text(
        f'[agent]\nstate_dir = "{tmp_path}/state"\n[mqtt]\nbrokers = ["mqtt://127.0.0.1:1"]\n'
        "[limits]\ncan_train = true\n"
    )
    return tmp_path


def begin(folder: Path, *words: str, **environ: str) -> Unit:
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear.bind(str(folder / "notify"))
    named = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)), **environ}
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "grapevine_agent", *words]
        process = subprocess.Popen(command, env={**os.environ, **named}, stdout=log, stderr=log)
    return Unit(process, ear)


@pytest.fixture
def agent(folder: Path) -> Iterator[Unit]:
    unit = begin(folder, "agent", "run", "--config", str(folder / "agent.toml"))
    yield unit
    unit.process.kill()
    unit.process.wait()
    unit.ear.close()


def test_it_is_ready_when_commands_are_answered_and_says_what_it_waits_for(folder: Path, agent: Unit) -> None:
    agent.listen("^READY=1\nSTATUS=waits for a broker")
    assert call(folder / "state" / "agent.sock", "status", {})["connected"] is False
    agent.listen("STATUS=waits for a broker: .*nothing listens", within_s=15.0)


def test_a_broker_that_takes_it_in_is_told_at_once(folder: Path) -> None:
    with start_broker("embedded") as broker:
        config = folder / "agent.toml"
        config.write_text(config.read_text().replace("mqtt://127.0.0.1:1", broker.url))
        # The status is looked at every ten seconds, and here seldom enough to tell that from an event.
        agent = begin(folder, "agent", "run", "--config", str(config), WATCHDOG_USEC="60000000")
        try:
            agent.listen("READY=1")
            agent.listen("STATUS=connected to mqtt://", within_s=5.0)
        finally:
            agent.process.kill()
            agent.process.wait()
            agent.ear.close()


def test_a_loop_that_turns_is_heard_in_time_and_one_that_stands_is_not(agent: Unit) -> None:
    agent.listen("READY=1")
    for _ in range(3):
        agent.listen("WATCHDOG=1", within_s=WATCHDOG_S)
    agent.process.send_signal(signal.SIGSTOP)  # as a loop that stands
    assert agent.is_silent(WATCHDOG_S)
    agent.process.send_signal(signal.SIGCONT)
    agent.listen("WATCHDOG=1", within_s=WATCHDOG_S)


def test_a_reload_with_another_state_folder_finds_the_agent_and_the_doctor_says_what_to_take_along(
    folder: Path, agent: Unit
) -> None:
    config = folder / "agent.toml"
    agent.listen("READY=1")
    config.write_text(config.read_text().replace("/state", "/elsewhere"))
    moved = subprocess.run(
        [sys.executable, "-m", "grapevine_agent", "agent", "reload", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "needs a restart: agent.state_dir" in moved.stdout, moved.stderr
    situation = find_out(config, dict(os.environ))
    told = configured.agent(situation)
    (identity,) = configured.identity(situation)
    assert f"its state is in {folder}/state, and state_dir is {folder}/elsewhere by now" in [each.says for each in told]
    assert identity.level == "fail"
    assert f"sudo cp -a {folder}/state/. {folder}/elsewhere/" in identity.remedy


def test_sighup_reads_the_file_again_and_a_broken_one_changes_nothing(folder: Path, agent: Unit) -> None:
    config, log = folder / "agent.toml", folder / "log"
    agent.listen("READY=1")
    before = config.read_text()
    config.write_text(before.replace("can_train = true", "memory_mb = 256\nstate_mb = 64").replace(':1"', ':2"'))
    agent.process.send_signal(signal.SIGHUP)
    said = agent.listen("^READY=1")
    assert any(re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", each) for each in said)
    line = "reloaded: in force now: limits.memory_mb, limits.can_train; needs a restart: mqtt.brokers, limits.state_mb"
    wait_for(lambda: line in log.read_text(), why=log.read_text())
    assert call(folder / "state" / "agent.sock", "status", {})["held"]["limits"]["memory_mb"] == 256

    config.write_text("[limitz]\n")
    agent.process.send_signal(signal.SIGHUP)
    agent.listen("^READY=1")
    wait_for(lambda: "not reloaded, and nothing was changed" in log.read_text(), why=log.read_text())
    assert "did you mean 'limits'?" in log.read_text()
    assert call(folder / "state" / "agent.sock", "status", {})["held"]["limits"]["memory_mb"] == 256
    asked = subprocess.run(
        [sys.executable, "-m", "grapevine_agent", "agent", "reload", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.returncode == 1
    assert "did you mean 'limits'?" in asked.stderr
    assert "a running agent goes on with what it has" in asked.stderr


def test_the_command_says_what_is_in_force_and_what_needs_a_restart(folder: Path, agent: Unit) -> None:
    agent.listen("READY=1")
    config = folder / "agent.toml"
    config.write_text(config.read_text().replace('127.0.0.1:1"]', '127.0.0.1:2"]\nroot = "other"') + "cores = 3\n")
    command = [sys.executable, "-m", "grapevine_agent", "agent", "reload", "--config", str(config)]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "in force now: limits.cores; needs a restart: mqtt.brokers, mqtt.root" in asked.stdout


def test_sigterm_leaves_in_time_and_in_good_order(agent: Unit) -> None:
    agent.listen("READY=1")
    began_s = time.monotonic()
    agent.process.send_signal(signal.SIGTERM)
    agent.listen("STOPPING=1", within_s=2.0)
    assert agent.process.wait(DRAIN_S) == 0
    assert time.monotonic() - began_s < DRAIN_S


@pytest.mark.mosquitto
def test_a_member_that_trains_leaves_in_time_and_limits_reach_its_trainer(tmp_path: Path) -> None:
    with start_broker("mosquitto") as broker, household(tmp_path, broker.url, "supervised") as home:
        town = village(home, num_learners=1)
        town.join()
        (member,) = town.learners
        wait_for(lambda: member.task(town.task).get("round", 0) > 1, why=member.log())
        text = member.config.read_text()
        member.config.write_text(text.replace("threads = 1", "threads = 2"))
        assert "in force now: limits.threads" in member.ask("agent", "reload").stdout
        rounds = member.task(town.task)["round"]
        wait_for(lambda: member.task(town.task).get("round", 0) > rounds + 1, why=member.log())
        began_s = time.monotonic()
        assert member.stop() == 0
        assert time.monotonic() - began_s < DRAIN_S


@pytest.mark.parametrize("engine", ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def test_a_broker_is_ready_when_it_answers_and_is_heard_while_it_does(tmp_path: Path, engine: str) -> None:
    unit = begin(tmp_path, "broker", "run", "--engine", engine, "--port", "0")
    try:
        said = unit.listen("READY=1")[-1]
        assert f"STATUS={engine} broker at mqtt://127.0.0.1:" in said
        unit.listen("WATCHDOG=1", within_s=2 * WATCHDOG_S)
        unit.listen("WATCHDOG=1", within_s=2 * WATCHDOG_S)
        found = re.search(r"process (\d+)", said)
        assert found
        os.kill(int(found[1]), signal.SIGSTOP)  # it runs, and answers nobody
        assert unit.is_silent(2 * WATCHDOG_S)
        os.kill(int(found[1]), signal.SIGCONT)
        unit.listen("WATCHDOG=1", within_s=10.0)
        unit.process.send_signal(signal.SIGTERM)
        assert unit.process.wait(DRAIN_S) == 0
    finally:
        unit.process.kill()
        unit.ear.close()
