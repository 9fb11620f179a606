"""Members measure each other's models on their own samples, and turn away whose models do badly there: real cores."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import Node

from grapevine_agent.core import effects as fx
from grapevine_agent.core.events import Quarantined
from grapevine_agent.core.moment import Moment


@dataclass
class Story:
    """Nine members; what the first one sends does badly on whatever samples the others have."""

    group: Crowd
    turned: dict[str, list[str]] = field(default_factory=dict)  # who was turned away ▶ why
    measured: Counter[str] = field(default_factory=Counter)  # whose models

    @property
    def liar(self) -> Node:
        return self.group.members[0]

    @classmethod
    def of(cls, *, judges: bool = True) -> Story:
        group = crowd(num_members=9)
        story = cls(group)
        for node in group.members:
            settings = replace(node.core.settings, judge_updates=judges)
            group.world.perform(node, node.core.set_settings(settings, group.world.moment()))
            story._watch(node)
        return story

    def _watch(self, node: Node) -> None:
        evaluated = node.core.evaluated

        def noting(evaluation: fx.Evaluated, now: Moment) -> list[fx.Effect]:
            asked = evaluation.of
            if asked is not None and asked.which == "shadow":
                self.measured[asked.sender] += 1
                if asked.sender == self.liar.peer:
                    evaluation = replace(evaluation, loss=9.0, metric=0.1)
            effects = evaluated(evaluation, now)
            for effect in effects:
                if isinstance(effect, Quarantined):
                    self.turned.setdefault(effect.sender, []).append(effect.why)
            return effects

        node.core.evaluated = noting  # type: ignore[method-assign]


def test_whose_models_do_badly_on_others_samples_is_doubted_turned_away_and_nobody_else() -> None:
    story = Story.of()
    story.group.world.run(20)
    honest = story.group.members[1:]
    assert set(story.turned) == {story.liar.peer}
    assert all("on samples of this device its models have a loss of 9" in why for why in story.turned[story.liar.peer])
    assert all({"does-badly", "quarantined"} <= set(node.dropped) for node in honest)
    assert "does-badly" not in story.liar.dropped
    assert all(story.measured[node.peer] > len(honest) for node in honest), "everybody has a turn"


def test_an_owner_who_judges_nothing_measures_nobody() -> None:
    story = Story.of(judges=False)
    story.group.world.run(5)
    assert not story.measured
    assert not story.turned
