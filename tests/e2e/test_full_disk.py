"""Disks that take nothing under real agents: full in mid-life, full at the start, read-only, full of the log itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.disks import small_disk
from tests.e2e.household import Member, household, village, wait_for

from grapevine_agent.store.store import Store
from grapevine_broker import RunningBroker, start_broker

pytestmark = pytest.mark.timeout(300)


def unsaved(member: Member) -> dict[str, str]:
    """What a running agent says that it could not save, and why."""
    status = member.status()
    assert status is not None, member.log()
    return {line["kind"]: line["reason"] for line in status["unsaved"]}


def test_a_full_disk_and_a_reconnect_stop_neither_service_nor_learning(
    private_broker: RunningBroker, tmp_path: Path
) -> None:
    with (
        small_disk(tmp_path / "disk", num_kb=2048) as disk,
        household(tmp_path, private_broker.url, "grapevine/v1") as home,
    ):
        town = village(home, num_learners=1)
        victim = home.add("victim", digits=1, consent="auto", trusted=town.reviewers, disk=disk.path)
        victim.start()
        town.learners.append(victim)
        town.join()
        wait_for((disk.path / f"models/{town.task}/previous.safetensors").exists, why="its model is saved")
        assert unsaved(victim) == {}

        disk.fill()
        private_broker.kill()
        wait_for(lambda: not victim.status()["connected"])  # type: ignore[index]
        private_broker.start()
        wait_for(lambda: victim.status()["connected"], why="it connects again, with a session of its own")  # type: ignore[index]
        wait_for(lambda: "models" in unsaved(victim), why="the next model does not fit")
        assert set(unsaved(victim).values()) == {"No space left on device"}
        merges, at_full = victim.task(town.task)["merges"], victim.task(town.task)["age"]
        wait_for(lambda: victim.task(town.task)["merges"] > merges + 3, why="learning goes on in memory")
        wait_for(lambda: town.learners[0].task(town.task)["peers"] == 1, why="the others hear it")
        printed = victim.ask("status").stdout
        assert "not saved since " in printed
        assert "(No space left on device)" in printed
        refused = victim.ask("trust", "add", town.engineer.peer, check=False)
        assert refused.returncode == 1
        assert "trust.toml: cannot be written (No space left on device)" in refused.stderr.replace("\n", " ")

        victim.kill()
        victim.start()  # with the disk as full as it was
        wait_for(lambda: victim.task(town.task).get("age", 0) > 0, why="it goes on from what can be read")
        wait_for(lambda: "models" in unsaved(victim))
        assert victim.log().count("models are not saved") == 2  # once in each life

        disk.free()
        wait_for(lambda: not unsaved(victim), why="what waited is written")
        assert "models are saved again" in victim.log()
        assert "Traceback" not in victim.log()
        age = victim.task(town.task)["age"]
        assert victim.stop() == 0
        with Store.open(disk.path) as store:
            model = store.load_model(town.task)
            assert model is not None
            assert int(model.metadata["age"]) >= age
            assert age > at_full or age > 0
            assert any(record.topic.endswith(f"task/{town.task}/manifest") for record in store.records())


def test_a_read_only_disk_is_started_from_and_commands_come_in_when_it_can_be_written(tmp_path: Path) -> None:
    with (
        start_broker("embedded") as broker,
        small_disk(tmp_path / "disk", num_kb=4096) as disk,
        household(tmp_path, broker.url, "grapevine/v1") as home,
    ):
        town = village(home, num_learners=1)
        victim = home.add("victim", digits=1, consent="auto", trusted=town.reviewers, disk=disk.path)
        victim.start()
        town.learners.append(victim)
        town.join()
        other = town.learners[0]
        wait_for(lambda: other.task(town.task)["peers"] == 1)
        assert victim.stop() == 0
        wait_for(lambda: other.task(town.task)["peers"] == 0)
        disk.remount("ro")
        with (victim.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "grapevine_agent", "agent", "run", "--config", str(victim.config)]
            victim.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: other.task(town.task)["peers"] == 1, why="it learns with the others all the same")
        assert "commands cannot reach this agent" in victim.log()
        disk.remount("rw")
        wait_for(victim.status, why="it listens as soon as it can")
        wait_for(lambda: not unsaved(victim), why="and saves")
        assert "Traceback" not in victim.log()
        assert victim.stop() == 0


def test_a_log_on_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path, unused_tcp_port: int) -> None:
    with (
        small_disk(tmp_path / "disk", num_kb=256) as disk,
        household(tmp_path, f"mqtt://127.0.0.1:{unused_tcp_port}", "grapevine/v1") as home,
    ):
        lonely = home.add("lonely")
        (lonely.folder / "state/agent.sock").mkdir()  # no socket at all: it is moved out of the way
        disk.fill()
        with (disk.path / "log").open("ab") as log:
            command = [sys.executable, "-m", "grapevine_agent", "agent", "run", "--config", str(lonely.config)]
            lonely.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for(lonely.status, why="it runs, though nobody can read what it says")
        wait_for(lambda: (lonely.status() or {}).get("trouble"))
        disk.free()
        assert lonely.stop() == 0


def test_a_key_that_another_took_the_place_of_stops_agent_and_reviewer(tmp_path: Path) -> None:
    with start_broker("embedded") as broker, household(tmp_path, broker.url, "grapevine/v1") as home:
        town = village(home, num_learners=1)
        reviewer = town.reviewers[0]
        peer, pem = reviewer.peer, reviewer.folder / "state/identity.pem"
        assert reviewer.stop() == 0
        kept = pem.read_bytes()
        for content in (b"garbage", None, home.add("stranger").folder.joinpath("state/identity.pem").read_bytes()):
            pem.unlink(missing_ok=True)
            if content is not None:
                pem.write_bytes(content)
            commands = [("review", "approve", town.task), *([] if content else [("agent", "run"), ("id",)])]
            for command in commands:
                done = reviewer.ask(*command, check=False)
                assert done.returncode == 4, (command, done.stderr)
                assert peer in done.stderr
                assert "grapevine init --new-identity" in done.stderr.replace("\n", " ")
            assert pem.exists() == (content is not None)
            assert content is None or pem.read_bytes() == content
        assert all(line["reviewer"] != peer for line in _reviews(town.learners[0]))
        pem.write_bytes(kept)
        reviewer.ask("review", "approve", town.task)
        wait_for(lambda: peer in [line["reviewer"] for line in _reviews(town.learners[0])])


def _reviews(member: Member) -> list[dict[str, Any]]:
    return [review for task in member.request("reviews") for review in task["reviews"]]


def test_init_makes_a_key_where_there_is_none_and_another_only_when_it_is_told_to(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    environ = {**os.environ, "GRAPEVINE_STATE_DIR": str(tmp_path / "state")}

    def grapevine(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "grapevine_agent", *arguments, "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)

    config.write_text("")
    nobody = grapevine("id")
    assert nobody.returncode == 1
    assert "no identity yet; run `grapevine init`" in nobody.stderr.replace("\n", " ")
    first = json.loads(grapevine("init", "--json").stdout)["peer"]
    assert config.read_text() == ""  # what the owner wrote stays
    assert grapevine("id").stdout.strip() == first
    assert grapevine("init").returncode == 1
    (tmp_path / "state/identity.pem").write_bytes(b"garbage")
    assert grapevine("init").returncode == 4
    second = json.loads(grapevine("init", "--new-identity", "--json").stdout)["peer"]
    assert second != first
    assert grapevine("id").stdout.strip() == second
    (aside,) = (tmp_path / "state").glob("identity.pem.before-*")
    assert aside.read_bytes() == b"garbage"
