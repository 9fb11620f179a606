"""Input pipelines: what becomes of an owner's samples before the model sees them.

A task names steps out of a closed set, in order; it brings no code. Everything here is NumPy.

    an owner's arrays ── scale, offset ── step ── step ── … ──► what the model takes, what the loss is compared with

Steps know three things: what they make of one sample's type (`model_specs` needs no data for it), what they
make of arrays (`prepare`), and what memory that takes (`prepared_bytes`, which needs their number). Of ordered series
a raw sample is one row, and rows are in order of time; the steps that need that order (`window`, `forecast`,
`difference`) cut them into samples.
"""

from grapevine_tasks.pipelines.footprint import (
    PreparedBytes,
    SampleMemory,
    fewest_samples_memory,
    prepared_bytes,
    sample_memory,
)
from grapevine_tasks.pipelines.holdout import (
    HELD_OUT,
    HELD_OUT_SEED,
    HOLDOUTS,
    held_out,
    held_out_stretches,
    left_stretches,
)
from grapevine_tasks.pipelines.prepare import (
    MAX_BYTES,
    MISSING,
    Learnt,
    Prepared,
    count_prepared,
    derives_target,
    fewest_samples,
    holdout_of,
    is_series,
    last_form,
    model_specs,
    prepare,
    prepare_learning,
    rows_needed,
    scaled,
)
from grapevine_tasks.pipelines.steps import MAX_ELEMENTS, NumberRefused, bytes_of, spans
from grapevine_tasks.pipelines.table import STEPS
from grapevine_tasks.pipelines.units import in_units, target_unit

__all__ = [
    "HELD_OUT",
    "HELD_OUT_SEED",
    "HOLDOUTS",
    "MAX_BYTES",
    "MAX_ELEMENTS",
    "MISSING",
    "STEPS",
    "Learnt",
    "NumberRefused",
    "Prepared",
    "PreparedBytes",
    "SampleMemory",
    "bytes_of",
    "count_prepared",
    "derives_target",
    "fewest_samples",
    "fewest_samples_memory",
    "held_out",
    "held_out_stretches",
    "holdout_of",
    "in_units",
    "is_series",
    "last_form",
    "left_stretches",
    "model_specs",
    "prepare",
    "prepare_learning",
    "prepared_bytes",
    "rows_needed",
    "sample_memory",
    "scaled",
    "spans",
    "target_unit",
]
