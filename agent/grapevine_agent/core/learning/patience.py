"""When a task with `patience` has been trained enough: each member decides alone, by what members say of their best.

    voices    this member, if it has held-out samples, and the live members whose heartbeats say how their best has done
    enough    for more than half of the voices it is `patience` rounds of their own, or more, since they improved

From then on a member only merges, as after `num_rounds`, and goes on evaluating. Merging alone often gives a better
model; then that member's voice says so, and where no majority is left, members train again. Nobody's voice counts for
more than one; members without held-out samples follow the others. A new version of the task begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from grapevine_agent.core.events import Enough
from grapevine_agent.core.learning.best import BestModel
from grapevine_agent.core.overlay.peer import Peer
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import Figure


@dataclass(kw_only=True)
class Patience:
    """See the module's docstring, of one member. `is_enough`: it trains no more, for the time being."""

    task: str
    manifest: TaskManifest
    best: BestModel
    is_enough: bool = False

    def look(self, round_: int, members: Iterable[str], peers: Mapping[str, Peer]) -> list[Enough]:
        """A round begins: look at what live members say, and decide. Returns what there is to tell of it."""
        patience, before = self.manifest.training.patience, self.is_enough
        if not patience:
            return []
        voices = (self.best.figure(round_), *(peers[peer].bests.get(self.task) for peer in members))
        self.is_enough = is_enough(patience, (each for each in voices if each is not None))
        if self.is_enough == before:
            return []
        return [Enough(task=self.task, label=self.manifest.label, is_enough=self.is_enough, patience=patience)]


def is_enough(patience: int, figures: Iterable[Figure]) -> bool:
    """Whether more than half of some figures, one or more, have not improved for so many rounds. 0: never enough."""
    voices = list(figures)
    waited = sum(figure.rounds_since >= patience for figure in voices)
    return patience > 0 and 2 * waited > len(voices)
