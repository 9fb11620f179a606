"""A log that no stranger can fill."""

from __future__ import annotations

import io
import logging
from math import inf

from grapevine_broker.sparing_log import SparingLog


def record(text: str, at_s: float, line: int = 1) -> logging.LogRecord:
    made = logging.LogRecord("broker", logging.WARNING, "here.py", line, text, None, None)
    made.created = at_s
    return made


def test_a_place_in_the_code_writes_a_few_lines_a_minute_and_then_their_number() -> None:
    written = io.StringIO()
    log = SparingLog(written, num_lines=2, period_s=60.0)
    for number in range(500):
        log.emit(record(f"message {number}", at_s=number / 10))
    assert written.getvalue().splitlines() == ["message 0", "message 1"]
    log.emit(record("a minute later", at_s=61.0))
    summary, later = written.getvalue().splitlines()[2:]
    assert summary == "… 498 more like it in 60 s, the last one: message 499"
    assert later == "a minute later"


def test_each_place_has_lines_of_its_own() -> None:
    written = io.StringIO()
    log = SparingLog(written, num_lines=1, period_s=60.0)
    for line in (1, 1, 2, 2):
        log.emit(record(f"line {line}", at_s=0.0, line=line))
    assert written.getvalue().splitlines() == ["line 1", "line 2"]


def test_what_was_held_back_is_summed_up_even_if_nothing_follows() -> None:
    written = io.StringIO()
    log = SparingLog(written, num_lines=1, period_s=60.0)
    for _ in range(4):
        log.emit(record("again", at_s=10.0))
    log.sum_up(now_s=69.0)
    assert written.getvalue().splitlines() == ["again"]
    log.sum_up(now_s=70.0)
    log.sum_up(now_s=inf)
    assert written.getvalue().splitlines() == ["again", "… 3 more like it in 60 s, the last one: again"]


def test_a_stranger_s_words_do_not_make_a_line_long() -> None:
    written = io.StringIO()
    log = SparingLog(written, num_lines=1, period_s=60.0)
    log.emit(record("x" * 100_000, at_s=0.0))
    log.emit(record("y" * 100_000, at_s=0.0))
    log.sum_up(inf)
    assert len(written.getvalue()) < 5000
