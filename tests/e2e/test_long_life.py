"""Real agents whose broker is killed and emptied again and again, and one whose clock is set: nobody is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from grapevine_agent.service import clock
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.long_life.agent import SetClock, read_ahead_s, set_clock
from grapevine_lab.long_life.plan import LifeTold, LongLife, Outage

MINUTES = 5  # that a free machine takes two of


@pytest.mark.mosquitto
@pytest.mark.skipif(bool(why_no_mosquitto()), reason=why_no_mosquitto() or "there is one")
@pytest.mark.timeout(MINUTES * 60)
def test_nobody_is_lost_to_a_broker_that_keeps_dying_and_a_clock_that_is_set(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grapevine_lab.long_life", "--hours", "0.02", "--agents", "3"]
    options = ["--outage-every-s", "30", "--clock-ahead-s", "7200", "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=MINUTES * 60 - 10, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nobody was lost" in done.stdout
    told = json.loads((tmp_path / "out" / "long-life.json").read_text())
    assert [outage["clock_ahead_s"] for outage in told["outages"]] == [7200.0, 0.0]
    assert all(outage["known_s"] > 0 and outage["merged_s"] > 0 for outage in told["outages"])
    assert min(told["rounds"]) > 20


def test_a_clock_is_set_while_somebody_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    assert read_ahead_s(file) == 0.0
    ours = SetClock(clock.now, file)
    assert abs(ours.now().wall_ms - clock.now().wall_ms) < 1000
    set_clock(file, -315_360_000.0)
    later = SetClock(clock.now, file)
    assert later.now().wall_ms < clock.now().wall_ms - 315_000_000_000
    assert abs(later.now().monotonic_s - clock.now().monotonic_s) < 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["clock"]


def test_a_life_without_an_outage_or_with_somebody_lost_does_not_hold() -> None:
    healed = Outage(number=1, at_s=1.0, dark_s=1.0, clock_ahead_s=0.0, known_s=1.0, merged_s=2.0)
    never = Outage(number=2, at_s=1.0, dark_s=1.0, clock_ahead_s=0.0, known_s=1.0, merged_s=None)

    def holds(*outages: Outage, lost: tuple[str, ...] = ()) -> bool:
        return LifeTold(plan=LongLife(), outages=outages, lost=lost, rounds=(1,), memory_mb=((1.0, 1.0),)).holds

    assert holds(healed)
    assert not holds(healed, never)
    assert not holds(healed, lost=("agent-1 has nothing new of agent-0",))
    assert not holds()
