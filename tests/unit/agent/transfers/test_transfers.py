"""Bulks between one who gives and one who fetches, over a line that loses, doubles, delays and damages."""

from __future__ import annotations

import contextlib
import hashlib
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from grapevine_agent.transfers.assembly import MAX_PIECES, Assembly, File, Memory
from grapevine_agent.transfers.fetching import (
    GIVE_UP_S,
    MAX_FAULTS,
    MOST_AT_A_TIME,
    MOST_WAITING,
    OVERTAKEN_S,
    Ask,
    Fetching,
    GivenUp,
    Whole,
)
from grapevine_agent.transfers.giving import (
    KEEP_S,
    MAX_ASKERS,
    MOST_OF_A_THING,
    NEW_S,
    SOME_CHUNKS,
    Giving,
    NotGivenError,
)
from grapevine_agent.transfers.window import LONGEST_S, SHORTEST_S, Window
from grapevine_proto.bulk import CHUNK_BYTES, Bulk, Piece, index_of, pieces_of, span_of
from grapevine_proto.codec import SealedApart
from grapevine_proto.errors import StoreError, WireError
from grapevine_proto.messages import ChunkRequest
from grapevine_proto.parts import Parts


def sealed(num_bytes: int, seed: int = 0, *, inline: bool = True) -> SealedApart:
    content = Parts([np.random.default_rng(seed).bytes(num_bytes)])
    index = index_of(content)
    bulk = Bulk(
        digest=hashlib.sha256(index).digest(),
        num_bytes=num_bytes,
        fields=(1,),
        lengths=(num_bytes,),
        index=index if inline else b"",
    )
    return SealedApart(payload=b"notice", bulk=bulk, index=index, content=content)


def want(fetching: Fetching, each: SealedApart, holder: str = "a", now_s: float = 0.0, **options: Any) -> list[GivenUp]:
    options.setdefault("make_room", lambda: Memory(each.bulk.num_bytes))
    return fetching.want(each.bulk, holder, options.pop("wanted_for", "notice"), now_s, **options)


def answer(each: SealedApart, request: ChunkRequest, at_most: int = CHUNK_BYTES) -> list[Piece]:
    giving = Giving()
    giving.hold(each, "thing", 0.0)
    pieces: list[Piece] = []
    for gift in giving.asked(request, 0.0):
        content = giving.content_of(gift)
        assert content is not None
        pieces += pieces_of(content, gift.start, gift.end, index=gift.index, at_most=at_most)
    return pieces


def asks_of(fetching: Fetching, now_s: float) -> list[Ask]:
    return [each for each in fetching.tick(now_s) if isinstance(each, Ask)]


def run(fetching: Fetching, bulks: list[SealedApart], now_s: float = 0.0, *, at_most: int = CHUNK_BYTES) -> list[Whole]:
    """Answer everything, at once, until nothing is wanted any more."""
    by_digest = {each.bulk.digest: each for each in bulks}
    whole: list[Whole] = []
    for _ in range(10_000):
        if not len(fetching):
            return whole
        for each in fetching.tick(now_s):
            if isinstance(each, Whole):
                whole.append(each)
            elif isinstance(each, Ask):
                source = by_digest[each.request.digest]
                for piece in answer(source, each.request, at_most):
                    end = fetching.hear_piece(each.holder, source.bulk.transfer, piece, now_s)
                    if isinstance(end, Whole):
                        whole.append(end)
        now_s += 0.01
    raise AssertionError("it never ends")


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("num_bytes", [1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES - 7])
@pytest.mark.parametrize("at_most", [CHUNK_BYTES, 14_000])
def test_what_is_fetched_is_what_is_held(num_bytes: int, inline: bool, at_most: int) -> None:
    each, fetching = sealed(num_bytes, inline=inline), Fetching()
    want(fetching, each)
    (whole,) = run(fetching, [each], at_most=at_most)
    assert bytes(whole.room.view) == bytes(each.content)
    assert whole.wanted_for == ("notice",)
    assert fetching.num_bytes == num_bytes
    assert fetching.deadline_s() == math.inf


def test_one_bulk_that_is_wanted_twice_is_fetched_once() -> None:
    each, fetching = sealed(3 * CHUNK_BYTES), Fetching()
    want(fetching, each, "a", wanted_for="one")
    want(fetching, each, "b", wanted_for="two")
    (whole,) = run(fetching, [each])
    assert whole.wanted_for == ("one", "two")
    assert fetching.num_bytes == 3 * CHUNK_BYTES


def test_at_most_so_many_are_fetched_at_a_time_and_the_others_follow() -> None:
    bulks = [sealed(2 * CHUNK_BYTES, seed) for seed in range(3 * MOST_AT_A_TIME)]
    fetching = Fetching()
    for each in bulks:
        want(fetching, each)
    assert len({ask.request.digest for ask in asks_of(fetching, 0.0)}) == MOST_AT_A_TIME
    fetching.connected()
    assert len(run(fetching, bulks)) == len(bulks)


def test_the_bytes_of_all_that_is_fetched_are_bounded() -> None:
    bulks = [sealed(2 * CHUNK_BYTES, seed) for seed in range(3)]
    fetching = Fetching(most_bytes=3 * CHUNK_BYTES)
    for each in bulks:
        want(fetching, each)
    assert len({ask.request.digest for ask in asks_of(fetching, 0.0)}) == 1


def test_too_many_are_refused() -> None:
    fetching = Fetching()
    for seed in range(MOST_WAITING):
        want(fetching, sealed(100, seed))
    with pytest.raises(WireError, match="over-quota"):
        want(fetching, sealed(100, 999))


def test_a_newer_update_takes_the_place_of_one_that_waits() -> None:
    first, second, third = (sealed(CHUNK_BYTES, seed) for seed in range(3))
    fetching = Fetching(most_bytes=CHUNK_BYTES)
    want(fetching, first, key="updates", wanted_for=1)
    fetching.tick(0.0)
    assert want(fetching, second, key="updates", wanted_for=2) == []  # the first is on its way already
    assert [gone.wanted_for for gone in want(fetching, third, key="updates", wanted_for=3)] == [(2,)]
    assert [whole.wanted_for for whole in run(fetching, [first, third])] == [(1,), (3,)]


def test_what_is_lost_is_asked_for_again_and_of_somebody_else() -> None:
    each, fetching = sealed(2 * CHUNK_BYTES), Fetching()
    want(fetching, each, "a")
    want(fetching, each, "b")
    (first,) = asks_of(fetching, 0.0)
    assert asks_of(fetching, SHORTEST_S / 2) == []
    (again,) = asks_of(fetching, SHORTEST_S)
    assert (first.holder, again.holder) == ("a", "b")
    assert again.request == first.request


def test_a_new_connection_asks_again_at_once() -> None:
    each, fetching = sealed(2 * CHUNK_BYTES), Fetching()
    want(fetching, each)
    first = asks_of(fetching, 0.0)
    assert asks_of(fetching, 0.1) == []
    fetching.connected()
    assert fetching.deadline_s() == -math.inf
    assert asks_of(fetching, 0.2) == first


def test_who_refuses_is_asked_no_more_and_the_last_refusal_ends_it() -> None:
    each, fetching = sealed(2 * CHUNK_BYTES), Fetching()
    want(fetching, each, "a")
    want(fetching, each, "b")
    asks_of(fetching, 0.0)
    assert fetching.hear_refusal("a", each.bulk.digest, "gone") is None
    assert [ask.holder for ask in asks_of(fetching, 0.1)] == ["b"]
    end = fetching.hear_refusal("b", each.bulk.digest, "gone")
    assert end == GivenUp(("notice", "notice"), "b: gone")
    assert fetching.hear_refusal("b", each.bulk.digest, "gone") is None
    assert len(fetching) == 0


def test_who_sends_something_else_is_asked_no_more() -> None:
    each, fetching = sealed(2 * CHUNK_BYTES), Fetching()
    want(fetching, each)
    end = None
    for number in range(MAX_FAULTS):
        assert end is None
        asks_of(fetching, float(number))
        wrong = Piece(False, 0, bytes(CHUNK_BYTES))
        end = fetching.hear_piece("a", each.bulk.transfer, wrong, float(number))
    assert isinstance(end, GivenUp)
    assert "not what it has signed" in end.why


def test_what_nobody_asked_for_is_refused() -> None:
    each, fetching = sealed(2 * CHUNK_BYTES), Fetching()
    piece = Piece(False, 0, b"x")
    with pytest.raises(WireError, match="not-asked"):
        fetching.hear_piece("a", each.bulk.transfer, piece, 0.0)
    want(fetching, each)
    fetching.tick(0.0)
    with pytest.raises(WireError, match="not-asked"):
        fetching.hear_piece("b", each.bulk.transfer, piece, 0.0)
    assert fetching.is_wanted(each.bulk.transfer, "a")
    assert not fetching.is_wanted(each.bulk.transfer, "b")


def test_what_makes_no_progress_is_given_up() -> None:
    each, fetching = sealed(2 * CHUNK_BYTES), Fetching()
    want(fetching, each)
    now_s = 0.0
    ends: list[GivenUp] = []
    while not ends and now_s < 10 * GIVE_UP_S:
        ends = [end for end in fetching.tick(now_s) if isinstance(end, GivenUp)]
        now_s += 1.0
    assert GIVE_UP_S < now_s < 1.2 * GIVE_UP_S
    assert len(fetching) == 0


def test_who_sends_a_chunk_a_minute_is_given_up_too() -> None:
    each, fetching = sealed(200 * CHUNK_BYTES), Fetching()
    want(fetching, each)
    now_s = 0.0
    ends: list[GivenUp] = []
    while not ends and now_s < 1e5:
        for what in fetching.tick(now_s):
            if isinstance(what, GivenUp):
                ends.append(what)
            elif isinstance(what, Ask):
                for piece in answer(each, what.request)[:1]:
                    fetching.hear_piece("a", each.bulk.transfer, piece, now_s)
        now_s += 60.0
    assert [end.why for end in ends] == ["it takes too long"]


def test_what_is_not_wanted_any_more_ends() -> None:
    one, other, fetching = sealed(CHUNK_BYTES, 1), sealed(CHUNK_BYTES, 2), Fetching()
    want(fetching, one, wanted_for="task 1")
    want(fetching, other, wanted_for="task 2")
    fetching.tick(0.0)
    assert [gone.wanted_for for gone in fetching.drop(lambda notice: notice == "task 1")] == [("task 1",)]
    assert [line["transfer"] for line in fetching.lines()] == [other.bulk.transfer]


def test_no_room_gives_it_up() -> None:
    each, fetching = sealed(CHUNK_BYTES), Fetching()

    def no_room() -> Memory:
        raise StoreError("the disk is full")

    want(fetching, each, make_room=no_room)
    assert fetching.tick(0.0) == [GivenUp(("notice",), "the disk is full")]


# --- files ----------------------------------------------------------------------------------------


def test_what_was_got_before_a_crash_is_not_asked_for_again(tmp_path: Path) -> None:
    each = sealed(40 * CHUNK_BYTES + 5)
    first = Fetching(most_window=4)
    want(first, each, make_room=lambda: File(tmp_path, each.bulk))
    now_s = 0.0
    while first.num_bytes < 25 * CHUNK_BYTES:
        for ask in asks_of(first, now_s):
            for piece in answer(each, ask.request):
                first.hear_piece("a", each.bulk.transfer, piece, now_s)
        now_s += 0.01
    del first  # nothing is closed, nothing is said
    second = Fetching()
    want(second, each, "b", make_room=lambda: File(tmp_path, each.bulk))
    (whole,) = run(second, [each])
    assert bytes(whole.room.view) == bytes(each.content)
    assert second.num_bytes <= 16 * CHUNK_BYTES
    whole.room.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_damaged_meanwhile_is_got_again(tmp_path: Path) -> None:
    each = sealed(3 * CHUNK_BYTES)
    for _ in range(2):
        fetching = Fetching()
        want(fetching, each, make_room=lambda: File(tmp_path, each.bulk))
        (whole,) = run(fetching, [each])
        whole.room.close()
        (path,) = tmp_path.iterdir()
        damaged = bytearray(path.read_bytes())
        damaged[CHUNK_BYTES + 9] ^= 1
        path.write_bytes(damaged)
    assert fetching.num_bytes == CHUNK_BYTES  # the second time, only what was damaged


def test_a_file_of_another_size_is_begun_anew(tmp_path: Path) -> None:
    each = sealed(2 * CHUNK_BYTES)
    (tmp_path / f"{each.bulk.digest.hex()}.part").write_bytes(b"short")
    fetching = Fetching()
    want(fetching, each, make_room=lambda: File(tmp_path, each.bulk))
    (whole,) = run(fetching, [each])
    assert bytes(whole.room.view) == bytes(each.content)


def test_where_no_file_can_be_a_store_error_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "transfers").write_text("a file")
    with pytest.raises(StoreError, match="free some of the disk"):
        File(tmp_path / "transfers", sealed(1).bulk)


# --- pieces ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pieces_in_any_order_twice_and_overlapping(data: st.DataObject) -> None:
    each = sealed(CHUNK_BYTES + 2_000)
    assembly = Assembly(bulk=each.bulk, room=Memory(each.bulk.num_bytes))
    content = bytes(each.content)
    for chunk in range(2):
        start, end = span_of(chunk, len(content))
        cuts = sorted(data.draw(st.lists(st.integers(start, end), max_size=5)))
        edges = [start, *cuts, end]
        spans = [(a, b) for a, b in pairwise(edges) if a < b]
        spans += [(max(start, a - 5), b) for a, b in spans]
        for a, b in data.draw(st.permutations(spans)):
            assembly.put(Piece(False, a, content[a:b]))
    assert assembly.is_whole
    assert bytes(assembly.room.view) == content


@pytest.mark.parametrize(
    "piece",
    [
        Piece(False, 0, b""),
        Piece(False, 0, bytes(CHUNK_BYTES + 1)),
        Piece(False, CHUNK_BYTES - 1, bytes(2)),
        Piece(False, 2 * CHUNK_BYTES, b"x"),
        Piece(False, 2**63, b"x"),
        Piece(True, 0, bytes(65)),
        Piece(True, 2**63, b"x"),
    ],
)
def test_a_piece_beyond_its_chunk_is_a_wire_error_and_writes_nothing(piece: Piece) -> None:
    each = sealed(2 * CHUNK_BYTES, inline=not piece.index)
    assembly = Assembly(bulk=each.bulk, room=Memory(each.bulk.num_bytes))
    with pytest.raises(WireError):
        assembly.put(piece)
    assert not any(assembly.room.view[: CHUNK_BYTES + 2])


def test_crumbs_are_bounded() -> None:
    each = sealed(CHUNK_BYTES)
    assembly = Assembly(bulk=each.bulk, room=Memory(CHUNK_BYTES))
    for number in range(MAX_PIECES):
        assembly.put(Piece(False, 2 * number, b"x"))
    with pytest.raises(WireError, match="over-quota"):
        assembly.put(Piece(False, 2 * MAX_PIECES, b"x"))


def test_the_time_of_what_waits_for_room_begins_with_its_turn() -> None:
    fetching = Fetching(most_bytes=3 * CHUNK_BYTES)
    first, second = sealed(2 * CHUNK_BYTES, 1), sealed(2 * CHUNK_BYTES, 2, inline=False)
    want(fetching, first, wanted_for="first")
    want(fetching, second, wanted_for="second")
    for step in range(1, 12):  # the first one is slow: a chunk in two minutes
        now_s = 10.0 * step
        asks = [each for each in fetching.tick(now_s) if isinstance(each, Ask)]
        assert all(ask.request.digest == first.bulk.digest for ask in asks)
        if step == 8:
            piece = answer(first, ChunkRequest(digest=first.bulk.digest, chunks=(0,)))[0]
            assert fetching.hear_piece("a", first.bulk.transfer, piece, now_s) is None
    piece = answer(first, ChunkRequest(digest=first.bulk.digest, chunks=(1,)))[0]
    assert isinstance(fetching.hear_piece("a", first.bulk.transfer, piece, 115.0), Whole)
    assert [each.request.digest for each in fetching.tick(115.0) if isinstance(each, Ask)] == [second.bulk.digest]
    assert not any(isinstance(each, GivenUp) for each in fetching.tick(114.0 + GIVE_UP_S))
    assert any(isinstance(each, GivenUp) for each in fetching.tick(116.0 + GIVE_UP_S))


def test_smaller_ones_overtake_a_large_one_for_a_while_and_no_longer() -> None:
    fetching = Fetching(most_bytes=3 * CHUNK_BYTES)
    large = sealed(3 * CHUNK_BYTES, 99)
    want(fetching, sealed(CHUNK_BYTES, 0), wanted_for=0)
    fetching.tick(0.0)
    want(fetching, large, wanted_for="large")
    begun_s = 0.0
    for number in range(1, 100):  # one small update after the other, each there before the last one is whole
        now_s = float(number)
        small = sealed(CHUNK_BYTES, number)
        want(fetching, small, now_s=now_s, wanted_for=number)
        asked = {each.request.digest for each in fetching.tick(now_s) if isinstance(each, Ask)}
        if large.bulk.digest in asked:
            begun_s = now_s
            break
        before = sealed(CHUNK_BYTES, number - 1)
        if fetching.is_wanted(before.bulk.transfer, "a"):
            with contextlib.suppress(WireError):  # it waits itself
                piece = answer(before, ChunkRequest(digest=before.bulk.digest, chunks=(0,)))[0]
                fetching.hear_piece("a", before.bulk.transfer, piece, now_s)
    assert OVERTAKEN_S < begun_s < OVERTAKEN_S + 5.0


# --- giving ---------------------------------------------------------------------------------------


def test_what_is_not_held_is_not_given() -> None:
    with pytest.raises(NotGivenError, match="not held"):
        Giving().asked(ChunkRequest(digest=bytes(32), chunks=(0,)), 0.0)


def test_chunks_that_there_are_not_are_left_out() -> None:
    each = sealed(CHUNK_BYTES + 1)
    assert [piece.offset for piece in answer(each, ChunkRequest(digest=each.bulk.digest, chunks=(1, 2, 2**31)))] == [
        CHUNK_BYTES
    ]


def test_of_a_thing_the_newest_few_are_held_and_no_more_while_they_are_on_their_way() -> None:
    giving, bulks = Giving(), [sealed(10, seed) for seed in range(5)]
    for number, each in enumerate(bulks):
        assert giving.has_room_for("update", 10, 0.0) == (number < MOST_OF_A_THING)
        giving.hold(each, "update", 0.0, "a")
    assert len(giving) == MOST_OF_A_THING
    assert giving.has_room_for("update", 10, NEW_S + 1)
    assert giving.has_room_for("another", 10, 0.0)
    assert not giving.has_room_for("another", giving.most_bytes, 0.0)
    assert giving.has_room_for("another", 2 * giving.most_bytes, NEW_S + 1)
    assert giving.asked(ChunkRequest(digest=bulks[-1].bulk.digest, chunks=(0,)), 0.0)
    with pytest.raises(NotGivenError, match="not held"):
        giving.asked(ChunkRequest(digest=bulks[0].bulk.digest, chunks=(0,)), 0.0)


def test_who_has_asked_for_all_of_it_makes_room_for_the_next() -> None:
    giving, bulks = Giving(), [sealed(2 * CHUNK_BYTES, seed) for seed in range(3)]
    for each in bulks[:2]:
        giving.hold(each, "update", 0.0, "a")
    giving.asked(ChunkRequest(digest=bulks[0].bulk.digest, chunks=(0,)), 0.0, "a")
    giving.asked(ChunkRequest(digest=bulks[0].bulk.digest, chunks=(1,)), 0.0, "another")
    assert not giving.has_room_for("update", 10, 0.0)
    giving.asked(ChunkRequest(digest=bulks[0].bulk.digest, chunks=(1,)), 0.0, "a")
    assert giving.has_room_for("update", 10, 0.0)


def test_a_head_is_good_for_twice_its_bulk() -> None:
    giving, each = Giving(), sealed(2 * CHUNK_BYTES)
    giving.hold(each, "update", 0.0, "a")
    request = ChunkRequest(digest=each.bulk.digest, chunks=(0, 1))
    most = 2 * 2 + SOME_CHUNKS
    assert sum(len(giving.asked(request, 0.0, "a")) for _ in range(most // 2)) == most
    with pytest.raises(NotGivenError, match="given twice"):
        giving.asked(request, 0.0, "a")
    giving.hold(each, "update", 0.0, "a")
    assert giving.asked(request, 0.0, "a")
    assert giving.asked(request, 0.0, "another")


def test_however_many_have_asked_for_a_bulk_the_next_one_gets_it_too() -> None:
    giving, each = Giving(), sealed(CHUNK_BYTES)
    giving.hold(each, "a server's model", 0.0)
    request = ChunkRequest(digest=each.bulk.digest, chunks=(0,))
    for number in range(MAX_ASKERS + 10):
        assert giving.asked(request, 0.0, f"reader {number}")


def test_the_bytes_that_are_held_are_bounded_and_the_newest_is_held_in_any_case() -> None:
    giving = Giving(most_bytes=100)
    for seed in range(5):
        giving.hold(sealed(60, seed), f"thing {seed}", 0.0)
        assert len(giving) == 1
    giving.hold(sealed(1_000, 9), "large", 0.0)
    assert len(giving) == 1


def test_what_nobody_asks_for_goes() -> None:
    giving, each = Giving(), sealed(10)
    giving.hold(each, "thing", 0.0)
    giving.asked(ChunkRequest(digest=each.bulk.digest, chunks=(0,)), KEEP_S / 2)
    giving.tick(KEEP_S + 1)
    assert len(giving) == 1
    giving.tick(2 * KEEP_S)
    assert len(giving) == 0


# --- the window -----------------------------------------------------------------------------------


def _after(times_s: Any, most: int = 4, num: int = 60) -> Window:
    """A window on a line where `times_s(size)` is what a chunk takes when so many are under way."""
    window = Window(most=most)
    for _ in range(num):
        window.arrived(times_s(window.size))
    return window


def test_a_long_line_is_filled_and_a_narrow_one_is_not() -> None:
    assert _after(lambda size: 0.1 + 0.001 * size).size == 4
    narrow = [_after(lambda size: 0.002 + 0.048 * size, num=num).size for num in range(40, 60)]
    assert sum(narrow) / len(narrow) < 1.8
    assert _after(lambda size: 0.1, most=1).size == 1


def test_patience_follows_the_line_and_doubles_with_each_loss() -> None:
    assert Window(most=4).patience_s == SHORTEST_S
    window = _after(lambda size: 2.0)
    assert window.patience_s == pytest.approx(12.0)
    window.lost()
    assert window.size == 1
    assert window.patience_s == pytest.approx(24.0)
    for _ in range(20):
        window.lost()
    assert window.patience_s == LONGEST_S


# --- everything together --------------------------------------------------------------------------


class Line(RuleBasedStateMachine):
    """Two holders and one who fetches; requests and chunks are lost, doubled, delayed and damaged between them."""

    @initialize(num_chunks=st.integers(1, 6), rest=st.integers(1, CHUNK_BYTES), inline=st.booleans())
    def begin(self, num_chunks: int, rest: int, inline: bool) -> None:
        self.now_s = 0.0
        self.bulk = sealed((num_chunks - 1) * CHUNK_BYTES + rest, num_chunks, inline=inline)
        self.fetching = Fetching()
        self.asks: list[Ask] = []
        self.pieces: list[tuple[str, Piece]] = []
        self.ends: list[Whole | GivenUp] = []
        want(self.fetching, self.bulk, "a")
        want(self.fetching, self.bulk, "b")

    def _note(self, what: object) -> None:
        if isinstance(what, Ask):
            self.asks.append(what)
        elif what is not None:
            self.ends.append(what)  # type: ignore[arg-type]

    @rule(after_s=st.sampled_from([0.01, 0.5, 3.5, 20.0]))
    def tick(self, after_s: float) -> None:
        self.now_s += after_s
        for what in self.fetching.tick(self.now_s):
            self._note(what)

    @precondition(lambda self: self.asks)
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "lost", "doubled"]))
    def request(self, data: st.DataObject, fate: str) -> None:
        ask = self.asks.pop(data.draw(st.integers(0, len(self.asks) - 1)))
        for _ in range({"arrives": 1, "lost": 0, "doubled": 2}[fate]):
            self.pieces += [(ask.holder, piece) for piece in answer(self.bulk, ask.request, 50_000)]

    @precondition(lambda self: self.pieces)
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "arrives", "arrives", "lost", "damaged"]))
    def piece(self, data: st.DataObject, fate: str) -> None:
        holder, piece = self.pieces.pop(data.draw(st.integers(0, len(self.pieces) - 1)))
        if fate == "lost":
            return
        if fate == "damaged":
            piece = Piece(piece.index, piece.offset, bytes(len(piece.content)))
        with contextlib.suppress(WireError):  # nobody waits for it any more
            self._note(self.fetching.hear_piece(holder, self.bulk.bulk.transfer, piece, self.now_s))

    @rule()
    def reconnect(self) -> None:
        self.fetching.connected()

    @invariant()
    def it_ends_once_and_right(self) -> None:
        if not hasattr(self, "ends"):
            return
        assert len(self.ends) + len(self.fetching) == 1
        for end in self.ends:
            if isinstance(end, Whole):
                assert bytes(end.room.view) == bytes(self.bulk.content)

    def teardown(self) -> None:
        """Once the line is good, it comes through."""
        if hasattr(self, "fetching") and len(self.fetching):
            self.fetching.connected()
            run(self.fetching, [self.bulk], self.now_s)


TestLine = Line.TestCase
TestLine.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
