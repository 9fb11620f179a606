from __future__ import annotations

from grapevine_agent.net import Outbox, Waiting


def drain(outbox: Outbox, now_s: float = 0.0) -> list[tuple[str, bytes]]:
    sent = []
    while (waiting := outbox.next_due(now_s)) is not None:
        sent.append((waiting.topic, waiting.payload))
        outbox.sent(waiting)
    return sent


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
    waiting = outbox.next_due(0.0)
    assert isinstance(waiting, Waiting)
    outbox.keep("a", b"new")
    outbox.sent(waiting)
    assert drain(outbox) == [("a", b"new")]


def test_what_was_not_sent_is_still_due() -> None:
    outbox = Outbox()
    outbox.enqueue("inbox", b"1", deadline_s=10.0)
    assert outbox.next_due(0.0) is outbox.next_due(0.0) is not None
    assert len(outbox) == 1


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
    while (waiting := outbox.next_due(0)) is not None:
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
