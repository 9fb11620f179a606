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


def test_of_two_servers_the_one_that_counts_more_is_followed() -> None:
    other = voice("t", [9, 9], kind="server", source_weight=6)
    assert merge("follow-server", LOCAL, SERVER, other).shares == {"t": 1.0}
