"""From an owner's arrays to what the model takes and what the loss is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec
from grapevine_tasks.pipelines.holdout import held_out_stretches, left_stretches
from grapevine_tasks.pipelines.steps import (
    MAX_ELEMENTS,
    Arguments,
    Array,
    Form,
    NumberRefused,
    Step,
    bytes_of,
    read_arguments,
    shown,
    spans,
)
from grapevine_tasks.pipelines.table import DERIVING, STEPS
from grapevine_tasks.suggestions import did_you_mean

MAX_STEPS = 32
MAX_BYTES = 2**30  # of all features, or all targets, after any step; beside it the step's input is held
_DTYPES = ("float32", "int64")

MISSING: Final = -1  # in `rows`: a row of missing numbers, which no window of a series reaches across

Rows: TypeAlias = NDArray[np.int64]
Learnt: TypeAlias = tuple[Arguments, ...]  # of each step that measures the training samples, in order


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Samples as the model takes them, and what steps measured on them."""

    x: NDArray[Any]  # [n, …]
    y: NDArray[Any]  # [n, …]
    learnt: Learnt


def model_specs(contract: DataContract) -> tuple[FeatureSpec, FeatureSpec]:
    """What the model takes and what the loss is compared with: one sample of each, known without data.

    Raises TaskError, naming the step, its argument and what to write, when the pipeline is not sound.
    """
    form = first_form(contract)
    for number, (_, step, arguments) in enumerate(steps_of(contract), 1):
        form = step.form(form, arguments)
        _check_size(form, f"data.pipeline, step {number}")
    assert form.target is not None
    return form.features, form.target


def derives_target(contract: DataContract) -> bool:
    """Whether a step makes the target out of the features: then a source needs none."""
    return any(step.name in DERIVING for step in contract.pipeline)


def is_series(contract: DataContract) -> bool:
    """Whether rows are in order of time: then stretches of them are held out, not single ones."""
    return any(step.name in STEPS and STEPS[step.name].rows is not None for step in contract.pipeline)


def rows_needed(contract: DataContract) -> int:
    """How many raw samples make one: 1, but of series. Raises TaskError when the pipeline is not sound."""
    needed = 1
    for _, step, arguments in reversed(list(steps_of(contract))):
        if step.rows is not None:
            span, stride = step.rows(arguments)
            needed = (needed - 1) * stride + span
    return needed


def count_prepared(num_raw: int, contract: DataContract) -> int:
    """How many samples become of so many raw ones, when none misses a number. Raises TaskError like `rows_needed`."""
    for _, step, arguments in steps_of(contract):
        num_raw = count_after(num_raw, step, arguments)
    return num_raw


def holdout_of(contract: DataContract) -> str:
    """How samples are held out, one of `HOLDOUTS`: as the task says, or by what its samples are."""
    return contract.holdout or ("last" if is_series(contract) else "random")


def fewest_samples(contract: DataContract) -> tuple[int, int]:
    """The fewest prepared samples that a device may come with: to train on, and to test with (1 or more each).

    A series in which numbers are missing may give fewer yet. Raises TaskError like `rows_needed`.
    """
    num = contract.minimum_samples
    tested = held_out_stretches(num, rows_needed(contract), holdout_of(contract))
    both = (left_stretches(num, tested), tested)
    training, test = (sum(count_prepared(end - start, contract) for start, end in part) for part in both)
    return max(training, 1), max(test, 1)


def prepare(x: Array, y: Array | None, contract: DataContract, where: str) -> tuple[Array, Array]:
    """`prepare_learning` for training samples alone: (x, y)."""
    prepared = prepare_learning(x, y, contract, where)
    return prepared.x, prepared.y


def prepare_learning(
    x: Array,
    y: Array | None,
    contract: DataContract,
    where: str,
    learnt: Learnt | None = None,
    rows: Rows | None = None,
) -> Prepared:
    """Scale features, then apply the steps of the pipeline.

    What it takes beside the raw arrays is what `footprint.prepared_bytes` says: raw rows are converted some at a
    time, steps that can write over what came before, and what a step does not keep is let go of.

    Args:
        x: Raw features [n, *contract.features.shape], in order of time for a series. In a series NaN
            stands for a missing number: samples that would hold one are left out.
        y: Raw targets [n, *contract.target.shape]; None, or ignored, when a step makes them.
        contract: Checked.
        where: The samples come from, for messages.
        learnt: What steps measured on the training samples, for test samples; None measures these.
        rows: Which raw samples, in this order; `MISSING` is one that is missing. None: all as they come.

    Returns:
        Arrays of `model_specs`' dtypes and shapes.

    Raises:
        TaskError: When arrays are not of the contract's shapes, numbers are not finite, classes are
            outside `num_classes`, a series is too short, or more memory would be needed than `MAX_BYTES`.
    """
    form = first_form(contract)
    features, target = _first(x, y, contract, where, rows)
    measured: list[Arguments] = []
    is_raw = True  # each sample is a raw one
    for number, (name, step, given) in enumerate(steps_of(contract), 1):
        arguments = given
        if step.learn is not None:
            arguments = step.learn(features, form, given) if learnt is None else learnt[len(measured)]
            measured.append(arguments)
        after = step.form(form, given)
        _check_size(after, f"data.pipeline, step {number}")
        num_after = count_after(len(features), step, arguments)
        if step.rows is not None and num_after < 1:
            needs = step.rows(arguments)[0]
            raise TaskError(f"{where}: {len(features)} rows of a series are too few, the step {name} needs {needs}")
        _check_bytes(num_after, after, f"{where}: data.pipeline, step {number} ({name})")
        if step.makes_x == "in place" and target is not None and np.may_share_memory(features, target):
            features = features.copy()
        try:
            with np.errstate(all="ignore"):  # what is not finite is found below
                features, target = step.apply(features, target, form, arguments)
        except NumberRefused as error:
            raise error.told(where, _row(error.sample, rows) if is_raw else "") from error
        except TaskError as error:
            raise TaskError(f"{where}: {error}") from error
        form = after
        is_raw = is_raw and step.rows is None
    assert target is not None
    if is_series(contract):
        features, target = _without_missing(features, target, where)
    for array in (features, target):
        if array.dtype == np.float32:
            _check_all_finite(array, where)
    return Prepared(x=features, y=target, learnt=tuple(measured))


def _row(sample: int, rows: Rows | None) -> str:
    """Of a sample that is a raw one which row of the source it is, counted from 1."""
    return f"row {(sample if rows is None else int(rows[sample])) + 1:,}"


def last_form(contract: DataContract) -> Form:
    """What samples are after the last step. Raises TaskError when the pipeline is not sound."""
    form = first_form(contract)
    for _, step, arguments in steps_of(contract):
        form = step.form(form, arguments)
    return form


def first_form(contract: DataContract) -> Form:
    """What samples are before the first step. Raises TaskError when the contract is not sound."""
    derives = derives_target(contract)
    form = Form(features=contract.features, target=contract.target, num_classes=contract.num_classes)
    for part, given in (("features", contract.features), ("target", contract.target)):
        if given.dtype not in _DTYPES:
            raise TaskError(f"data.{part}.dtype is {given.dtype!r}; use 'float32' or 'int64'")
    _check_size(form, "data")
    if len(contract.pipeline) > MAX_STEPS:
        raise TaskError(f"data.pipeline has {len(contract.pipeline)} steps; write at most {MAX_STEPS}")
    if derives and contract.num_classes:
        raise TaskError("a step of data.pipeline makes the target, which is no class then: set data.num_classes to 0")
    return form if not derives else Form(features=contract.features, target=None)


def steps_of(contract: DataContract) -> Iterator[tuple[str, Step, Arguments]]:
    """The steps in order: names, steps and arguments. Raises TaskError when one is not sound."""
    for number, named in enumerate(contract.pipeline, 1):
        if named.name not in STEPS:
            raise TaskError(f"data.pipeline, step {number} is named {named.name!r}; {did_you_mean(named.name, STEPS)}")
        step = STEPS[named.name]
        yield named.name, step, read_arguments(named.name, step, named.arguments)


def _first(
    x: Array, y: Array | None, contract: DataContract, where: str, rows: Rows | None
) -> tuple[Array, Array | None]:
    """Features and targets of the contract's dtypes, scaled: new arrays."""
    _check_shape(x, contract.features, f"{where}: x")
    if derives_target(contract):
        return scaled(x, contract, where, rows), None
    if y is None:
        raise TaskError(f"{where} has no targets, and no step of data.pipeline makes them")
    _check_shape(y, contract.target, f"{where}: y")
    if len(y) != len(x):
        raise TaskError(f"{where}: {len(x)} samples in x but {len(y)} in y")
    return scaled(x, contract, where, rows), _typed_targets(y, contract, where, rows)


def scaled(x: Array, contract: DataContract, where: str, rows: Rows | None = None) -> Array:
    """Features [n, …] of the contract's dtype, a new array; of floats (x − offset) · scale."""
    is_float = contract.features.dtype == "float32"
    made = _new(x, contract.features, rows)
    for span in spans(len(made), math.prod(contract.features.shape)):
        part = made[span]
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows float32 is found here
            _take(x, rows, span, part)
            if is_float:
                part -= np.float32(contract.offset)
                part *= np.float32(contract.scale)
        if is_float:
            _check_finite(part, where, may_miss=is_series(contract))
    return made


def _typed_targets(y: Array, contract: DataContract, where: str, rows: Rows | None) -> Array:
    """Targets [n, …] of the contract's dtype, and of its classes: a new array."""
    typed = _new(y, contract.target, rows)
    for span in spans(len(typed), math.prod(contract.target.shape)):
        with np.errstate(over="ignore", invalid="ignore"):
            _take(y, rows, span, typed[span])
    if contract.num_classes:
        if typed.size and not 0 <= int(typed.min()) <= int(typed.max()) < contract.num_classes:
            raise TaskError(
                f"{where}: classes from {typed.min()} to {typed.max()}; the task has 0 to {contract.num_classes - 1}"
            )
    elif contract.target.dtype == "float32":
        _check_all_finite(typed, where, may_miss=is_series(contract))
    return typed


def _new(raw: Array, spec: FeatureSpec, rows: Rows | None) -> Array:
    return np.empty((len(raw) if rows is None else len(rows), *raw.shape[1:]), spec.dtype)


def _take(raw: Array, rows: Rows | None, span: slice, part: Array) -> None:
    """Fill `part` with the samples of a span of `rows`."""
    if rows is None:
        part[...] = raw[span]
        return
    chosen = rows[span]
    part[...] = raw[chosen]  # the last one stands in for what is missing
    part[chosen == MISSING] = np.nan if part.dtype.kind == "f" else 0


def _without_missing(x: Array, y: Array, where: str) -> tuple[Array, Array]:
    """Samples of a series without those that hold a missing number. The others move up, in their own memory."""
    missing = _misses(x)
    missing |= _misses(y)
    if not missing.any():
        return x, y
    if missing.all():
        raise TaskError(
            f"{where}: each of the {len(missing)} samples cut out of the series holds a missing number; "
            "fill the gaps, or offer a longer series"
        )
    num = len(missing) - int(np.count_nonzero(missing))
    for array in (x,) if np.may_share_memory(x, y) else (x, y):
        _move_up(array, missing)
    return x[:num], y[:num]


def _move_up(array: Array, missing: Array) -> None:
    filled = 0
    for span in spans(len(array), math.prod(array.shape[1:])):
        kept = array[span][~missing[span]]
        array[filled : filled + len(kept)] = kept
        filled += len(kept)


def _misses(array: Array) -> Array:
    """[n]: which samples hold NaN."""
    missing = np.zeros(len(array), bool)
    if array.dtype == np.float32:
        numbers_each = math.prod(array.shape[1:])
        for span in spans(len(array), numbers_each):
            missing[span] = np.isnan(array[span]).reshape(span.stop - span.start, numbers_each).any(1)
    return missing


def count_after(num: int, step: Step, arguments: Arguments) -> int:
    """How many samples a step makes of so many."""
    if step.rows is None:
        return num
    span, stride = step.rows(arguments)
    return (num - span) // stride + 1 if num >= span else 0


def _check_shape(array: Array, spec: FeatureSpec, where: str) -> None:
    if not array.shape or array.shape[1:] != spec.shape:
        wanted = ", ".join(["n", *map(str, spec.shape)])
        raise TaskError(f"{where} has the shape {list(array.shape)}, the task takes [{wanted}]")
    if array.dtype.kind not in ("buif" if spec.dtype == "float32" else "bui"):
        raise TaskError(f"{where} holds {array.dtype}, the task takes {spec.dtype}")


def _check_size(form: Form, where: str) -> None:
    for feature in (form.features, form.target):
        if feature is not None and math.prod(feature.shape) > MAX_ELEMENTS:
            raise TaskError(f"{where}: one sample is {shown(feature)}; make it {MAX_ELEMENTS} numbers or fewer")


def _check_bytes(num: int, form: Form, where: str) -> None:
    for feature in (form.features, form.target):
        if feature is None:
            continue
        num_bytes = num * bytes_of(feature)
        if num_bytes > MAX_BYTES:
            raise TaskError(
                f"{where} would make {num} samples {shown(feature)}, {num_bytes // 2**20} MiB; at most "
                f"{MAX_BYTES // 2**20} MiB are allowed: offer fewer samples, or a task with a larger stride"
            )


def _check_all_finite(array: Array, where: str, *, may_miss: bool = False) -> None:
    for span in spans(len(array), math.prod(array.shape[1:])):
        _check_finite(array[span], where, may_miss=may_miss)


def _check_finite(part: Array, where: str, *, may_miss: bool = False) -> None:
    if np.isinf(part).any() or (not may_miss and np.isnan(part).any()):
        raise TaskError(f"{where} holds numbers that are not finite; leave those samples out")
