"""How models are merged: one file a strategy, named as in its paper, and one table.

All strategies work on flat float32 vectors (see `grapevine_tasks.layout`) and are pure: nothing
that is given to them is modified. Adding one is one file, which ends in its `STRATEGY`, and one line
in `STRATEGIES`. Which constants a task may set: `constants.check_constants`.

*Pairwise* strategies take updates one by one as they arrive. *Gathered* ones take the set that has
arrived since the last merge.
"""

from __future__ import annotations

from grapevine_agent.merge import (
    age_weighted,
    average,
    chisme,
    cos_sim_dfl,
    delta_sum,
    doubly_weighted,
    fedavg,
    follow_server,
    krum,
    median,
    random_mix,
    trimmed_mean,
    variance_corrected,
)
from grapevine_agent.merge.voices import Constant, Context, Merged, Merger, Strategy, Voice

STRATEGIES: dict[str, Strategy] = {
    "average": average.STRATEGY,
    "fedavg": fedavg.STRATEGY,
    "age-weighted": age_weighted.STRATEGY,
    "doubly-weighted": doubly_weighted.STRATEGY,
    "random-mix": random_mix.STRATEGY,
    "variance-corrected": variance_corrected.STRATEGY,
    "delta-sum": delta_sum.STRATEGY,
    "cos-sim-dfl": cos_sim_dfl.STRATEGY,
    "chisme": chisme.STRATEGY,
    "trimmed-mean": trimmed_mean.STRATEGY,
    "median": median.STRATEGY,
    "krum": krum.STRATEGY,
    "follow-server": follow_server.STRATEGY,
}

__all__ = ["STRATEGIES", "Constant", "Context", "Merged", "Merger", "Strategy", "Voice"]
