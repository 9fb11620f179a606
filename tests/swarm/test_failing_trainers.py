"""A trainer that fails at training, or only at evaluating: after three times in a row the task has to wait."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from tests.swarm.digits import built_digits
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import Node, Trained, Trainer

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.pace import ENVELOPE_BYTES
from grapevine_agent.core.learning.setbacks import FIRST_PAUSE_S, LONGEST_PAUSE_S, Failure, Setback
from grapevine_agent.core.settings import CoreSettings
from grapevine_proto.errors import TaskError
from grapevine_proto.messages import Vector
from grapevine_tasks.layout import ModelLayout

FOREVER = 10**9


class Failing(Trainer):
    """Fails at the requests of these numbers, counted by kind."""

    def __init__(self, *, training: range = range(0), evaluation: range = range(0)) -> None:
        self._failing = {"training": training, "evaluation": evaluation}
        self.asked = {"training": 0, "evaluation": 0}

    def train(self, parameters: Vector, buffers: Vector, num_steps: int) -> Trained:
        self._ask("training")
        return super().train(parameters, buffers, num_steps)

    def evaluate(self, parameters: Vector, buffers: Vector) -> tuple[float, float, int]:
        self._ask("evaluation")
        return super().evaluate(parameters, buffers)

    def _ask(self, kind: str) -> None:
        self.asked[kind] += 1
        if self.asked[kind] - 1 in self._failing[kind]:
            raise TaskError("the trainer died")


def _with(trainer: Failing) -> tuple[Crowd, Node]:
    group = crowd(num_members=2, judges=False)
    node = group.members[0]
    node.trainer = trainer
    return group, node


def _why_ended(group: Crowd, node: Node) -> str:
    setback = node.core.book.entries[group.task].setback
    return setback.why if setback is not None else ""


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_three_failures_of_a_kind_in_a_row_end_the_task(kind: str) -> None:
    trainer = Failing(**{kind: range(FOREVER)})
    group, node = _with(trainer)
    group.world.run(60)
    assert group.task not in node.core.tasks.learning
    assert _why_ended(group, node) == f"{kind} failed 3 times in a row: the trainer died"
    assert trainer.asked[kind] == 3
    asked = dict(trainer.asked)
    group.world.run(60)
    assert trainer.asked == asked  # nothing is asked of it any more
    assert group.task in group.members[1].core.tasks.learning


def test_success_at_training_does_not_make_up_for_evaluations_that_always_fail() -> None:
    trainer = Failing(evaluation=range(FOREVER))
    group, node = _with(trainer)
    group.world.run(60)
    assert trainer.asked["training"] >= 3
    assert _why_ended(group, node).startswith("evaluation failed 3 times")


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_a_success_between_failures_of_its_kind_begins_the_count_anew(kind: str) -> None:
    class Often(Failing):
        def _ask(self, asked: str) -> None:
            self.asked[asked] += 1
            if asked == kind and self.asked[asked] % 3:  # two of three
                raise TaskError("the trainer died")

    group, node = _with(Often())
    group.world.run(120)
    assert group.task in node.core.tasks.learning
    assert node.trainer.asked[kind] > 9  # type: ignore[attr-defined]


def test_evaluations_that_fail_end_a_task_whose_training_is_over_too() -> None:
    group = crowd(num_members=2, num_rounds=4)
    node = group.members[0]
    node.trainer = Failing(evaluation=range(6, FOREVER))
    group.world.run(60)
    assert _why_ended(group, node).startswith("evaluation failed 3 times")


def _own(group: Crowd, **changes: float) -> tuple[Node, Failing]:
    """One member more, whose owner lends less."""
    key, trainer = group.world.key(), Failing()
    settings: CoreSettings = replace(group.settings, peer=key.peer_id, **changes)  # type: ignore[arg-type]
    return group.world.add(settings, key, trainer=trainer), trainer


def test_a_stranger_cannot_have_more_rounds_than_the_owner_lends() -> None:
    group = crowd(num_members=2)  # of rounds of 0.25 s
    slow, trainer = _own(group, shortest_round_s=2.0)
    quick = Failing()
    group.members[0].trainer = quick
    group.world.run(40)
    assert 10 < trainer.asked["training"] <= 21
    assert trainer.asked["evaluation"] <= 21
    assert quick.asked["training"] > 100
    assert group.task in slow.core.tasks.learning


@pytest.mark.parametrize("policy", ["constant", "every-round"])
def test_a_stranger_cannot_have_more_sent_than_the_owner_lends(policy: str) -> None:
    group = crowd(num_members=4, send_rate=policy, sends_per_round=3.0)  # 12 a second each, or 4 in each quarter of one
    for member in group.members:
        member.trainer = Trainer()
    layout = ModelLayout.of(built_digits().draft.program)
    update_bytes = 4 * (layout.num_parameters + layout.num_buffers) + ENVELOPE_BYTES
    node, _ = _own(group, upload_bytes_per_s=2.0 * update_bytes)  # two a second
    group.world.run(12)
    learner, other = node.core.tasks.learning[group.task], group.members[0].core.tasks.learning[group.task]
    most = 48 if policy == "every-round" else 2 * 12 * 1.7  # one a round at the least; a Poisson process
    assert 5 < learner.num_sent <= most
    assert other.num_sent > 3 * learner.num_sent


# --- and what becomes of it afterwards --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_what_failed_for_a_while_is_tried_again_after_minutes_and_goes_on(kind: str) -> None:
    trainer = Failing(**{kind: range(3)})  # a disk that was not mounted, and is now
    group, node = _with(trainer)
    group.world.run(60)
    assert group.task not in node.core.tasks.learning
    group.world.run(FIRST_PAUSE_S)
    assert group.task in node.core.tasks.learning
    assert trainer.asked[kind] > 20
    assert node.core.why_not(node.core.book.entries[group.task], group.world.moment()) == []


def test_a_trainer_that_is_dead_is_asked_three_times_and_then_ever_more_seldom() -> None:
    times: list[float] = []

    class Dead(Trainer):
        def train(self, parameters: Vector, buffers: Vector, num_steps: int) -> Trained:
            times.append(group.world.now_s)
            raise TaskError("the trainer died")

    group = crowd(num_members=1)
    group.members[0].trainer = Dead()
    group.world.run(800)
    first = times[::3]
    pauses = [after - before for before, after in itertools.pairwise(first)]
    assert pauses == [pytest.approx(FIRST_PAUSE_S + 15, abs=1), pytest.approx(2 * FIRST_PAUSE_S + 15, abs=1)]
    assert len(times) == 9  # at the pace of its rounds it would be 4,000


def test_pauses_grow_from_minutes_to_hours_and_no_further() -> None:
    failure, setback, pauses = Failure(kind="training", why="died"), None, []
    for _ in range(40):
        setback = Setback.after(setback, failure, 1e6)
        pauses.append(setback.until_s - 1e6)
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert set(pauses[10:]) == {LONGEST_PAUSE_S}


def test_success_between_makes_the_next_pause_short_again() -> None:
    first = Failure(kind="training", why="died")
    once = Setback.after(None, first, 0.0)
    twice = Setback.after(once, first, 1000.0)
    assert twice.until_s - 1000.0 == 2 * once.until_s == 2 * FIRST_PAUSE_S
    assert Setback.after(twice, replace(first, worked=True), 0.0).until_s == FIRST_PAUSE_S
    assert Setback.after(twice, replace(first, kind="loading"), 0.0).until_s == FIRST_PAUSE_S


def test_a_join_tries_at_once_and_until_then_the_owner_is_told_when() -> None:
    trainer = Failing(training=range(3))
    group, node = _with(trainer)
    group.world.run(60)
    entry, now = node.core.book.entries[group.task], group.world.moment()
    (why,) = node.core.why_not(entry, now)
    assert why.startswith("training failed 3 times in a row: the trainer died; the next try is in ")
    assert why.endswith("(at once: grapevine join)")
    retry_at_ms = node.core.tasks.assessor.retry_at_ms(entry, now)
    assert 0 < retry_at_ms - now.wall_ms <= 1000 * FIRST_PAUSE_S
    group.world.perform(node, node.core.set_consent(group.task, True, now))
    group.world.run(1)
    assert group.task in node.core.tasks.learning
    assert trainer.asked["training"] > 3
    assert node.core.tasks.assessor.retry_at_ms(entry, group.world.moment()) == 0


def test_what_is_saved_is_not_begun_anew_where_it_cannot_be_read_now() -> None:
    group = crowd(num_members=1)
    node = group.members[0]
    group.world.run(10)
    kept = node.saved[group.task]
    now = group.world.moment()
    group.world.perform(node, node.core.set_consent(group.task, False, now))
    saved = node.saved.pop(group.task)
    assert saved.counters["age"] >= kept.counters["age"] > 0
    # The owner joins again, and the disk cannot say.
    effects = [each for each in node.core.set_consent(group.task, True, now) if not isinstance(each, fx.LoadTask)]
    group.world.perform(node, effects)
    entry = node.core.book.entries[group.task]
    assert node.core.tasks.assessor.takes_part(group.task)
    group.world.perform(node, node.core.loaded(group.task, None, None, now, error="too many open files"))
    assert not node.core.tasks.assessor.takes_part(group.task)
    (why,) = node.core.why_not(entry, now)
    assert "what is saved of it cannot be read: too many open files; the next try is in 2 minutes" in why
    node.saved[group.task] = saved
    group.world.run(FIRST_PAUSE_S + 1)
    assert node.core.tasks.learning[group.task].model.age > saved.counters["age"]
    assert entry.setback is None
