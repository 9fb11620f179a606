"""Agents as their owners run them: real processes, real brokers, real training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.conftest import SharedBroker
from tests.e2e.household import Member, household, village, wait_for

from grapevine_broker import RunningBroker

pytestmark = pytest.mark.timeout(240)


def test_agents_discover_an_approved_task_and_learn_it_together(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        town = village(home, num_learners=3)
        unreviewed = home.publish(town.engineer, home.built_task("unreviewed"))
        stranger = home.add("stranger", consent="auto", trusted=town.reviewers)
        stranger.start()
        wait_for(lambda: town.learners[0].task(unreviewed), why="the unreviewed task is heard of")
        assert town.learners[0].task(town.task)["why"] == "0 of 2 approvals by trusted reviewers"

        town.join()

        def accuracies() -> list[float]:
            return [learner.task(town.task)["metric"] or 0.0 for learner in town.learners]

        wait_for(lambda: min(accuracies()) > 0.72, why="they know more than their own four classes")
        for learner in town.learners:
            line = learner.task(town.task)
            assert line["merges"] > 0
            assert line["peers"] == 2
            assert learner.task(unreviewed)["joined"] is False
            assert learner.task(unreviewed)["standing"] == "waiting"
        assert "no data source" in stranger.task(town.task)["why"]
        assert town.learners[0].status()["rejected"] == {}  # type: ignore[index]
        leaver, *others = town.learners
        assert leaver.stop() == 0
        for learner in others:
            wait_for(lambda learner=learner: learner.task(town.task)["peers"] == 1, within_s=10, why="the goodbye")  # type: ignore[misc]
        assert all(learner.stop() == 0 for learner in others)


def test_updates_travel_as_base_and_delta_too(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        folder = home.built_task("deltas", ("[merging]", '[merging]\nupdate_form = "delta"'))
        town = village(home, folder=folder)
        town.join()
        wait_for(lambda: all(learner.task(town.task)["merges"] > 3 for learner in town.learners))
        rejected = town.learners[0].status()["rejected"]  # type: ignore[index]
        assert set(rejected) <= {"unknown-base"}  # a base that was lost on the way


def test_an_agent_killed_at_any_moment_goes_on_with_its_model(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        town = village(home)
        town.join()
        victim, other = town.learners
        wait_for(lambda: victim.task(town.task)["round"] > 40)
        before = victim.task(town.task)
        victim.kill()
        wait_for(lambda: other.task(town.task)["peers"] == 0, why="its silence or its will is noticed")
        victim.start()
        wait_for(lambda: victim.task(town.task).get("age"))
        after = victim.task(town.task)
        assert after["round"] > before["round"] - 25
        assert after["age"] > before["age"] - 250
        wait_for(lambda: other.task(town.task)["peers"] == 1, why="it is heard again")
        merges = other.task(town.task)["merges"]
        wait_for(lambda: other.task(town.task)["merges"] > merges, why="and merged again")


def test_learning_outlives_a_broker_that_restarts(private_broker: RunningBroker, tmp_path: Path) -> None:
    with household(tmp_path, private_broker.url, "grapevine/v1") as home:
        town = village(home)
        town.join()
        private_broker.kill()
        wait_for(lambda: not town.learners[0].status()["connected"])  # type: ignore[index]
        trouble = town.learners[0].status()["trouble"]  # type: ignore[index]
        assert str(private_broker.url.split("?")[0].removeprefix("mqtt://")) in trouble
        rounds = town.learners[0].task(town.task)["round"]
        wait_for(lambda: town.learners[0].task(town.task)["round"] > rounds + 3, why="training goes on")
        for absent in (town.engineer, *town.reviewers):
            absent.kill()
        private_broker.start()
        merges = [learner.task(town.task)["merges"] for learner in town.learners]
        wait_for(
            lambda: all(
                learner.task(town.task)["merges"] > held for learner, held in zip(town.learners, merges, strict=True)
            ),
            why="gossip goes on",
        )
        # The broker has forgotten everything: a newcomer learns of the task from what members give back.
        newcomer = home.add("newcomer", digits=2, consent="auto", trusted=town.reviewers)
        newcomer.start()
        wait_for(lambda: newcomer.task(town.task).get("joined"), why="the newcomer joins")


def test_a_lost_server_stops_nobody(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        server = home.add("server", role="server")
        town = village(home, servers=(server,))
        server.config.write_text(
            server.config.read_text().replace(
                "trusted = []", f"trusted = {json.dumps([each.peer for each in town.reviewers])}"
            )
        )
        town.join()
        assert town.learners[0].task(town.task)["server"] == "unknown"
        server.start()
        for learner in town.learners:
            wait_for(lambda learner=learner: learner.task(town.task)["server"] == "reachable")  # type: ignore[misc]
        wait_for(lambda: town.learners[0].task(town.task)["shares"].get(server.peer, 0) > 0.3)
        server.kill()
        wait_for(lambda: town.learners[0].task(town.task)["server"] in ("suspect", "lost"))
        wait_for(lambda: town.learners[0].task(town.task)["server"] == "lost")
        before = town.learners[0].task(town.task)
        wait_for(lambda: town.learners[0].task(town.task)["merges"] > before["merges"] + 3)
        assert town.learners[0].task(town.task)["shares"].get(server.peer, 0) < 0.01
        server.start()
        wait_for(lambda: town.learners[0].task(town.task)["server"] == "reachable", why="it fades in again")


def test_a_reviewer_without_a_running_agent_connects_for_the_command(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        town = village(home, num_learners=1)
        away = home.add("away")
        done = away.ask("review", "reject", town.task, "--reason", "too curious")
        assert "rejected digits" in done.stdout
        assert "connecting to" in done.stderr

        def verdicts() -> list[dict[str, object]]:
            listed = json.loads(town.learners[0].ask("review", "list", "--json").stdout)
            return [review for task in listed for review in task["reviews"]]

        found = wait_for(verdicts)
        assert [(each["reviewer"], each["approved"], each["reason"]) for each in found] == [
            (away.peer, False, "too curious")
        ]
        assert found[0]["ignored"] == "not a reviewer whom you trust"
        assert "took the rejection of digits" in away.ask("review", "revoke", town.task).stdout
        wait_for(lambda: verdicts()[0]["withdrawn"], why="it is taken back")


def test_an_engineer_without_a_running_agent_stays_until_a_member_has_the_weights(
    broker: SharedBroker, tmp_path: Path
) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        town = village(home)
        away = home.add("away")
        command = ["task", "publish", str(home.built_task("from-afar")), "--config", str(away.config), "--json"]
        publishing = subprocess.Popen(
            [sys.executable, "-m", "grapevine_agent", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

        def heard() -> str:
            lines = town.reviewers[0].status()["tasks"]  # type: ignore[index]
            return next((line["id"] for line in lines if line["name"] == "from-afar"), "")

        task = wait_for(heard, why="the task is announced")
        assert publishing.poll() is None
        home.approve(task, *town.reviewers)
        out, err = publishing.communicate(timeout=60)
        assert publishing.returncode == 0, err
        assert json.loads(out)["task"] == task
        assert "waiting until a first member" in err
        for learner in town.learners:
            wait_for(lambda learner=learner: learner.task(task).get("age", 0) > 0, why="from each other now")  # type: ignore[misc]


def test_a_damaged_database_is_moved_aside_and_the_peer_is_heard_again(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        town = village(home)
        town.join()
        victim, other = town.learners
        victim.kill()
        database = victim.folder / "state" / "grapevine.db"
        database.write_bytes(b"not a database" * 1000)
        for log in database.parent.glob("grapevine.db-*"):
            log.unlink()  # SQLite would mend the file from its log
        victim.start()
        assert "was moved to" in victim.log()
        assert list(database.parent.glob("grapevine.db.*"))
        wait_for(lambda: victim.task(town.task).get("joined"), why="records come back from the broker")
        wait_for(lambda: other.task(town.task)["peers"] == 1, why="its new records count as newer")
        merges = other.task(town.task)["merges"]
        wait_for(lambda: other.task(town.task)["merges"] > merges)


def test_a_broker_that_cannot_be_reached_is_named_and_tried_again(tmp_path: Path, unused_tcp_port: int) -> None:
    url = f"mqtt://127.0.0.1:{unused_tcp_port}"
    with household(tmp_path, url, "grapevine/v1") as home:
        lonely = home.add("lonely")
        lonely.start()

        def trouble() -> str:
            status = lonely.status()
            return str(status["trouble"]) if status else ""

        assert url.removeprefix("mqtt://") in wait_for(trouble)
        assert "trying" in lonely.log()
        printed = lonely.ask("status").stdout
        assert "not connected" in printed
        assert "goes on trying" in printed
        assert lonely.stop() == 0


@pytest.mark.parametrize("command", [("status",), ("join", "x"), ("leave", "x"), ("forget", "x")])
def test_a_command_without_a_service_says_how_to_start_one(tmp_path: Path, command: tuple[str, ...]) -> None:
    folder = tmp_path / "nobody"
    folder.mkdir()
    nobody = Member("nobody", folder)
    nobody.config.write_text(f'[agent]\nstate_dir = "{folder / "state"}"')
    done = nobody.ask(*command, check=False)
    assert done.returncode == 3
    assert "grapevine agent run" in done.stderr
