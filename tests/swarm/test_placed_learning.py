"""A learning task that an application places is joined where that wants it, and the owner's word rules."""

from __future__ import annotations

from tests.swarm.learning_crowd import Crowd, crowd

from grapevine_proto.application import Component, LearningTask

SETTLED_S = 8.0


def apply(group: Crowd, *, replicas: int = 2, strategy: str = "") -> str:
    work = LearningTask(task=group.task, strategy=strategy)
    return group.world.apply(group.engineer, Component(name="digits", replicas=replicas, workload=work))


def approve(group: Crowd, application: str) -> None:
    for reviewer in group.reviewers:
        group.world.approve(reviewer, application)


def learning(group: Crowd) -> set[str]:
    return {node.peer for node in group.members if group.task in node.core.tasks.learning}


def test_it_is_learned_by_those_who_are_placed_and_whoever_says_so_by_name() -> None:
    group = crowd()
    group.world.run(SETTLED_S)
    assert len(learning(group)) == 5
    application = apply(group)
    group.world.run(1.0)
    assert learning(group) == set()  # of the task's publisher: it says where it runs, once it is approved
    why = "; ".join(group.members[0].core.why_not(group.members[0].core.book.entries[group.task], group.world.moment()))
    assert "the application lakeside of its publisher says where it runs, and is not approved here" in why
    approve(group, application)
    group.world.run(2 * SETTLED_S)
    placed = learning(group)
    assert len(placed) == 2
    idle = next(node for node in group.members if node.peer not in placed)
    why = "; ".join(idle.core.why_not(idle.core.book.entries[group.task], group.world.moment()))
    assert why == "the application lakeside places it elsewhere: grapevine explain lakeside"
    group.world.perform(idle, idle.core.set_consent(group.task, True, group.world.moment()))  # its owner's word
    group.world.run(2.0)
    assert learning(group) == placed | {idle.peer}
    leaver = next(node for node in group.members if node.peer in placed)
    group.world.perform(leaver, leaver.core.set_consent(group.task, False, group.world.moment()))
    group.world.run(3 * SETTLED_S)
    assert leaver.peer not in learning(group)
    assert len(learning(group) - {idle.peer}) in (1, 2)  # the owner's own no is heard, and another has the place
    assert all(
        len(node.core.apps.parts[group.engineer.peer, "lakeside", "digits"].chosen) == 2 for node in group.members
    )
    told = group.engineer.core.delete_application("lakeside", "", group.world.moment())
    group.world.perform(group.engineer, told)
    group.world.run(SETTLED_S)
    assert learning(group) == {node.peer for node in group.members} - {leaver.peer}


def test_what_a_trait_asks_of_the_task_must_be_true_of_it() -> None:
    group = crowd(num_members=2)
    approve(group, apply(group, strategy="delta-sum"))
    group.world.run(SETTLED_S)
    assert learning(group) == set()
    part = group.members[0].core.apps.parts[group.engineer.peer, "lakeside", "digits"]
    assert part.why_not == ("asks for delta-sum, and the task merges by doubly-weighted",)
