"""Agents in containers of our image: over a bridge, through partition and server loss, with TLS, and upgraded."""

from __future__ import annotations

import pytest
from tests.e2e.household import wait_for
from tests.e2e.test_transport_secure import self_signed
from tests.testbed.contained import ContainedHousehold, ContainedMember

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]
WITHIN_S = 120.0
# Said to somebody who has just come back, or does not know yet; anything else is what one of the two cannot read.
UNTIMELY = {"stranger", "not-joined", "not-asked", "old-session", "old-update", "replayed", "stale", "unknown-base"}


def _merges(member: ContainedMember, task: str) -> int:
    return int(member.task(task).get("merges", 0))


def _knows_alive(member: ContainedMember) -> int:
    status = member.status()
    return int(status["peers"]["alive"]) if status else 0


def _server_of(member: ContainedMember, task: str) -> str:
    return str(member.task(task).get("server"))


def _published(home: ContainedHousehold, engineer: ContainedMember, *servers: ContainedMember) -> str:
    """The linear task, published by a member and approved by another one."""
    task = home.publish(engineer, home.linear_task(), *servers)
    reviewers = [member for member in home.members if member.name.startswith("reviewer")]
    home.approve(task, *reviewers)
    return task


def test_they_learn_through_a_partition_of_bridged_brokers_and_the_loss_of_the_server(
    contained: ContainedHousehold,
) -> None:
    home = contained
    home.add_broker("north")
    home.add_broker("south", "north")
    engineer = home.move_in("engineer", kind="engineer")
    reviewers = [home.move_in(f"reviewer-{k}") for k in (1, 2)]
    server = home.move_in("server", kind="server", trusted=reviewers)
    near = home.move_in("near", kind="peer", learns=0, consent="auto", trusted=reviewers)
    far = home.move_in("far", at="south", kind="peer", learns=3, consent="auto", trusted=reviewers)
    for member in (engineer, *reviewers, server, near, far):
        member.start()
    task = _published(home, engineer, server)

    for member in (near, far):
        wait_for(lambda member=member: _merges(member, task) > 2, within_s=WITHIN_S, why=member.log())  # type: ignore[misc]
        wait_for(lambda member=member: _server_of(member, task) == "reachable", within_s=WITHIN_S)  # type: ignore[misc]
    wait_for(lambda: far.peer in near.task(task)["shares"], within_s=WITHIN_S, why="across the bridge")

    home.engine.lines.cut([("south", "north")])
    wait_for(lambda: _knows_alive(far) == 0, within_s=WITHIN_S, why="who is beyond the partition is silent")
    merged = _merges(far, task)
    home.engine.lines.heal()
    wait_for(lambda: _knows_alive(far) >= 5, within_s=WITHIN_S, why="they are heard again")
    wait_for(lambda: _merges(far, task) > merged, within_s=WITHIN_S, why="and merge again")

    server.kill()
    assert home.engine.state("server") == "killed"
    wait_for(lambda: _server_of(near, task) in ("suspect", "lost"), within_s=WITHIN_S, why="the server is missed")
    merged = _merges(near, task)
    wait_for(lambda: _merges(near, task) > merged + 2, within_s=WITHIN_S, why="gossip goes on")
    home.engine.restart("server")
    wait_for(lambda: _server_of(near, task) == "reachable", within_s=WITHIN_S, why="the server is back")
    assert near.stop() == 0, near.log()
    assert near.container().attrs["Config"]["User"] != "0:0"


def test_tls_is_verified_in_a_container_as_elsewhere(contained: ContainedHousehold) -> None:
    home = contained
    gateway = home.engine.lines.host
    certificate, key = self_signed(home.folder, gateway)
    home.add_broker("hub", lines="certfile hub.pem\nkeyfile hub.key\n", files=(certificate, key))
    member = home.move_in("inside", scheme="mqtts")
    stranger = home.move_in("stranger", scheme="mqtts")
    (member.folder / "hub.pem").write_bytes(certificate.read_bytes())
    member.config.write_text(member.config.read_text().replace("heartbeat_s", 'ca_file = "hub.pem"\nheartbeat_s'))
    for each in (member, stranger):
        each.start()
    wait_for(lambda: (member.status() or {}).get("connected"), within_s=WITHIN_S, why=member.log())
    trouble = str(wait_for(lambda: (stranger.status() or {}).get("trouble"), within_s=WITHIN_S, why=stranger.log()))
    assert "certificate" in trouble
    assert not (stranger.status() or {})["connected"]


def test_a_village_is_upgraded_one_by_one_and_old_and_new_merge_with_each_other(
    contained: ContainedHousehold, our_image: str, image_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = contained
    home.add_broker("hub")
    monkeypatch.setenv("LAB_IMAGE_AGENT", image_before)
    engineer = home.move_in("engineer", kind="engineer")
    reviewers = [home.move_in(f"reviewer-{k}") for k in (1, 2)]
    first, second = (
        home.move_in(f"learner-{k}", kind="peer", learns=3 * k, consent="auto", trusted=reviewers) for k in range(2)
    )
    for member in (engineer, *reviewers, first, second):
        member.start()
    task = _published(home, engineer)
    wait_for(lambda: _merges(second, task) > 0, within_s=WITHIN_S, why=second.log())

    monkeypatch.setenv("LAB_IMAGE_AGENT", our_image)
    for upgraded, other in ((first, second), (second, first)):
        age, peer = upgraded.task(task)["age"], upgraded.peer
        assert upgraded.stop() == 0, upgraded.log()
        upgraded.container().remove()
        upgraded.start()
        assert upgraded.container().image.tags == [f"{our_image}:latest"]
        status = upgraded.status()
        assert status is not None
        assert status["peer"] == peer
        wait_for(lambda upgraded=upgraded, age=age: upgraded.task(task).get("age", 0) >= age, why=upgraded.log())  # type: ignore[misc]
        for member, source in ((upgraded, other), (other, upgraded)):
            merged = _merges(member, task)
            wait_for(
                lambda member=member, merged=merged: _merges(member, task) > merged + 1,  # type: ignore[misc]
                within_s=WITHIN_S,
                why=member.log(),
            )
            wait_for(lambda member=member, source=source: source.peer in member.task(task)["shares"])  # type: ignore[misc]
            rejected = (member.status() or {})["rejected"]
            assert not set(rejected) - UNTIMELY, rejected
    assert _knows_alive(first) == 4
