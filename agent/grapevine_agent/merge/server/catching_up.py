"""A server that goes on from a model that was saved, perhaps long ago: what its members have come to meanwhile.

Strategies that add changes to a model of their own would add them to the old one, and publish it as if it were as old
as its members' are. So whole models are averaged until the first model is published, the first one of each member. If
they have come further than the saved model (their mean age is larger), their mean takes its place; where that is not
so, as after a restart of seconds in a crowd of newcomers, the saved model goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from grapevine_agent.merge.server.interface import ServerUpdate
from grapevine_agent.merge.server.running import BoundedMean, Mean, Said


@dataclass
class CatchingUp:
    """See the module's docstring."""

    _mean: BoundedMean = field(default_factory=BoundedMean)

    def hear(self, update: ServerUpdate, max_share: float) -> None:
        """Take a member's model into the mean."""
        self._mean.add(
            Said(
                peer=update.peer,
                weight=1.0,
                parameters=update.parameters,
                buffers=update.buffers,
                age=update.age,
            ),
            max_share,
        )

    @property
    def has_heard(self) -> bool:
        """Whether any member has said anything."""
        return len(self._mean) > 0

    def further_than(self, age: int, max_share: float) -> Mean | None:
        """The mean of the members, if they have come further than a model of this age."""
        if not self.has_heard:
            return None
        mean = self._mean.mean(max_share)
        return mean if mean.age > age else None
