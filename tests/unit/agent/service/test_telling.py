from __future__ import annotations

import logging

import pytest

from grapevine_agent.core.events import Measured, Placed, Rejected, Stopped
from grapevine_agent.core.moment import Moment
from grapevine_agent.service.telling import REJECTED_BURST, Telling


def at(seconds: float) -> Moment:
    return Moment(monotonic_s=seconds, wall_ms=int(1000 * seconds))


def measured(number: int) -> Measured:
    return Measured(
        task="t",
        label="digits",
        round=number,
        age=1,
        metric_name="accuracy",
        metric=0.5,
        loss=1.0,
        num_evaluated=9,
        baseline=None,
        baseline_name="",
        best=None,
        staleness=None,
        staleness_bound=None,
        server="none",
        num_peers=2,
        energy_j=None,
        round_energy_j=None,
    )


def test_each_event_is_one_line_of_the_log_and_what_comes_often_one_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    telling = Telling("us", 0)
    telling.tell(Stopped(task="t", label="evil\x1b[2J", why="its owner left it"), at(0))
    for number in range(130):
        telling.tell(measured(number), at(float(number)))
    assert caplog.messages[0] == "evil\N{REPLACEMENT CHARACTER}[2J: stopped: its owner left it"
    assert [line.split(",")[0] for line in caplog.messages[1:]] == [
        "digits: round 0",
        "digits: round 60",
        "digits: round 120",
    ]
    assert caplog.records[0].levelno == logging.WARNING
    assert telling.counts == {"stopped": 1, "measured": 130}
    assert len(telling.after(100)) == 31


def test_a_flood_of_what_is_rejected_is_counted_whole_and_told_in_part() -> None:
    telling = Telling("us", 0)
    telling.tell(Placed(component="kept"), at(0))
    for number in range(10_000):
        reason = "forged" if number % 10 else "quota"
        telling.tell(Rejected(sender=f"s{number}", reason=reason, detail="x"), at(number / 10_000))
    assert telling.rejected == {"forged": 9_000, "quota": 1_000}
    assert telling.counts == {"placed": 1, "rejected": 10_000}
    assert telling.number <= REJECTED_BURST + 12
    telling.settle(at(3.0))
    told = [each for number in range(0, telling.number, 64) for each in telling.after(number)][1:]
    assert {each["reason"]: each["num"] for each in told[-2:]}.keys() == {"forged", "quota"}
    of = {reason: sum(each["num"] for each in told if each["reason"] == reason) for reason in ("forged", "quota")}
    assert of == {"forged": 9_000, "quota": 1_000}
    before = telling.number
    telling.settle(at(9.0))
    assert telling.number == before  # there is nothing more to tell
