"""From an owner's arrays to what the model takes and what the loss is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec
from grapevine_tasks.pipelines.steps import MAX_ELEMENTS, Arguments, Array, Form, Step, read_arguments, shown
from grapevine_tasks.pipelines.table import DERIVING, STEPS
from grapevine_tasks.suggestions import did_you_mean

MAX_STEPS = 32
HELD_OUT = 5  # without test samples of its own, a source gives up every fifth sample
MAX_BYTES = 2**30  # of all features, or all targets, after any step; beside it the step's input is held
_DTYPES = ("float32", "int64")

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
    form = _start(contract)
    for number, (_, step, arguments) in enumerate(_steps(contract), 1):
        form = step.form(form, arguments)
        _check_size(form, f"data.pipeline, step {number}")
    assert form.target is not None
    return form.features, form.target


def derives_target(contract: DataContract) -> bool:
    """Whether a step makes the target out of the features: then a source needs none."""
    return any(step.name in DERIVING for step in contract.pipeline)


def is_series(contract: DataContract) -> bool:
    """Whether rows are in order of time: then the last fifth is held out, not random ones."""
    return any(step.name in STEPS and STEPS[step.name].rows is not None for step in contract.pipeline)


def rows_needed(contract: DataContract) -> int:
    """How many raw samples make one: 1, but of series. Raises TaskError when the pipeline is not sound."""
    needed = 1
    for _, step, arguments in reversed(list(_steps(contract))):
        if step.rows is not None:
            span, stride = step.rows(arguments)
            needed = (needed - 1) * stride + span
    return needed


def count_prepared(num_raw: int, contract: DataContract) -> int:
    """How many samples become of so many raw ones, when none misses a number. Raises TaskError like `rows_needed`."""
    for _, step, arguments in _steps(contract):
        num_raw = _count(num_raw, step, arguments)
    return num_raw


def fewest_samples(contract: DataContract) -> tuple[int, int]:
    """The fewest prepared samples that a device may come with: to train on, and to test with (1 or more each).

    A series in which numbers are missing may give fewer yet. Raises TaskError like `rows_needed`.
    """
    held_out = contract.minimum_samples // HELD_OUT
    training, test = (count_prepared(num, contract) for num in (contract.minimum_samples - held_out, held_out))
    return max(training, 1), max(test, 1)


def prepare(x: Array, y: Array | None, contract: DataContract, where: str) -> tuple[Array, Array]:
    """`prepare_learning` for training samples alone: (x, y)."""
    prepared = prepare_learning(x, y, contract, where)
    return prepared.x, prepared.y


def prepare_learning(
    x: Array, y: Array | None, contract: DataContract, where: str, learnt: Learnt | None = None
) -> Prepared:
    """Scale features, then apply the steps of the pipeline.

    Args:
        x: Raw features [n, *contract.features.shape], in order of time for a series. In a series NaN
            stands for a missing number: samples that would hold one are left out.
        y: Raw targets [n, *contract.target.shape]; None, or ignored, when a step makes them.
        contract: Checked.
        where: The samples come from, for messages.
        learnt: What steps measured on the training samples, for test samples; None measures these.

    Returns:
        Arrays of `model_specs`' dtypes and shapes.

    Raises:
        TaskError: When arrays are not of the contract's shapes, numbers are not finite, classes are
            outside `num_classes`, a series is too short, or more memory would be needed than `MAX_BYTES`.
    """
    form = _start(contract)
    features, target = _first(x, y, contract, where)
    measured: list[Arguments] = []
    for number, (name, step, given) in enumerate(_steps(contract), 1):
        arguments = given
        if step.learn is not None:
            arguments = step.learn(features, form) if learnt is None else learnt[len(measured)]
            measured.append(arguments)
        after = step.form(form, given)
        _check_size(after, f"data.pipeline, step {number}")
        num_after = _count(len(features), step, arguments)
        if step.rows is not None and num_after < 1:
            needs = step.rows(arguments)[0]
            raise TaskError(f"{where}: {len(features)} rows of a series are too few, the step {name} needs {needs}")
        _check_bytes(num_after, after, f"{where}: data.pipeline, step {number} ({name})")
        try:
            with np.errstate(all="ignore"):  # what is not finite is found below
                features, target = step.apply(features, target, form, arguments)
        except TaskError as error:
            raise TaskError(f"{where}: {error}") from error
        form = after
    assert target is not None
    if is_series(contract):
        features, target = _without_missing(features, target, where)
    for array in (features, target):
        if array.dtype == np.float32:
            _check_finite(array, where)
    return Prepared(x=features, y=target, learnt=tuple(measured))


def _start(contract: DataContract) -> Form:
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


def _steps(contract: DataContract) -> Iterator[tuple[str, Step, Arguments]]:
    for number, named in enumerate(contract.pipeline, 1):
        if named.name not in STEPS:
            raise TaskError(f"data.pipeline, step {number} is named {named.name!r}; {did_you_mean(named.name, STEPS)}")
        step = STEPS[named.name]
        yield named.name, step, read_arguments(named.name, step, named.arguments)


def _first(x: Array, y: Array | None, contract: DataContract, where: str) -> tuple[Array, Array | None]:
    """Features and targets of the contract's dtypes, scaled."""
    _check_shape(x, contract.features, f"{where}: x")
    if derives_target(contract):
        return scaled(x, contract, where), None
    if y is None:
        raise TaskError(f"{where} has no targets, and no step of data.pipeline makes them")
    _check_shape(y, contract.target, f"{where}: y")
    if len(y) != len(x):
        raise TaskError(f"{where}: {len(x)} samples in x but {len(y)} in y")
    return scaled(x, contract, where), _typed_targets(y, contract, where)


def scaled(x: Array, contract: DataContract, where: str) -> Array:
    """Features [n, …] of the contract's dtype; of floats (x − offset) · scale."""
    if contract.features.dtype == "int64":
        return x.astype(np.int64)
    with np.errstate(over="ignore"):  # what overflows float32 is found here
        shifted = x.astype(np.float32) - np.float32(contract.offset)
        scaled = (shifted * np.float32(contract.scale)).astype(np.float32)
    _check_finite(scaled, where, may_miss=is_series(contract))
    return scaled


def _typed_targets(y: Array, contract: DataContract, where: str) -> Array:
    """Targets [n, …] of the contract's dtype, and of its classes."""
    with np.errstate(over="ignore", invalid="ignore"):
        typed = y.astype(contract.target.dtype)
    if contract.num_classes:
        if typed.size and not 0 <= int(typed.min()) <= int(typed.max()) < contract.num_classes:
            raise TaskError(
                f"{where}: classes from {typed.min()} to {typed.max()}; the task has 0 to {contract.num_classes - 1}"
            )
    elif contract.target.dtype == "float32":
        _check_finite(typed, where, may_miss=is_series(contract))
    return typed


def _without_missing(x: Array, y: Array, where: str) -> tuple[Array, Array]:
    """Samples of a series without those that hold a missing number."""
    missing = _misses(x) | _misses(y)
    if not missing.any():
        return x, y
    if missing.all():
        raise TaskError(
            f"{where}: each of the {len(missing)} samples cut out of the series holds a missing number; "
            "fill the gaps, or offer a longer series"
        )
    return x[~missing], y[~missing]


def _misses(array: Array) -> Array:
    """[n]: which samples hold NaN."""
    if array.dtype != np.float32:
        return np.zeros(len(array), bool)
    return np.asarray(np.isnan(array).reshape(len(array), math.prod(array.shape[1:])).any(1))


def _count(num: int, step: Step, arguments: Arguments) -> int:
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
        num_bytes = num * math.prod(feature.shape) * (4 if feature.dtype == "float32" else 8)
        if num_bytes > MAX_BYTES:
            raise TaskError(
                f"{where} would make {num} samples {shown(feature)}, {num_bytes // 2**20} MiB; at most "
                f"{MAX_BYTES // 2**20} MiB are allowed: offer fewer samples, or a task with a larger stride"
            )


def _check_finite(array: Array, where: str, *, may_miss: bool = False) -> None:
    absolute = np.abs(array.astype(np.float32))
    total = float(np.nansum(absolute, dtype=np.float64) if may_miss else absolute.sum(dtype=np.float64))
    if not math.isfinite(total):
        raise TaskError(f"{where} holds numbers that are not finite; leave those samples out")
