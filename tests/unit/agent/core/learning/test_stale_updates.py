"""What a member does with updates that are far behind, and with ages that are lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.agent.core.tasks.device import ADA, BEN, CAT, LAYOUT, SETTINGS, STRANGER, Device

from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.moment import Moment
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import Heartbeat, ModelUpdate, PeerAnnouncement, PeerState

FAR = np.ones(LAYOUT.num_parameters, np.float32)


def learner_of(**merging: object) -> tuple[Learning, Moment]:
    device = Device(replace(SETTINGS, max_share=1.0))
    task = device.publish(merging=MergePlan(clip=0.0, **merging))  # type: ignore[arg-type]
    device.approve(task)
    device.settle()
    device.wait(3600)  # long enough for any age below to be believed
    learner = device.core.tasks.learning[task]
    for peer in (ADA, BEN, CAT, STRANGER):
        learner.members.hear_announcement(peer, PeerAnnouncement(tasks=(task,)))
        learner.members.hear_state(peer, PeerState(online=True), 1, device.now_s)
        learner.members.hear_heartbeat(peer, Heartbeat(), device.now_s)
    learner.model.parameters = np.zeros(LAYOUT.num_parameters, np.float32)
    learner.model.age = 400
    learner.training = None
    return learner, device.moment()


def say(learner: Learning, now: Moment, sender: str, age: int) -> None:
    update = ModelUpdate(task=learner.task, window=1, version=1, age=age, experience=1, samples=1, full=FAR)
    learner.accept(sender, update, now)


@pytest.mark.parametrize(("age", "share"), [(300, 0.5), (200, 0.5 / 2**0.5), (0, 0.25)])
@pytest.mark.parametrize("strategy", ["age-weighted", "doubly-weighted"])
def test_the_share_of_a_stale_update_is_discounted(strategy: str, age: int, share: float) -> None:
    learner, now = learner_of(strategy=strategy, constants={"p": 0.0}, stale_after=100)
    say(learner, now, ADA, age)
    learner.merging.merge_gathered(now)
    assert learner.model.parameters[0] == pytest.approx(share)
    assert learner.merging.shares[ADA] == pytest.approx(share)


def test_by_default_nothing_is_stale() -> None:
    learner, now = learner_of(strategy="age-weighted", constants={"p": 0.0})
    say(learner, now, ADA, 0)
    assert learner.model.parameters[0] == pytest.approx(0.5)


@pytest.mark.parametrize("strategy", ["age-weighted", "doubly-weighted"])
def test_a_stale_update_is_refused_and_what_it_says_of_its_version_is_kept(strategy: str) -> None:
    learner, now = learner_of(strategy=strategy, stale_after=100, stale="refuse")
    with pytest.raises(WireError) as refused:
        say(learner, now, ADA, 299)
    assert refused.value.reason == "stale-update"
    learner.merging.merge_gathered(now)
    assert not learner.model.parameters.any()
    say(learner, now, ADA, 300)
    learner.merging.merge_gathered(now)
    assert learner.model.parameters.any()


def test_a_lie_about_ones_age_does_not_make_honest_updates_stale() -> None:
    learner, now = learner_of(strategy="age-weighted", stale_after=100, stale="refuse")
    for peer in (ADA, BEN, CAT):
        say(learner, now, peer, 400)
    for _ in range(20):
        say(learner, now, STRANGER, 10**12)
    assert learner.model.age > 1000  # believed up to four times what is usual
    for peer in (ADA, BEN, CAT):
        say(learner, now, peer, 400)
    with pytest.raises(WireError):
        say(learner, now, ADA, 200)


def test_who_is_ahead_of_all_others_still_hears_them() -> None:
    learner, now = learner_of(strategy="age-weighted", stale_after=100, stale="refuse")
    learner.model.age = 10_000
    with pytest.raises(WireError):
        say(learner, now, ADA, 300)  # one voice is not what is usual
    with pytest.raises(WireError):
        say(learner, now, BEN, 300)
    for peer in (CAT, ADA, BEN):
        say(learner, now, peer, 300)


def test_who_claims_to_be_old_is_no_more_than_fresh() -> None:
    learner, now = learner_of(strategy="age-weighted", constants={"p": 0.0}, stale_after=100)
    say(learner, now, ADA, 10**12)
    assert learner.model.parameters[0] == pytest.approx(0.5)
