"""What strangers may have us verify."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from grapevine_agent.core.overlay.gate import MAX_PRESENCE_BYTES, STRANGERS_BURST, STRANGERS_PER_S, Gate
from grapevine_agent.core.overlay.members import Members
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Heartbeat, PeerAnnouncement, PeerState
from grapevine_proto.topics import InboxTopic, PeerTopic, TaskTopic, Topic

ME, FRIEND = "m" * 20, "f" * 20


def gate_of() -> Gate:
    members = Members(1.0, np.random.default_rng(0))
    members.hear_announcement(FRIEND, PeerAnnouncement(tasks=("t",)))
    members.hear_state(FRIEND, PeerState(online=True), 1, 0.0)
    members.hear_heartbeat(FRIEND, Heartbeat(), 0.0)
    return Gate(peer=ME, members=members)


def num_let_in(gate: Gate, topics: list[Topic], *, for_s: float, num_bytes: int = 200) -> int:
    num = 0
    for k, topic in enumerate(topics):
        with suppress(WireError):
            num += gate.lets_in(topic, num_bytes, k * for_s / len(topics))
    return num


def strangers(num: int) -> list[str]:
    return [f"x{k:019d}" for k in range(num)]


def test_seven_thousand_strangers_have_a_bounded_number_of_announcements_verified() -> None:
    gate = gate_of()
    said: list[Topic] = [PeerTopic(p, leaf) for p in strangers(7_000) for leaf in ("announcement", "state")]
    let_in = num_let_in(gate, said, for_s=12.0)
    assert let_in <= STRANGERS_BURST + 12 * STRANGERS_PER_S + 1
    assert gate.lets_in(PeerTopic(FRIEND, "state"), 200, 12.0)  # members are never refused
    assert gate.lets_in(PeerTopic(ME, "state"), 200, 12.0)
    assert gate.lets_in(TaskTopic(strangers(1)[0], "t" * 64, "manifest"), 200, 12.0)  # has limits of its own


def test_a_gentle_stream_of_newcomers_is_read_whole() -> None:
    said: list[Topic] = [PeerTopic(p, "announcement") for p in strangers(3_000)]
    assert num_let_in(gate_of(), said, for_s=60.0) == 3_000


def test_strangers_letters_are_bounded_in_number_and_in_bytes() -> None:
    letters: list[Topic] = [InboxTopic(ME, p) for p in strangers(7_000)]
    assert num_let_in(gate_of(), letters, for_s=1.0) <= STRANGERS_BURST + STRANGERS_PER_S + 1
    assert num_let_in(gate_of(), letters[:200], for_s=1.0, num_bytes=1_000_000) <= 90
    gate = gate_of()
    num_let_in(gate, letters, for_s=1.0)
    assert gate.lets_in(InboxTopic(ME, FRIEND), 1_000_000, 1.0)


def test_strangers_metrics_are_bounded_while_a_task_is_watched() -> None:
    said: list[Topic] = [TaskTopic(p, "t" * 64, "metrics") for p in strangers(7_000)]
    assert num_let_in(gate_of(), said, for_s=1.0) <= STRANGERS_BURST + STRANGERS_PER_S + 1


def test_presence_that_is_too_large_is_not_read() -> None:
    with pytest.raises(WireError, match="too-big"):
        gate_of().lets_in(PeerTopic(FRIEND, "announcement"), MAX_PRESENCE_BYTES + 1, 0.0)


def test_who_was_turned_away_unread_is_found_by_a_roll_call() -> None:
    gate = gate_of()
    assert gate.members.roll_call.is_open is False
    num_let_in(gate, [PeerTopic(p, "announcement") for p in strangers(7_000)], for_s=1.0)
    gate.members.tick(1.0)
    assert gate.members.roll_call.is_open
    assert gate.lets_in(PeerTopic("n" * 20, "heartbeat"), 100, 1.0)
