"""Messages on their way to one client: a window, a bounded queue, and what comes again."""

from __future__ import annotations

import pytest

pytest.importorskip("amqtt", reason="the embedded broker is the extra grapevine[broker]")

from hypothesis import given
from hypothesis import strategies as st
from tests.raw_mqtt import PUBREL, answer, publish

from grapevine_broker.limits import Limits
from grapevine_broker.outbox import OBJECT_BYTES, Message, Outbox, Room


def an_outbox(room: Room | None = None, *, is_open: bool = True, **limits: int) -> Outbox:
    outbox = Outbox(Limits(**limits), room or Room())
    if is_open:
        assert outbox.open() == []
    return outbox


def say(text: str, qos: int = 1) -> Message:
    return Message("t", text.encode(), qos)


def sent(text: str, packet_id: int, qos: int = 1, *, dup: bool = False) -> bytes:
    return publish("t", text.encode(), qos, packet_id, dup=dup)


def test_what_does_not_fit_the_window_follows_the_acknowledgements() -> None:
    outbox = an_outbox(max_in_flight=2)
    assert [outbox.send(say(text)) for text in "abc"] == [[sent("a", 1)], [sent("b", 2)], []]
    assert outbox.acknowledged(2) == [sent("c", 3)]
    assert outbox.acknowledged(1) == []


def test_the_window_is_bounded_in_bytes_too_but_one_message_always_fits() -> None:
    outbox = an_outbox(max_unsent_bytes=10 + OBJECT_BYTES)
    large, small = say("x" * 50), say("s")
    assert len(outbox.send(large)) == 1
    assert outbox.send(small) == []
    assert outbox.acknowledged(1) == [sent("s", 2)]
    assert outbox.send(large) == []


def test_a_full_queue_loses_its_oldest_and_counts_it() -> None:
    outbox = an_outbox(is_open=False, max_queued_messages=2)
    for text in "abc":
        assert outbox.send(say(text)) == []
    assert outbox.num_lost == 1
    assert outbox.open() == [sent("b", 1), sent("c", 2)]


def test_a_queue_that_is_full_in_bytes_loses_as_many_as_it_takes() -> None:
    aa, bb, cc, large = say("a" * 200), say("b" * 200), say("c" * 200), say("d" * 500)
    outbox = an_outbox(is_open=False, max_queued_bytes=3 * aa.num_bytes)
    for message in (aa, bb, cc, large):
        outbox.send(message)
    assert outbox.num_lost == 2
    assert outbox.send(say("e" * 2000)) == []
    assert outbox.num_lost == 3, "what fits nowhere costs nobody else a place"
    assert outbox.open() == [cc.frame(1), large.frame(2)]


def test_the_room_of_all_is_shared_and_given_back() -> None:
    room = Room()
    max_bytes = say("aaaa").num_bytes + 100
    first, second = (an_outbox(room, is_open=False, max_queued_bytes_in_all=max_bytes) for _ in range(2))
    first.send(say("aaaa"))
    second.send(say("b"))
    assert (first.num_lost, second.num_lost) == (0, 1)
    first.clear()
    assert room.num_bytes == 0
    second.send(say("b"))
    assert second.open() == [sent("b", 1)]
    second.acknowledged(1)
    assert room.num_bytes == 0


def test_what_is_in_flight_is_never_lost_to_newer_ones() -> None:
    outbox = an_outbox(max_in_flight=1, max_queued_messages=1)
    for text in "abc":
        outbox.send(say(text))
    assert outbox.open() == [sent("a", 1, dup=True)]
    assert outbox.acknowledged(1) == [sent("c", 2)]


def test_an_exchange_at_qos_2_goes_on_where_it_was() -> None:
    outbox = an_outbox()
    assert outbox.send(say("a", 2)) == [sent("a", 1, 2)]
    assert outbox.open() == [sent("a", 1, 2, dup=True)]
    assert outbox.received(1) == [answer(PUBREL, 1)]
    assert outbox.open() == [answer(PUBREL, 1)]
    assert outbox.received(1) == [answer(PUBREL, 1)], "the client may not have heard the first"
    assert outbox.completed(1) == []
    assert outbox.open() == []


def test_a_released_message_still_takes_a_place_in_the_window() -> None:
    outbox = an_outbox(max_in_flight=1)
    outbox.send(say("a", 2))
    outbox.send(say("b", 2))
    assert outbox.received(1) == [answer(PUBREL, 1)]
    assert outbox.completed(1) == [sent("b", 2, 2)]


@pytest.mark.parametrize("qos", [1, 2])
def test_answers_that_fit_nothing_change_nothing(qos: int) -> None:
    outbox = an_outbox(max_in_flight=1)
    outbox.send(say("a", qos))
    outbox.send(say("b", qos))
    assert outbox.acknowledged(9) == outbox.completed(9) == outbox.completed(1) == []
    assert outbox.received(9) == [answer(PUBREL, 9)], "so that the client can end its side"
    assert (outbox.received(1) if qos == 1 else outbox.acknowledged(1)) == []
    assert outbox.open() == [sent("a", 1, qos, dup=True)]


def test_packet_ids_go_round_and_pass_over_those_in_flight() -> None:
    outbox = an_outbox(max_in_flight=2)
    outbox.send(say("stays"))
    for number in range(2, 65_536):
        assert outbox.send(say("x")) == [sent("x", number)]
        outbox.acknowledged(number)
    assert outbox.send(say("y")) == [sent("y", 2)]


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 2), st.integers(0, 30)),
            st.tuples(st.sampled_from(["acknowledged", "received", "completed"]), st.integers(1, 12)),
            st.tuples(st.sampled_from(["open", "close", "clear"])),
        ),
        max_size=60,
    )
)
def test_whatever_happens_the_bounds_hold_and_nothing_is_counted_twice(steps: list[tuple[object, ...]]) -> None:
    room = Room()
    max_bytes, max_in_all = 6 * OBJECT_BYTES, 5 * OBJECT_BYTES
    outbox = an_outbox(
        room, max_in_flight=3, max_queued_messages=4, max_queued_bytes=max_bytes, max_queued_bytes_in_all=max_in_all
    )
    other = an_outbox(room, is_open=False, max_queued_bytes_in_all=max_in_all)
    other.send(say("someone else's"))
    others_bytes = room.num_bytes
    for what, *arguments in steps:
        if what == "send":
            qos, size = arguments
            outbox.send(Message("t", bytes(int(str(size))), int(str(qos))))
        else:
            getattr(outbox, str(what))(*arguments)
        in_flight = list(outbox._in_flight.values())
        kept = [message for message in [*in_flight, *outbox._waiting] if message is not None]
        assert len(in_flight) <= 3
        assert len(outbox._waiting) <= 4
        assert room.num_bytes == others_bytes + sum(message.num_bytes for message in kept)
        assert room.num_bytes <= max_in_all
        assert outbox._num_bytes_in_flight == sum(message.num_bytes for message in in_flight if message is not None)
    outbox.clear()
    assert room.num_bytes == others_bytes
