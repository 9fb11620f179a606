"""A broker that gives what it retains, and has lost records that nobody but their author may put back."""

from __future__ import annotations

from dataclasses import replace

from tests.swarm.digits import DigitsTrainer, samples_of
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.test_catching_up import letters_of
from tests.swarm.world import Node, World

from grapevine_agent.core import effects as fx
from grapevine_agent.core.overlay.catching_up import MISSING_AFTER_S, QUERY_AFTER_S
from grapevine_proto import messages as m

ROUND_S = 30.0


def nobody_puts_back(world: World) -> None:
    """From now on records of others are refused, as the rules of `grapevine_broker.acl` have it."""
    perform = world._perform
    world._perform = lambda node, effect: None if isinstance(effect, fx.Relay) else perform(node, effect)  # type: ignore[method-assign]


def lose_records(group: Crowd) -> None:
    """The broker was restarted, and the authors of task and reviews are away."""
    for author in (group.engineer, *group.reviewers):
        group.world.kill(author)
    for topic in [topic for topic in group.world.retained if "/task/" in topic or "/review/" in topic]:
        del group.world.retained[topic]
    nobody_puts_back(group.world)


def newcomer(group: Crowd, number: int) -> Node:
    key = group.world.key()
    manifest = group.members[0].core.book.entries[group.task].manifest
    settings = replace(group.settings, peer=key.peer_id)
    trainer = DigitsTrainer(manifest, samples_of(number), seed=100 + number)
    return group.world.add(settings, key, trainer=trainer, train_s=ROUND_S)


def slow_crowd(num_members: int) -> Crowd:
    """They train seldom: minutes pass quickly."""
    group = crowd(num_members=num_members)
    for member in group.members:
        member.train_s = ROUND_S
    group.world.run(5)
    return group


def test_a_newcomer_asks_a_member_for_the_task_that_it_hears_of_and_joins() -> None:
    group = slow_crowd(2)
    lose_records(group)
    node = newcomer(group, 2)
    requests = letters_of(group.world, m.RecordRequest)
    group.world.run(MISSING_AFTER_S - 1)
    assert group.task not in node.core.book.entries
    assert not requests, "a broker may be slow"
    group.world.run(QUERY_AFTER_S + 5)
    assert group.task in node.core.tasks.learning, "the reviews came as well"
    asked = sum(requests.values())
    group.world.run(300)
    assert sum(requests.values()) == asked, "and then it is quiet"


def test_a_task_that_nobody_can_give_is_asked_for_ever_more_seldom() -> None:
    group = slow_crowd(3)
    lose_records(group)
    for member in group.members:  # they train it, and will not say what it is
        member.core.exchange.giver.answer = lambda *_: []  # type: ignore[method-assign]
    node = newcomer(group, 3)
    requests = letters_of(group.world, m.RecordRequest)
    group.world.run(600)
    assert group.task not in node.core.book.entries
    assert 2 <= sum(requests.values()) <= 6


def test_where_the_broker_has_its_records_nobody_is_asked() -> None:
    group = slow_crowd(2)
    requests = letters_of(group.world, m.RecordRequest)
    node = newcomer(group, 2)
    group.world.run(100)
    assert group.task in node.core.tasks.learning
    assert not requests
