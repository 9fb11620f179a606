"""Which judgements, verdicts and turns in a task's life become events, and that strangers make none."""

from __future__ import annotations

from tests.unit.agent.core.tasks.device import ADA, BEN, CAT, ENGINEER, STRANGER, Device

from grapevine_agent.core import events as ev


def told(device: Device) -> list[ev.Event]:
    """The events since this was last asked."""
    found = [each for each in device.effects if isinstance(each, ev.Event)]
    device.effects.clear()
    return found


def test_a_task_that_is_approved_rejected_and_forgotten_is_told_step_by_step() -> None:
    device = Device()
    task = device.publish()
    assert told(device) == []  # nobody whom the owner trusts has spoken of it
    device.approve(task, ADA)
    reviewed, judged = told(device)
    assert isinstance(reviewed, ev.Reviewed)
    assert (reviewed.reviewer, reviewed.approved, reviewed.counts) == (ADA, True, True)
    assert isinstance(judged, ev.Judged)
    assert (judged.standing, judged.publisher, judged.label) == ("waiting", ENGINEER, device.entry(task).brief.label)
    device.approve(task, BEN)
    reviewed, judged, joining, joined = told(device)
    assert isinstance(judged, ev.Judged)
    assert judged.standing == "approved"
    assert isinstance(joining, ev.Joining)
    assert isinstance(joined, ev.Joined)
    assert (joined.role, joined.begins_with, joined.age) == ("member", "initial", 0)
    device.approve(task, ADA, approved=False)
    assert [each.kind for each in told(device)] == ["reviewed", "judged", "stopped"]
    device.wait(60)
    assert told(device) == []


def test_strangers_make_no_events_however_many_tasks_and_verdicts_they_invent() -> None:
    device = Device()
    task = device.publish()
    device.approve(task)
    told(device)
    for number in range(20):
        device.publish(STRANGER, name=f"task {number}")
    device.approve(task, CAT, STRANGER)
    device.wait(30)
    assert told(device) == []


def test_a_start_tells_how_things_stand_and_no_old_verdicts() -> None:
    device = Device()
    device.approve(device.publish())
    again = device.restart()
    assert [each.kind for each in told(again)] == ["judged", "joining", "joined"]
