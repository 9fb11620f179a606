"""Members that come, are late, sleep and go, as events: each change once, and of strangers nothing."""

from __future__ import annotations

from tests.unit.agent.core.overlay.test_suspicion import BEAT, SESSION, members_of

from grapevine_agent.core.overlay.members import Members
from grapevine_proto.messages import PeerAnnouncement, PeerState

A, B, C = "a" * 20, "b" * 20, "c" * 20
ONLINE, WILL, GOODBYE = PeerState(online=True), PeerState(online=False), PeerState(online=False, goodbye=True)


def told(members: Members) -> list[tuple[str, str]]:
    return [(each.other, each.state) for each in members.changes()]


def test_who_was_taken_in_is_told_once_with_its_name_and_again_when_that_changes() -> None:
    members = members_of(A, B)
    assert sorted(told(members)) == [(A, "alive"), (B, "alive")]
    members.hear_heartbeat(A, BEAT, 2.0, session=SESSION)
    assert told(members) == []
    members.hear_announcement(A, PeerAnnouncement(name="kitchen"))
    assert [(each.name, each.text) for each in members.changes()] == [("kitchen", f"kitchen ({A}) is alive")]
    members.hear_announcement(A, PeerAnnouncement(name="kitchen", tasks=("t",)))
    assert told(members) == []


def test_a_suspect_is_told_and_so_is_that_it_answered_or_did_not() -> None:
    members = members_of(A, B)
    told(members)
    members.suspicion.suspect(members.peers[A], 2.0)
    members.suspicion.suspect(members.peers[B], 2.0)
    members.hear_heartbeat(B, BEAT, 2.1, session=SESSION)
    assert told(members) == [(A, "suspect")], "who answers within a tick has not changed"
    members.hear_heartbeat(A, BEAT, 3.0, session=SESSION)
    assert told(members) == [(A, "alive")]
    members._fell_silent(members.peers[A])
    assert told(members) == [(A, "silent")]
    members.hear_heartbeat(A, BEAT, 4.0, session=SESSION)
    assert told(members) == [(A, "alive")]


def test_sleep_a_goodbye_and_being_forgotten_are_told() -> None:
    members = members_of(A, B)
    told(members)
    members.hear_state(A, PeerState(online=False, goodbye=True, asleep_until_ms=1), SESSION, 2.0, asleep_s=100.0)
    assert told(members) == [(A, "asleep")]
    members.hear_state(A, ONLINE, SESSION + 1, 50.0)
    assert told(members) == [(A, "alive")]
    members.hear_state(B, GOODBYE, SESSION, 51.0)
    assert told(members) == [(B, "offline")]
    members._forget(B)
    assert told(members) == [(B, "gone")]
    assert B not in members.sightings._told


def test_strangers_that_come_and_go_are_no_events() -> None:
    members = members_of(A)
    told(members)
    for session in range(1, 50):
        members.hear_announcement(C, PeerAnnouncement(name=f"{session}"))
        members.hear_state(C, ONLINE, SESSION + session, 2.0 + session)
        members.hear_state(C, WILL, SESSION + session, 2.5 + session)
    assert told(members) == []
