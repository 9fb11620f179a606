"""What is learnt of a broker's packet limit from how connections end, and what is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.net.packet_limit import GROWS_AFTER_S, SMALLEST_BYTES, PacketLimit

OWN = 1_000_000


def closed(limit: PacketLimit, num_bytes: int, now_s: float = 0.0) -> None:
    """A broker closes the connection at a packet, and takes us in again at once."""
    limit.closed(num_bytes, now_s)
    limit.taken_in(now_s)


def test_the_second_connection_that_ends_at_a_packet_of_one_size_halves_the_limit_below_it() -> None:
    limit = PacketLimit(own_bytes=OWN)
    closed(limit, 200_000)
    assert limit.bytes(0.0) == OWN
    closed(limit, 220_000)
    assert limit.bytes(0.0) == 125_000
    assert limit.is_learnt


def test_it_goes_on_until_it_is_below_what_the_broker_takes_and_no_further_than_the_smallest() -> None:
    limit = PacketLimit(own_bytes=OWN)
    for _ in range(20):
        if (size := limit.bytes(0.0)) > 15_000:
            closed(limit, size)
    assert 7_000 < limit.bytes(0.0) < 15_000
    for _ in range(20):
        closed(limit, 5_000)
    assert limit.bytes(0.0) == SMALLEST_BYTES


def test_a_broker_that_was_not_there_at_the_next_attempt_was_killed() -> None:
    limit = PacketLimit(own_bytes=OWN)
    for _ in range(5):
        limit.closed(200_000, 0.0)
        limit.not_reached()
        limit.taken_in(1.0)
    assert limit.bytes(1.0) == OWN


def test_an_acknowledged_message_of_that_size_clears_it() -> None:
    limit = PacketLimit(own_bytes=OWN)
    for _ in range(5):
        closed(limit, 200_000)
        limit.acknowledged(200_000)
    assert limit.bytes(0.0) == OWN


def test_smaller_messages_that_are_acknowledged_clear_nothing() -> None:
    limit = PacketLimit(own_bytes=OWN)
    for _ in range(2):
        closed(limit, 200_000)
        limit.acknowledged(1_000)
    assert limit.bytes(0.0) == 125_000


def test_losses_at_sizes_that_have_nothing_in_common_are_no_proof() -> None:
    limit = PacketLimit(own_bytes=OWN)
    closed(limit, 400_000)
    closed(limit, 20_000)
    closed(limit, 0)
    assert limit.bytes(0.0) == OWN


def test_what_the_broker_says_itself_is_believed_at_once() -> None:
    limit = PacketLimit(own_bytes=OWN)
    limit.closed(200_000, 0.0, is_said=True)
    assert limit.bytes(0.0) == 125_000


def test_a_learnt_limit_grows_back_with_time() -> None:
    limit = PacketLimit(own_bytes=OWN)
    closed(limit, 400_000)
    closed(limit, 400_000)
    assert limit.bytes(GROWS_AFTER_S - 1) == 250_000
    assert limit.bytes(GROWS_AFTER_S) == 500_000
    assert limit.bytes(2 * GROWS_AFTER_S) == OWN
    assert not limit.is_learnt


def test_a_message_as_large_as_what_was_blamed_lifts_the_limit() -> None:
    limit = PacketLimit(own_bytes=OWN)
    closed(limit, 400_000)
    closed(limit, 400_000)
    assert limit.bytes(GROWS_AFTER_S) == 500_000
    limit.acknowledged(390_000)
    assert limit.is_learnt
    limit.acknowledged(450_000)
    assert limit.bytes(GROWS_AFTER_S) == OWN


@given(st.lists(st.integers(0, 2 * OWN), max_size=40))
def test_it_stays_within_its_bounds(sizes: list[int]) -> None:
    limit = PacketLimit(own_bytes=OWN)
    for at, size in enumerate(sizes):
        before = limit.bytes(float(at))
        closed(limit, size, float(at))
        assert SMALLEST_BYTES <= limit.bytes(float(at)) <= before
