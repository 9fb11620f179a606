"""What heartbeats, states and probes may say."""

from __future__ import annotations

import math

import pytest

from grapevine_proto import bodies
from grapevine_proto import messages as m
from grapevine_proto import wire_pb2 as pb
from grapevine_proto.errors import WireError

TOO_MUCH = 2**53 + 1


@pytest.mark.parametrize(
    "wire",
    [
        pb.Message(heartbeat=pb.Heartbeat(incarnation=TOO_MUCH)),
        pb.Message(heartbeat=pb.Heartbeat(quiet_s=math.nan)),
        pb.Message(heartbeat=pb.Heartbeat(quiet_s=math.inf)),
        pb.Message(heartbeat=pb.Heartbeat(quiet_s=-1.0)),
        pb.Message(probe=pb.Probe(nonce=TOO_MUCH)),
        pb.Message(probe=pb.Probe(suspected=TOO_MUCH)),
        pb.Message(probe_request=pb.ProbeRequest(peer="", nonce=1)),
        pb.Message(probe_request=pb.ProbeRequest(peer="a/b", nonce=1)),
        pb.Message(probe_request=pb.ProbeRequest(peer="a", session=TOO_MUCH)),
        pb.Message(probe_answer=pb.ProbeAnswer(peer="+", nonce=1)),
        pb.Message(probe_answer=pb.ProbeAnswer(nonce=1, incarnation=TOO_MUCH)),
        pb.Message(probe_answer=pb.ProbeAnswer(nonce=1, hops=17)),
    ],
    ids=str,
)
def test_what_is_out_of_bounds_is_dropped(wire: pb.Message) -> None:
    with pytest.raises(WireError, match=r"out-of-range|malformed"):
        bodies.read(wire)


def test_who_is_online_does_not_say_goodbye() -> None:
    assert bodies.read(pb.Message(state=pb.PeerState(online=True, goodbye=True))) == m.PeerState(online=True)


def test_what_agents_of_before_say_is_read_as_before() -> None:
    assert bodies.read(pb.Message(heartbeat=pb.Heartbeat())) == m.Heartbeat(incarnation=0, quiet_s=0.0)
    assert bodies.read(pb.Message(state=pb.PeerState())) == m.PeerState(online=False)
