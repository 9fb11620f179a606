"""`follow-server`: federated learning's client."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.agent.merge.by_hand import merge, voice

LOCAL = voice("i", [1, 2], 5, buffers=[1], experience=9)
PEER = voice("k", [7, 7], 50, buffers=[7])
SERVER = voice("s", [3, 4], 8, buffers=[2], kind="server", source_weight=5)


def test_the_servers_model_is_taken_whole_and_peers_are_left_aside() -> None:
    merged = merge("follow-server", LOCAL, PEER, SERVER)
    assert (merged.parameters.tolist(), merged.buffers.tolist()) == ([3, 4], [2])
    assert (merged.age, merged.experience) == (8, 0)  # the counters go with the model
    assert merged.shares == {"s": 1.0}


def test_a_model_is_taken_once_so_that_training_goes_on_from_it() -> None:
    assert merge("follow-server", LOCAL, replace(SERVER, seen=True)).parameters.tolist() == [1, 2]


def test_a_server_that_has_faded_is_followed_no_more() -> None:
    assert merge("follow-server", LOCAL, PEER, replace(SERVER, source_weight=0.5)).parameters.tolist() == [1, 2]


def test_servers_that_share_the_members_are_followed_by_what_each_counts_for() -> None:
    other = replace(SERVER, peer="t", parameters=LOCAL.parameters, source_weight=15)
    merged = merge("follow-server", LOCAL, PEER, SERVER, replace(other, seen=True))
    assert merged.shares == {"s": 0.25, "t": 0.75}
    assert merged.parameters.tolist() == [0.25 * 3 + 0.75 * 1, 0.25 * 4 + 0.75 * 2]
    assert merge("follow-server", LOCAL, replace(SERVER, seen=True), replace(other, seen=True)).parameters.tolist() == [
        1,
        2,
    ]
