"""When a device sleeps: windows by the clock on the wall, and clocks that are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core import effects as fx
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.presence import Presence
from grapevine_agent.core.overlay.sleep import Sleep, asleep_for_s
from grapevine_agent.core.settings import MOST_ASLEEP_S, SleepPlan
from grapevine_proto.messages import PeerAnnouncement, PeerState

HOUR_S, HOUR_MS = 3600.0, 3_600_000
HOURLY = SleepPlan(online_s=300.0, every_s=HOUR_S)
NOON_MS = 480_000 * HOUR_MS  # a multiple of an hour


class Device:
    """A `Sleep` and its two clocks: the wall's can be set."""

    def __init__(self, plan: SleepPlan | None = HOURLY, *, starts_ms: int = NOON_MS, seed: int = 0) -> None:
        self.sleep = Sleep(plan=plan, rng=np.random.default_rng(seed))
        self.now_s, self.wall_ms = 1000.0, starts_ms
        self.sleep.start(self.now)

    @property
    def now(self) -> Moment:
        return Moment(monotonic_s=self.now_s, wall_ms=self.wall_ms)

    def until_it(self, does: str, *, within_s: float = 2 * 86_400.0, step_s: float = 1.0) -> float:
        """How long it takes, in seconds."""
        began_s = self.now_s
        while self.now_s - began_s < within_s:
            did = self.sleep.tick(self.now)
            if did:
                assert did == does
                return self.now_s - began_s
            self.pass_(step_s)
        raise AssertionError(f"it never {does}")

    def pass_(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall_ms += int(seconds * 1000)


def test_it_is_awake_for_the_first_minutes_of_every_hour() -> None:
    device = Device()
    assert device.until_it("sleeps") == 300
    for _ in range(3):
        assert HOUR_S - 300 <= device.until_it("wakes") <= HOUR_S - 300 + 31
        into_s = device.wall_ms / 1000 % HOUR_S
        assert into_s <= 31
        assert device.until_it("sleeps") == pytest.approx(300 - into_s, abs=1)


def test_it_says_until_when_before_it_does_not_answer_any_more() -> None:
    device = Device()
    device.until_it("sleeps")
    said_ms = device.sleep.until_ms
    assert device.sleep.is_asleep
    assert device.sleep.is_away
    assert NOON_MS + HOUR_MS <= said_ms <= NOON_MS + HOUR_MS + 30_000
    device.until_it("wakes")
    assert abs(device.wall_ms - said_ms) <= 1_000
    assert not device.sleep.is_asleep
    assert device.sleep.is_away, "until a broker has it"
    assert device.sleep.connected()
    assert not device.sleep.connected()


def test_devices_do_not_wake_up_in_the_same_second() -> None:
    ends = []
    for seed in range(20):
        device = Device(seed=seed)
        device.until_it("sleeps")
        ends.append(device.sleep.until_ms)
    assert max(ends) - min(ends) > 15_000
    assert len({end // 1000 for end in ends}) > 10


def test_one_that_was_started_at_any_time_is_awake_first() -> None:
    device = Device(starts_ms=NOON_MS + 30 * 60_000)
    assert device.until_it("sleeps") == 300
    assert device.until_it("wakes") == pytest.approx(25 * 60, abs=31)


def test_one_that_was_started_just_before_its_window_stays_up_through_it() -> None:
    device = Device(starts_ms=NOON_MS - 310_000)
    assert device.until_it("sleeps") == 610


def test_without_a_plan_it_never_sleeps() -> None:
    device = Device(None)
    for _ in range(100):
        assert device.sleep.tick(device.now) == ""
        device.pass_(HOUR_S / 7)
    assert device.sleep.deadline_s() == float("inf")


@pytest.mark.parametrize("step_ms", [-40 * 365 * 24 * HOUR_MS, -HOUR_MS, -1800_000, -1000])
def test_a_clock_that_is_set_back_makes_no_sleep_longer(step_ms: int) -> None:
    device = Device()
    device.until_it("sleeps")
    device.pass_(60)
    device.wall_ms += step_ms
    assert device.until_it("wakes") <= HOUR_S - 300 + 31 - 60
    assert device.until_it("sleeps") <= 2 * 300
    assert device.until_it("wakes") <= HOUR_S, "and it goes on by the new clock"
    assert device.wall_ms / 1000 % HOUR_S <= 31


@pytest.mark.parametrize("step_ms", [2 * HOUR_MS, 24 * 365 * HOUR_MS])
def test_a_clock_that_is_set_beyond_its_end_ends_a_sleep(step_ms: int) -> None:
    device = Device()
    device.until_it("sleeps")
    device.wall_ms += step_ms  # or the machine was suspended
    assert device.until_it("wakes") <= 1
    assert device.until_it("sleeps") <= 300
    assert device.until_it("wakes") <= HOUR_S


def test_a_clock_that_is_set_while_it_is_awake_ends_no_window() -> None:
    device = Device()
    device.until_it("sleeps")
    device.until_it("wakes")
    device.wall_ms += 30 * 60_000
    assert device.until_it("sleeps") > 260


@pytest.mark.parametrize(("online_s", "every_s"), [(1.0, 2.0), (9.0, 10.0), (3240.0, HOUR_S), (77_760.0, 86_400.0)])
def test_whatever_can_be_written_has_it_sleep_and_wake(online_s: float, every_s: float) -> None:
    device = Device(SleepPlan(online_s=online_s, every_s=every_s))
    for _ in range(3):
        device.until_it("sleeps", step_s=min(1.0, online_s / 20))
        assert device.until_it("wakes", step_s=min(1.0, online_s / 20)) <= every_s


# --- what is said of it ---------------------------------------------------------------------------


def asleep(until_ms: int) -> PeerState:
    return PeerState(online=False, goodbye=True, asleep_until_ms=until_ms)


@pytest.mark.parametrize("ours_ms", [0, NOON_MS, 2 * NOON_MS])
def test_what_is_said_just_now_counts_whatever_our_clock_says(ours_ms: int) -> None:
    said = asleep(NOON_MS + HOUR_MS)
    assert asleep_for_s(said, created_at_ms=NOON_MS, wall_ms=ours_ms, is_fresh=True) == HOUR_S


def test_what_was_retained_counts_for_the_rest_of_its_time() -> None:
    said = asleep(NOON_MS + HOUR_MS)
    for passed_ms, left_s in (
        (0, HOUR_S),
        (HOUR_MS // 2, HOUR_S / 2),
        (HOUR_MS, 0),
        (9 * HOUR_MS, 0),
        (-NOON_MS, HOUR_S),
    ):
        found = asleep_for_s(said, created_at_ms=NOON_MS, wall_ms=NOON_MS + passed_ms, is_fresh=False)
        assert found == left_s


@pytest.mark.parametrize(
    ("state", "created_at_ms", "for_s"),
    [
        (asleep(2**62), NOON_MS, MOST_ASLEEP_S),
        (asleep(NOON_MS - 1), NOON_MS, 0.0),
        (asleep(NOON_MS + HOUR_MS), 0, MOST_ASLEEP_S),
        (PeerState(online=False, goodbye=True), NOON_MS, 0.0),
        (PeerState(online=False, asleep_until_ms=NOON_MS + HOUR_MS), NOON_MS, 0.0),
        (PeerState(online=True, asleep_until_ms=NOON_MS + HOUR_MS), NOON_MS, 0.0),
    ],
)
def test_nobody_is_believed_to_sleep_for_longer_than_a_day(state: PeerState, created_at_ms: int, for_s: float) -> None:
    assert asleep_for_s(state, created_at_ms=created_at_ms, wall_ms=NOON_MS, is_fresh=True) == for_s


def test_a_device_that_sleeps_says_nothing_until_a_broker_has_it() -> None:
    presence, now = Presence(peer="a" * 20, heartbeat_s=1.0), Moment(monotonic_s=0.0, wall_ms=NOON_MS)
    presence.connected(7, now)
    (said,) = presence.fall_asleep(NOON_MS + HOUR_MS)
    assert isinstance(said, fx.Publish)
    assert said.body == asleep(NOON_MS + HOUR_MS)
    later = Moment(monotonic_s=100.0, wall_ms=NOON_MS + 100_000)
    assert presence.tick((), 100.0) == presence.announce(PeerAnnouncement(), later) == []
    assert presence.echoed(said.body, 7) == [], "its own word, or its will"
    assert presence.echoed(PeerState(online=False), 7) == []
    assert presence.deadline_s() == float("inf")
    assert presence.has_session(7), "what was said to it then is to it"
    (back,) = presence.connected(8, later)
    assert isinstance(back, fx.Publish)
    assert back.body == PeerState(online=True)
    assert presence.tick((), 100.0)
