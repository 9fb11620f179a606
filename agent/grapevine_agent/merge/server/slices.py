"""The mean of the newest model of each member, of which hardly any has to be kept: sums of what came together.

What comes between two published models, and in a third of a round at most, is summed in one *slice* (`running`). Whose
newest model is in a slice *stands* in it; who speaks again stands in the newest slice, and in the earlier one no more.
A slice counts for those who stand in it:

    mean = Σ_s T_s·(S_s/Q_s) / Σ_s T_s        T_s = Σ weights of those who stand in it

So each member weighs exactly what its newest update weighs, whenever that came. What stands for it is exact while those
who spoke with it in one slice have not spoken again, and is otherwise shared with them. In a crowd of one pace, of
which each speaks once a round, whole slices are replaced from one model to the next. (If slices went on over models,
the same few members would be the ones between, each time.) Whose rounds are longer than usual would share a slice with
models that are long replaced: so there are slices for those who need a usual round, two, and four, and as many times as
wide.

Nobody's word is taken more often than once in three quarters of its round, so what is left of one's earlier words in
slices where others stand is no more than about one's weight again.

There are at most 6 slices of the usual pace and 4 of each slower one; the two oldest become one where there would be
more. The heaviest member is kept apart where shares are bounded.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, NamedTuple

from grapevine_agent.merge.server.interface import MAX_MEMBERS, MAX_NAMED
from grapevine_agent.merge.server.running import (
    LEAST_WEIGHT,
    Mean,
    RunningMean,
    Said,
    mean_of,
    most_apart,
    pop_lightest,
)

PER_ROUND: Final = 3
MOST_SLICES: Final = (6, 4, 4)  # of each pace: a round's, what is left of earlier ones, and whatever is older
PACES: Final = (1.0, 2.0, 4.0)  # usual rounds that a member's round takes, about
BETWEEN: Final = 1.5  # times as long: from here on the next pace is nearer
LEAST_GAP: Final = 0.75  # of a round, between two updates of one member that are taken


@dataclass(eq=False)
class Slice:
    """What came in one stretch of time, and who stands in it, with what weight."""

    pace: int
    opened_s: float
    sum: RunningMean
    is_open: bool = True  # for more
    standing: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def weight(self) -> float:
        """T: what those weigh who stand in it."""
        return math.fsum(self.standing.values())


class _Held(NamedTuple):
    """Where a member stands, None: apart; when it was taken, and its pace."""

    where: Slice | None
    taken_s: float
    pace: int


@dataclass
class Slices:
    """See the module's docstring."""

    _slices: list[Slice] = field(default_factory=list)  # the oldest first
    _held: OrderedDict[str, _Held] = field(default_factory=OrderedDict)  # member → where it stands; taken last, last
    _apart: dict[str, Said] = field(default_factory=dict)
    _free: list[RunningMean] = field(default_factory=list)  # whose room is used again

    @property
    def num_models(self) -> int:
        """How many vectors are held."""
        return len(self._slices) + len(self._apart) + len(self._free)

    def __len__(self) -> int:
        """How many members stand."""
        return len(self._held)

    def named(self) -> tuple[str, ...]:
        """Those that a message names, sorted: of many the ones that were taken last."""
        return tuple(sorted(islice(reversed(self._held), MAX_NAMED)))

    def add(self, said: Said, *, now_s: float, round_s: float, every_s: float, max_share: float) -> None:
        """Take a member's newest model in place of what stands of it.

        `round_s` is the usual round, 0 where that is not known, and `every_s` the member's own, 0 if it is the usual
        one.
        """
        pace = sum(every_s > BETWEEN * round_s * usual for usual in PACES[:-1])
        held = self._held.get(said.peer)
        gap_s = LEAST_GAP * PACES[pace] * round_s
        if held is not None and held.where is not None and now_s - held.taken_s < gap_s:
            return
        self._let_go(said.peer)
        self._held[said.peer] = _Held(None, now_s, pace)
        self._apart[said.peer] = replace(said, weight=max(said.weight, LEAST_WEIGHT))
        while len(self._apart) > most_apart(max_share):
            self._fold(pop_lightest(self._apart), now_s, round_s)
        if len(self._held) > MAX_MEMBERS:
            self._let_go(next(iter(self._held)))

    def end(self, now_s: float, round_s: float) -> None:
        """A mean was made: what comes from now on is for another one."""
        for each in self._slices:
            each.is_open &= each.pace > 0 and now_s - each.opened_s < PACES[each.pace] * round_s / PER_ROUND / 2

    def forget(self, before_s: float) -> None:
        """Let go of members of whom nothing was taken since."""
        for peer in [peer for peer, held in self._held.items() if held.taken_s < before_s]:
            self._let_go(peer)

    def mean(self, max_share: float) -> Mean:
        """The mean, of one member at least."""
        sums = [(each.sum, each.weight) for each in self._slices]
        return mean_of(list(self._apart.values()), sums, max_share)

    def _fold(self, said: Said, now_s: float, round_s: float) -> None:
        held = self._held[said.peer]
        newest = next((each for each in reversed(self._slices) if each.pace == held.pace), None)
        width_s = PACES[held.pace] * round_s / PER_ROUND
        if newest is None or not newest.is_open or now_s - newest.opened_s >= width_s:
            newest = Slice(held.pace, now_s, self._free.pop() if self._free else RunningMean())
            self._slices.append(newest)
        newest.sum.add(said)
        newest.standing[said.peer] = said.weight
        self._held[said.peer] = held._replace(where=newest)
        of_pace = [each for each in self._slices if each.pace == held.pace]
        if len(of_pace) > MOST_SLICES[held.pace]:
            self._unite(*sorted(of_pace[:2], key=lambda each: len(each.standing)))

    def _unite(self, gone: Slice, into: Slice) -> None:
        """The smaller one becomes part of the larger one."""
        into.sum.take(gone.sum, gone.weight, into.weight)
        into.standing |= gone.standing
        for peer in gone.standing:
            self._held[peer] = self._held[peer]._replace(where=into)
        self._drop(gone)

    def _let_go(self, peer: str) -> None:
        """A member stands nowhere any more; a slice in which nobody stands is gone."""
        self._apart.pop(peer, None)
        held = self._held.pop(peer, None)
        if held is not None and held.where is not None:
            del held.where.standing[peer]
            if not held.where.standing:
                self._drop(held.where)

    def _drop(self, gone: Slice) -> None:
        self._slices.remove(gone)
        gone.sum.clear()
        if not self._free:
            self._free.append(gone.sum)
