"""What strangers say is held within bounds, and nothing of theirs pushes out what the owner uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proto.samples import KEY, MANIFEST, MANIFEST_ID, ME, TASK, message
from tests.unit.proto.test_program_codec import MANIFEST as WHOLE

from grapevine_proto import messages as m
from grapevine_proto import topics
from grapevine_proto.budgets import GROWTH, LIGHT_BYTES, Budget, held_bytes
from grapevine_proto.codec import Received, is_authentic, open_envelope, reopen_envelope, seal
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import ManifestBrief
from grapevine_proto.manifest_codec import decode_manifest_head, encode_manifest, read_brief
from grapevine_proto.records import (
    AUTHOR_BYTES,
    PRESENCE_BYTES,
    STRANGERS_SEQUENCES,
    TASKS_BYTES,
    RecordBook,
)
from grapevine_proto.topics import PeerTopic, TaskTopic, Topic

KIB = 1024
TRUSTED, OWN = "t" * 20, "o" * 20


def peer(number: int) -> str:
    return f"p{number:019d}"


def task(number: int) -> str:
    return f"{number:064d}"


_sequence = iter(range(1, 10**9))


def said(topic: Topic, body: m.Body, *, size: int = 0, expires_at_ms: int = 0) -> Received:
    """A record of so many bytes that nobody signed: the book looks at none of them."""
    author = topics.writer_of(topic)
    sequence = next(_sequence)
    header = m.Message(sender=author, session=1, sequence=sequence, body=body, expires_at_ms=expires_at_ms)
    return Received(message=header, topic=topic, envelope=sequence.to_bytes(8, "big") + bytes(size))


def published(author: str, number: int, size: int, **times: int) -> Received:
    body = m.TaskPublication(manifest=bytes(size // 2))
    return said(TaskTopic(author, task(number), "manifest"), body, size=size // 2, **times)


def reviewed(author: str, number: int, **times: int) -> Received:
    return said(TaskTopic(author, task(number), "review"), m.Review(task=task(number), approved=True), **times)


def present(author: str, size: int = 100) -> Received:
    return said(PeerTopic(author, "announcement"), m.PeerAnnouncement(), size=size)


def hear(book: RecordBook, records: Iterable[Received]) -> list[str]:
    """Take what is taken. Returns the reasons why others were not."""
    reasons = []
    for received in records:
        try:
            book.accept(received, 0)
        except WireError as error:
            reasons.append(error.reason)
    return reasons


def num_bytes(book: RecordBook, *authors: str) -> int:
    return sum(held_bytes(each) for each in book if not authors or each.message.sender in authors)


# --- how much is held -----------------------------------------------------------------------------


def test_ninety_six_large_manifests_of_one_stranger_are_held_within_its_share() -> None:
    book = RecordBook()
    reasons = hear(book, (published(peer(0), number, 220 * KIB) for number in range(96)))
    assert set(reasons) == {"over-quota"}
    assert 5 < len(book) < 10
    assert num_bytes(book) <= AUTHOR_BYTES
    assert book.take_pushed_out() == []  # who has its share full does not rotate its records through us


def test_large_manifests_of_a_hundred_strangers_are_held_within_one_budget() -> None:
    book = RecordBook()
    hear(book, (published(peer(number % 100), number, 220 * KIB) for number in range(900)))
    assert num_bytes(book) <= TASKS_BYTES
    assert num_bytes(book) > TASKS_BYTES / 2
    assert book.tasks_budget.num_bytes == num_bytes(book)


def test_any_number_of_peers_that_say_that_they_are_there_are_held_within_one_budget() -> None:
    book = RecordBook(capacity=10**6)
    for number in range(20_000):
        hear(book, [present(peer(number), 300), said(PeerTopic(peer(number), "state"), m.PeerState(online=True))])
    assert num_bytes(book) <= PRESENCE_BYTES
    assert len(book) > 4_000


def test_who_holds_much_makes_room_for_who_holds_little() -> None:
    book = RecordBook()
    hear(book, (published(peer(number % 20), number, 200 * KIB) for number in range(100)))
    newcomers = [published(peer(100 + number), 1_000 + number, 4 * KIB) for number in range(200)]
    before = len(book)
    assert hear(book, newcomers) == []
    assert all(book.get(each.topic) is each for each in newcomers)
    gone = book.take_pushed_out()
    assert len(gone) == before + len(newcomers) - len(book) >= 1
    heaviest = {each.message.sender for each in gone}
    assert heaviest <= {peer(number) for number in range(20)}
    assert all(book.get(each.topic) is None for each in gone)
    assert book.num_turned_away > 0


def test_who_holds_little_is_never_pushed_out() -> None:
    book = RecordBook(capacity=10**6)
    honest = published(peer(0), 0, 5 * KIB)
    book.accept(honest, 0)
    hear(book, (published(peer(1 + number), 1 + number, 5 * KIB) for number in range(3_000)))
    assert num_bytes(book) > TASKS_BYTES - 20 * KIB
    assert book.get(honest.topic) is honest
    assert book.take_pushed_out() == []


def test_a_flood_of_new_keys_comes_to_rest() -> None:
    book = RecordBook(capacity=10**6)
    pushed_out = 0
    for number in range(8_000):
        hear(book, [published(peer(number), number, 60 * KIB if number < 500 else 4 * KIB)])
        pushed_out += len(book.take_pushed_out())
    assert pushed_out < 500  # nothing pushes out what is as small as itself
    hear(book, (published(peer(number), number, 4 * KIB) for number in range(8_000, 9_000)))
    assert book.take_pushed_out() == []


def test_a_newer_form_of_what_is_held_is_taken_though_the_budget_is_full() -> None:
    book = RecordBook(capacity=10**6)
    hear(book, (published(peer(number), number, 7 * KIB) for number in range(4_000)))
    held = next(iter(book))
    longer = said(held.topic, m.TaskPublication(retracted=True, reason="x" * 500), size=7 * KIB)
    assert book.accept(longer, 0)
    assert book.tasks_budget.num_bytes <= TASKS_BYTES * GROWTH


# --- whom and what no stranger pushes out ---------------------------------------------------------


def flood(number: int = 600) -> list[Received]:
    return [published(peer(each % 60), 10_000 + each, 220 * KIB) for each in range(number)]


@pytest.mark.parametrize("before", [True, False])
def test_trusted_and_own_records_are_let_in_and_stay_however_much_strangers_say(before: bool) -> None:
    book = RecordBook(trusted=frozenset((TRUSTED,)), own=OWN)
    ours = [published(author, number, 300 * KIB) for author in (TRUSTED, OWN) for number in range(20)]
    ours += [reviewed(OWN, number) for number in range(200)]
    reasons = hear(book, ours if before else flood())
    hear(book, flood() if before else ours)
    assert reasons == [] or not before
    assert all(book.get(each.topic) is each for each in ours)
    assert num_bytes(book) - num_bytes(book, TRUSTED, OWN) <= TASKS_BYTES


def test_a_record_that_the_owner_uses_stays_and_counts_for_nobody() -> None:
    book = RecordBook()
    used = published(peer(0), 0, 400 * KIB)
    book.keep(used.topic)
    book.accept(used, 0)
    assert book.tasks_budget.num_bytes == 0
    hear(book, flood())
    assert book.get(used.topic) is used
    book.let_go(used.topic)
    assert book.tasks_budget.num_bytes == num_bytes(book)
    assert book.tasks_budget._shares[peer(0)].topics[used.topic] == held_bytes(used)


def test_whoever_is_trusted_from_now_on_is_counted_no_more_and_the_other_way_round() -> None:
    book = RecordBook(trusted=frozenset((TRUSTED,)))
    hear(book, [published(TRUSTED, 0, 300 * KIB), published(peer(0), 1, 300 * KIB)])
    before = book.tasks_budget.num_bytes
    book.trust(frozenset((peer(0),)))
    assert book.tasks_budget.num_bytes == before
    assert num_bytes(book, TRUSTED) == before
    book.trust(frozenset((peer(0), TRUSTED)))
    assert book.tasks_budget.num_bytes == 0


# --- what leaves ----------------------------------------------------------------------------------


def test_records_that_run_out_together_leave_some_at_a_time() -> None:
    book = RecordBook()
    for number in range(500):
        book.accept(reviewed(peer(number), number, expires_at_ms=10 + number % 3), 0)
    gone = book.expire(11, 100)
    assert len(gone) == 100
    assert all(each.message.expires_at_ms == 10 for each in gone)
    assert 0 < book.next_expiry_ms() <= 11
    rest = [*book.expire(11), *book.expire(1_000, 10_000)]
    assert len(rest) == 400
    assert book.next_expiry_ms() == 0
    assert book.tasks_budget.num_bytes == 0
    assert not book._num_task_records
    assert not book.tasks_budget._shares


def test_a_record_that_was_renewed_leaves_when_the_newer_one_runs_out() -> None:
    book = RecordBook()
    for until_ms in (10, 20, 0, 30):
        book.accept(said(TaskTopic(ME, TASK, "review"), m.Review(task=TASK, approved=True), expires_at_ms=until_ms), 0)
    assert book.expire(25) == []
    assert [each.message.expires_at_ms for each in book.expire(31)] == [30]


def test_a_record_that_is_renewed_for_ever_leaves_nothing_behind() -> None:
    book = RecordBook()
    for number in range(2_000):
        received = said(PeerTopic(ME, "announcement"), m.PeerAnnouncement(), expires_at_ms=10**12 + number)
        book.accept(received, 0)
    assert len(book._expiries) <= 2 * len(book) + 65


def test_the_sequences_of_strangers_make_room_for_each_other_and_never_for_those_of_the_trusted() -> None:
    book = RecordBook(trusted=frozenset((TRUSTED,)), own=OWN)
    for number in range(50):
        assert book.remember(TaskTopic(TRUSTED, task(number), "review"), 7)
        assert book.remember(TaskTopic(OWN, task(number), "review"), 7)
    for number in range(STRANGERS_SEQUENCES + 100):
        assert book.remember(TaskTopic(peer(number), task(number), "review"), 7)
    assert book.take_forgotten() == [TaskTopic(peer(number), task(number), "review") for number in range(100)]
    assert len(book._sequences) == STRANGERS_SEQUENCES + 100
    assert book.remembered(TaskTopic(TRUSTED, task(0), "review")) == 7
    assert book.remembered(TaskTopic(peer(0), task(0), "review")) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5), st.integers(0, 8), st.integers(0, 60_000), st.sampled_from(["take", "remove", "count"])
        ),
        max_size=80,
    )
)
def test_a_budget_counts_what_it_holds_and_never_holds_more(story: list[tuple[int, int, int, str]]) -> None:
    budget = Budget(most_bytes=100_000, author_bytes=70_000)
    held: dict[tuple[str, Topic], int] = {}
    counted = False
    for author, number, size, what in story:
        name, topic = peer(author), TaskTopic(peer(author), task(number), "review")
        before = dict(held)
        if what == "remove":
            budget.remove(name, topic)
            held.pop((name, topic), None)
        elif what == "count":
            budget.count(name, topic, size)
            held[name, topic] = size
            counted = True  # may be more than there is room for
        else:
            try:
                gone = budget.take(name, topic, size)
            except WireError:
                assert held == before
            else:
                held[name, topic] = size
                for each in gone:
                    owner = topics.writer_of(each)
                    assert owner != name
                    weight = sum(n for (holder, _), n in before.items() if holder == owner)
                    assert weight > LIGHT_BYTES
                    del held[owner, each]
        assert budget.num_bytes == sum(held.values())
        shares = {holder: sum(n for (of, _), n in held.items() if of == holder) for holder, _ in held}
        assert {holder: share.num_bytes for holder, share in budget._shares.items()} == shares
        if not counted:
            assert budget.num_bytes <= budget.most_bytes * GROWTH


# --- records of our own disk ----------------------------------------------------------------------

STATE = PeerTopic(ME, "state")
SEALED = seal(message(m.PeerState(online=True)), STATE, KEY)


def test_what_is_opened_again_is_not_verified_and_says_so() -> None:
    received = reopen_envelope(SEALED, STATE)
    assert not received.verified
    assert received.message == open_envelope(SEALED, STATE).message
    assert is_authentic(received)
    forged = SEALED[:-1] + bytes([SEALED[-1] ^ 1])
    assert not is_authentic(reopen_envelope(forged, STATE))
    with pytest.raises(WireError, match="bad-signature"):
        open_envelope(forged, STATE)


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_bytes_that_changed_on_disk_are_no_message_or_not_authentic(at: int, change: int) -> None:
    damaged = bytearray(SEALED)
    damaged[at] ^= change
    try:
        received = reopen_envelope(bytes(damaged), STATE)
    except WireError:
        return
    assert not is_authentic(received) or received.message == open_envelope(SEALED, STATE).message


def test_a_brief_is_the_same_whether_its_manifest_was_read_or_only_glanced_at() -> None:
    encoded = encode_manifest(WHOLE)
    assert read_brief(encoded) == ManifestBrief.of(decode_manifest_head(encoded)) == ManifestBrief.of(WHOLE)


def test_a_brief_of_any_bytes_is_refused_and_nothing_else() -> None:
    encoded = encode_manifest(WHOLE)
    for end in range(len(encoded)):
        with contextlib.suppress(WireError):  # nothing else is raised; what is cut off may be what a brief leaves out
            read_brief(encoded[:end])
    with pytest.raises(WireError):
        read_brief(MANIFEST)
    assert len(MANIFEST_ID) == 64


def test_what_is_remembered_of_texts_that_were_no_ids_is_short() -> None:
    topics._ids.clear()
    assert not topics.is_id("x" * 60_000)
    assert not topics.is_id("X")
    assert not topics.are_ids(["y", "X"])
    assert topics._ids == {"y"}
    assert topics.is_id("x" * 64)
    assert all(topics.is_id(f"id-{number}") for number in range(topics.MOST_IDS + 100))
    assert len(topics._ids) <= topics.MOST_IDS
    topics._topics.clear()
    with pytest.raises(WireError):
        topics.parse_below_root("peer/X/state")
    for number in range(topics.MOST_TOPICS + 100):
        topics.parse_below_root(f"inbox/me/id-{number}")
    topics.parse_below_root(f"inbox/{'x' * 64}/{'y' * 64}")
    assert 0 < len(topics._topics) <= topics.MOST_TOPICS
