from __future__ import annotations

import math

from grapevine_agent.net.unanswered import SLOWEST_BYTES_PER_S, Unanswered


def test_the_oldest_has_its_time_from_when_it_became_the_oldest() -> None:
    unanswered = Unanswered(answer_s=20.0)
    assert unanswered.deadline_s() == math.inf
    unanswered.sent(1, "a", 0, 100.0)
    unanswered.sent(2, "b", 0, 101.0)
    assert unanswered.deadline_s() == 120.0
    unanswered.answered(1, 115.0)
    assert unanswered.deadline_s() == 135.0  # it could not be answered before the first one was
    assert unanswered.complaint(135.0) == "no answer to b in 20 s"
    unanswered.answered(2, 130.0)
    assert unanswered.deadline_s() == math.inf


def test_twenty_models_on_a_slow_line_are_no_dead_line() -> None:
    unanswered = Unanswered(answer_s=20.0)
    size = 20 * SLOWEST_BYTES_PER_S
    for key in range(20):
        unanswered.sent(key, "a model", size, 0.0)
    for key in range(20):
        done_s = (key + 1) * 30.0  # ten seconds before each one's time is over
        assert done_s < unanswered.deadline_s() == key * 30.0 + 40.0
        unanswered.answered(key, done_s)


def test_an_answer_that_was_passed_over_is_not_waited_for_however_busy_the_line_is() -> None:
    unanswered = Unanswered(answer_s=20.0, busy_s=60.0)
    unanswered.sent(1, "a", 0, 0.0)
    unanswered.sent(2, "b", 0, 0.0)
    for second in range(19):
        unanswered.heard(float(second))
    assert unanswered.deadline_s() == 38.0
    unanswered.answered(2, 18.0)
    assert unanswered.deadline_s() == 20.0


def test_while_messages_arrive_an_answer_may_be_late_but_not_for_ever() -> None:
    unanswered = Unanswered(answer_s=20.0, busy_s=60.0)
    unanswered.sent(1, "a", 0, 0.0)
    for second in range(200):
        unanswered.heard(float(second))
    assert unanswered.deadline_s() == 60.0


def test_what_was_only_written_to_the_socket_does_not_pass_anything_over() -> None:
    unanswered = Unanswered(answer_s=20.0, busy_s=60.0)
    unanswered.sent(1, "an update", 0, 0.0)
    unanswered.sent(2, "a heartbeat", 0, 1.0)
    unanswered.heard(10.0)
    unanswered.answered(2, 1.0, by_broker=False)
    assert unanswered.deadline_s() == 30.0


def test_an_answer_to_nothing_changes_nothing() -> None:
    unanswered = Unanswered(answer_s=20.0)
    unanswered.answered(7, 0.0)
    unanswered.sent(1, "a", 0, 0.0)
    unanswered.answered(7, 5.0)
    assert unanswered.deadline_s() == 20.0
    assert 1 in unanswered
    assert 7 not in unanswered
