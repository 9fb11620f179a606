"""A verdict that is taken back, runs out, is renewed or is hidden: what every member does, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.swarm.digits import built_digits, digits_manifest
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import EPOCH_MS, LATENCY_S, Node

from grapevine_agent.core import effects as fx
from grapevine_agent.core.settings import ConsentRule
from grapevine_proto.topics import TaskTopic

DAY_S = 86_400.0


def review_topic(group: Crowd, reviewer: Node) -> str:
    return TaskTopic(reviewer.peer, group.task, "review").below_root()


def learning(group: Crowd) -> list[bool]:
    return [group.task in member.core.tasks.learning for member in group.members]


def why(group: Crowd, node: Node) -> str:
    core = node.core
    return "; ".join(core.why_not(core.book.entries[group.task], group.world.moment()))


def stop_and_watch(group: Crowd, stop_s: float) -> None:
    """Run past `stop_s` and check that no step counts, and nothing is sent, from then on."""
    group.world.run(stop_s - group.world.now_s)
    assert learning(group) == [False] * len(group.members)
    saved = [member.saved[group.task].counters["version"] for member in group.members]
    logged = [len(member.log) for member in group.members]
    num_messages = group.world.num_messages
    group.world.run(3)  # steps that were under way end in this time
    assert [member.saved[group.task].counters["version"] for member in group.members] == saved
    assert [len(member.log) for member in group.members] == logged
    beats = 3 * (len(group.world.nodes) + 1) ** 2
    assert group.world.num_messages - num_messages <= beats  # heartbeats, and no models


@pytest.mark.parametrize("how", ["revoked", "rejected"])
def test_an_approval_that_is_taken_back_stops_every_member_at_once(how: str) -> None:
    group = crowd(num_members=3)
    group.world.run(3)
    assert learning(group) == [True] * 3
    reviewer = group.reviewers[0]
    if how == "revoked":
        moment = group.world.moment()
        group.world.perform(reviewer, reviewer.core.revoke(group.task, reason="looked again", now=moment))
    else:
        group.world.approve(reviewer, group.task, approved=False)
    stop_and_watch(group, group.world.now_s + 3 * LATENCY_S)
    said = "1 of 2 approvals" if how == "revoked" else "rejected by"
    assert all(said in member.log[-1] and said in why(group, member) for member in group.members)


def test_a_task_ends_at_the_moment_at_which_an_approval_runs_out() -> None:
    group = crowd(num_members=2)
    group.world.run(2)
    until_s = group.world.now_s + 4.321
    group.world.approve(group.reviewers[0], group.task, valid_s=4.321)
    group.world.run(4.3)
    assert learning(group) == [True] * 2
    stop_and_watch(group, until_s + 0.005)


def test_a_task_ends_at_the_moment_at_which_it_expires() -> None:
    group = crowd(num_members=2)
    group.world.run(1)
    group.world.approve(group.reviewers[0], group.task, approved=False)  # one task at a time
    manifest = replace(
        digits_manifest(group.engineer.peer, created_at_ms=EPOCH_MS),
        name="mortal",
        expires_at_ms=group.world.moment().wall_ms + 5_250,
    )
    group.task = group.world.publish_task(group.engineer, manifest, built_digits().weights)
    for reviewer in group.reviewers:
        group.world.approve(reviewer, group.task)
    end_s = group.world.now_s + 5.25
    group.world.run(5.2)
    assert learning(group) == [True] * 2
    stop_and_watch(group, end_s + 0.005)
    assert "mortal: stopped: expired" in group.members[0].log[-1]


def test_a_revoked_approval_may_be_given_again() -> None:
    group = crowd(num_members=1)
    group.world.run(1)
    reviewer = group.reviewers[0]
    group.world.perform(reviewer, reviewer.core.revoke(group.task, reason="", now=group.world.moment()))
    group.world.run(1)
    assert learning(group) == [False]
    group.world.approve(reviewer, group.task)
    group.world.run(1)
    assert learning(group) == [True]


def watcher(group: Crowd, **changes: object) -> Node:
    """A peer that judges and does not train: days of it cost nothing."""
    key = group.world.key()
    settings = replace(
        group.settings,
        peer=key.peer_id,
        consent="never",
        heartbeat_s=DAY_S,
        look_every_s=60.0,
        **changes,  # type: ignore[arg-type]
    )
    return group.world.add(settings, key)


def standing(group: Crowd, node: Node) -> str:
    return node.core.judgement(node.core.book.entries[group.task], group.world.moment()).standing


def test_a_broker_that_hides_a_rejection_and_repeats_old_approvals_keeps_no_task_alive() -> None:
    group = crowd(num_members=0)
    for reviewer in group.reviewers:
        group.world.approve(reviewer, group.task, valid_s=300 * DAY_S)
    group.world.run(1)
    node, rejecting = watcher(group), group.reviewers[0]
    group.world.run(1)
    assert standing(group, node) == "approved"
    old = {review_topic(group, each): group.world.retained[review_topic(group, each)] for each in group.reviewers}
    node.filters.discard("peer/+/task/+/review")  # the broker hides what is said from here on …
    group.world.approve(rejecting, group.task, approved=False)
    for each in (*group.reviewers, group.engineer):
        each.up = False
    for _ in range(8):  # … and repeats what was said before, every day
        for topic, payload in old.items():
            group.world._deliver(node, topic, payload, retained=True)
        group.world.run(DAY_S)
    assert standing(group, node) == "waiting"  # whatever the approvals say: they are older than a week


def test_an_old_approval_is_refused_after_a_restart_too_though_the_rejection_has_run_out() -> None:
    group = crowd(num_members=0)
    node = watcher(group, review=replace(group.settings.review, max_valid_days=300.0))
    for reviewer in group.reviewers:
        group.world.approve(reviewer, group.task, valid_s=300 * DAY_S)
    group.world.run(1)
    assert standing(group, node) == "approved"
    topic = review_topic(group, group.reviewers[0])
    old = group.world.retained[topic]
    group.world.perform(
        group.reviewers[0],
        group.reviewers[0].core.review(
            group.task, approved=False, reason="", valid_until_ms=group.world.moment().wall_ms + 20_000
        ),
    )
    group.world.run(40)
    assert standing(group, node) == "waiting"  # the rejection ran out; nobody has approved it anew
    node.dropped.clear()
    group.world._deliver(node, topic, old, retained=True)
    group.world.run(1)
    assert node.dropped == ["stale"]
    # A new life, with what the store kept: records that hold, and the newest sequences of those that do not.
    kept = list(node.core.records)
    sequences = dict(node.core.records._sequences)
    node.up = False
    again = watcher(group, review=node.core.settings.review)
    again.core.start(kept, {}, group.world.moment(), sequences)
    again.filters.clear()
    again.dropped.clear()
    group.world._deliver(again, topic, old, retained=True)
    group.world.run(1)
    assert again.dropped[-1] == "stale"
    assert standing(group, again) == "waiting"


@pytest.mark.parametrize("renews", [True, False])
def test_a_reviewer_who_asked_for_it_renews_verdicts_and_never_one_that_was_taken_back(renews: bool) -> None:
    group = crowd(num_members=0)
    for reviewer in group.reviewers:
        reviewer.core.settings = replace(reviewer.core.settings, renew_reviews=renews)
        group.world.approve(reviewer, group.task, valid_s=60)
    node = watcher(group)
    group.world.run(200)
    assert standing(group, node) == ("approved" if renews else "waiting")
    last = group.reviewers[0]
    group.world.perform(last, last.core.revoke(group.task, reason="", now=group.world.moment()))
    group.world.run(200)
    assert standing(group, node) == "waiting"
    assert node.core.book.reviews[group.task][last.peer].withdrawn


def test_a_change_of_whom_to_trust_is_taken_at_once() -> None:
    group = crowd(num_members=2)
    group.world.run(2)
    member = group.members[0]
    before = member.core.settings

    def trust(**changes: object) -> list[fx.Effect]:
        return member.core.set_settings(replace(before, **changes), group.world.moment())  # type: ignore[arg-type]

    group.world.perform(member, trust(review=replace(before.review, deny_publishers=frozenset((group.engineer.peer,)))))
    assert learning(group) == [False, True]
    group.world.perform(member, trust())
    group.world.run(1)
    assert learning(group) == [True, True]
    rule = ConsentRule(answer="never", publisher=group.engineer.peer)
    group.world.perform(member, trust(consent_rules=(rule,)))
    assert learning(group) == [False, True]
    group.world.perform(member, trust())
    stranger = group.world.key().peer_id
    group.world.run(1)
    group.world.perform(member, trust(trusted_servers=frozenset((stranger,))))
    assert stranger in member.core.tasks.learning[group.task].servers
    group.world.perform(member, trust())
    assert stranger not in member.core.tasks.learning[group.task].servers


def test_what_waits_to_be_sent_of_a_task_that_ended_is_dropped() -> None:
    group = crowd(num_members=1)
    group.world.run(2)
    member = group.members[0]
    effects = member.core.set_consent(group.task, False, group.world.moment())
    assert fx.DropUnsent(task=group.task) in effects
