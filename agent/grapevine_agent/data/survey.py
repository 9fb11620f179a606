"""A full look at a source, for its owner: counts, numbers per column, classes, and a few samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.formats import describe, load
from grapevine_agent.data.source import DataSource, RawSamples
from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import spans

NUM_SHOWN = 3
_SHADES = " .:-=+*#%@"
_WIDEST = 40  # characters of an image


def survey(source: DataSource, contract: DataContract | None = None) -> dict[str, Any]:
    """What is in a source, as plain JSON values. Raises TaskError when it cannot be read, or is larger than allowed."""
    described = describe(source, contract)
    if 0 < source.max_bytes < described.num_bytes:
        raise source.error(f"takes {described.num_bytes:,} bytes of memory, and max_bytes allows {source.max_bytes:,}")
    raw = load(source, contract)
    return {
        "name": source.name,
        "kind": source.kind,
        "source": source.format,
        "path": str(source.path),
        "samples": len(raw.x),
        "test_samples": None if raw.x_test is None else len(raw.x_test),
        "arrays": {
            name: {"shape": list(array.shape), "dtype": str(array.dtype)}
            for name in ("x", "y", "x_test", "y_test")
            if (array := getattr(raw, name)) is not None
        },
        "available_columns": list(described.columns),
        "columns": _columns(raw),
        "classes": _classes(raw),
        "newest_s": described.newest_s,
        "bytes_on_disk": _bytes_on_disk(source),
        "series": list(raw.series),
        **dict(described.facts),
        "preview": _preview(raw),
    }


def _columns(raw: RawSamples) -> list[dict[str, Any]]:
    """Statistics of each column of [n, k]; of other arrays of all their numbers together."""
    found = _statistics_of(raw.x, raw.columns, "x")
    if raw.y is not None and raw.y.dtype.kind == "f":
        found += _statistics_of(raw.y, raw.target_columns, "y")
    return found


def _statistics_of(array: NDArray[Any], names: tuple[str, ...], whole: str) -> list[dict[str, Any]]:
    if array.dtype.kind not in "buif":
        return []
    if array.ndim == 1:
        return [_statistics(names[0] if names else whole, array)]
    if array.ndim == 2 and len(names) == array.shape[1]:
        return [_statistics(name, array[:, k]) for k, name in enumerate(names)]
    return [_statistics(whole, array.reshape(-1))]


def _statistics(name: str, numbers: NDArray[Any]) -> dict[str, Any]:
    """Of [n], looked at twice and some at a time: a survey takes hardly more memory than its samples."""
    pieces = [numbers[span] for span in spans(len(numbers), 1)]
    is_float = numbers.dtype.kind == "f"
    missing = sum(int(np.isnan(piece).sum()) for piece in pieces) if is_float else 0
    infinite = sum(int(np.isinf(piece).sum()) for piece in pieces) if is_float else 0
    told: dict[str, Any] = {"name": name, "missing": missing, "infinite": infinite}
    num = len(numbers) - missing - infinite
    if not num:
        return told
    mean = sum(float(_finite(piece).sum(dtype=np.float64)) for piece in pieces) / num
    square = sum(float(np.square(_finite(piece).astype(np.float64) - mean).sum()) for piece in pieces) / num
    return {
        "name": name,
        "min": min(float(_finite(piece).min(initial=np.inf)) for piece in pieces),
        "mean": mean,
        "max": max(float(_finite(piece).max(initial=-np.inf)) for piece in pieces),
        "std": math.sqrt(square),
        "missing": missing,
        "infinite": infinite,
    }


def _finite(piece: NDArray[Any]) -> NDArray[Any]:
    if piece.dtype.kind != "f":
        return piece.astype(np.float64)
    finite: NDArray[Any] = piece[np.isfinite(piece)]
    return finite


def _classes(raw: RawSamples) -> dict[str, int]:
    """How many samples each class has, where the target is a class."""
    if raw.y is None or raw.y.ndim != 1 or raw.y.dtype.kind not in "bui":
        return {}
    numbers, counts = np.unique(raw.y, return_counts=True)
    if len(numbers) > 1_000:
        return {}
    names = raw.classes
    return {
        names[int(number)] if 0 <= number < len(names) else str(int(number)): int(count)
        for number, count in zip(numbers, counts, strict=True)
    }


def _bytes_on_disk(source: DataSource) -> int:
    if source.path.is_dir():
        return sum(path.stat().st_size for path in source.path.rglob("*") if path.is_file())
    return source.path.stat().st_size if source.path.exists() else 0


def _preview(raw: RawSamples) -> list[dict[str, Any]]:
    """The first samples: numbers of a row, or an image as characters."""
    shown = []
    for k in range(min(NUM_SHOWN, len(raw.x))):
        sample: dict[str, Any] = {"y": None if raw.y is None else _plain(raw.y[k])}
        if raw.y is not None and raw.classes and raw.y.ndim == 1 and 0 <= int(raw.y[k]) < len(raw.classes):
            sample["y"] = raw.classes[int(raw.y[k])]
        image = _as_image(raw.x[k])
        sample |= {"x": _plain(raw.x[k])} if image is None else {"image": draw(image)}
        shown.append(sample)
    return shown


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
    """Plain JSON: numbers that are not finite become None; long arrays are cut."""
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.reshape(-1)[:16]]
    number = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
