"""Chunks at the rate that the owner lends."""

from __future__ import annotations

from tests.unit.agent.transfers.test_transfers import sealed

from grapevine_agent.transfers.assembly import Memory
from grapevine_agent.transfers.fetching import Ask, Fetching, Whole
from grapevine_agent.transfers.giving import Gift, Giving
from grapevine_agent.transfers.pacing import BURST_S, MOST_OF_ONE, MOST_WAITING, PATIENCE_S, Pacing, Waiting
from grapevine_proto.bulk import CHUNK_BYTES, pieces_of, span_of
from grapevine_proto.messages import ChunkRequest

DIGEST = bytes(32)
RATE = 10.0 * CHUNK_BYTES  # ten chunks a second


def gifts(*chunks: int) -> list[Gift]:
    return [Gift(DIGEST, False, *span_of(chunk, 10_000 * CHUNK_BYTES)) for chunk in chunks]


def test_what_is_asked_for_at_once_leaves_at_the_owners_rate() -> None:
    pacing = Pacing(RATE)
    pacing.put("a", gifts(*range(40)), 0.0, is_member=True)
    pacing.put("b", gifts(*range(10)), 0.0, is_member=True)
    burst = [each.gift for each in pacing.due(0.0)]
    assert burst == gifts(*range(int(10 * BURST_S)))
    assert pacing.deadline_s(0.0) == 0.1
    sent = [(step, each.asker) for step in range(1, 31) for each in pacing.due(step / 10 + 0.001)]
    assert [step for step, _ in sent] == list(range(1, 31))
    assert [asker for _, asker in sent] == 20 * ["a"] + 10 * ["b"]
    assert len(pacing) == 0


def test_who_asks_again_keeps_its_place() -> None:
    pacing = Pacing(RATE)
    pacing.put("a", gifts(*range(30)), 0.0, is_member=True)
    assert len(list(pacing.due(0.0))) == 20
    again = pacing.not_waiting("a", ChunkRequest(digest=DIGEST, index=True, chunks=(19, 20, 29, 30)), 5.0)
    assert (again.index, again.chunks) == (True, (19, 30))
    assert pacing.not_waiting("b", ChunkRequest(digest=DIGEST, chunks=(20,)), 5.0).chunks == (20,)
    assert [each.gift for each in pacing.due(PATIENCE_S + 1.0)] == gifts(20, 29)  # the others were not asked for again


def test_strangers_take_nothing_from_members() -> None:
    pacing = Pacing(RATE)
    for number in range(MOST_WAITING // MOST_OF_ONE):
        pacing.put(f"stranger-{number}", gifts(*range(MOST_OF_ONE)), 0.0, is_member=False)
    assert not pacing.has_room_for("one more", 1, is_member=False)
    assert not pacing.has_room_for("stranger-0", 1, is_member=False)
    assert pacing.has_room_for("a", MOST_OF_ONE, is_member=True)
    assert not pacing.has_room_for("a", MOST_OF_ONE + 1, is_member=True)
    pacing.put("a", gifts(*range(20)), 0.0, is_member=True)
    now = list(pacing.due(0.0))
    assert sum(each.asker == "a" for each in now) == 20
    assert len(now) == 20 + 10


def test_what_has_no_room_further_on_waits_and_holds_up_nobody() -> None:
    pacing = Pacing(RATE)
    pacing.put("full", gifts(0), 0.0, is_member=True)
    pacing.put("b", gifts(1), 0.0, is_member=True)

    def has_room(each: Waiting) -> bool:
        return each.asker != "full"

    assert [each.asker for each in pacing.due(0.0, has_room)] == ["b"]
    assert 0.0 < pacing.deadline_s(0.0) <= 1.0
    assert [each.asker for each in pacing.due(0.5)] == ["full"]


def test_askers_that_together_want_more_than_is_lent_all_get_it_and_nothing_twice() -> None:
    each, rate, num_askers = sealed(30 * CHUNK_BYTES), 8.0 * CHUNK_BYTES, 5
    giving, pacing = Giving(), Pacing(rate)
    askers = {f"asker-{number}": Fetching(most_window=8) for number in range(num_askers)}
    for asker, fetching in askers.items():
        giving.hold(each, "update", 0.0, asker)
        fetching.want(each.bulk, "giver", asker, 0.0, make_room=lambda: Memory(each.bulk.num_bytes))
    whole: set[str] = set()
    num_given, now_s = 0, 0.0
    while len(whole) < num_askers and now_s < 60.0:
        now_s += 0.02
        for asker, fetching in askers.items():
            for event in fetching.tick(now_s):
                if isinstance(event, Ask):
                    request = pacing.not_waiting(asker, event.request, now_s)
                    pacing.put(asker, giving.asked(request, now_s, asker), now_s, is_member=True)
        for waiting in pacing.due(now_s):
            num_given, gift, content = num_given + 1, waiting.gift, giving.content_of(waiting.gift)
            assert content is not None
            (piece,) = pieces_of(content, gift.start, gift.end, index=gift.index, at_most=CHUNK_BYTES)
            fetching = askers[waiting.asker]
            if fetching.is_wanted(each.bulk.transfer, "giver"):
                end = fetching.hear_piece("giver", each.bulk.transfer, piece, now_s)
                whole |= {waiting.asker} if isinstance(end, Whole) else set()
    assert len(whole) == num_askers
    assert num_given <= 1.02 * num_askers * each.bulk.num_chunks
    assert now_s <= 1.1 * (num_askers * each.bulk.num_bytes / rate - BURST_S)
