"""What a training step drew: as a meter shows, else as the profile has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

EnergyBy: TypeAlias = Literal["", "metered", "modelled"]


@dataclass(kw_only=True)
class Energy:
    """Of one task's training here. `by`: how the last round is known; empty: nobody knows what the device draws."""

    watts_training: float  # of the profile; 0: unknown
    total_j: float = 0.0
    round_j: float | None = None  # of the last round; None before there was one
    by: EnergyBy = ""

    def spent(self, seconds: float, metered_j: float | None) -> float:
        """A step is over. Returns its joules, 0 where nobody knows.

        Modelled it is the draw of the whole device times the time that the step took, as in the simulator.
        """
        if metered_j is not None:
            joules, self.by = metered_j, "metered"
        elif self.watts_training:
            joules, self.by = seconds * self.watts_training, "modelled"
        else:
            return 0.0
        self.round_j = joules
        self.total_j += joules
        return joules

    @property
    def known_j(self) -> float | None:
        """What training has drawn since the task was joined; None where nobody knows."""
        return self.total_j if self.by or self.watts_training else None
