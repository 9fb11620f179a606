"""Where the crowd is, how wide, and where it is going, by a secret sample of each sender's newest model.

A whole model of every sender would fill a small device, and a sample says nearly as much of distances: of a model the
same `SAMPLE` numbers, whose places are drawn once at random for a task, are kept of each sender. No sender
knows the places, so none can be near the crowd there and far away elsewhere.

The *centre* is the coordinate-wise median over the senders and oneself, so a minority does not move it. The *spread* is
the median distance from it. The *lines* are two directions in which an honest model is never far behind the centre:
the movement of the centre over the last rounds, and the centre itself, seen from zero. Along a line the senders'
places have a median and a width (the median absolute deviation, scaled as a standard deviation). A crowd that stands
still has no movement: medians of other models differ by chance.

Whoever has finished training comes to agree with the others, and then any model that somebody still trains is far from
theirs. So where the spread has collapsed, twice the usual one of before counts; and models that are nearly the same say
nothing of how far one may be. Members that answer each other at once agree too, between their rounds: whoever trains
has gone as far as a round leads.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from grapevine_proto.messages import Vector

SAMPLE: Final = 512  # numbers of a model that are kept
MOST: Final = 64  # senders whose newest model is known
REMEMBERED_ROUNDS: Final = 6  # centres that the movement is taken from
LEAST_MOVES: Final = 3  # of them, before one speaks of a movement
AS_DEVIATION: Final = 1.4826  # a median absolute deviation times this is the standard deviation of a normal law

MOVES_BY_CHANCE: Final = 1.7  # spreads·√(1/m + 1/n): medians of m and n independent models are 1.27 apart, seldom more

AGREED: Final = 0.03  # of the usual spread: below it nobody of the crowd trains any more
USUAL_LOOKS: Final = 64  # at a crowd that moves: the usual spread is their median
AFTERWARDS: Final = 2.0  # usual spreads that count for one then: who trains alone goes further in a round
NEARLY_SAME: Final = 1e-4  # of the centre's length
LARGEST: Final = np.float32(1e15)  # of which squares can be summed

Sample = NDArray[np.float32]


def length(sample: Sample) -> float:
    """Euclidean. Where none is above `LARGEST`, the squares of a whole sample can be summed in float32."""
    return math.sqrt(sample @ sample)


def middle(numbers: NDArray[np.floating]) -> float:
    """The median of a few, for which np.median takes ten times as long."""
    return float(median(numbers.tolist()))


@dataclass(frozen=True, kw_only=True)
class Centre:
    """Where the middle of so many models was."""

    place: Sample
    num: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """A direction of length 1, and where along it the crowd stands."""

    direction: Sample
    middle: float
    width: float

    def of(self, sample: Sample) -> float:
        """How many widths before (below 0: behind) the crowd a model is."""
        return (float(sample @ self.direction) - self.middle) / self.width


@dataclass(frozen=True, kw_only=True)
class View:
    """The crowd as it was when it was last looked at."""

    num: int  # models, one's own included
    centre: Sample
    spread: float  # 0: they agree, or there is one alone
    movement: Line | None  # None: there is none to speak of
    outwards: Line | None  # from zero to the centre

    def distance(self, sample: Sample) -> float:
        """From the centre, in spreads; 0 in a crowd that is all in one place."""
        return length(sample - self.centre) / self.spread if self.spread > 0 else 0.0


@dataclass(kw_only=True)
class Crowd:
    """See the module's docstring. Of models of `size` numbers."""

    size: int
    rng: np.random.Generator
    _latest: OrderedDict[str, Sample] = field(default_factory=OrderedDict)
    _centres: deque[Centre] = field(default_factory=lambda: deque(maxlen=REMEMBERED_ROUNDS))
    _spreads: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL_LOOKS))  # while it moved

    def __post_init__(self) -> None:
        places = self.rng.choice(self.size, min(SAMPLE, self.size), replace=False)
        self._places = np.sort(places)

    def __len__(self) -> int:
        return len(self._latest)

    def sample(self, parameters: Vector) -> Sample:
        """The numbers of a model that are kept of it, float32 [at most `SAMPLE`], none above `LARGEST`."""
        sample: Sample = parameters.take(self._places)
        np.minimum(sample, LARGEST, out=sample)  # np.clip takes several times as long, of so few
        np.maximum(sample, -LARGEST, out=sample)
        return sample

    def put(self, sender: str, sample: Sample) -> None:
        """This is a sender's newest model."""
        self._latest[sender] = sample
        self._latest.move_to_end(sender)
        if len(self._latest) > MOST:
            self._latest.popitem(last=False)

    def senders(self) -> Iterable[str]:
        """Whose newest model is known."""
        return self._latest.keys()

    def last(self, sender: str) -> Sample | None:
        """What is kept of a sender's newest model; None: nothing is."""
        return self._latest.get(sender)

    def drop(self, sender: str) -> None:
        """A sender does not belong to the crowd."""
        self._latest.pop(sender, None)

    def look(self, own: Sample | None, *, moved: bool = True, least: float = 0.0) -> View | None:
        """The crowd now, oneself included if `own` is given; None: nobody is there.

        The centre is remembered, in place of the last one unless it has `moved`. A spread counts for `least` at least.
        """
        models = [*self._latest.values(), *([own] if own is not None else [])]
        if not models:
            return None
        rows = np.stack(models)
        centre = _median(rows)
        apart = rows - centre
        spread = self._told_spread(math.sqrt(middle(np.einsum("ij,ij->i", apart, apart))), centre)
        if not moved and self._centres:
            self._centres.pop()
        self._centres.append(Centre(place=centre, num=len(rows)))
        narrow = spread / math.sqrt(centre.size)  # what the spread is in a single direction
        first = self._centres[0]
        by_chance = MOVES_BY_CHANCE * spread * math.sqrt(1 / first.num + 1 / len(rows))
        movement = centre - first.place
        return View(
            num=len(rows),
            centre=centre,
            spread=max(spread, least) if spread > 0 else 0.0,
            movement=_line(rows, movement, narrow, by_chance) if len(self._centres) >= LEAST_MOVES else None,
            outwards=_line(rows, centre, narrow, MOVES_BY_CHANCE * spread * math.sqrt(2 / len(rows))),
        )

    def _told_spread(self, spread: float, centre: Sample) -> float:
        """The spread that models are held against, where this is the one that was found."""
        same = NEARLY_SAME * length(centre)
        if not self._centres or length(centre - self._centres[-1].place) > same:
            self._spreads.append(spread)
        usual = median(self._spreads) if self._spreads else 0.0
        if spread < AGREED * usual:
            return AFTERWARDS * usual
        return spread if spread > same else 0.0


def _median(rows: NDArray[np.float32]) -> Sample:
    """Of each column. Of an even number of rows the mean of the two in the middle, as ever."""
    half = len(rows) // 2
    kth = [half] if len(rows) % 2 else [half - 1, half]
    ordered = np.partition(rows, kth, axis=0)
    middle: Sample = ordered[kth].mean(axis=0, dtype=np.float32)
    return middle


def _line(rows: NDArray[np.float32], direction: Sample, least: float, by_chance: float) -> Line | None:
    """The line in a direction that is longer than what a median is moved `by_chance`."""
    long = length(direction)
    if not long > by_chance:
        return None
    unit = direction / np.float32(long)
    along = rows @ unit
    place = middle(along)
    width = max(AS_DEVIATION * middle(np.abs(along - place)), least)
    return Line(direction=unit, middle=place, width=width) if width > 0 else None
