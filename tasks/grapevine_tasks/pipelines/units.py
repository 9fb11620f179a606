"""In which units a target that a step made out of the features is: what one of its numbers is of the owner's own."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines.prepare import Learnt, derives_target, first_form, steps_of

_SCALES: Final = ("normalise", "standardise")  # by `std`, a number for all or one a column
_KEEPS: Final = ("clip", "difference", "window")  # one unit stays one unit


def target_unit(contract: DataContract, learnt: Learnt) -> float | None:
    """What 1 in the target is in the owner's units; a target that the owner gives is as it was given.

    None where there is no such number: columns of different units are predicted together, or a step before the target
    is not linear.

    Args:
        contract: Checked.
        learnt: What steps measured on this device's training samples.
    """
    if not derives_target(contract):
        return 1.0
    form, num_learnt = first_form(contract), 0
    units = np.full(form.num_channels, 1 / contract.scale)
    for name, step, given in steps_of(contract):
        arguments = given
        if step.learn is not None:
            arguments, num_learnt = learnt[num_learnt], num_learnt + 1
        if name in _SCALES:
            units = units * np.array(arguments["std"])
        elif name == "forecast":
            columns = [int(number) for number in arguments["columns"]]
            return _one_of(units if columns == [-1] else units[columns])
        elif name == "reconstruct":
            return _one_of(units)
        elif name not in _KEEPS:
            return None
        form = step.form(form, given)
    return None


def _one_of(units: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float | None:
    largest, smallest = float(np.abs(units).max()), float(np.abs(units).min())
    return largest if math.isfinite(largest) and largest - smallest <= 1e-6 * largest else None


def in_units(metric_name: str, metric: float | None, unit: float | None) -> float | None:
    """A metric of errors in the owner's units; None where it has none, or they are the target's own."""
    if metric is None or unit is None or unit == 1.0:
        return None
    power = {"mse": 2, "rmse": 1, "mae": 1}.get(metric_name)
    return None if power is None else metric * unit**power
