"""What others may ask of us about peers, and what it may cost."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.effects import Effect, Publish
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.answers import AnswerQuota
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.overlay.presence import Presence
from grapevine_agent.core.overlay.probes import MAX_RELAYS, REQUESTS_PER_HEARTBEAT, Probes
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Body, Heartbeat, PeerState, Probe, ProbeAnswer, ProbeRequest
from grapevine_proto.topics import InboxTopic

ME, A, B, STRANGER = "m" * 20, "a" * 20, "b" * 20, "s" * 20


def probes(*more: str) -> Probes:
    members = Members(1.0, np.random.default_rng(0))
    for peer in (A, B, *more):
        members.hear_state(peer, PeerState(online=True), 5, 0.0)
        members.hear_heartbeat(peer, Heartbeat(incarnation=1), 0.0, session=5)
    return Probes(members=members, presence=Presence(peer=ME, heartbeat_s=1.0), quota=AnswerQuota())


def said(effects: list[Effect]) -> list[tuple[str, Body, int]]:
    """To whom, what, and to which session; all at QoS 0."""
    letters = []
    for effect in effects:
        assert isinstance(effect, Publish)
        assert isinstance(effect.topic, InboxTopic)
        assert (effect.qos, effect.retain, effect.topic.sender) == (0, False, ME)
        letters.append((effect.topic.receiver, effect.body, effect.receiver_session))
    return letters


def num_said(ours: Probes, sender: str, body: Body, now_s: float) -> int:
    """How many letters a message brings; none if it is too much."""
    try:
        return len(ours.take(sender, 9, body, now_s))
    except WireError as error:
        if error.reason != "over-quota":
            raise
        return 0


def test_a_probe_is_answered_to_the_session_that_asks() -> None:
    answers = said(probes().take(A, 9, Probe(nonce=3), 1.0))
    assert answers == [(A, ProbeAnswer(nonce=3, incarnation=1), 9)]


def test_an_answer_says_how_many_hops_the_probe_had() -> None:
    answers = said(probes().take(A, 9, Probe(nonce=3), 1.0, hops=2))
    assert answers == [(A, ProbeAnswer(nonce=3, incarnation=1, hops=2), 9)]


def test_who_hears_that_it_is_suspected_is_in_a_higher_incarnation_and_says_so() -> None:
    ours = probes()
    (answer,) = said(ours.take(A, 9, Probe(nonce=3, suspected=1), 1.0))
    assert answer[1] == ProbeAnswer(nonce=3, incarnation=2)
    (answer,) = said(ours.take(B, 9, Probe(nonce=4, suspected=1), 1.0))  # contradicted already
    assert answer[1] == ProbeAnswer(nonce=4, incarnation=2)
    (answer,) = said(ours.take(B, 9, Probe(nonce=4, suspected=10**15), 1.0))  # nobody can know that one
    assert answer[1] == ProbeAnswer(nonce=4, incarnation=2)
    ours.presence.connected(7, Moment(1.0, 1_000))
    (_, beat) = (None, ours.presence.tick((), 2.0)[-1])
    assert isinstance(beat, Publish)
    assert beat.body == Heartbeat(incarnation=2, quiet_s=1.0)


def test_a_request_brings_one_probe_and_its_answer_goes_back() -> None:
    ours = probes()
    request = ProbeRequest(nonce=77, peer=B, session=5, suspected=1)
    ((receiver, probe, session),) = said(ours.take(A, 9, request, 1.0))
    assert (receiver, session) == (B, 5)
    assert isinstance(probe, Probe)
    assert probe.suspected == 1
    answer = ProbeAnswer(nonce=probe.nonce, incarnation=2)
    assert said(ours.take(A, 9, answer, 1.1)) == []  # not by whom was asked
    assert said(ours.take(B, 5, answer, 1.1)) == [(A, ProbeAnswer(nonce=77, peer=B, session=5, incarnation=2), 9)]
    assert said(ours.take(B, 5, answer, 1.2)) == []  # once


def test_a_suspect_is_addressed_in_the_newest_session_that_either_knows() -> None:
    ours = probes()
    ours.members.wall_ms = 10**12
    ((_, _, newer),) = said(ours.take(A, 9, ProbeRequest(nonce=1, peer=B, session=8, suspected=1), 1.0))
    ((_, _, older),) = said(ours.take(A, 9, ProbeRequest(nonce=1, peer=B, session=2, suspected=1), 1.0))
    assert (newer, older) == (8, 5)
    assert ours.members.session_of(B) == 5


@pytest.mark.parametrize(("asker", "suspect"), [(STRANGER, B), (A, STRANGER), (A, A)])
def test_only_members_have_members_probed(asker: str, suspect: str) -> None:
    with pytest.raises(WireError, match="stranger"):
        probes().take(asker, 9, ProbeRequest(nonce=1, peer=suspect, session=5, suspected=1), 1.0)


def test_requests_are_heard_at_a_bounded_rate_of_one_and_of_all() -> None:
    crowd = [f"{k:020d}" for k in range(20)]
    ours = probes(*crowd)

    def num_probed(askers: list[str], now_s: float) -> int:
        request = ProbeRequest(nonce=1, peer=B, session=5, suspected=1)
        return sum(num_said(ours, asker, request, now_s) for asker in askers for _ in range(50))

    assert num_probed([A], 1.0) == 16
    assert num_probed([A], 2.0) == 2
    assert num_probed(crowd, 2.0) == REQUESTS_PER_HEARTBEAT - 16 + 14
    assert len(ours._relays) <= MAX_RELAYS


def test_a_peer_that_floods_us_with_probes_is_answered_at_a_bounded_rate() -> None:
    ours = probes()
    assert sum(num_said(ours, STRANGER, Probe(nonce=k), 1.0 + k / 1_000) for k in range(1_000)) <= 32 + 10
    assert len(ours.take(A, 9, Probe(nonce=1), 2.0)) == 1  # others are answered as ever


def test_heartbeats_that_come_late_say_so_and_ever_less_of_it() -> None:
    presence = Presence(peer=ME, heartbeat_s=1.0)
    presence.connected(7, Moment(0.0, 0))
    quiet = []
    for now_s in (0.0, 1.0, 5.0, 6.0, 7.0, *np.arange(8.0, 40.0)):
        for effect in presence.tick((), float(now_s)):
            assert isinstance(effect, Publish)
            assert isinstance(effect.body, Heartbeat)
            quiet.append(effect.body.quiet_s)
    assert quiet[:5] == [0.0, 0.0, 3.0, pytest.approx(2.7), pytest.approx(2.43)]
    assert quiet[-1] == 0.0
    presence.tick((), 1_000.0)
    (late,) = presence.tick((), 3_000.0)
    assert isinstance(late, Publish)
    assert isinstance(late.body, Heartbeat)
    assert late.body.quiet_s == 10.0
