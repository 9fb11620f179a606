"""What a step of a pipeline is: its arguments and their bounds, its rules of shapes and memory, its function of arrays.

A step says where its results lie, so that what preparing takes is known without samples (`footprint`):

    new         memory of its own, beside its arguments'
    in place    the argument's memory, overwritten; a copy if the target is in the same memory
    view        the argument's memory, as it was
    features    (of the target) the memory of the features
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from numpy.typing import NDArray

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import FeatureSpec
from grapevine_tasks.suggestions import did_you_mean

MAX_ELEMENTS = 2**22  # of one sample, features or target, after any step: 16 MiB
MAX_NUMBERS = 4096  # of one argument: one for each column or channel
AT_ONCE: Final = 2**18  # numbers that are converted, counted or looked at in one go: what is beside them stays small
BYTES: Final[Mapping[str, int]] = {"float32": 4, "int64": 8}

Array: TypeAlias = NDArray[Any]
Arguments: TypeAlias = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Form:
    """What samples are between two steps."""

    features: FeatureSpec
    target: FeatureSpec | None  # None: no step has made it yet
    num_classes: int = 0
    derived: bool = False  # a step made the target
    is_windowed: bool = False  # features are [rows, …] of a series

    @property
    def channel_axis(self) -> int | None:
        """Where in a sample's shape the columns or channels are: of [k], [rows, k] and [c, h, w]."""
        rank = len(self.features.shape)
        if self.is_windowed:
            return rank - 1 if rank > 1 else None
        return 0 if rank in (1, 3) else None

    @property
    def num_channels(self) -> int:
        """How many columns or channels there are; 1 where there is no such axis."""
        axis = self.channel_axis
        return 1 if axis is None else self.features.shape[axis]


class NumberRefused(TaskError):  # noqa: N818 — it is about a number, and an error by its family
    """A number that a step cannot take.

    Attributes:
        said: What is wrong with it, and what to do.
        sample: In which of the samples that the step was given it stands.
        column: In which column, in words; empty where there are none.
        unnamed: The number of that column among how many, where they have no names.
    """

    def __init__(self, said: str, sample: int, column: str = "", unnamed: tuple[int, int] | None = None) -> None:
        self.said, self.sample, self.column, self.unnamed = said, sample, column, unnamed
        super().__init__(said)

    @staticmethod
    def at(said: str, form: Form, place: NDArray[Any], column: int | None = None) -> NumberRefused:
        """Of features: `place` is where it stands in [n, …], or in a view of the column."""
        axis, names, num = form.channel_axis, form.features.columns, form.num_channels
        if column is None and axis is not None:
            column = int(place[axis + 1])
        if column is None:
            return NumberRefused(said, int(place[0]))
        if len(names) == num:
            return NumberRefused(said, int(place[0]), f"column {names[column]!r}")
        return NumberRefused(said, int(place[0]), f"column {column}", (column, num))

    def told(self, where: str, row: str, column: str = "") -> NumberRefused:
        """The same with where the samples come from, and with what row and column are called there."""
        of = ", ".join(part for part in (row, column or self.column) if part)
        fault = NumberRefused(self.said, self.sample, self.column, self.unnamed)
        fault.args = (f"{where}: {of}: {self.said}" if of else f"{where}: {self.said}",)
        return fault


@dataclass(frozen=True, kw_only=True)
class Stack:
    """So many samples of a form."""

    num: int
    form: Form

    @property
    def x_numbers(self) -> int:
        """How many numbers one sample's features are."""
        return math.prod(self.form.features.shape)

    @property
    def x_bytes(self) -> int:
        """Of all features."""
        return self.num * bytes_of(self.form.features)

    @property
    def y_bytes(self) -> int:
        """Of all targets; 0 before there are any."""
        return self.num * bytes_of(self.form.target) if self.form.target is not None else 0

    def x_at_once(self, at_once: int = AT_ONCE) -> int:
        """How many numbers of features `spans` takes at a time."""
        return min(self.num, per_span(self.x_numbers, at_once)) * self.x_numbers


@dataclass(frozen=True, kw_only=True)
class Argument:
    """What an argument may be. Without a default it must be given."""

    low: float
    high: float
    is_whole: bool = False
    default: tuple[float, ...] | None = None
    is_list: bool = False  # else exactly one number


ALL_COLUMNS: Final = (-1.0,)
COLUMNS: Final = Argument(low=-1, high=65535, is_whole=True, is_list=True, default=ALL_COLUMNS)  # by number, from 0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the closed set."""

    summary: str  # for people: what it does
    form: Callable[[Form, Arguments], Form]  # raises TaskError where it cannot take such samples
    apply: Callable[[Array, Array | None, Form, Arguments], tuple[Array, Array | None]]  # of n samples
    makes_x: Literal["new", "in place", "view"] = "new"  # see the module's docstring
    makes_y: Literal["new", "view", "features"] = "view"
    workspace: Callable[[Stack, Stack, Arguments], int] = lambda _before, _after, _arguments: 0  # bytes beside these
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    # What takes the place of the arguments, out of a device's own training samples and these.
    learn: Callable[[Array, Form, Arguments], Arguments] | None = None
    learn_workspace: Callable[[Stack], int] = lambda _before: 0  # bytes that `learn` takes beside its arguments
    rows: Callable[[Arguments], tuple[int, int]] | None = (
        None  # of a series: rows to a sample, rows from one to the next
    )


def read_arguments(name: str, step: Step, given: Arguments) -> Arguments:
    """A step's arguments, complete. Raises TaskError naming the argument, its value and what to write."""
    for key in given:
        if key not in step.arguments:
            remedy = did_you_mean(key, step.arguments) if step.arguments else "it takes none: remove it"
            raise TaskError(f"the step {name} has no argument {key!r}; {remedy}")
    read = {}
    for key, argument in step.arguments.items():
        numbers = given.get(key, argument.default)
        if numbers is None:
            raise TaskError(f"the step {name} lacks {key!r}: write it ({_wanted(argument)})")
        if (len(numbers) != 1 and not argument.is_list) or len(numbers) > MAX_NUMBERS:
            raise TaskError(f"the step {name}: {key} has {len(numbers)} numbers; write {_wanted(argument)}")
        for number in numbers:
            fits = math.isfinite(number) and argument.low <= number <= argument.high
            if not fits or (argument.is_whole and number != int(number)):
                raise TaskError(f"the step {name}: {key} is {number:g}; write {_wanted(argument)}")
        read[key] = tuple(numbers)
    return read


def _wanted(argument: Argument) -> str:
    kind = "whole number" if argument.is_whole else "number"
    what = f"{kind}s, each" if argument.is_list else f"one {kind}"
    return f"{what} from {argument.low:g} to {argument.high:g}"


def whole(arguments: Arguments, name: str) -> int:
    """An argument that is one whole number."""
    return int(arguments[name][0])


def spec(old: FeatureSpec, shape: tuple[int, ...], dtype: str | None = None) -> FeatureSpec:
    """The type of a tensor that a step changed; columns keep their names while they are where they were."""
    columns = old.columns if shape == old.shape else ()
    return FeatureSpec(name=old.name, dtype=dtype or old.dtype, shape=shape, columns=columns)


def need_float(name: str, features: FeatureSpec) -> None:
    """Raise TaskError when a step that computes is given whole numbers."""
    if features.dtype != "float32":
        raise TaskError(f"the step {name} takes float32, not {shown(features)}: put one-hot before it, or leave it out")


def bytes_of(feature: FeatureSpec) -> int:
    """Of one sample."""
    return math.prod(feature.shape) * BYTES[feature.dtype]


def per_span(numbers_each: int, at_once: int = AT_ONCE) -> int:
    """How many samples are taken at a time: 1 or more."""
    return max(1, at_once // max(1, numbers_each))


def spans(num: int, numbers_each: int, at_once: int = AT_ONCE) -> Iterator[slice]:
    """`num` samples of so many numbers each, in stretches of about `at_once` numbers."""
    step = per_span(numbers_each, at_once)
    for start in range(0, num, step):
        yield slice(start, min(num, start + step))


def shown(feature: FeatureSpec) -> str:
    """A tensor's type, as people write it."""
    return f"{feature.dtype}{list(feature.shape)}"
