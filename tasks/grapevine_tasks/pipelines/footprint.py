"""What preparing samples takes of memory, known from the contract and their number alone.

The walk is `prepare_learning`'s: raw rows become the first arrays; then, at each step, what the step reads, what it
makes and what it needs beside both are there at once. Arrays that share their memory are counted once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines.holdout import held_out, num_stretches
from grapevine_tasks.pipelines.prepare import (
    count_after,
    derives_target,
    first_form,
    holdout_of,
    is_series,
    rows_needed,
    steps_of,
)
from grapevine_tasks.pipelines.steps import AT_ONCE, Arguments, Stack, Step

_ROW_NUMBER = 8  # bytes: which rows are held out, and in which order they are trained on
_WIDEST_RAW = 8  # bytes of a number in a source: int64 and float64
_SMALL = 2**16  # bytes: what is not counted one by one


@dataclass(frozen=True, kw_only=True)
class PreparedBytes:
    """Bytes beside the raw arrays."""

    peak: int  # while samples are prepared
    kept: int  # of what is made


@dataclass(frozen=True, kw_only=True)
class SampleMemory:
    """What samples take of a trainer process's memory, in bytes, at most."""

    libraries: int = 0  # that read the source, for good
    preparing: int = 0  # while they are read and prepared, before PyTorch is loaded
    kept: int = 0  # from then on


@dataclass
class _Piece:
    """Memory that was taken once; it stays whole as long as an array lies in it."""

    num_bytes: int


def sample_memory(
    contract: DataContract,
    *,
    num: int,
    num_test: int | None = None,
    num_gaps: int = 0,
    raw_bytes: int,
    working_bytes: int = 0,
    library_bytes: int = 0,
) -> SampleMemory:
    """What a trainer process takes to load, prepare and keep the samples of a source.

    Args:
        contract: Of the task.
        num: Raw samples.
        num_test: Raw samples to test with, beside them; None: some of `num` are held out.
        num_gaps: Rows of missing numbers that may stand between the runs of a series.
        raw_bytes: Of the raw arrays, all together.
        working_bytes: That loading them takes beside the arrays.
        library_bytes: Of the libraries that load them.

    Raises:
        TaskError: Like `model_specs`.
    """
    num_tested = held_out(num) if num_test is None else num_test
    if num_test is None:
        num_gaps += _seams(contract, num, num_gaps + 1)
    learnt = prepared_bytes(contract, (num - num_tested if num_test is None else num) + num_gaps)
    tested = prepared_bytes(contract, num_tested + num_gaps, learns=False)
    row_numbers = 2 * _ROW_NUMBER * (num + num_gaps) if num_test is None else 0
    preparing = row_numbers + max(learnt.peak, learnt.kept + tested.peak)
    return SampleMemory(
        libraries=library_bytes,
        preparing=raw_bytes + max(working_bytes, preparing),
        # An order of the samples, and the next one while it is drawn.
        kept=learnt.kept + tested.kept + 2 * _ROW_NUMBER * (num + num_gaps),
    )


def _seams(contract: DataContract, num: int, num_runs: int) -> int:
    """The most rows of missing numbers that stand between stretches of a series because of what is held out."""
    holdout = holdout_of(contract)
    if holdout == "last" or not is_series(contract):
        return 0
    return num_runs * num_stretches(num, rows_needed(contract), holdout)


def fewest_samples_memory(contract: DataContract) -> SampleMemory:
    """What the fewest samples that a task takes need at least: out of a source that has a byte for each number."""
    num, has_target = contract.minimum_samples, not derives_target(contract)
    numbers_each = math.prod(contract.features.shape) + (math.prod(contract.target.shape) if has_target else 0)
    return sample_memory(contract, num=num, raw_bytes=num * numbers_each)


def prepared_bytes(contract: DataContract, num_rows: int, *, learns: bool = True) -> PreparedBytes:
    """What `prepare_learning` takes for so many raw rows, at most.

    `learns`: steps measure these samples; they are training samples. Raises TaskError like `model_specs`.
    """
    before = Stack(num=num_rows, form=first_form(contract))
    x, y = _Piece(before.x_bytes), _Piece(0 if derives_target(contract) else before.y_bytes)
    peak = _held(x, y) + _converting(before)
    for _, step, arguments in steps_of(contract):
        after = Stack(num=count_after(before.num, step, arguments), form=step.form(before.form, arguments))
        if step.learn is not None and learns:
            peak = max(peak, _held(x, y) + step.learn_workspace(before))
        made_x, made_y = _made(x, y, step, before, after)
        peak = max(peak, _held(x, y, made_x, made_y) + _beside(step, before, after, arguments))
        before, x, y = after, made_x, made_y
    peak = max(peak, _held(x, y) + _looking(before, is_series=is_series(contract)))
    return PreparedBytes(peak=peak + _SMALL, kept=_held(x, y) + _SMALL)


def _held(*pieces: _Piece) -> int:
    return sum({id(piece): piece.num_bytes for piece in pieces}.values())


def _made(x: _Piece, y: _Piece, step: Step, before: Stack, after: Stack) -> tuple[_Piece, _Piece]:
    """Where the results of a step lie."""
    made_x = x
    if step.makes_x == "new":
        made_x = _Piece(after.x_bytes)
    elif step.makes_x == "in place" and x is y:
        made_x = _Piece(before.x_bytes)
    if step.makes_y == "new":
        return made_x, _Piece(after.y_bytes)
    return made_x, made_x if step.makes_y == "features" else y


def _beside(step: Step, before: Stack, after: Stack, arguments: Arguments) -> int:
    return step.workspace(before, after, arguments) if before.num else 0


def _converting(stack: Stack) -> int:
    """Some raw rows and whether they are finite, of features or targets."""
    target = stack.form.target
    y_numbers = max(1, math.prod(target.shape)) if target is not None else 1
    return (_WIDEST_RAW + 2) * max(stack.x_at_once(), AT_ONCE, y_numbers)


def _looking(stack: Stack, *, is_series: bool) -> int:
    """Whether numbers are finite; of a series also which samples miss one, and those that move up."""
    target = stack.form.target
    y_numbers = math.prod(target.shape) if target is not None else 0
    at_once = max(AT_ONCE, stack.x_numbers, y_numbers)
    return (2 * stack.num + _WIDEST_RAW * at_once + AT_ONCE) if is_series else at_once
