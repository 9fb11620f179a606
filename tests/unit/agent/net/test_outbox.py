from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.net.outbox import FEW, MAX_BYTES_UNDER_WAY, Outbox, Waiting


def drain(outbox: Outbox, now_s: float = 0.0) -> list[tuple[str, bytes]]:
    sent = []
    while (waiting := outbox.take(now_s)) is not None:
        sent.append((waiting.topic, bytes(waiting.payload)))
        outbox.sent(waiting)
    return sent


def test_a_record_that_has_run_out_is_not_published_at_a_connect_and_comes_back_with_the_clock() -> None:
    outbox = Outbox()
    outbox.keep("verdict", b"v", until_ms=1_000)
    outbox.keep("manifest", b"m")
    for wall_ms, topics in ((999, ["verdict", "manifest"]), (1_001, ["manifest"]), (999, ["verdict", "manifest"])):
        outbox.connected(wall_ms=wall_ms)
        said = []
        while (waiting := outbox.take(0)) is not None:
            said.append(waiting.topic)
            outbox.sent(waiting)
        assert said == topics


def test_the_last_word_on_a_topic_is_published_until_a_broker_has_it_and_then_forgotten() -> None:
    outbox = Outbox()
    outbox.keep("advert", b"over", is_last=True)
    outbox.connected()
    assert outbox.take(0) is not None  # and the connection is lost
    outbox.connected()
    waiting = outbox.take(0)
    assert waiting is not None
    outbox.sent(waiting)
    outbox.connected()
    assert outbox.take(0) is None
    outbox.keep("advert", b"over", is_last=True)
    waiting = outbox.take(0)
    assert waiting is not None
    outbox.keep("advert", b"again")  # before the broker has acknowledged it
    outbox.sent(waiting)
    again = outbox.take(0)
    assert again is not None
    assert again.payload == b"again"


def test_the_latest_record_of_a_topic_wins_and_is_due_after_every_connect() -> None:
    outbox = Outbox()
    outbox.keep("a", b"old")
    outbox.keep("b", b"other")
    outbox.keep("a", b"new")
    assert drain(outbox) == [("a", b"new"), ("b", b"other")]
    assert drain(outbox) == []
    outbox.connected()
    assert drain(outbox) == [("a", b"new"), ("b", b"other")]
    outbox.forget("a")
    outbox.connected()
    assert drain(outbox) == [("b", b"other")]


def test_a_record_replaced_while_it_is_published_stays_due() -> None:
    outbox = Outbox()
    outbox.keep("a", b"old")
    waiting = outbox.take(0.0)
    assert isinstance(waiting, Waiting)
    outbox.keep("a", b"new")
    outbox.sent(waiting)
    assert drain(outbox) == [("a", b"new")]


def test_what_was_not_acknowledged_is_due_again_at_the_next_connection_in_its_old_place() -> None:
    outbox = Outbox()
    for payload in (b"1", b"2", b"3", b"4"):
        outbox.enqueue("inbox", payload, deadline_s=10.0)
    outbox.answer("asker", b"blob", deadline_s=10.0)
    first, second, third = (outbox.take(0.0) for _ in range(3))
    assert second is not None
    outbox.sent(second)
    assert len(outbox) == 4
    outbox.connected()
    assert len(outbox) == 4
    assert drain(outbox) == [("inbox", b"1"), ("inbox", b"3"), ("inbox", b"4"), ("asker", b"blob")]
    assert first is not None
    assert third is not None


def test_what_is_under_way_does_not_go_again_once_its_time_has_passed_or_its_task_is_over() -> None:
    outbox = Outbox()
    outbox.enqueue("inbox", b"late", deadline_s=5.0)
    outbox.enqueue("inbox", b"left", deadline_s=20.0, task="over")
    outbox.answer("asker", b"left too", deadline_s=20.0, task="over")
    outbox.enqueue("inbox", b"good", deadline_s=20.0, task="other")
    while outbox.take(0.0):
        pass
    outbox.drop_task("over")
    outbox.connected()
    assert drain(outbox, now_s=6.0) == [("inbox", b"good")]
    assert outbox.num_expired == 1
    assert len(outbox) == 0


def test_of_a_record_that_was_under_way_and_replaced_only_the_newest_goes_again() -> None:
    outbox = Outbox()
    outbox.keep("a", b"old")
    old = outbox.take(0.0)
    outbox.keep("a", b"new")
    new = outbox.take(0.0)
    assert old is not None
    assert new is not None
    assert (old.payload, new.payload) == (b"old", b"new")  # over one connection both, in order
    outbox.connected()
    assert drain(outbox) == [("a", b"new")]


def test_what_a_broker_takes_unacknowledged_bounds_what_is_under_way_and_nothing_overtakes() -> None:
    outbox = Outbox()
    outbox.connected(max_in_flight=3)
    for number in range(5):
        outbox.keep(f"record {number}", b"r")
    outbox.enqueue("inbox", b"update", deadline_s=10.0)
    taken = [outbox.take(0.0) for _ in range(4)]
    assert [each.topic if each else None for each in taken] == ["record 0", "record 1", "record 2", None]
    assert outbox.num_waiting == 3
    assert taken[0] is not None
    outbox.sent(taken[0])
    outbox.sent(taken[0])  # a second acknowledgement makes no second place
    assert [each.topic if each else None for each in (outbox.take(0.0), outbox.take(0.0))] == ["record 3", None]


def test_what_waits_for_no_acknowledgement_never_waits_behind_what_does() -> None:
    outbox = Outbox()
    outbox.connected(max_in_flight=1)
    outbox.enqueue("update", b"1", deadline_s=10.0)
    outbox.enqueue("update", b"2", deadline_s=10.0)
    outbox.enqueue("heartbeat", b"h", deadline_s=10.0, qos=0)
    assert [each.topic if each else None for each in (outbox.take(0.0) for _ in range(3))] == [
        "update",
        "heartbeat",
        None,
    ]


def test_bytes_under_way_are_bounded_and_one_message_may_be_larger() -> None:
    outbox = Outbox()
    for size in (MAX_BYTES_UNDER_WAY + 1, 1, MAX_BYTES_UNDER_WAY, 1):
        outbox.enqueue("inbox", bytes(size), deadline_s=10.0)
    large = outbox.take(0.0)
    assert large is not None
    assert outbox.take(0.0) is None
    outbox.sent(large)
    small = outbox.take(0.0)
    assert small is not None
    assert small.size == 1
    assert outbox.take(0.0) is None


@given(
    st.lists(st.sampled_from(["keep", "message", "qos0", "answer", "take", "sent", "connected", "drop"]), max_size=80)
)
def test_its_counts_hold_and_all_of_it_leaves_in_the_end(steps: list[str]) -> None:
    outbox = Outbox(max_messages=10, max_bytes=100)
    under_way: list[Waiting] = []
    for number, step in enumerate(steps):
        match step:
            case "keep":
                outbox.keep(f"record {number % 3}", b"%d" % number)
            case "message" | "qos0":
                outbox.enqueue(
                    "inbox", bytes(number), deadline_s=99.0, qos=int(step == "message"), task="ab"[number % 2]
                )
            case "answer":
                outbox.answer("asker", bytes(number), deadline_s=99.0, task="ab"[number % 2])
            case "take":
                under_way += [each] if (each := outbox.take(0.0)) else []
            case "sent" if under_way:
                outbox.sent(under_way.pop(0))
            case "connected":
                outbox.connected(2)
                under_way.clear()
            case "drop":
                outbox.drop_task("a")
        waiting = [each for queue in outbox._messages for each in queue]
        flying = [each for each in outbox._under_way.values() if each.lane == "message"]
        assert outbox._num_messages == len(waiting) + len(flying)
        assert outbox._num_bytes == sum(len(each.payload) for each in (*waiting, *flying))
        assert len(flying) <= 64
    for each in under_way:
        outbox.sent(each)
    drain(outbox)
    assert len(outbox) == outbox._num_messages == outbox._num_bytes == 0
    assert all(room.num == room.num_bytes == 0 for room in outbox._rooms)


def test_messages_go_once_in_order_unless_their_deadline_passed() -> None:
    outbox = Outbox()
    outbox.enqueue("inbox", b"1", deadline_s=10.0)
    outbox.enqueue("inbox", b"2", deadline_s=5.0)
    outbox.enqueue("inbox", b"3", deadline_s=10.0)
    assert drain(outbox, now_s=6.0) == [("inbox", b"1"), ("inbox", b"3")]
    assert outbox.num_expired == 1
    outbox.connected()
    assert drain(outbox) == []


def test_a_full_outbox_drops_the_oldest_message_and_no_record() -> None:
    outbox = Outbox(max_messages=2, max_bytes=10)
    outbox.keep("record", bytes(100))
    for payload in (b"1", b"2", b"3"):
        outbox.enqueue("inbox", payload, deadline_s=10.0)
    assert outbox.num_dropped == 1
    outbox.enqueue("inbox", bytes(9), deadline_s=10.0)
    assert outbox.num_dropped == 2
    assert [topic for topic, _ in drain(outbox)] == ["record", "inbox", "inbox"]


def test_messages_of_a_task_that_is_over_are_not_sent_and_its_records_are() -> None:
    outbox = Outbox()
    outbox.keep("record", b"r")
    outbox.enqueue("a", b"1", deadline_s=10, task="over")
    outbox.enqueue("b", b"2", deadline_s=10, task="other")
    outbox.drop_task("over")
    sent = []
    while (waiting := outbox.take(0)) is not None:
        sent.append(waiting.topic)
        outbox.sent(waiting)
    assert sent == ["record", "b"]


def test_answers_go_behind_whatever_else_is_due() -> None:
    outbox = Outbox()
    outbox.answer("asker", b"blob", deadline_s=10.0)
    outbox.enqueue("inbox", b"update", deadline_s=10.0)
    outbox.keep("record", b"r")
    assert drain(outbox) == [("record", b"r"), ("inbox", b"update"), ("asker", b"blob")]


def test_an_answer_that_waited_too_long_is_not_sent() -> None:
    outbox = Outbox()
    outbox.answer("asker", b"blob", deadline_s=10.0)
    assert drain(outbox, now_s=10.0) == []
    assert outbox.num_expired == 1


def test_answers_are_bounded_in_number_and_in_bytes_before_they_are_made() -> None:
    outbox = Outbox(max_answers=3, max_answer_bytes=100)
    assert all(outbox.answer(f"a{k}", order=k, thing="blob", num_bytes=30, deadline_s=10.0) for k in range(3))
    assert not outbox.answer("a3", order=3, thing="blob", num_bytes=1, deadline_s=10.0)
    small = Outbox(max_answers=3, max_answer_bytes=100)
    assert small.answer("a", order=0, thing="blob", num_bytes=500, deadline_s=10.0)  # alone it may be larger
    assert not small.answer("b", order=1, thing="blob", num_bytes=1, deadline_s=10.0)
    assert small.num_dropped == 1
    outbox.enqueue("inbox", b"update", deadline_s=10.0)
    assert outbox.num_dropped == 1
    assert len(outbox) == 4


def test_who_asks_again_before_the_answer_has_left_gets_one_answer() -> None:
    outbox = Outbox()
    for _ in range(5):
        assert outbox.answer("a", order="order", thing="blob", num_bytes=30, deadline_s=10.0)
    assert outbox.answer("b", order="order", thing="blob", num_bytes=30, deadline_s=10.0)
    assert len(outbox) == 2
    assert outbox.owes("blob")
    drain(outbox)
    assert not outbox.owes("blob")


def test_answers_about_a_task_that_is_over_are_not_sent() -> None:
    outbox = Outbox()
    outbox.answer("a", b"1", deadline_s=10.0, task="over")
    outbox.answer("b", b"2", deadline_s=10.0, task="other")
    outbox.drop_task("over")
    assert drain(outbox) == [("b", b"2")]


# --- messages that are made when their turn has come ----------------------------------------------


def test_a_message_that_is_not_made_yet_holds_up_its_qos_and_nothing_else() -> None:
    outbox = Outbox()
    outbox.enqueue("large", order="model", num_bytes=1_000, deadline_s=10.0)
    outbox.enqueue("behind", b"b", deadline_s=10.0)
    outbox.enqueue("heartbeat", b"h", deadline_s=10.0, qos=0)
    outbox.keep("record", b"r")
    outbox.answer("answer", b"a", deadline_s=10.0)
    assert [topic for topic, _ in drain(outbox)] == ["record", "heartbeat"]
    order = outbox.to_make(0.0)
    assert order is not None
    assert order.order == "model"
    outbox.made(order, b"made" * 500)
    assert outbox.to_make(0.0) is None
    assert drain(outbox) == [("large", b"made" * 500), ("behind", b"b"), ("answer", b"a")]
    assert outbox._num_bytes == 0


def test_an_order_that_ran_out_or_was_dropped_is_not_made_and_what_was_made_of_it_is_not_sent() -> None:
    outbox = Outbox()
    outbox.enqueue("late", order="late", num_bytes=1, deadline_s=1.0)
    outbox.enqueue("left", order="left", num_bytes=1, deadline_s=10.0, task="7")
    outbox.enqueue("kept", order="kept", num_bytes=1, deadline_s=10.0)
    late = outbox.to_make(0.0)
    left = outbox.to_make(2.0)
    assert late is not None
    assert left is not None
    assert (late.order, left.order) == ("late", "left")
    outbox.made(late, b"late")
    outbox.drop_task("7")
    outbox.made(left, b"left")
    assert drain(outbox, 2.0) == []
    kept = outbox.to_make(2.0)
    assert kept is not None
    outbox.made(kept, b"kept")
    assert drain(outbox, 2.0) == [("kept", b"kept")]
    assert len(outbox) == 0


def test_a_few_messages_may_wait_whatever_they_take_and_then_the_oldest_goes() -> None:
    outbox = Outbox(max_bytes=1_000)
    for number in range(FEW + 2):
        outbox.enqueue(f"{number}", order=number, num_bytes=5_000, deadline_s=10.0)
    assert outbox.num_dropped == 2
    assert outbox.num_waiting == FEW
    order = outbox.to_make(0.0)
    assert order is not None
    assert order.topic == "2"


def test_a_large_message_that_was_lost_on_the_way_goes_again_as_it_was_made() -> None:
    outbox = Outbox()
    outbox.enqueue("large", order="model", num_bytes=1_000, deadline_s=10.0)
    order = outbox.to_make(0.0)
    assert order is not None
    outbox.made(order, b"made")
    assert outbox.take(0.0) is not None
    outbox.connected()
    assert outbox.to_make(0.0) is None
    assert drain(outbox) == [("large", b"made")]


def test_of_a_message_that_is_not_published_its_author_is_told() -> None:
    dropped: list[str] = []
    outbox = Outbox(max_messages=2, dropped=lambda waiting: dropped.append(waiting.topic))
    outbox.enqueue("late", b"1", deadline_s=1.0)
    outbox.enqueue("left", b"2", deadline_s=10.0, task="7")
    outbox.drop_task("7")
    assert dropped == []  # nobody wants it sent
    outbox.enqueue("sent", b"3", deadline_s=10.0)
    assert drain(outbox, 2.0) == [("sent", b"3")]
    assert dropped == ["late"]
    for number in range(3):
        outbox.enqueue(f"{number}", b"4", deadline_s=10.0)
    assert dropped == ["late", "0"]
