"""Which tasks a member takes part in, while its announcement was not heard: what its heartbeats say, all of it."""

from __future__ import annotations

import numpy as np

from grapevine_agent.core.overlay.members import Members
from grapevine_proto.messages import Heartbeat, PeerAnnouncement, PeerState, TaskProgress

PEER = "a" * 20


def beat(*tasks: str) -> Heartbeat:
    return Heartbeat(progress=tuple(TaskProgress(task=task, version=1, age=1) for task in tasks))


def welcomed_for_one_task() -> Members:
    """Its announcement is older than a week, so the broker's copy was refused; then came an update of one task."""
    members = Members(1.0, np.random.default_rng(0))
    members.hear_state(PEER, PeerState(online=True), 1, 0.0)
    members.hear_update(PEER, "first", 0.1, session=1)
    return members


def test_a_member_that_was_welcomed_for_one_task_is_known_for_its_others_by_its_next_heartbeat() -> None:
    members = welcomed_for_one_task()
    assert (members.of_task("first", 0.2), members.of_task("second", 0.2)) == ([PEER], [])
    members.hear_heartbeat(PEER, beat("first", "second"), 1.0, session=1)
    assert (members.of_task("first", 1.1), members.of_task("second", 1.1)) == ([PEER], [PEER])
    members.hear_heartbeat(PEER, beat("second"), 2.0, session=1)
    assert (members.of_task("first", 2.1), members.of_task("second", 2.1)) == ([], [PEER])


def test_what_an_announcement_says_is_not_guessed_any_more() -> None:
    members = welcomed_for_one_task()
    members.hear_announcement(PEER, PeerAnnouncement(name="kitchen", tasks=("third",)))
    members.hear_heartbeat(PEER, beat("first", "second"), 1.0, session=1)
    assert members.peers[PEER].announcement == PeerAnnouncement(name="kitchen", tasks=("third",))
    assert members.of_task("second", 1.1) == []


def test_a_heartbeat_that_says_nothing_of_tasks_takes_no_guess_back() -> None:
    members = welcomed_for_one_task()
    members.hear_heartbeat(PEER, beat(), 1.0, session=1)
    assert members.of_task("first", 1.1) == [PEER]
