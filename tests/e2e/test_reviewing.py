"""Reviewing and trusting with the real commands: real processes, both brokers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.e2e.conftest import SharedBroker
from tests.e2e.household import Household, Member, household, village, wait_for

pytestmark = pytest.mark.timeout(240)


def test_a_revoked_approval_stops_training_in_all_agents_until_somebody_else_is_trusted(
    broker: SharedBroker, tmp_path: Path
) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        town = village(home)
        town.join()
        first = town.reviewers[0]
        first.ask("review", "revoke", town.task, "--reason", "looked again")
        for learner in town.learners:
            wait_for(lambda learner=learner: learner.task(town.task)["standing"] == "waiting", within_s=10)  # type: ignore[misc]
            line = learner.task(town.task)
            assert not line["joined"]
            assert "1 of 2 approvals" in line["why"]
            assert line["decided_by"] == "consent = 'auto'"
            assert "stopped: 1 of 2 approvals by trusted reviewers" in learner.log()
        # A third reviewer approves; nobody trusts it yet. One owner says so, and learns at once.
        third = home.add("third")
        third.ask("review", "approve", town.task)
        learner, other = town.learners
        wait_for(lambda: third.peer in learner.ask("review", "show", town.task, "--json").stdout)
        assert not learner.task(town.task)["joined"]
        told = json.loads(learner.ask("trust", "add", third.peer, "--name", "Cleo", "--json").stdout)
        assert told["running"]
        wait_for(lambda: learner.task(town.task)["joined"], within_s=10, why="the trusted approval counts")
        assert not other.task(town.task)["joined"]
        learner.ask("trust", "remove", third.peer)
        wait_for(lambda: not learner.task(town.task)["joined"], within_s=10, why="and no longer")


def test_a_task_is_laid_open_exported_and_verified_without_a_broker(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        hostile = home.built_task("hostile", ('description = """', 'description = """[red]x[/nope] '))
        town = village(home, num_learners=1, folder=hostile)
        wait_for(lambda: all(reviewer.task(town.task) for reviewer in town.reviewers))
        for reviewer in town.reviewers:
            reviewer.ask("review", "approve", town.task, "--reason", "\x1b[2J[/] fine")
        learner = town.learners[0]
        wait_for(lambda: learner.task(town.task)["standing"] == "approved")
        shown = learner.ask("review", "show", town.task).stdout
        assert not {"\x1b", "\u202e"} & set(shown)
        for part in (town.engineer.peer, "LINEAR", "digits-8x8", "raspberry-pi-4b", "counts here", "optimiser"):
            assert part in shown
        plain = json.loads(learner.ask("review", "show", town.task, "--json").stdout)
        assert plain["costs"]["num_parameters"] == 4810
        assert plain["graphs"]["eval"][0]["operator"]
        assert {review["reviewer"] for review in plain["reviews"] if review["counts"]} == {
            reviewer.peer for reviewer in town.reviewers
        }
        learner.ask("review", "export", town.task, str(tmp_path / "records"))
        _verify(home, town.reviewers, tmp_path / "records")


def _verify(home: Household, reviewers: list[Member], records: Path) -> None:
    auditor = home.add("auditor", trusted=reviewers)
    auditor.config.write_text(auditor.config.read_text().replace("mqtt://127.0.0.1", "mqtt://192.0.2.1"))
    approved = auditor.ask("review", "verify", str(records))
    assert "approved" in approved.stdout
    later = auditor.ask("review", "verify", str(records), "--at", "2099-01-01", check=False)
    assert later.returncode == 1
    assert "ran out on" in later.stdout
    review = next(records.glob(f"peer.{reviewers[0].peer}.*.review.record"))
    review.write_bytes(review.read_bytes()[:-1] + b"!")
    forged = auditor.ask("review", "verify", str(records), check=False)
    assert forged.returncode == 1
    assert "refused" in forged.stdout
    assert "1 of 2 approvals" in forged.stdout


def test_a_command_that_connects_for_itself_never_signs_a_task_that_it_was_not_told(
    broker: SharedBroker, tmp_path: Path
) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        engineer, stranger, reviewer = (home.add(name) for name in ("engineer", "stranger", "reviewer"))
        for member in (engineer, stranger):
            member.start()
        honest = home.publish(engineer, home.built_task("digits"))
        for nothing in ("", " ", honest[:2], honest[:7]):
            refused = reviewer.ask("review", "approve", nothing, check=False)
            assert refused.returncode == 2, refused.stderr
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "digits").rename(tmp_path / "elsewhere" / "digits")
        theirs = home.publish(stranger, home.built_task("digits", ("Tells the digits", "Tells other digits")))
        refused = reviewer.ask("review", "approve", "digits", check=False)
        assert refused.returncode == 2
        assert all(part in refused.stderr for part in (honest, theirs, engineer.peer, stranger.peer))
        assert "Traceback" not in refused.stderr
        for asked in (engineer, stranger):
            refused = asked.ask("join", "digits", check=False)
            assert refused.returncode == 2
            assert honest in refused.stderr
        signed = reviewer.ask("review", "approve", honest[:8]).stdout
        assert all(part in signed for part in (honest, f"{engineer.peer}, version 1", reviewer.peer, "it holds until"))
        wait_for(lambda: reviewer.peer in engineer.ask("review", "show", honest, "--json").stdout)
        assert reviewer.peer not in engineer.ask("review", "show", theirs, "--json").stdout
