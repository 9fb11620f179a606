"""A full look at a source, for its owner: counts, numbers per column, classes, and a few samples.

Samples are seen as they are read, some at a time, so a survey takes little memory and one pass.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.formats import examine
from grapevine_agent.data.judging import TABLES
from grapevine_agent.data.source import DataSource, Description
from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import spans

NUM_SHOWN = 3
_MOST_CLASSES = 1_000
_SHADES = " .:-=+*#%@"
_WIDEST = 40  # characters of an image


EMPTY = "(empty)"  # a label that is missing


def survey(source: DataSource, contract: DataContract | None = None) -> dict[str, Any]:
    """What is in a source, as plain JSON values. Raises TaskError when it cannot be read, or is larger than allowed."""
    statistics = Statistics(source, contract)
    described = examine(source, contract, [statistics])
    if 0 < source.max_bytes < described.num_bytes:
        raise source.error(f"takes {described.num_bytes:,} bytes of memory, and max_bytes allows {source.max_bytes:,}")
    return statistics.told(described)


@dataclass
class _Numbers:
    """Statistics of numbers that come piece by piece: means and squares are joined as Chan et al. (1979) do."""

    num: int = 0
    missing: int = 0
    infinite: int = 0
    mean: float = 0.0
    square: float = 0.0  # the sum of squared differences from the mean
    low: float = math.inf
    high: float = -math.inf

    def add(self, piece: NDArray[Any]) -> None:
        """Some more, of any shape."""
        for span in spans(piece.size, 1):
            self._add(piece.reshape(-1)[span].astype(np.float64))

    def _add(self, piece: NDArray[np.float64]) -> None:
        total = float(piece.sum())
        if not math.isfinite(total):
            missing = int(np.isnan(piece).sum())
            self.missing += missing
            self.infinite += int(np.isinf(piece).sum())
            piece = piece[np.isfinite(piece)]
            total = float(piece.sum())
        num = piece.size
        if not num:
            return
        self.low, self.high = min(self.low, float(piece.min())), max(self.high, float(piece.max()))
        mean = total / num
        piece = piece - mean
        with np.errstate(over="ignore"):
            square = float(np.dot(piece, piece))
        apart, both = mean - self.mean, self.num + num
        self.square += square + apart * apart * self.num * num / both
        self.mean += apart * num / both
        self.num = both

    def told(self, name: str) -> dict[str, Any]:
        """As plain JSON values; without a number only how many are missing."""
        told: dict[str, Any] = {"name": name, "missing": self.missing, "infinite": self.infinite}
        if not self.num:
            return told
        std = math.sqrt(self.square / self.num) if math.isfinite(self.square) else math.inf
        numbers = {"min": self.low, "mean": self.mean, "max": self.high, "std": std}
        return told | {key: number if math.isfinite(number) else None for key, number in numbers.items()}


@dataclass
class Statistics:
    """A visitor (see `source.Visitor`) that counts, and keeps the first samples."""

    source: DataSource
    contract: DataContract | None = None
    features: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    numbers: dict[str, _Numbers] = field(default_factory=dict)
    labels: Counter[Any] = field(default_factory=Counter)
    first: dict[str, NDArray[Any]] = field(default_factory=dict)  # of each array or column

    def begin(self, features: tuple[str, ...], target: tuple[str, ...]) -> None:
        """Begin anew."""
        self.features, self.target = features, target
        self.numbers, self.labels, self.first = {}, Counter(), {}

    def visit(self, row: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """See some rows."""
        for name, array in arrays.items():
            if row < NUM_SHOWN:
                shown = array[: NUM_SHOWN - row]
                self.first[name] = np.concatenate([self.first[name], shown]) if name in self.first else shown.copy()
            if name.endswith("_test") and self.source.format not in TABLES:
                continue
            is_target = name in self.target
            if is_target and array.ndim == 1 and array.dtype.kind in "buiOU" and len(self.labels) <= _MOST_CLASSES:
                self._count(array)
            elif name in self.features or (is_target and array.dtype.kind == "f"):
                self._measure(name, array)

    def _measure(self, name: str, array: NDArray[Any]) -> None:
        if array.dtype.kind not in "buif":
            return
        self.numbers.setdefault(name, _Numbers()).add(array)

    def _count(self, labels: NDArray[Any]) -> None:
        if labels.dtype.kind in "OU":
            self.labels.update(EMPTY if label is None else str(label) for label in labels.tolist())
        elif len(labels) and int(labels.min()) >= 0 and int(labels.max()) < _MOST_CLASSES:  # quicker than sorting
            counts = np.bincount(labels.astype(np.int64))
            self.labels.update({int(k): int(counts[k]) for k in np.flatnonzero(counts)})
        else:
            found, counts = np.unique(labels, return_counts=True)
            self.labels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    # --- telling ----------------------------------------------------------------------------------

    def told(self, described: Description) -> dict[str, Any]:
        """What was seen of a source, as plain JSON values."""
        arrays = described.arrays
        return {
            "name": self.source.name,
            "kind": self.source.kind,
            "source": self.source.format,
            "path": str(self.source.path),
            "samples": arrays["x"].shape[0],
            "test_samples": arrays["x_test"].shape[0] if "x_test" in arrays else None,
            "arrays": {
                name: {"shape": list(header.shape), "dtype": str(header.dtype)} for name, header in arrays.items()
            },
            "available_columns": list(described.columns),
            "columns": [self.numbers[name].told(self._shown(name)) for name in self.numbers],
            "classes": self._classes(described),
            "newest_s": described.newest_s,
            "bytes_on_disk": _bytes_on_disk(self.source),
            "series": [],
            **dict(described.facts),
            "preview": self._preview(described),
        }

    def _shown(self, name: str) -> str:
        """A column under the name that the owner gives it."""
        if self.source.format != "mqtt":
            return name
        return next((wanted for wanted, found in self.source.columns if found == name), name)

    def _classes(self, described: Description) -> dict[str, int]:
        """How many samples each class has, where the target is a class."""
        if len(self.target) > 1 and self.source.format in TABLES:
            return {}
        if not self.labels or len(self.labels) > _MOST_CLASSES:
            return {}
        counts: dict[str, int] = {}
        for label in sorted(self.labels, key=lambda each: (isinstance(each, str), each)):
            counts[self._named(label, described)] = self.labels[label]
        return counts

    def _named(self, label: Any, described: Description) -> str:
        names = self.contract.classes if self.contract is not None and self.contract.classes else described.classes
        if isinstance(label, str):
            return label
        return names[int(label)] if 0 <= int(label) < len(names) else str(int(label))

    def _preview(self, described: Description) -> list[dict[str, Any]]:
        """The first samples: numbers of a row, or an image as characters."""
        columns = [self.first[name] for name in self.features if name in self.first and not name.endswith("_test")]
        labels = [self.first[name] for name in self.target if name in self.first and not name.endswith("_test")]
        shown = []
        for k in range(min((len(column) for column in columns), default=0)):
            values = [_plain(column[k]) for column in columns]
            image = _as_image(columns[0][k]) if len(columns) == 1 and columns[0].dtype.kind in "buif" else None
            x = values[0] if len(values) == 1 else values[:16]
            sample: dict[str, Any] = {"y": self._label(labels, k, described)}
            shown.append(sample | ({"x": x} if image is None else {"image": draw(image)}))
        return shown

    def _label(self, labels: list[NDArray[Any]], k: int, described: Description) -> Any:
        values = [column[k] for column in labels if k < len(column)]
        if len(values) == 1 and labels[0].ndim == 1 and labels[0].dtype.kind in "bui":
            named = self._named(int(values[0]), described)
            return named if not named.lstrip("-").isdigit() else int(values[0])
        plain = [_plain(value) for value in values]
        return None if not plain else plain[0] if len(plain) == 1 else plain


def _bytes_on_disk(source: DataSource) -> int:
    try:
        if source.path.is_dir():
            return sum(path.stat().st_size for path in source.path.rglob("*") if path.is_file())
        return source.path.stat().st_size if source.path.exists() else 0
    except OSError:
        return 0


def _as_image(sample: NDArray[Any]) -> NDArray[np.float64] | None:
    """[h, w] of a sample that looks like an image."""
    if sample.ndim == 3 and sample.shape[0] in (1, 3):
        sample = sample.mean(0)
    elif sample.ndim == 3 and sample.shape[2] in (1, 3):
        sample = sample.mean(2)
    return sample.astype(np.float64) if sample.ndim == 2 and min(sample.shape) >= 4 else None


def draw(image: NDArray[np.float64]) -> str:
    """An image [h, w] as lines of characters, the darkest a space; larger ones are thinned out."""
    step = math.ceil(image.shape[1] / _WIDEST)
    pixels = np.nan_to_num(image[:: 2 * step if step > 1 else 1, ::step], posinf=0.0, neginf=0.0)
    low, high = float(pixels.min()), float(pixels.max())
    shades = (pixels - low) / (high - low or 1.0) * (len(_SHADES) - 1)
    return "\n".join("".join(_SHADES[round(shade)] for shade in line).rstrip() for line in shades.tolist())


def _plain(value: Any) -> Any:
    """Plain JSON: numbers that are not finite become None; long arrays are cut; what JSON has no word for is text."""
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.reshape(-1)[:16]]
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, np.floating):  # wider ones than Python's stay NumPy's
        number = float(number)
    if not isinstance(number, bool | int | float | str | None):
        return str(number)
    return None if isinstance(number, float) and not math.isfinite(number) else number
