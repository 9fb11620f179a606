"""A built program against the module that it was built from: outputs, gradients, and buffers after steps.

`torch.export` follows what a module computes, not what it says of gradients, nor what it keeps beside its buffers.
A function with a `backward` of its own, a hook, a counter in Python: all that is lost without a word, and the
program would be another model. So before anything is written both run side by side,

    train, 5 samples ▶ train, 3 samples ▶ eval, 5 samples ▶ eval without gradients, 3 samples

from the weights as they are, and again from others near them, with the same numbers, the same seed and a random
gradient from behind; buffers go from step to step on each side by itself.

When two tensors are the same. Both sides run the same kernels on the same machine and mostly agree to the bit;
where building writes a layer with simpler operators, they differ by rounding, some 1e-7 of the tensor's largest
number. `RELATIVE` is a thousand times that, and ten times less than the least that was ever wrong. A gradient
that is zero but for rounding (of a bias before batch normalisation) has no digit right on either side, so
`FLOOR` of the largest gradient is allowed as well. What is beyond that is looked at twice more: where numbers are
drawn, each draw is made from the same state on both sides, since one side may draw in another order; then the
module runs once more with everything changed by two units in the last place, and what that changes is allowed
`NUDGES` times: what is chaotic cannot be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Program
from grapevine_tasks.authoring.probes import Stage, Trial, trials
from grapevine_tasks.authoring.sides import (
    DrawnElsewhereError,
    Kind,
    Outcome,
    OwnSide,
    ProgramSide,
    SameDraws,
    UnusableError,
    states_kept,
)

RELATIVE = 1e-4  # of a tensor's largest number
FLOOR = 1e-6  # of the largest number of its kind
NUDGES = 16.0


class ModuleFailsError(TaskError):
    """The module itself can take no training step; the cause is what it raised, if it did."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One tensor that the program has otherwise than the module."""

    form: Literal["train", "eval"]
    kind: Kind
    name: str  # of the parameter or buffer
    by: float  # at most, of any number
    largest: float  # of the module's own
    has: float  # the largest of the program's own
    stage: Stage


def differences(
    module: nn.Module, program: Program, weights: Mapping[str, Tensor], example: Tensor
) -> list[Difference]:
    """What the program has otherwise than the module, in the first pass where there is something; empty if nothing.

    Args:
        module: Changed: see `put_back`.
        program: Of this module, checked.
        weights: Its parameters and buffers by their names, as they are; not changed.
        example: A batch; its numbers count if they are not all the same.

    Raises:
        ModuleFailsError: When the module itself cannot take a training step with any samples that were tried.
        DrawnElsewhereError: When it draws numbers that no program can.
    """
    own = OwnSide(module, program)
    built = ProgramSide(program, weights)
    with states_kept():
        for ways in trials(example, program, tuple(weights[p.name].detach() for p in program.parameters)):
            if found := _compared(own, built, ways):
                return found
    return []


def _compared(own: OwnSide, built: ProgramSide, ways: Sequence[Trial]) -> list[Difference]:
    """In the first of several ways in which the module runs."""
    failure: UnusableError | None = None
    for trial in ways:
        try:
            for number, (expected, outcome) in enumerate(zip(own.outcomes(trial), built.outcomes(trial), strict=True)):
                if _beyond(expected, outcome):
                    return _looked_at_twice(own, built, trial, number)
        except UnusableError as error:
            if failure is None or failure.__cause__ is None:
                failure = error
        else:
            return []
    assert failure is not None
    raise ModuleFailsError(str(failure)) from failure.__cause__


def _looked_at_twice(own: OwnSide, built: ProgramSide, trial: Trial, number: int) -> list[Difference]:
    def at(side: OwnSide | ProgramSide, trial: Trial) -> Outcome:
        return next(islice(side.outcomes(trial, drawing=SameDraws), number, None))

    expected, outcome = at(own, trial), at(built, trial)
    if not (found := _beyond(expected, outcome)):
        return []
    if _beyond(expected, at(own, trial)):
        raise DrawnElsewhereError(trial.stages[number])
    nudged = at(own, trial.nudged())
    return [
        Difference(
            form=trial.stages[number].form,
            kind=key[0],
            name=key[1],
            by=by,
            largest=_largest(expected[key]),
            has=_largest(outcome[key]) if key in outcome else 0.0,
            stage=trial.stages[number],
        )
        for key, by in found.items()
        if by > NUDGES * _apart(expected[key], nudged[key])
    ]


def _beyond(expected: Outcome, outcome: Outcome) -> dict[tuple[Kind, str], float]:
    """What differs by more than rounding, and by how much."""
    largest: dict[str, float] = {}
    for (kind, _), tensor in expected.items():
        largest[kind] = max(largest.get(kind, 0.0), _largest(tensor))
    # What the program holds as a constant has no gradient there.
    apart = {key: _apart(tensor, outcome.get(key, torch.zeros_like(tensor))) for key, tensor in expected.items()}
    return {
        key: by for key, by in apart.items() if not by <= RELATIVE * _largest(expected[key]) + FLOOR * largest[key[0]]
    }


def _largest(tensor: Tensor) -> float:
    return float(tensor.nan_to_num(0.0, 0.0, 0.0).abs().max()) if tensor.numel() else 0.0


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference; infinity where one of both is no number, or not of that shape."""
    if a.shape != b.shape or not torch.equal(a.isfinite(), b.isfinite()):
        return float("inf")
    return _largest(a - b)
