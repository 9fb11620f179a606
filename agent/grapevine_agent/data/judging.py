"""Whether a task can take each of the samples in a source: the one judge for `data check`, the agent and the trainer.

It sees raw samples as they are read, and refuses the first that the task cannot take: a number that is missing or not
finite, or too large for float32 once it is scaled; a label that is no class; a time that is none. It says which: the
row, the column, the value. Rows are counted from 1, without the line of column names; of arrays an index is told, as
NumPy counts.

A missing number in a series is none of its business: samples that would hold one are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.json_paths import is_written_number
from grapevine_agent.data.source import DataSource
from grapevine_agent.data.times import LATEST_S, UNITS, times_of, unit_s
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import derives_target, is_series, spans

MISSING: Final = "missing"
_LONGEST_SHOWN: Final = 60
_LARGEST_INT64: Final = np.iinfo(np.int64).max
ARRAYS: Final = ("x", "y", "x_test", "y_test")


class SampleFault(TaskError):  # noqa: N818 — it is about samples, and an error by its family
    """A sample that a task cannot take: where it is, what it holds, why not, and what to do."""

    def __init__(self, source: DataSource, *, row: int, column: str, index: tuple[int, ...], why: str, value: str):
        self.source, self.row, self.column, self.index = source, row, column, index
        self.why, self.value = why, value
        super().__init__(self._text())

    def with_value(self, value: str) -> SampleFault:
        """The same, with the value as it is written in the file."""
        return SampleFault(
            self.source, row=self.row, column=self.column, index=self.index, why=self.why, value=shown(value)
        )

    def _text(self) -> str:
        if self.column in ARRAYS and self.source.format not in TABLES:
            where = f"{self.column}[{', '.join(map(str, (self.row, *self.index)))}]"
        else:
            where = f"row {self.row + 1:,}, column {self.column!r}"
        return f"{self.source.name}: {where}: {self.value} {self.why}"


TABLES: Final = ("csv", "parquet", "sqlite", "mqtt")  # sources with columns
_MEND: Final = "correct it, or leave the row out"


class Judge:
    """A visitor (see `source.Visitor`) that raises `SampleFault` for the first sample that the contract cannot take.

    Of several faults in one stretch of rows it is the one in the first row. What is wrong with whole columns (their
    dtypes and shapes, names of classes) `matching.check_fit` says.
    """

    def __init__(self, source: DataSource, contract: DataContract) -> None:
        self._source, self._contract = source, contract
        self._may_miss = is_series(contract)
        self._features: tuple[str, ...] = ()
        self._target: tuple[str, ...] = ()
        self._classes = frozenset(contract.classes)
        self.begin(("x", "x_test"), ("y", "y_test"))

    def begin(self, features: tuple[str, ...], target: tuple[str, ...]) -> None:
        """What the columns, or arrays, are called."""
        self._features = features
        self._target = () if derives_target(self._contract) else target
        self._unit_s = 0.0  # of times that are numbers: that of the first which is not 0

    def visit(self, row: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Judge some rows. Raises `SampleFault`."""
        faults = [
            fault
            for names, judge in ((self._features, self._feature), (self._target, self._label))
            for name in names
            if name in arrays and (fault := judge(row, name, arrays[name])) is not None
        ]
        if self._source.time in arrays and (fault := self._time(row, arrays[self._source.time])) is not None:
            faults.append(fault)
        if faults:
            raise min(faults, key=lambda fault: fault.row)

    def _time(self, row: int, column: NDArray[Any]) -> SampleFault | None:
        """Of times that are none of this age, such as those in another unit than the first. Missing ones are last."""
        times, is_number = times_of(self._source, column)
        if is_number:
            told = times[np.isfinite(times) & (times != 0.0)]
            if not self._unit_s and told.size:
                self._unit_s = unit_s(abs(float(told[0])))
            times = times * (self._unit_s or 1.0)
        bad = (times < 0.0) | (times >= LATEST_S)
        if not bad.any():
            return None
        unit = f", taken as {UNITS[self._unit_s or 1.0]} like those before it" if is_number else ""
        why = f"is no time from 1970 to 2200{unit}: {_MEND}"
        return self._fault(row, self._source.time, column, np.argwhere(bad)[0], lambda _: ("", why))

    def _feature(self, row: int, name: str, array: NDArray[Any]) -> SampleFault | None:
        contract = self._contract
        if array.dtype.kind in "OU":
            return self._text(row, name, array)
        if contract.features.dtype == "float32":
            return self._real(row, name, array, contract.offset, contract.scale)
        return self._whole(row, name, array)

    def _label(self, row: int, name: str, array: NDArray[Any]) -> SampleFault | None:
        contract = self._contract
        if array.dtype.kind in "OU":
            if contract.target.dtype == "float32" and not self._classes:
                return self._text(row, name, array)
            return self._named(row, name, array)
        if contract.num_classes:
            return self._number_of_class(row, name, array)
        if contract.target.dtype == "float32":
            return self._real(row, name, array, 0.0, 1.0)
        return self._whole(row, name, array)

    def _real(self, row: int, name: str, array: NDArray[Any], offset: float, scale: float) -> SampleFault | None:
        """Of numbers that become float32: (number − offset) · scale, as `pipelines.prepare` computes it."""
        if array.dtype.kind not in "buif" or array.dtype == np.uint8:
            return None  # whatever else it is, `check_fit` says; of bytes nothing can be wrong
        for span in spans(len(array), _numbers_each(array)):
            with np.errstate(all="ignore"):
                typed = array[span].astype(np.float32)
                if offset:
                    typed -= np.float32(offset)
                if scale != 1.0:
                    typed *= np.float32(scale)
                bad = ~np.isfinite(typed)
                if self._may_miss and bad.any():
                    bad &= ~np.isnan(typed) | ~np.isnan(array[span].astype(np.float64))
            if bad.any():
                at = np.argwhere(bad)[0]
                return self._fault(row + span.start, name, array[span], at, self._why_not_real)
        return None

    def _why_not_real(self, value: Any) -> tuple[str, str]:
        if np.isnan(value):
            return MISSING, f"is no number: {_MEND}"
        if np.isinf(value):
            return "", f"is not finite: {_MEND}"
        return "", f"is too large for float32, scaled as the task wants it: {_MEND}"

    def _number_of_class(self, row: int, name: str, array: NDArray[Any]) -> SampleFault | None:
        num = self._contract.num_classes
        if array.dtype.kind not in "buif":
            return None
        for span in spans(len(array), _numbers_each(array)):
            part = array[span]
            with np.errstate(all="ignore"):
                bad = ~((part >= 0) & (part < num))
                if part.dtype.kind == "f":
                    bad |= part != np.floor(part)
            if bad.any():
                return self._fault(row + span.start, name, part, np.argwhere(bad)[0], self._why_no_class)
        return None

    def _why_no_class(self, value: Any) -> tuple[str, str]:
        missing = MISSING if value is None or value != value else ""  # noqa: PLR0124 — only NaN is not itself
        contract = self._contract
        if contract.classes:
            known = ", ".join(map(repr, contract.classes[:20]))
            numbered = f", or their numbers from 0 to {contract.num_classes - 1}" if contract.num_classes else ""
            return missing, f"is no class of the task, which has {known}{numbered}: {_MEND}"
        if not contract.num_classes:
            return missing, f"is no number: {_MEND}"
        return (
            missing,
            f"is no class of the task: its classes are numbered from 0 to {contract.num_classes - 1}; {_MEND}",
        )

    def _whole(self, row: int, name: str, array: NDArray[Any]) -> SampleFault | None:
        """Of numbers that become int64; ones with fractions `check_fit` refuses, unless they are only missing."""
        if array.dtype.kind == "f":
            bad = np.isnan(array)
        elif array.dtype.kind == "u" and array.dtype.itemsize == 8:
            bad = array > _LARGEST_INT64
        else:
            return None
        if not bad.any():
            return None
        return self._fault(row, name, array, np.argwhere(bad)[0], self._why_not_whole)

    def _why_not_whole(self, value: Any) -> tuple[str, str]:
        if value != value:  # noqa: PLR0124 — only NaN is not itself
            return MISSING, f"is no number: {_MEND}"
        return "", f"is too large for int64: {_MEND}"

    def _text(self, row: int, name: str, array: NDArray[Any]) -> SampleFault | None:
        """Text where numbers are wanted."""
        for k, value in enumerate(array.tolist()):
            if value is None and self._may_miss:
                continue
            if value is None or not is_written_number(str(value), self._source.dialect.decimal):
                return self._fault(row, name, array, np.array([k]), lambda _: ("", f"is no number: {_MEND}"))
        return None

    def _named(self, row: int, name: str, array: NDArray[Any]) -> SampleFault | None:
        """Labels that are names. A task whose classes have no names, `check_fit` tells."""
        if not self._classes:
            missing = [k for k, value in enumerate(array.tolist()) if value is None]
            return self._fault(row, name, array, np.array(missing[:1]), self._why_no_class) if missing else None
        for k, value in enumerate(array.tolist()):
            if value is None or str(value) not in self._classes:
                return self._fault(row, name, array, np.array([k]), self._why_no_class)
        return None

    def _fault(self, row: int, name: str, array: NDArray[Any], at: NDArray[np.intp], explained: Any) -> SampleFault:
        index = tuple(int(number) for number in at)
        value = array[index]
        value = str(value) if array.dtype.kind == "M" else value
        value = value.item() if isinstance(value, np.generic) else value
        told, why = explained(value)
        if told == MISSING or value is None:
            text = "a missing value" if self._source.format in TABLES else repr(value)
        else:
            text = shown(value)
        return SampleFault(self._source, row=row + index[0], column=name, index=index[1:], why=why, value=text)


def shown(value: object) -> str:
    """A value as people see it, not too long of it; an empty text is an empty cell."""
    if value == "":
        return "an empty cell"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _numbers_each(array: NDArray[Any]) -> int:
    return int(np.prod(array.shape[1:], dtype=np.int64))
