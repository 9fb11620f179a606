"""What several servers weigh: whoever is named by two of them counts once."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.learning.server_link import ServerLink
from grapevine_agent.core.learning.server_voices import weights
from grapevine_proto.messages import ServerAdvert, ServerModel

MEMBERS = [f"member{k}" for k in range(9)]


def link(peer: str, members: list[str], heard_s: float = 100.0) -> ServerLink:
    server = ServerLink(peer)
    model = ServerModel(
        task="t", model_version=1, age=1, full=np.zeros(1, np.float32), contributions=dict.fromkeys(members, 1)
    )
    server.hear_model(model, "me")
    server.hear_advert(
        ServerAdvert(task="t", online=True, contributors=tuple(members), heartbeat_s=1.0), heard_s, retained=False
    )
    return server


def weighed(*servers: ServerLink, cap: float = 100.0, now_s: float = 100.0) -> dict[str, float]:
    return weights({server.peer: server for server in servers}, now_s, known=MEMBERS, cap=cap)


def test_a_server_alone_weighs_what_it_always_did() -> None:
    for members, cap, now_s in [
        (MEMBERS, 100.0, 100.0),
        (MEMBERS, 4.0, 100.0),
        (MEMBERS[:1], 4.0, 103.0),
        ([], 4.0, 101.5),
    ]:
        alone = link("a", members)
        expected = alone.source_weight(now_s, known=MEMBERS, cap=cap)
        assert weighed(alone, cap=cap, now_s=now_s) == {"a": pytest.approx(expected)}


def test_servers_with_members_of_their_own_weigh_as_many_as_these() -> None:
    assert weighed(link("a", MEMBERS[:2]), link("b", MEMBERS[2:])) == {"a": 2.0, "b": 7.0}


def test_contributors_that_two_servers_name_count_once() -> None:
    both = weighed(link("a", MEMBERS), link("b", MEMBERS))
    assert both == {"a": pytest.approx(4.5), "b": pytest.approx(4.5)}
    partly = weighed(link("a", MEMBERS[:6]), link("b", MEMBERS[4:]))
    assert partly == {"a": pytest.approx(5.0), "b": pytest.approx(4.0)}


def test_the_cap_holds_for_all_servers_together() -> None:
    capped = weighed(link("a", MEMBERS[:3]), link("b", MEMBERS[3:]), cap=3.0)
    assert capped == {"a": pytest.approx(1.0), "b": pytest.approx(2.0)}


def test_what_a_silent_server_loses_another_that_names_the_same_members_has_at_once() -> None:
    silent = link("a", MEMBERS, heard_s=97.0)
    found = weighed(silent, link("b", MEMBERS))
    assert found["a"] < found["b"] / 3
    assert found["a"] + found["b"] == pytest.approx(9.0)
    assert set(weighed(link("a", MEMBERS, heard_s=50.0), link("b", MEMBERS))) == {"b"}


def test_whom_nobody_here_has_heard_of_adds_no_weight() -> None:
    assert weighed(link("a", [*MEMBERS[:2], "stranger"]), link("b", ["stranger"])) == {"a": 2.0, "b": 1.0}
