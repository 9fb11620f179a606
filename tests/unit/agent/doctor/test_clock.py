"""What is made of a clock."""

from __future__ import annotations

import pytest

from grapevine_agent.doctor import clock
from grapevine_agent.doctor.situation import find_out

NOW_S = 1_800_000_000.0


def level_of(**facts: object) -> tuple[str, str]:
    known = {"now_s": NOW_S, "kept": True, "battery": True, "not_before": (NOW_S - 1, "x"), "ahead_s": ()}
    (line,) = clock.clock(**known | facts)  # type: ignore[arg-type]
    assert bool(line.remedy) == (line.level in ("warn", "fail"))
    if line.remedy:  # without a time service, as on a bare Debian, timedatectl refuses
        assert line.remedy.index("apt install systemd-timesyncd") < line.remedy.index("timedatectl set-ntp")
    return line.level, line.says


@pytest.mark.parametrize(
    ("facts", "level", "says"),
    [
        ({}, "ok", "kept by a time service"),
        ({"ahead_s": (0.1, -0.2, 3.0)}, "ok", "3 peers' clocks say the same"),
        ({"battery": False}, "ok", "without a battery"),
        ({"kept": False}, "warn", "no time service keeps it"),
        ({"kept": False, "battery": False}, "warn", "wrong after each power cut"),
        ({"kept": None}, "skip", "is not known"),
        ({"kept": None, "ahead_s": (1.0,)}, "ok", "1 peer's clock says the same"),
        ({"not_before": (NOW_S + 3600, "/state/grapevine.db")}, "fail", "/state/grapevine.db was written after that"),
        ({"ahead_s": (7_300.0, 7_200.0, -1.0)}, "fail", "2 hours behind those of 3 peers"),
        ({"ahead_s": (-7_200.0, -7_300.0)}, "fail", "2 hours ahead of those of 2 peers"),
        ({"ahead_s": (7_200.0,)}, "warn", "2 hours behind the one peer that is heard"),
        ({"ahead_s": (45.0, 50.0)}, "warn", "48 s behind"),
        ({"ahead_s": (0.0, 0.0, 9e9)}, "ok", ""),  # one liar is not believed
    ],
)
def test_what_is_made_of_a_clock(facts: dict[str, object], level: str, says: str) -> None:
    found, told = level_of(**facts)
    assert found == level
    assert says in told


def test_the_kernel_says_whether_its_clock_is_kept() -> None:
    assert clock.is_kept() in (True, False, None)
    at_s, which = clock.youngest(find_out(None, {"GRAPEVINE_CONFIG": "/not/there"}))
    assert at_s > 1e9
    assert which.endswith("clock.py")
