"""The rules of the two classes of messages: records (newest wins) and passing messages (each once)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proto.samples import KEY, MANIFEST, MANIFEST_ID, ME, OTHER, TASK, message

from grapevine_proto import bodies, wire_pb2
from grapevine_proto import messages as m
from grapevine_proto.codec import Received, open_envelope, seal
from grapevine_proto.errors import WireError
from grapevine_proto.quotas import Bucket, SenderQuota
from grapevine_proto.records import MAX_TASK_RECORDS_PER_AUTHOR, RecordBook
from grapevine_proto.replay import WINDOW, ReplayGuard
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic, PeerTopic, TaskTopic, Topic

NOW_MS = 1_750_000_000_000
STATE = PeerTopic(ME, "state")
NAME = PeerTopic(ME, "announcement")


def heard(topic: Topic, body: m.Body, **numbers: int) -> Received:
    return open_envelope(seal(message(body, **numbers), topic, KEY), topic)


def test_the_newest_sequence_wins_and_the_same_bytes_are_known() -> None:
    book = RecordBook()
    newer = heard(NAME, m.PeerAnnouncement(name="new"), sequence=9)
    assert book.accept(newer, 0)
    assert not book.accept(newer, 0)
    with pytest.raises(WireError, match="stale"):
        book.accept(heard(NAME, m.PeerAnnouncement(name="old"), sequence=8), 0)
    assert book.get(NAME) is newer


def test_a_record_that_ran_out_is_refused_and_one_that_runs_out_is_dropped() -> None:
    book = RecordBook()
    with pytest.raises(WireError, match="expired"):
        book.accept(heard(NAME, m.PeerAnnouncement(), expires_at_ms=10), 11)
    assert book.accept(heard(NAME, m.PeerAnnouncement(), expires_at_ms=10), 9)
    assert [gone.topic for gone in book.expire(11)] == [NAME]
    assert book.get(NAME) is None


def test_a_will_revokes_its_own_session_and_no_newer_one() -> None:
    book = RecordBook()
    will_1 = heard(STATE, m.PeerState(online=False), session=1, sequence=100)
    online_1 = heard(STATE, m.PeerState(online=True), session=1, sequence=101)
    online_2 = heard(STATE, m.PeerState(online=True), session=2, sequence=103)
    assert book.accept(online_1, 0)
    assert book.accept(will_1, 0)  # signed before, published after
    assert book.accept(online_2, 0)
    with pytest.raises(WireError, match="stale"):
        book.accept(will_1, 0)  # a broker that sends it late
    held = book.get(STATE)
    assert held is online_2


def test_within_a_session_offline_is_the_last_word() -> None:
    book = RecordBook()
    assert book.accept(heard(STATE, m.PeerState(online=False), session=1, sequence=1), 0)
    with pytest.raises(WireError, match="stale"):
        book.accept(heard(STATE, m.PeerState(online=True), session=1, sequence=2), 0)


def test_a_tombstone_beats_its_manifest_whatever_arrives_later() -> None:
    book = RecordBook()
    topic = TaskTopic(ME, MANIFEST_ID, "manifest")
    assert book.accept(heard(topic, m.TaskPublication(manifest=MANIFEST), sequence=1), 0)
    assert book.accept(heard(topic, m.TaskPublication(retracted=True), sequence=2), 0)
    with pytest.raises(WireError, match="retracted"):
        book.accept(heard(topic, m.TaskPublication(manifest=MANIFEST), sequence=3), 0)


def test_one_author_cannot_fill_the_book_with_tasks() -> None:
    book = RecordBook()
    for number in range(MAX_TASK_RECORDS_PER_AUTHOR):
        task = f"{number:064d}"
        assert book.accept(heard(TaskTopic(ME, task, "review"), m.Review(task=task, approved=True)), 0)
    with pytest.raises(WireError, match="over-quota"):
        book.accept(heard(TaskTopic(ME, TASK, "review"), m.Review(task=TASK, approved=True)), 0)


def test_a_full_book_turns_newcomers_away_and_keeps_what_it_holds() -> None:
    book = RecordBook(capacity=1)
    held = heard(NAME, m.PeerAnnouncement())
    book.accept(held, 0)
    stranger = SigningKey.generate()
    topic = PeerTopic(stranger.peer_id, "announcement")
    body = m.Message(sender=stranger.peer_id, session=1, sequence=1, body=m.PeerAnnouncement())
    with pytest.raises(WireError, match="over-quota"):
        book.accept(open_envelope(seal(body, topic, stranger), topic), 0)
    assert book.get(NAME) is held


def beat(session: int, sequence: int) -> m.Message:
    return message(m.Heartbeat(), session=session, sequence=sequence)


@given(
    order=st.permutations(range(40)),
    repeats=st.lists(st.integers(min_value=0, max_value=39), max_size=20),
)
def test_each_message_is_taken_once_in_any_order(order: list[int], repeats: list[int]) -> None:
    guard = ReplayGuard()
    for sequence in order:
        guard.check(beat(1, sequence))
    for sequence in repeats:
        with pytest.raises(WireError, match="replayed"):
            guard.check(beat(1, sequence))


def test_a_message_from_before_the_window_is_refused() -> None:
    guard = ReplayGuard()
    guard.check(beat(1, WINDOW))
    guard.check(beat(1, 1))
    with pytest.raises(WireError, match="replayed"):
        guard.check(beat(1, 0))


def test_sessions_older_than_the_two_newest_are_recordings() -> None:
    guard = ReplayGuard()
    for session in (1, 2, 3):
        guard.check(beat(session, 0))
    guard.check(beat(2, 1))
    with pytest.raises(WireError, match="replayed"):
        guard.check(beat(1, 1))


def test_a_senders_memory_is_bounded() -> None:
    guard = ReplayGuard(capacity=2)
    for _ in range(5):
        stranger = SigningKey.generate().peer_id
        guard.check(m.Message(sender=stranger, session=1, sequence=1, body=m.Heartbeat()))
    assert len(guard._senders) == 2


def test_strangers_do_not_push_out_what_was_seen_of_peers_that_are_known() -> None:
    guard = ReplayGuard(capacity=2)
    guard.check(beat(1, 1), is_known=True)
    for _ in range(5):
        stranger = SigningKey.generate().peer_id
        guard.check(m.Message(sender=stranger, session=1, sequence=1, body=m.Heartbeat()), is_known=False)
    with pytest.raises(WireError, match="replayed"):
        guard.check(beat(1, 1), is_known=True)


def test_what_was_seen_of_a_stranger_stays_seen_when_it_is_known() -> None:
    guard = ReplayGuard()
    guard.check(beat(1, 1), is_known=False)
    for is_known in (True, False, True):
        with pytest.raises(WireError, match="replayed"):
            guard.check(beat(1, 1), is_known=is_known)


def test_a_bucket_holds_a_burst_and_fills_at_its_rate() -> None:
    bucket = Bucket(per_s=2.0, burst=10.0)
    assert bucket.take(10, 100.0)
    assert not bucket.take(1, 100.4)
    assert bucket.take(1, 100.5)
    assert not bucket.take(1, 50.0)  # a clock that goes back fills nothing
    assert bucket.take(1_000, 1_000.0)  # more than a burst is a burst
    assert not bucket.take(1, 1_000.0)
    bucket.put_back(1)
    assert bucket.take(1, 1_000.0)


def test_a_flood_is_stopped_before_it_is_verified_and_only_for_its_sender() -> None:
    quota = SenderQuota(messages_per_s=1, bytes_per_s=1_000, burst_s=3)
    for _ in range(3):
        quota.charge(ME, 10, 0.0)
    with pytest.raises(WireError, match="over-quota"):
        quota.charge(ME, 10, 0.0)
    quota.charge(OTHER, 10, 0.0)
    quota.charge(ME, 10, 1.5)


def test_bytes_are_counted_beside_messages() -> None:
    quota = SenderQuota(messages_per_s=100, bytes_per_s=1_000, burst_s=1)
    quota.charge(ME, 600, 0.0)
    with pytest.raises(WireError, match="over-quota"):
        quota.charge(ME, 600, 0.0)
    quota.charge(ME, 600, 0.2)


def test_what_is_larger_than_a_burst_is_taken_now_and_then_and_no_more_in_the_mean() -> None:
    quota = SenderQuota(messages_per_s=100, bytes_per_s=1_000, burst_s=1)
    taken = 0
    for tenth in range(1_000):
        try:
            quota.charge(ME, 3_000, tenth / 10)
        except WireError:
            continue
        taken += 3_000
    assert 90_000 <= taken <= 103_000  # in 100 s


def test_the_inbox_topic_names_the_sender_as_writer() -> None:
    topic = InboxTopic(OTHER, ME)
    assert heard(topic, m.BlobRequest(task=TASK, digest="a" * 64)).topic == topic


# --- verdicts outlive their expiry ----------------------------------------------------------------

REVIEW = TaskTopic(ME, TASK, "review")


def verdict(*, approved: bool, **numbers: int) -> Received:
    return heard(REVIEW, m.Review(task=TASK, approved=approved), **numbers)


def test_an_older_approval_does_not_come_back_when_the_rejection_after_it_has_run_out() -> None:
    book = RecordBook()
    approval = verdict(approved=True, sequence=1)
    assert book.accept(approval, 0)
    assert book.accept(verdict(approved=False, sequence=2, expires_at_ms=10), 5)
    assert book.expire(11)
    with pytest.raises(WireError, match="stale"):
        book.accept(approval, 12)
    assert book.accept(verdict(approved=True, sequence=3), 12)


def test_a_sequence_that_was_kept_on_disk_counts_in_the_next_life() -> None:
    book = RecordBook()
    assert book.remember(REVIEW, 2)
    with pytest.raises(WireError, match="stale"):
        book.accept(verdict(approved=True, sequence=1), 0)
    assert book.accept(verdict(approved=True, sequence=2), 0)


def test_a_record_that_a_wrong_clock_took_for_expired_counts_again_and_nothing_older_does() -> None:
    book, year_ms = RecordBook(), 365 * 86_400_000
    review = verdict(approved=True, sequence=2, expires_at_ms=NOW_MS + 1_000)
    assert book.accept(review, NOW_MS)
    assert book.expire(NOW_MS + 10 * year_ms) == [review]
    with pytest.raises(WireError, match="expired"):
        book.accept(review, NOW_MS + 10 * year_ms)
    with pytest.raises(WireError, match="stale"):
        book.accept(verdict(approved=True, sequence=1), NOW_MS)
    assert book.accept(review, NOW_MS)


def test_a_servers_advert_of_a_newer_session_counts_whatever_clock_numbered_the_older_one() -> None:
    book = RecordBook()
    topic = TaskTopic(ME, TASK, "server")

    def advert(session: int, sequence: int) -> Received:
        body = m.ServerAdvert(task=TASK, online=True)
        said = m.Message(sender=ME, session=session, sequence=sequence, body=body)
        return open_envelope(seal(said, topic, KEY), topic)

    assert book.accept(advert(1, NOW_MS + 10**12), NOW_MS)
    assert book.accept(advert(2, NOW_MS), NOW_MS)
    for stale in (advert(1, NOW_MS + 2 * 10**12), advert(2, NOW_MS - 1)):
        with pytest.raises(WireError, match="stale"):
            book.accept(stale, NOW_MS)


AHEAD = NOW_MS + 10**12


def test_a_peer_whose_clock_ran_ahead_is_believed_again_once_it_is_right_or_goes_on() -> None:
    book, topic = RecordBook(), PeerTopic(ME, "state")

    def state(session: int) -> Received:
        said = m.Message(sender=ME, session=session, sequence=1, body=m.PeerState(online=True))
        return open_envelope(seal(said, topic, KEY), topic)

    for session in (NOW_MS - 5, AHEAD, AHEAD + 1, NOW_MS - 4, NOW_MS, AHEAD + 2):
        assert book.accept(state(session), NOW_MS)
    book = RecordBook()
    for session in (AHEAD, NOW_MS):
        assert book.accept(state(session), NOW_MS)
    with pytest.raises(WireError, match="stale"):
        book.accept(state(NOW_MS - 1), NOW_MS)


def test_an_announcement_of_a_newer_session_counts_whatever_clock_numbered_the_older_one() -> None:
    book = RecordBook()

    def announcement(session: int, sequence: int) -> Received:
        said = m.Message(sender=ME, session=session, sequence=sequence, body=m.PeerAnnouncement())
        return open_envelope(seal(said, NAME, KEY), NAME)

    assert book.accept(announcement(AHEAD, AHEAD), NOW_MS)
    assert book.accept(announcement(NOW_MS - 1, NOW_MS - 1), NOW_MS)  # it lost its memory, and its clock is right
    assert book.accept(announcement(NOW_MS, NOW_MS), NOW_MS)
    for stale in (announcement(NOW_MS - 1, NOW_MS + 5), announcement(NOW_MS, NOW_MS - 1)):
        with pytest.raises(WireError, match="stale"):
            book.accept(stale, NOW_MS)


def test_messages_of_a_clock_that_ran_ahead_are_counted_apart_and_none_twice() -> None:
    guard = ReplayGuard()
    for session in (NOW_MS - 9, NOW_MS - 8, AHEAD, AHEAD + 1, NOW_MS - 7, NOW_MS - 6, AHEAD + 2):
        guard.check(beat(session, 1), wall_ms=NOW_MS)
    for session in (NOW_MS - 9, NOW_MS - 8, NOW_MS - 7, AHEAD, AHEAD + 1, AHEAD + 2):
        with pytest.raises(WireError, match="replayed"):
            guard.check(beat(session, 1), wall_ms=NOW_MS)
    guard.check(beat(NOW_MS - 6, 2), wall_ms=NOW_MS)
    (windows,) = guard._senders.values()
    assert len(windows) == 4


def test_strangers_who_fill_the_book_keep_no_trusted_reviewer_out() -> None:
    stranger = SigningKey.generate()
    topic = PeerTopic(stranger.peer_id, "announcement")
    body = m.Message(sender=stranger.peer_id, session=1, sequence=1, body=m.PeerAnnouncement())
    book = RecordBook(capacity=1, trusted=frozenset((ME,)))
    assert book.accept(open_envelope(seal(body, topic, stranger), topic), 0)
    assert book.accept(verdict(approved=False, sequence=2, expires_at_ms=10), 0)
    assert book.remember(TaskTopic(stranger.peer_id, TASK, "review"), 7)
    assert book.expire(11)
    with pytest.raises(WireError, match="stale"):
        book.accept(verdict(approved=True, sequence=1), 12)


def test_whoever_does_not_know_that_a_review_can_be_withdrawn_reads_no_approval() -> None:
    wire = wire_pb2.Review(task=TASK, approved=True, withdrawn=True)
    read = bodies.read(wire_pb2.Message(review=wire))
    assert read == m.Review(task=TASK, approved=False, withdrawn=True)
    _, said = bodies.serialise(m.Review(task=TASK, approved=True, withdrawn=True))
    old = wire_pb2.Review.FromString(said)
    assert (old.approved, old.valid_until_ms) == (False, 0)
