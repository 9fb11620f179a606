"""What fits alone does not fit together: who holds what, who waits for room, and who gets it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.agent.core.tasks.device import ENGINEER, SETTINGS, WEIGHTS, Device

from grapevine_agent.core.settings import DeviceLimits, Needs
from grapevine_agent.core.tasks.reservations import Reservations
from grapevine_agent.core.tasks.weights_wanted import IN_VAIN_S
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import Requirements
from grapevine_proto.messages import Blob, PeerState

LIMITS = DeviceLimits(memory_mb=1000, cores=4, disk_mb=100)


def device(limits: DeviceLimits = LIMITS, **settings: Any) -> Device:
    return Device(replace(SETTINGS, limits=limits, **settings))


def task(on: Device, name: str, memory_mb: int = 0, cores: int = 1, **fields: Any) -> str:
    made = on.publish(name=name, requirements=Requirements(memory_mb=memory_mb, cores=cores), **fields)
    on.approve(made)
    on.settle()
    return made


def test_two_tasks_that_each_fit_are_not_joined_together() -> None:
    here = device()
    first, second = task(here, "digits", 900), task(here, "weather", 900)
    assert here.trains(first)
    assert not here.trains(second)
    assert here.why_not(second) == [
        "needs about 900 MB of memory, 100 of 1,000 are free: `digits` holds 900; leaving one of them makes room "
        "(grapevine leave)"
    ]


def test_who_waits_for_room_is_joined_as_soon_as_there_is_room() -> None:
    here = device()
    first, second = task(here, "digits", 700), task(here, "weather", 420)
    assert not here.trains(second)
    here.perform(here.core.set_consent(first, False, here.moment()))
    here.settle()
    assert not here.trains(first)
    assert here.trains(second)  # and not ten seconds later
    here.perform(here.core.set_consent(first, True, here.moment()))
    here.settle()
    assert not here.trains(first)


def test_a_task_holds_its_room_while_it_waits_for_its_weights_and_not_after_it_failed() -> None:
    here = device()
    here.loads = False
    first, second = task(here, "digits", 700), task(here, "weather", 420)
    assert here.core.tasks.all_parts() == (first,)
    here.perform(here.core.loaded(first, None, None, here.moment(), error="the disk cannot say"))
    here.settle()
    assert here.core.tasks.all_parts() == (second,)
    here.wait(300)  # its pause is over, and there is no room
    assert here.core.tasks.all_parts() == (second,)
    assert "`weather` holds 420" in here.why_not(first)[0]


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_task_whose_weights_nobody_has_lends_its_room_until_they_come(is_taken: bool) -> None:
    here = device()
    here.loads = False
    first = task(here, "digits", 700)
    members = here.core.members
    members.hear_state(ENGINEER, PeerState(online=True), 1, here.now_s)
    here.perform(here.core.loaded(first, None, None, here.moment()))
    here.wait(IN_VAIN_S - 10)
    assert here.core.tasks.reservations.holds(first)
    assert here.why_not(first) == []
    here.wait(20)
    assert "until they come others may use its room" in here.why_not(first)[0]
    second = task(here, "weather", 420) if is_taken else ""
    assert here.core.tasks.all_parts() == ((first, second) if is_taken else (first,))
    weights = here.entry(first).head.initial_weights
    here.wait(60)
    blob = Blob(task=first, digest=weights.digest, content=WEIGHTS)
    here.perform(here.core.tasks.take_blob(ENGINEER, blob, here.moment()))
    here.settle()
    assert here.trains(first) is not is_taken
    if not is_taken:
        assert here.core.tasks.reservations.holds(first)
        return
    assert "`weather` holds 420" in here.why_not(first)[0]
    here.perform(here.core.set_consent(second, False, here.moment()))
    here.settle()
    assert here.core.tasks.all_parts() == (first,)  # asks the disk, which has them


def test_cores_are_reserved_too() -> None:
    here = device()
    first, second, third = (task(here, name, cores=cores) for name, cores in (("a", 3), ("b", 2), ("c", 1)))
    assert [here.trains(each) for each in (first, second, third)] == [True, False, True]
    assert here.why_not(second) == [
        "needs 2 cores, 0 of 4 are free: `a` holds 3, `c` holds 1; leaving one of them makes room (grapevine leave)"
    ]


def test_disk_is_reserved_too() -> None:
    here = device(needs=lambda _task, head: Needs(disk_mb=60 if head.name == "large" else 41))
    first, second = task(here, "large"), task(here, "small")
    assert here.trains(first)
    assert here.why_not(second)[0].startswith("needs about 41 MB of disk, 40 of 100 are free: `large` holds 60")


def test_a_new_version_has_the_room_of_the_one_that_it_replaces() -> None:
    here = device()
    first = task(here, "digits", 900)
    second = task(here, "digits", 950, version=2, parent=first)
    assert here.trains(second)
    assert not here.trains(first)
    assert here.core.tasks.reservations.free("memory_mb") == 50


def test_a_new_version_for_which_there_is_no_room_leaves_the_old_one_in_peace() -> None:
    here = device()
    first, other = task(here, "digits", 300), task(here, "weather", 600)
    second = task(here, "digits", 500, version=2, parent=first)
    assert here.trains(first)
    assert here.trains(other)
    assert not here.trains(second)
    assert "400 of 1,000 are free: `weather` holds 600" in here.why_not(second)[0]


def test_a_task_whose_samples_have_become_more_gets_what_is_free_and_no_more() -> None:
    needed = {"digits": 300}
    here = device(needs=lambda _task, head: Needs(memory_mb=needed.get(head.name, 500)))
    first, _ = task(here, "digits"), task(here, "weather")
    needed["digits"] = 450
    here.wait(11)
    assert here.core.tasks.reservations.holdings[first].needs.memory_mb == 450
    assert here.core.tasks.reservations.room_mb(first) == 500
    needed["digits"] = 600
    here.wait(11)
    assert here.core.tasks.reservations.holdings[first].needs.memory_mb == 450
    assert here.trains(first)


def test_a_server_holds_no_memory_and_refuses_nothing() -> None:
    here = device(role="server", trusted_servers=frozenset((SETTINGS.peer,)))
    assert [task(here, name, 900) for name in ("a", "b")]
    assert len(here.core.tasks.aggregating) == 2


def test_a_refusal_names_the_largest_holders_and_how_many_more() -> None:
    reservations = Reservations(limits=LIMITS)
    for number in range(6):
        reservations.take(str(number), f"t{number}", Needs(memory_mb=100 + number))
    why = reservations.why_no_room("new", Needs(memory_mb=400))
    assert "`t5` holds 105, `t4` holds 104, `t3` holds 103, `t2` holds 102 and 2 more" in why
    assert reservations.why_no_room("new", Needs(memory_mb=300)) == ""
    assert "and 100 may be used" in reservations.why_no_room("new", Needs(disk_mb=101))


# --- forgetting -----------------------------------------------------------------------------------


def test_what_is_joined_is_not_forgotten_and_a_no_stays() -> None:
    here = device()
    first = task(here, "digits", 100)
    with pytest.raises(
        TaskError, match=f"digits is joined, and its model is in use; first: grapevine leave {first[:12]}"
    ):
        here.core.steward.forget(first)
    here.perform(here.core.set_consent(first, False, here.moment()))
    here.core.steward.forget(first)
    here.settle()
    assert not here.trains(first)
    assert here.core.book.consents[first] is False


def test_what_becomes_known_of_the_owners_data_is_acted_upon_at_once() -> None:
    data = {"why": "its samples are being checked"}
    here = device(match_data=lambda _task, _head: data["why"])
    waiting = task(here, "waiting", 100)
    assert not here.trains(waiting)
    data["why"] = ""
    here.perform(here.core.data_judged(here.moment()))
    assert here.trains(waiting)
    data["why"] = "row 17, column 'temperature': 'unavailable' is no number"
    here.perform(here.core.data_judged(here.moment()))
    assert not here.trains(waiting)


def test_what_is_in_use_is_what_may_be_wanted_without_a_word_of_the_owners() -> None:
    data = {"why": ""}
    here = device(match_data=lambda _task, head: data["why"] if head.name == "away" else "")
    joined, left, away, old = (task(here, name, 100) for name in ("joined", "left", "away", "old"))
    task(here, "old", 100, version=2, parent=old)
    here.perform(here.core.set_consent(left, False, here.moment()))
    data["why"] = "a disk that is not mounted"
    here.wait(11)
    assert not here.trains(away)
    in_use = here.core.steward.in_use(here.moment())
    assert {joined, away} <= in_use
    assert not {left, old} & in_use
