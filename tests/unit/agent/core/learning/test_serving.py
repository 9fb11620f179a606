"""When servers spread what members know, so that gossip may rest."""

from __future__ import annotations

import numpy as np

from grapevine_agent.core.learning.server_link import ServerLink, serve
from grapevine_proto.messages import ServerModel

MEMBERS = [f"member-{k}" for k in range(20)]


def link_with(*contributors: str, at_s: float = 10.0, peer: str = "server") -> ServerLink:
    link = ServerLink(peer, heartbeat_s=1.0)
    link.hear_life(at_s - 1)
    link.hear_life(at_s)
    link.hear_model(model_of(*contributors), MEMBERS[0], now_s=at_s)
    return link


def model_of(*contributors: str, version: int = 1) -> ServerModel:
    return ServerModel(
        task="t",
        model_version=version,
        age=1,
        full=np.empty(0, np.float32),  # nobody looks into it
        contributions=dict.fromkeys(contributors, 1),
    )


def serves(*links: ServerLink, now_s: float = 10.5, members: int = 20) -> bool:
    return serve(links, now_s, round_interval_s=1.0, num_members=members)


def test_a_server_serves_once_half_of_the_members_are_in_its_model() -> None:
    assert not serves()
    assert not serves(link_with(*MEMBERS[:9]))
    assert serves(link_with(*MEMBERS[:10]))
    assert serves(link_with(*MEMBERS[:5], peer="one"), link_with(*MEMBERS[5:10], peer="two"))
    assert not serves(link_with(*MEMBERS[:5], peer="one"), link_with(*MEMBERS[:5], peer="two"))


def test_a_server_of_a_large_swarm_need_not_hear_half_of_it() -> None:
    many = [f"member-{k}" for k in range(32)]
    assert serves(link_with(*many), members=10_000)


def test_a_server_that_is_alive_and_publishes_nothing_does_not_serve() -> None:
    link = link_with(*MEMBERS)
    for second in (11.0, 12.0, 13.0, 14.0):
        link.hear_life(second)
    assert link.state == "reachable"
    assert serves(link, now_s=13.0)
    assert not serves(link, now_s=14.0)
    link.hear_model(model_of(*MEMBERS, version=1), MEMBERS[0], now_s=14.0)  # the same again is no news
    assert not serves(link, now_s=14.0)
    link.hear_model(model_of(*MEMBERS, version=2), MEMBERS[0], now_s=14.0)
    assert serves(link, now_s=14.0)


def test_a_server_of_slow_members_serves_at_their_pace() -> None:
    link = link_with(*MEMBERS)
    for second in range(11, 27):
        link.hear_life(second)
        if second == 18:
            link.hear_model(model_of(*MEMBERS, version=2), MEMBERS[0], now_s=18.0)
    assert serves(link, now_s=26.0)


def test_a_lost_server_does_not_serve() -> None:
    link = link_with(*MEMBERS)
    link.hear_gone()
    assert not serves(link)
