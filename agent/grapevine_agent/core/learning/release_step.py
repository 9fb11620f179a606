"""How far the released model goes at a round's end: by how many voices are in the merge, and without one's own drift.

    r ← (1 − α)·r + α·m      α = (1 − β_t)·min(1, V/min(U, 20))      m = merged + (a − 1)·(merged − own)

V counts the voices of the merges since the last round: 1/Σ s_j², s_j their shares, where the share of a server's model
is that of as many voices as it weighs. U is what V usually is, its mean over the last hundred rounds. So when a server
is lost whose models were means of twenty, a merge of the seven models that gossip happened to bring is a third of a
step: the average goes on to reach over as many *voices*, and the noise of gossip does not come into it on that day.
Where gossip was all there ever was, a merge of seven is a whole step.

a takes one's own share s in the merge down to w = 1/n, what it has in a server's model: a = (1 − w)/(1 − s), at most
1.5. For a member comes straight from training on its own few classes and has every merge to itself, while it hears each
of the others in one merge of several.

Only for means of models (`Strategy.is_mean`); for the others a round is a step, as it is for a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from grapevine_proto.messages import Vector

ENOUGH_VOICES: Final = 20.0  # a mean of so many independent models is a whole step, however many are usual
USUAL_ROUNDS: Final = 100  # of which the mean number of voices is what is usual
MOST_STRETCH: Final = 1.5  # of (merged − own): an only other model is never more than three quarters of a step


@dataclass(frozen=True, kw_only=True)
class ReleaseStep:
    """`part` of a whole step, towards the merged model moved on by `beyond`·(merged − `own`)."""

    part: float = 1.0
    beyond: float = 0.0
    own: Vector | None = None  # the parameters before the merge; None: as merged


WHOLE: Final = ReleaseStep()


@dataclass
class Voices:
    """What the merges since the last round say of it. See the module's docstring."""

    _squares: float = 1.0  # Σ s_j²: nobody was heard, the model is one's own
    _usual: float = 1.0
    _num_rounds: int = 0
    _own_share: float = 1.0
    _own_in_servers: float = 0.0
    own: Vector | None = field(default=None, repr=False)  # before the merge with which the round begins

    def merged(self, peer: str, shares: Mapping[str, float], servers: Mapping[str, float]) -> None:
        """A merge gave these shares; `servers`: the voices that each server's model counts for."""
        own = shares.get(peer, 0.0)
        self._squares *= own * own
        self._own_in_servers = 0.0
        for source, share in shares.items():
            if source != peer:
                voices = max(1.0, servers.get(source, 1.0))
                self._squares += share * share / voices
                self._own_in_servers += share / voices if source in servers else 0.0
        self._own_share, self.own = own, None

    def take(self, num_members: int) -> ReleaseStep:
        """The step of the round that begins, of so many members; what comes is of the next one."""
        voices = 1.0 / self._squares if self._squares > 0 else 1.0
        self._num_rounds += 1
        self._usual += (voices - self._usual) / min(self._num_rounds, USUAL_ROUNDS)
        part = min(1.0, voices / min(self._usual, ENOUGH_VOICES))
        share, own = self._own_share, self.own
        fair = max(0.0, 1.0 / max(1, num_members) - self._own_in_servers)
        self._squares, self._own_share, self._own_in_servers, self.own = 1.0, 1.0, 0.0, None
        if own is None or not fair < share < 1.0:
            return ReleaseStep(part=part)
        return ReleaseStep(part=part, beyond=min((1.0 - fair) / (1.0 - share), MOST_STRETCH) - 1.0, own=own)
