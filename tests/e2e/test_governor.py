"""The governor of a real agent on a real broker: pause, restart, resume, quiet hours, and a day's bytes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tests.e2e.household import Member, household, village, wait_for

from grapevine_broker import RunningBroker

pytestmark = pytest.mark.timeout(400)


def rounds(member: Member, task: str) -> int:
    return int(member.task(task).get("round", 0))


def stands_still(member: Member, task: str, for_s: float = 4.0) -> bool:
    before = rounds(member, task)
    time.sleep(for_s)
    return rounds(member, task) == before


def test_a_pause_holds_over_a_kill_and_is_ended_by_its_owner(private_broker: RunningBroker, tmp_path: Path) -> None:
    with household(tmp_path, private_broker.url, "grapevine/v1") as home:
        town = village(home, num_learners=2)
        town.join()
        other, paused = town.learners
        said = paused.ask("pause", "--for", "2h").stdout
        assert said.startswith("training is paused: its owner paused it, until ")
        time.sleep(1)
        assert stands_still(paused, town.task)
        merges = paused.task(town.task)["merges"]
        wait_for(lambda: paused.task(town.task)["merges"] > merges, why="it merges what it hears")
        assert other.task(town.task)["peers"] == 1, "it is there for the others"
        assert (tmp_path / f"learner-1/state/models/{town.task}/current.safetensors").exists()

        paused.kill()
        paused.start()
        wait_for(lambda: paused.task(town.task).get("joined"), why="it goes on from its disk")
        status = paused.status()
        assert status is not None
        governor = status["governor"]
        assert (governor["paused"], governor["limit"]) == (True, "pause")
        assert 7_000 < governor["until"] - time.time() < 7_200
        assert governor["bytes_today"] > 0, "what was sent before counts"
        assert stands_still(paused, town.task)
        printed = paused.ask("status").stdout
        assert "training is paused since " in printed
        assert "[pause]" in printed
        assert "today: " in printed

        assert paused.ask("resume").stdout.strip() == "training goes on"
        before = rounds(paused, town.task)
        wait_for(lambda: rounds(paused, town.task) > before + 2, why="it trains again")
        assert paused.log().count("training is paused: its owner paused it") == 2, "one line in each life"
        assert paused.log().count("training goes on: its owner's pause is over") == 1
        assert paused.ask("resume").stdout.strip() == "it was not paused; training goes on"

        told = json.loads(paused.ask("pause", town.task[:12], "--json").stdout)
        assert told["held_back"]["task"] == town.task
        time.sleep(1)
        assert stands_still(paused, town.task)
        assert "its owner paused" in paused.task(town.task)["held_back"]["told"]
        wrong = paused.ask("pause", "--for", "two hours", check=False)
        assert wrong.returncode == 2
        assert "such as 2h, 30m or 1d12h" in wrong.stderr.replace("\n", " ")
        assert paused.stop() == 0
        assert "Traceback" not in paused.log()


def test_in_quiet_hours_nothing_trains_and_when_its_bytes_are_spent_no_model_leaves(
    private_broker: RunningBroker, tmp_path: Path
) -> None:
    now = time.time()
    span = "-".join(time.strftime("%H:%M", time.localtime(now + hours * 3600)) for hours in (-1, 1))
    with household(tmp_path, private_broker.url, "grapevine/v1") as home:
        town = village(home, num_learners=1)
        quiet = home.add(
            "quiet", digits=5, consent="auto", trusted=town.reviewers, extra=f'[governor]\nquiet_hours = ["{span}"]'
        )
        narrow = home.add(
            "narrow", digits=6, consent="auto", trusted=town.reviewers, extra="[governor]\nupload_mb_per_day = 1"
        )
        for each in (quiet, narrow):
            each.start()
        town.join()
        wait_for(lambda: quiet.task(town.task).get("merges", 0) > 2, why="it takes what it hears")
        assert quiet.task(town.task)["held_back"]["limit"] == "quiet_hours"
        assert rounds(quiet, town.task) == 0
        assert "these are quiet hours, until " in quiet.ask("status").stdout

        wait_for(
            lambda: (narrow.status() or {})["governor"]["limit"] == "upload_mb_per_day",
            within_s=150,
            why="it is sent",
        )
        sent, before = narrow.task(town.task)["sent"], rounds(narrow, town.task)
        wait_for(lambda: rounds(narrow, town.task) > before + 5, why="it learns on")
        assert narrow.task(town.task)["sent"] == sent
        assert "no more models are sent today" in narrow.ask("status").stdout
        assert narrow.log().count("no more models are sent today") == 1
