"""Wall clocks that were wrong: nothing of what they did lasts once they are right. And what is said again in time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from tests.unit.agent.core.tasks.device import ADA, BEN, HOUR_MS, ME, NOW_MS, SETTINGS, Device

from grapevine_agent.core import effects as fx
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.pauses import LONGEST_PAUSE_S
from grapevine_agent.core.overlay.presence import ANNOUNCE_FOR_MS, Presence
from grapevine_lab.bench import floods
from grapevine_proto import messages as m
from grapevine_proto import topics
from grapevine_proto.codec import Received
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.topics import PeerTopic

DAY_S = 86_400.0
TEN_YEARS_MS = 10 * 365 * 86_400_000
ANNOUNCEMENT, STATE = PeerTopic(ME, "announcement"), PeerTopic(ME, "state")


class Broker:
    """Keeps what was published, and gives it to a device that subscribes."""

    def __init__(self, *retained: Received) -> None:
        self.retained = retained

    def answer(self, device: Device) -> int:
        """Answer the subscriptions that are new; how many there were."""
        asked = [each for each in device.effects if isinstance(each, fx.Subscribe)]
        device.effects.clear()
        wanted = {topics.every_task(leaf) for leaf in ("manifest", "review")}
        if wanted <= {each.filter for each in asked}:
            device.hear(*self.retained)
        return len(asked)


def a_task() -> tuple[str, Received, list[Received]]:
    """A task that two reviewers approved, for some weeks."""
    encoded = encode_manifest(floods.manifest("e" * 20))
    task = task_id(encoded)
    reviews = [
        floods.reviewed(each, task, approved=True, until_ms=NOW_MS + 1000 * HOUR_MS, created_at_ms=NOW_MS)
        for each in (ADA, BEN)
    ]
    published = floods.published("e" * 20, task, encoded, expires_at_ms=NOW_MS + 2000 * HOUR_MS)
    return task, published, reviews


@pytest.mark.parametrize("starts_wrong", [False, True])
def test_a_clock_that_ran_ten_years_ahead_takes_no_task_away_for_good(starts_wrong: bool) -> None:
    task, published, reviews = a_task()
    broker = Broker(published, *reviews)
    device = Device()
    device.hear(published, *reviews)
    device.settle()
    assert device.standing(task) == "approved"
    device.effects.clear()
    if starts_wrong:
        device = Device(wall_shift_ms=TEN_YEARS_MS, disk=device.disk)
    device.wall_shift_ms = TEN_YEARS_MS
    device.wait(30)
    broker.answer(device)
    device.wait(30)
    assert task not in device.core.book.entries or device.standing(task) == "expired"
    device.effects.clear()
    device.wall_shift_ms = 0
    device.wait(15)
    assert broker.answer(device) > 0
    device.settle()
    assert device.standing(task) == "approved"
    device.effects.clear()
    device.wait(100)
    assert broker.answer(device) == 0  # once


def test_a_clock_that_was_behind_says_again_who_we_are_and_asks_for_nothing() -> None:
    device = Device(wall_shift_ms=-TEN_YEARS_MS)
    device.perform(device.core.connected(1, device.moment()))
    device.wait(1)
    device.effects.clear()
    device.wall_shift_ms = 0
    device.wait(20)
    said = [each for each in device.effects if isinstance(each, fx.Publish) and each.topic == ANNOUNCEMENT]
    assert [each.expires_at_ms > NOW_MS for each in said] == [True]
    subscribed = {each.filter for each in device.effects if isinstance(each, fx.Subscribe)}
    assert not subscribed & {topics.every_task("manifest"), topics.every_task("review")}


def test_a_clock_that_is_slewed_changes_nothing() -> None:
    device = Device()
    device.perform(device.core.connected(1, device.moment()))
    device.wait(1)
    device.effects.clear()
    for _ in range(200):
        device.wall_shift_ms -= 500
        device.wait(10)
    assert not [each for each in device.effects if isinstance(each, fx.Subscribe)]


@pytest.mark.parametrize("ahead_ms", [TEN_YEARS_MS, 40 * 86_400_000])
def test_a_peer_whose_clock_ran_ahead_and_who_forgot_it_is_heard_again(ahead_ms: int) -> None:
    """Its state was lost, so its sessions begin below those that others have seen."""
    device, peer = Device(), "p" * 20

    def say(session: int, sequence: int) -> None:
        for topic, body in (
            (PeerTopic(peer, "state"), m.PeerState(online=True)),
            (PeerTopic(peer, "heartbeat"), m.Heartbeat()),
        ):
            said = m.Message(sender=peer, session=session, sequence=sequence, body=body)
            device.hear(Received(message=said, topic=topic, envelope=f"{session} {sequence} {topic}".encode()))

    say(NOW_MS + ahead_ms, 1)
    say(NOW_MS + ahead_ms + 1, 1)
    device.wait(5)
    say(NOW_MS + 5_000, 1)
    assert device.rejected == []
    assert device.core.members.session_of(peer) == NOW_MS + 5_000
    say(NOW_MS + ahead_ms + 1, 1)
    assert device.rejected[-1] == "replayed"  # no message counts twice


class Renewing(Device):
    """A reviewer whose agent renews its verdicts. `said`: the dates that these bear."""

    def __init__(self) -> None:
        self.said: list[int] = []
        super().__init__(replace(SETTINGS, renew_reviews=True))

    def perform(self, effects: Iterable[fx.Effect]) -> None:
        for effect in effects:
            super().perform([effect])
            if isinstance(effect, fx.Publish) and isinstance(body := effect.body, m.Review):
                wall_ms = self.moment().wall_ms
                self.said.append(wall_ms)
                until_ms = body.valid_until_ms
                self.hear(
                    floods.reviewed(ME, body.task, approved=True, until_ms=until_ms, created_at_ms=wall_ms),
                )


def test_what_a_reviewer_dated_ahead_is_signed_again_once_its_clock_is_right() -> None:
    device = Renewing()
    task = device.publish()
    device.perform(device.core.review(task, approved=True, reason="", valid_until_ms=NOW_MS + 7 * 86_400_000))
    device.wait(60)
    device.wall_shift_ms = 5 * 86_400_000
    device.wait(3_600)
    assert [each > NOW_MS + 4 * 86_400_000 for each in device.said] == [False, True]  # it was renewed
    device.wall_shift_ms = 0
    device.wait(30)
    assert [each <= device.moment().wall_ms for each in device.said] == [True, False, True]
    device.wait(3_600)
    assert len(device.said) == 3  # once


@pytest.mark.parametrize("behind_ms", [NOW_MS, 60 * 86_400_000])
def test_a_clock_that_starts_behind_signs_nothing_again(behind_ms: int) -> None:
    device = Renewing()
    task = device.publish()
    device.perform(device.core.review(task, approved=True, reason="", valid_until_ms=NOW_MS + 7 * 86_400_000))
    kept = dict(device.disk.records)
    device = Renewing()
    device.disk.records = kept
    device.wall_shift_ms = -behind_ms
    device.perform(device.core.start(list(kept.values()), {}, device.moment()))
    device.wait(60)
    assert device.core.book.reviews[task][ME].approved
    device.wall_shift_ms = 0
    device.wait(60)
    assert device.said == []


# --- said again in time ---------------------------------------------------------------------------


def announced(device: Device) -> list[float]:
    """When the announcement was said: the days at which it runs out, less its life."""
    return [
        (each.expires_at_ms - ANNOUNCE_FOR_MS - NOW_MS) / 86_400_000
        for each in device.effects
        if isinstance(each, fx.Publish) and each.topic == ANNOUNCEMENT
    ]


def test_an_announcement_is_said_again_at_a_quarter_of_its_life_while_one_stays_connected() -> None:
    settings = replace(Device().core.settings, heartbeat_s=3_600.0, look_every_s=600.0)  # three weeks are long
    device = Device(settings)
    device.perform(device.core.connected(1, device.moment()))
    device.wait(21 * DAY_S)
    days = announced(device)
    assert len(days) == 13
    assert days == pytest.approx([1.75 * k for k in range(13)], abs=0.05)


def test_what_was_erased_of_our_presence_is_said_again_and_more_seldom_to_who_goes_on_erasing() -> None:
    device = Device()
    device.perform(device.core.connected(1, device.moment()))
    device.wait(1)
    device.effects.clear()
    for topic in (ANNOUNCEMENT, STATE):
        device.effects.clear()
        for _ in range(3600):
            device.perform(device.core.erased(topic, device.moment()))
            device.wait(1)
        said = [each for each in device.effects if isinstance(each, fx.Publish) and each.topic == topic]
        assert 2 < len(said) < 12
        assert all(each.retain for each in said)


def test_one_erasure_is_answered_once() -> None:
    presence = Presence(peer=ME, heartbeat_s=10.0)
    presence.connected(1, Moment(0.0, NOW_MS))
    assert presence.announce(m.PeerAnnouncement(), Moment(0.0, NOW_MS))
    presence.tick((), 0.0)
    presence.erased("announcement", 5.0)
    assert presence.deadline_s() == 5.0
    assert presence.announce(m.PeerAnnouncement(), Moment(5.0, NOW_MS))
    assert not presence.announce(m.PeerAnnouncement(), Moment(LONGEST_PAUSE_S, NOW_MS))


def test_who_has_left_does_not_come_back_because_somebody_erases_it() -> None:
    presence = Presence(peer=ME, heartbeat_s=10.0)
    presence.connected(1, Moment(0.0, NOW_MS))
    presence.goodbye()
    presence.erased("state", 5.0)
    assert presence.tick((), 6.0) == []
    assert presence.announce(m.PeerAnnouncement(), Moment(6.0, NOW_MS)) == []
