"""Checks run all at once, each within its time, and nothing that happens in one gets out of it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from grapevine_agent.doctor.examination import Check, examine, plainly
from grapevine_agent.doctor.findings import Finding, exit_code
from grapevine_proto.errors import StoreError

FINE = [Finding(check="fine", level="ok", says="it is")]


def raising(error: Exception) -> list[Finding]:
    raise error


async def looked(*checks: Check) -> list[Finding]:
    return [each async for findings in examine(checks) for each in findings]


async def test_a_check_that_raises_is_one_line_and_the_others_go_on() -> None:
    found = await looked(
        Check(name="broken", about="x", within_s=5.0, look=plainly(lambda: raising(ValueError("a\nb")))),
        Check(name="told", within_s=5.0, look=plainly(lambda: raising(StoreError("no room: delete something")))),
        Check(name="fine", within_s=5.0, look=plainly(lambda: FINE)),
    )
    assert [(each.check, each.level) for each in found] == [("broken", "fail"), ("told", "fail"), ("fine", "ok")]
    assert found[0].says == "this could not be looked at (ValueError: a b)"
    assert found[0].about == "x"
    assert found[1].says == "no room: delete something"


async def test_a_check_that_hangs_costs_its_own_time_and_keeps_nobody() -> None:
    let_go = threading.Event()
    began_s = time.monotonic()
    found = await looked(
        Check(name="hangs", within_s=0.3, look=plainly(lambda: FINE if let_go.wait() else [])),
        Check(name="sleeps", within_s=0.3, look=lambda: asyncio.sleep(60.0, FINE), slow="nothing came"),
        Check(name="fine", within_s=5.0, look=plainly(lambda: FINE)),
    )
    assert time.monotonic() - began_s < 3.0  # they hang at once
    assert [each.level for each in found] == ["warn", "warn", "ok"]
    assert found[1].says == "nothing came within 0.3 s"
    let_go.set()


@pytest.mark.parametrize(("levels", "code"), [("ok warn skip", 0), ("", 0), ("ok fail warn", 1)])
def test_the_exit_code_tells_of_failures_alone(levels: str, code: int) -> None:
    found = [Finding(check="c", level=level, says="") for level in levels.split()]  # type: ignore[arg-type]
    assert exit_code(found) == code
