"""The governor of a real agent on a real broker: pause, restart, resume, quiet hours, and a day's bytes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.e2e.household import Household, Member, household, wait_for

from grapevine_broker import RunningBroker

pytestmark = pytest.mark.timeout(400)
OWN = "[trust.approvals]\nown = 0\n"  # what it publishes itself it trains without reviews
LONG_S = 180.0


def rounds(member: Member, task: str) -> int:
    return int(member.task(task).get("round", 0))


def governor(member: Member) -> dict[str, object]:
    status = member.status()
    assert status is not None
    told: dict[str, object] = status["governor"]
    return told


def stands_still(member: Member, task: str, for_s: float = 3.0) -> bool:
    before = rounds(member, task)
    time.sleep(for_s)
    return rounds(member, task) == before


def alone(home: Household, name: str, extra: str) -> tuple[Member, str]:
    """An agent that has published a task, and trains it by itself."""
    member = home.add(name, digits=1, consent="auto", extra=OWN + extra)
    member.start()
    task: str = member.request("publish", folder=str(home.built_task("digits")), servers=[])["task"]
    wait_for(lambda: member.task(task).get("joined"), within_s=LONG_S, why="it joins")
    return member, task


def test_a_pause_holds_over_a_kill_and_is_ended_by_its_owner(private_broker: RunningBroker, tmp_path: Path) -> None:
    with household(tmp_path, private_broker.url, "grapevine/v1") as home:
        member, task = alone(home, "alone", "[governor]\nupload_mb_per_day = 1")
        wait_for(lambda: rounds(member, task) > 2, within_s=LONG_S, why="it trains")
        said = member.ask("pause", "--for", "2h").stdout
        assert said.startswith("training is paused: its owner paused it, until ")
        wait_for(lambda: stands_still(member, task), why="the step that was under way has ended")
        saved = tmp_path / f"alone/state/models/{task}/current.safetensors"
        wait_for(saved.exists, why="its model is saved as soon as that is due")

        member.kill()
        member.start()
        wait_for(lambda: member.task(task).get("joined"), within_s=LONG_S, why="it goes on from its disk")
        told = governor(member)
        assert (told["paused"], told["limit"]) == (True, "pause")
        assert 6_500 < float(str(told["until"])) - time.time() < 7_200
        assert int(str(told["bytes_today"])) > 0, "what was sent before counts"
        assert stands_still(member, task)
        printed = member.ask("status").stdout
        assert "training is paused since " in printed
        assert "[pause]" in printed
        assert "today: " in printed

        assert member.ask("resume").stdout.strip() == "training goes on"
        before = rounds(member, task)
        wait_for(lambda: rounds(member, task) > before + 2, within_s=LONG_S, why="it trains again")
        assert member.log().count("training is paused: its owner paused it") == 2, "one line in each life"
        assert member.log().count("training goes on: its owner's pause is over") == 1
        assert member.request("resume")["was_paused"] is False

        told = member.request("pause", task=task[:12])
        assert told["held_back"]["task"] == task
        wait_for(lambda: stands_still(member, task), why="this task is paused")
        assert "its owner paused" in member.task(task)["held_back"]["told"]
        wrong = member.ask("pause", "--for", "two hours", check=False)
        assert wrong.returncode == 2
        assert "such as 2h, 30m or 1d12h" in " ".join(wrong.stderr.replace("│", " ").split())
        assert member.stop() == 0
        assert "Traceback" not in member.log()


def test_in_quiet_hours_nothing_trains_and_status_says_until_when(
    private_broker: RunningBroker, tmp_path: Path
) -> None:
    now = time.time()
    span = "-".join(time.strftime("%H:%M", time.localtime(now + hours * 3600)) for hours in (-1, 1))
    with household(tmp_path, private_broker.url, "grapevine/v1") as home:
        quiet, task = alone(home, "quiet", f'[governor]\nquiet_hours = ["{span}"]')
        assert stands_still(quiet, task)
        assert rounds(quiet, task) == 0
        assert quiet.task(task)["held_back"]["limit"] == "quiet_hours"
        assert "these are quiet hours, until " in quiet.ask("status").stdout
        assert quiet.request("resume")["governor"]["paused"] is True, "it ends the owner's word, and that alone"
