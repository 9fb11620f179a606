"""A run under way: what a checkpoint holds, and what its outcome will need."""

from __future__ import annotations

from dataclasses import dataclass, field

from grapevine_lab.simulator.experiment import Run


@dataclass(kw_only=True)
class Sitting:
    """See the module's docstring."""

    run: Run
    seed: int
    wall_s: float = 0.0
    num_events: int = 0
    finished: set[int] = field(default_factory=set)  # nodes that have done their rounds
