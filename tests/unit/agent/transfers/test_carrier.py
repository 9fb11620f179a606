"""Both ends of transfers together: whatever the line does, only what is whole and right is handed over."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from grapevine_agent.transfers.assembly import Room
from grapevine_agent.transfers.carrier import Carrier, End, Notice, RoomKind, goes_apart, message_of, thing_of
from grapevine_agent.transfers.fetching import GIVE_UP_S, MOST_AT_A_TIME, MOST_WAITING, Ask, GivenUp, Whole
from grapevine_agent.transfers.giving import KEEP_S, MOST_OF_A_THING, Gift, NotGivenError
from grapevine_proto.bulk import APART_BYTES, CHUNK_BYTES, Bulk, index_of, is_index
from grapevine_proto.codec import Received, SealedApart, open_envelope, seal_apart
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Blob, Body, ChunkRequest, Heartbeat, Message, ModelUpdate
from grapevine_proto.parts import Parts
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import ChunkTopic, InboxTopic

GETS = "b" * 20
TASK = "ab" * 32
KEYS = (SigningKey.generate(), SigningKey.generate())
GIVES, LIES = (key.peer_id for key in KEYS)
MOST_BYTES = 2_000_000


@dataclass(frozen=True, eq=False)
class Said:
    """A message in two, as its sender holds it and as its receiver has let it in."""

    body: Body
    sealed: SealedApart
    received: Received


@cache
def said(number: int, by: SigningKey = KEYS[0]) -> Said:
    """An update of one to four chunks, or a blob."""
    rng = np.random.default_rng(number)
    body: Body
    if number % 3 == 2:
        body = Blob(task=TASK, digest="cd" * 32, content=rng.bytes(2 * CHUNK_BYTES + number))
    else:
        full = rng.standard_normal((number + 1) * CHUNK_BYTES // 4 - 11).astype(np.float32)
        body = ModelUpdate(task=TASK, window=1, version=number + 1, age=1, experience=1, samples=1, full=full)
    topic = InboxTopic(GETS, by.peer_id)
    message = Message(sender=by.peer_id, session=1, sequence=number + 1, body=body, created_at_ms=1)
    sealed = seal_apart(message, topic, by)
    return Said(body, sealed, open_envelope(sealed.payload, topic))


def content_of(body: Body) -> bytes:
    return body.content if isinstance(body, Blob) else body.full.tobytes()  # type: ignore[union-attr]


class Rooms:
    """Where bulks are put together: counted, and on a disk that outlasts its process."""

    def __init__(self) -> None:
        self.disk: dict[bytes, bytearray] = {}
        self.open: list[_Room] = []

    def __call__(self, kind: RoomKind, bulk: Bulk) -> Room:
        content = bytearray(bulk.num_bytes)
        if kind == "disk":
            begun = self.disk.get(bulk.digest, content)
            content = self.disk[bulk.digest] = begun if len(begun) == len(content) else content
        room = _Room(self, content, bulk.digest)
        self.open.append(room)
        return room


@dataclass(eq=False)
class _Room:
    rooms: Rooms
    content: bytearray
    digest: bytes
    view: memoryview = field(init=False)

    def __post_init__(self) -> None:
        self.view = memoryview(self.content)

    def close(self) -> None:
        if self in self.rooms.open:
            self.rooms.open.remove(self)

    def discard(self) -> None:
        self.close()
        self.rooms.disk.pop(self.digest, None)


def carrier(peer: str, rooms: Rooms | None = None, upload_bytes_per_s: float = math.inf) -> Carrier:
    return Carrier(
        peer=peer,
        window=4,
        most_bytes=MOST_BYTES,
        upload_bytes_per_s=upload_bytes_per_s,
        make_room=rooms or Rooms(),
    )


def hold(gives: Carrier, each: Said, now_s: float = 0.0) -> None:
    assert gives.hold(each.body, each.sealed, GETS, now_s) == each.sealed.payload


def gifts_for(
    gives: Carrier, request: ChunkRequest, now_s: float = 0.0, asker: str = GETS, packet: int = 50_000
) -> list[Gift]:
    """What is to be sent at once."""
    gives.give(request, asker, now_s, is_member=asker == GETS)
    return list(gives.due(now_s, lambda _: packet))


def pieces_for(gives: Carrier, request: ChunkRequest, now_s: float) -> list[tuple[ChunkTopic, bytes]]:
    """What an answer brings."""
    try:
        gifts = gifts_for(gives, request, now_s)
    except NotGivenError:
        return []
    found = [(gives.topic_of(gift), gives.payload_of(gift)) for gift in gifts]
    assert all(payload is None or len(payload) < 50_000 for _, payload in found)
    return [(topic, payload) for topic, payload in found if payload is not None]


def holds(gives: Carrier, ask: Ask) -> bool:
    return gives.giving.content_of(Gift(ask.request.digest, True, 0, 0)) is not None


def settle(gets: Carrier, givers: dict[str, Carrier], now_s: float) -> tuple[list[End], float]:
    """Answer everything, at once, until nothing is wanted any more; and when that was."""
    ends: list[End] = []
    for _ in range(20_000):
        if not len(gets.fetching):
            return ends, now_s
        for what in gets.tick(now_s):
            if not isinstance(what, Ask):
                ends.append(what)
                continue
            giver = givers[what.holder]
            if not holds(giver, what):
                gone = gets.fetching.hear_refusal(what.holder, what.request.digest, "not held")
                ends += [gone] if gone is not None else []
                continue
            for topic, payload in pieces_for(giver, what.request, now_s):
                with contextlib.suppress(WireError):
                    ends += gets.hear_piece(topic, payload, now_s)
        now_s += 0.05
    raise AssertionError("it never ends")


# --- one after the other ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_what_was_held_is_what_is_handed_over(number: int) -> None:
    each, gives, gets = said(number), carrier(GIVES), carrier(GETS)
    hold(gives, each)
    assert gets.want(each.received, 0.0) == []
    (end,), _ = settle(gets, {GIVES: gives}, 0.0)
    assert isinstance(end, Whole)
    (notice,) = end.wanted_for
    assert isinstance(notice, Notice)
    assert notice.task == TASK
    assert content_of(message_of(notice, end.room.view).message.body) == content_of(each.body)
    assert gets.status()["fetched"] == 1
    assert gives.status()["given_bytes"] == len(content_of(each.body)) == gets.status()["fetched_bytes"]
    assert gives.status()["given_again_bytes"] == 0


def test_a_message_goes_apart_where_a_packet_or_half_a_second_of_a_line_would_not_do() -> None:
    assert goes_apart(APART_BYTES + 1, 10**9)
    assert not goes_apart(APART_BYTES, 10**9)
    assert not goes_apart(100_000 - 16_384, 100_000)
    assert goes_apart(100_000 - 16_383, 100_000)
    assert goes_apart(4_097, 16_384)
    assert not goes_apart(0, 4_096)


def test_a_body_without_large_fields_is_no_thing() -> None:
    with pytest.raises(ValueError, match="Heartbeat has no large fields"):
        thing_of(Heartbeat(progress=()))


def test_a_gift_fits_into_the_packet_and_what_a_packet_is_too_small_for_goes_in_pieces() -> None:
    each, gives = said(1), carrier(GIVES)
    hold(gives, each)
    request = ChunkRequest(digest=each.sealed.bulk.digest, chunks=(0, 1))
    for packet in (5_000, 16_384, 131_072, 10**6):
        gifts = gifts_for(gives, request, packet=packet)
        payloads = [gives.payload_of(gift) for gift in gifts]
        assert max(len(payload) for payload in payloads if payload is not None) < min(packet, CHUNK_BYTES + 256)
        assert sum(gift.end - gift.start for gift in gifts) == len(content_of(each.body))


def test_who_asks_for_more_than_the_owner_lends_waits() -> None:
    each, gives = said(3), carrier(GIVES, upload_bytes_per_s=CHUNK_BYTES)
    hold(gives, each)
    first, second, third = (ChunkRequest(digest=each.sealed.bulk.digest, chunks=(chunk,)) for chunk in range(3))
    assert [len(gifts_for(gives, request, packet=10**6)) for request in (first, second, third)] == [1, 1, 0]
    assert [len(gifts_for(gives, request, asker=LIES, packet=10**6)) for request in (first, second)] == [1, 0]
    assert gifts_for(gives, third) == []  # asked for again: it waits once
    assert gives.deadline_s(0.0) == 1.0
    assert [(gift.asker, gift.start) for gift in gives.due(1.0, lambda _: 10**6)] == [(GETS, 2 * CHUNK_BYTES)]
    assert [(gift.asker, gift.start) for gift in gives.due(2.0, lambda _: 10**6)] == [(LIES, CHUNK_BYTES)]


def _give_all(gives: Carrier, request: ChunkRequest) -> None:
    for gift in gifts_for(gives, request):
        gives.payload_of(gift)


def test_what_leaves_for_the_same_peer_once_more_is_counted() -> None:
    each, gives = said(1), carrier(GIVES)
    hold(gives, each)
    request = ChunkRequest(digest=each.sealed.bulk.digest, chunks=(0,))
    for asker in (GETS, LIES, GETS):
        for gift in gifts_for(gives, request, asker=asker):
            gives.payload_of(gift)
    assert gives.status()["given_bytes"] == 3 * CHUNK_BYTES
    assert gives.status()["given_again_bytes"] == CHUNK_BYTES
    hold(gives, each)  # told again while it is on its way: the same transfer
    leave = ((0,), 2 * CHUNK_BYTES), ((1,), 2 * CHUNK_BYTES)
    for chunks, again in leave:
        _give_all(gives, ChunkRequest(digest=each.sealed.bulk.digest, chunks=chunks))
        assert gives.status()["given_again_bytes"] == again
    hold(gives, each)  # the same model once more, in another message: another one
    _give_all(gives, ChunkRequest(digest=each.sealed.bulk.digest, chunks=(0, 1)))
    assert gives.status()["given_again_bytes"] == 2 * CHUNK_BYTES


def test_a_transfer_that_goes_on_over_another_connection_is_resumed_once() -> None:
    each, gives, gets = said(3), carrier(GIVES), carrier(GETS)
    hold(gives, each)
    gets.want(each.received, 0.0)
    (ask,) = gets.tick(0.0)
    assert isinstance(ask, Ask)
    gets.connected()  # nothing has come yet: it begins anew
    (ask,) = gets.tick(0.0)
    assert isinstance(ask, Ask)
    for topic, payload in pieces_for(gives, ask.request, 0.0):
        gets.hear_piece(topic, payload, 0.0)
    assert gets.status()["resumed"] == 0
    gets.connected()
    gets.connected()
    (end,), _ = settle(gets, {GIVES: gives}, 0.0)
    assert isinstance(end, Whole)
    assert gets.status()["resumed"] == 1


def test_weights_that_were_begun_go_on_after_a_restart_and_a_model_begins_anew() -> None:
    rooms, gives = Rooms(), carrier(GIVES)
    for number, comes_again in ((2, CHUNK_BYTES), (3, 0)):
        each, gets = said(number), carrier(GETS, rooms)
        hold(gives, each)
        gets.want(each.received, 0.0)
        for now_s in (0.0, 0.1):
            for ask in gets.tick(now_s):
                if isinstance(ask, Ask) and gets.fetching.num_bytes < CHUNK_BYTES:
                    for topic, payload in pieces_for(gives, ask.request, now_s):
                        gets.hear_piece(topic, payload, now_s)
        assert gets.fetching.num_bytes == CHUNK_BYTES
        again = carrier(GETS, rooms)
        again.want(each.received, 1.0)
        (end,), _ = settle(again, {GIVES: gives}, 1.0)
        assert isinstance(end, Whole)
        assert again.fetching.num_bytes == len(content_of(each.body)) - comes_again
        assert again.status()["resumed"] == (1 if comes_again else 0)
        end.room.discard()
    assert not rooms.disk


def test_chunks_for_somebody_else_and_too_large_ones_are_refused() -> None:
    each, gets = said(1), carrier(GETS)
    gets.want(each.received, 0.0)
    gets.tick(0.0)
    transfer = each.sealed.bulk.transfer
    for topic, payload, why in (
        (ChunkTopic(LIES, GIVES, transfer), b"x", "not-asked"),
        (ChunkTopic(GETS, LIES, transfer), b"x", "not-asked"),
        (ChunkTopic(GETS, GIVES, "0" * 20), b"x", "not-asked"),
        (ChunkTopic(GETS, GIVES, transfer), bytes(CHUNK_BYTES + 257), "too-big"),
    ):
        with pytest.raises(WireError, match=why):
            gets.hear_piece(topic, payload, 0.0)


def test_a_notice_that_is_refused_takes_the_place_of_none() -> None:
    gets = carrier(GETS)
    for number in (0, 1):
        gets.want(said(number, KEYS[1]).received, 0.0)
        gets.tick(0.0)
    waits = said(3, KEYS[1])
    gets.fetching.most_bytes = 1  # there is no room for a third one
    gets.want(waits.received, 0.0)
    gets.tick(0.0)
    lie = said(0, KEYS[1]).received
    assert lie.bulk is not None
    with pytest.raises(WireError, match="two sizes of one bulk"):
        gets.want(replace(lie, bulk=replace(lie.bulk, num_bytes=8, lengths=(8,), index=b"")), 0.0)
    assert len(gets.fetching) == 3


def test_time_is_not_due_again_where_it_has_just_passed() -> None:
    each, gives, gets = said(1), carrier(GIVES), carrier(GETS)
    hold(gives, each)
    gives.tick(gives.deadline_s(0.0))
    assert gives.deadline_s(0.0) == math.inf
    gets.want(each.received, 0.0)
    times: list[float] = []
    while (due_s := gets.deadline_s(times[-1] if times else 0.0)) < math.inf:
        now_s = max(due_s, times[-1] if times else 0.0)
        gets.tick(now_s)
        times.append(now_s)
        assert len(times) < 100
    assert times[-1] == pytest.approx(GIVE_UP_S)
    assert gets.status()["given_up"] == 1


# --- everything together ------------------------------------------------------------------------------


class Exchange(RuleBasedStateMachine):
    """One who gives, one who gets and one who lies, over a line that loses, doubles, delays, damages and mixes up."""

    @initialize()
    def begin(self) -> None:
        self.now_s = 0.0
        self.rooms = Rooms()
        self.gives, self.gets = carrier(GIVES), carrier(GETS, self.rooms)
        self.asks: list[Ask] = []
        self.pieces: list[tuple[ChunkTopic, bytes]] = []
        self.refused: list[tuple[str, bytes]] = []
        self.wanted: list[Received] = []  # that this process of the receiver was told of, and has not had an end of
        self.handed_over = 0

    def _take(self, ends: list[End]) -> None:
        for end in ends:
            if isinstance(end, Ask):
                self.asks.append(end)
                continue
            for notice in end.wanted_for:
                assert isinstance(notice, Notice)
                self.wanted = [each for each in self.wanted if each is not notice.received]
                if isinstance(end, Whole):
                    self._hand_over(notice, end)
            if isinstance(end, Whole):
                end.room.discard()

    def _hand_over(self, notice: Notice, end: Whole) -> None:
        bulk = notice.received.bulk
        assert bulk is not None
        assert is_index(bulk.digest, index_of(Parts([bytes(end.room.view)])))
        true = next(each for each in map(said, range(4)) if each.sealed.bulk.digest == bulk.digest)
        assert bytes(end.room.view) == content_of(true.body)
        assert content_of(message_of(notice, end.room.view).message.body) == content_of(true.body)
        self.handed_over += 1

    def _hear_of(self, received: Received) -> None:
        with contextlib.suppress(WireError):
            self._take(list(self.gets.want(received, self.now_s)))
            self.wanted += [received] if self._is_wanted(received) else []

    def _is_wanted(self, received: Received) -> bool:
        """Whether it waits: of one bulk, for so many notices and no more."""
        fetches = self.gets.fetching._fetches.values()
        return any(getattr(notice, "received", None) is received for fetch in fetches for notice in fetch.wanted_for)

    @rule(number=st.integers(0, 3), comes=st.booleans())
    def offer(self, number: int, comes: bool) -> None:
        each = said(number)
        if self.gives.may_send(each.body, each.sealed.bulk.num_bytes, self.now_s):
            hold(self.gives, each, self.now_s)
            if comes:
                self._hear_of(replace(each.received))

    @rule(number=st.integers(0, 3), by=st.sampled_from([-CHUNK_BYTES, -4, 4, CHUNK_BYTES]))
    def lie_about_the_size(self, number: int, by: int) -> None:
        received = said(number, KEYS[1]).received
        assert received.bulk is not None
        size = received.bulk.num_bytes + by
        if size > 0:
            bulk = replace(received.bulk, num_bytes=size, lengths=(size,), index=b"")
            self._hear_of(replace(received, bulk=bulk))

    @rule(number=st.integers(0, 3))
    def speak_of_what_is_not_held(self, number: int) -> None:
        self._hear_of(replace(said(number, KEYS[1]).received))

    @rule(after_s=st.sampled_from([0.01, 0.5, 3.5, 20.0, 95.0]))
    def tick(self, after_s: float) -> None:
        self.now_s += after_s
        self._take(self.gets.tick(self.now_s))
        self.gives.tick(self.now_s)

    @precondition(lambda self: self.asks)
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "arrives", "lost", "doubled"]))
    def request(self, data: st.DataObject, fate: str) -> None:
        ask = self.asks.pop(data.draw(st.integers(0, len(self.asks) - 1)))
        for _ in range({"arrives": 1, "lost": 0, "doubled": 2}[fate]):
            if ask.holder == LIES:
                self._lie(ask)
            elif not holds(self.gives, ask):
                self.refused.append((ask.holder, ask.request.digest))
            else:
                self.pieces += pieces_for(self.gives, ask.request, self.now_s)

    def _lie(self, ask: Ask) -> None:
        """Pieces of another bulk, as if they were of this one."""
        other = said(3)
        lying = carrier(LIES)
        hold(lying, other, self.now_s)
        chunks = ask.request.chunks or (0,)
        topic = ChunkTopic(GETS, LIES, ask.request.digest.hex()[:20])
        request = ChunkRequest(digest=other.sealed.bulk.digest, index=ask.request.index, chunks=chunks)
        self.pieces += [(topic, payload) for _, payload in pieces_for(lying, request, self.now_s)]

    @precondition(lambda self: self.pieces)
    @rule(data=st.data(), fate=st.sampled_from(["arrives"] * 4 + ["doubled", "lost", "damaged", "mixed up", "crumb"]))
    def piece(self, data: st.DataObject, fate: str) -> None:
        topic, payload = self.pieces.pop(data.draw(st.integers(0, len(self.pieces) - 1)))
        if fate == "lost":
            return
        if fate == "damaged":
            payload = payload[:-3] + bytes(3)
        if fate == "crumb":
            payload = payload[: data.draw(st.integers(0, 40))]
        if fate == "mixed up":
            topic = replace(topic, transfer=said(data.draw(st.integers(0, 3))).sealed.bulk.transfer)
        for _ in range(2 if fate == "doubled" else 1):
            with contextlib.suppress(WireError):
                self._take(self.gets.hear_piece(topic, payload, self.now_s))

    @precondition(lambda self: self.refused)
    @rule(fate=st.sampled_from(["arrives", "lost"]))
    def refusal(self, fate: str) -> None:
        sender, digest = self.refused.pop()
        gone = self.gets.fetching.hear_refusal(sender, digest, "not held") if fate == "arrives" else None
        self._take([gone] if gone is not None else [])

    @rule()
    def connect_again(self) -> None:
        self.gets.connected()

    @rule(who=st.sampled_from(["gives", "gets"]))
    def restart(self, who: str) -> None:
        if who == "gives":
            self.gives = carrier(GIVES)
        else:
            self.gets = carrier(GETS, self.rooms)
            self.rooms.open.clear()
            self.wanted.clear()

    @rule()
    def drop_the_task(self) -> None:
        self._take(list(self.gets.drop_task(TASK)))

    @invariant()
    def nothing_is_forgotten_and_memory_is_bounded(self) -> None:
        if not hasattr(self, "gets"):
            return
        assert len(self.gets.fetching) <= MOST_WAITING
        assert not self.wanted or len(self.gets.fetching)
        sizes = [len(room.content) for room in self.rooms.open]
        assert len(sizes) <= MOST_AT_A_TIME
        assert sum(sizes) <= MOST_BYTES
        assert len(self.gives.giving) <= MOST_OF_A_THING + 1  # updates, and a blob

    def teardown(self) -> None:
        """Once the line is fair, all that is wanted ends, and what is spoken of anew arrives."""
        if not hasattr(self, "gets"):
            return
        lying = carrier(LIES)  # it holds nothing, and says so
        self._settle(lying)
        before = self.handed_over
        for number in (1, 2):
            hold(self.gives, said(number), self.now_s)
            self._hear_of(replace(said(number).received))
        self._settle(lying)
        assert self.handed_over == before + 2
        assert not self.wanted
        assert not self.rooms.open
        self.gives.tick(self.now_s + KEEP_S)
        assert len(self.gives.giving) == 0

    def _settle(self, lying: Carrier) -> None:
        ends, self.now_s = settle(self.gets, {GIVES: self.gives, LIES: lying}, self.now_s)
        self._take(ends)


TestExchange = Exchange.TestCase
TestExchange.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_given_up_is_a_fact_of_its_own() -> None:
    each, gets = said(1), carrier(GETS)
    gets.want(each.received, 0.0)
    gets.tick(0.0)
    (gone,) = gets.drop_task(TASK)
    assert isinstance(gone, GivenUp)
    assert gets.status()["given_up"] == 1


def test_chunks_of_what_was_asked_for_leave_as_far_as_there_are_bytes_and_updates_are_counted_already() -> None:
    asked: list[int] = []

    def may_give(num_bytes: int) -> bool:
        asked.append(num_bytes)
        return False

    gives = carrier(GIVES)
    update, blob = said(0), said(2)
    for each in (update, blob):
        hold(gives, each, 0.0)
    request = ChunkRequest(digest=update.sealed.bulk.digest, chunks=(0,))
    gives.give(request, GETS, 0.0, is_member=True, may_give=may_give)
    assert asked == []
    request = ChunkRequest(digest=blob.sealed.bulk.digest, chunks=(0, 2))
    with pytest.raises(WireError, match="spent"):
        gives.give(request, GETS, 0.0, is_member=True, may_give=may_give)
    assert asked == [CHUNK_BYTES + blob.sealed.bulk.num_bytes - 2 * CHUNK_BYTES]
    gives.give(request, GETS, 0.0, is_member=True, may_give=lambda _: True)
