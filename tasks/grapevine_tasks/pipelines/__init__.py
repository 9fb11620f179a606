"""Input pipelines: what becomes of an owner's samples before the model sees them.

A task names steps out of a closed set, in order; it brings no code. Everything here is NumPy.

    an owner's arrays ── scale, offset ── step ── step ── … ──► what the model takes, what the loss is compared with

Steps know two things: what they make of one sample's type (`model_specs` needs no data for it) and what
they make of arrays (`prepare`). Of ordered series a raw sample is one row, and rows are in order of time;
the steps that need that order (`window`, `forecast`, `difference`) cut them into samples.
"""

from grapevine_tasks.pipelines.prepare import (
    HELD_OUT,
    MAX_BYTES,
    Learnt,
    Prepared,
    count_prepared,
    derives_target,
    fewest_samples,
    is_series,
    model_specs,
    prepare,
    prepare_learning,
    rows_needed,
    scaled,
)
from grapevine_tasks.pipelines.steps import MAX_ELEMENTS
from grapevine_tasks.pipelines.table import STEPS

__all__ = [
    "HELD_OUT",
    "MAX_BYTES",
    "MAX_ELEMENTS",
    "STEPS",
    "Learnt",
    "Prepared",
    "count_prepared",
    "derives_target",
    "fewest_samples",
    "is_series",
    "model_specs",
    "prepare",
    "prepare_learning",
    "rows_needed",
    "scaled",
]
