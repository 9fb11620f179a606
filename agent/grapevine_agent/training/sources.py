"""Data sources: what the owner of a device lets tasks train on.

A source is an npz file with arrays `x` [n, …] and `y` [n, …], and optionally `x_test` and `y_test`.
Matching one against a task's data contract reads array headers only, so it costs nothing to ask for
every task that is announced; samples are loaded in the trainer process. Arrays of Python objects
are refused: loading one would run what its author put there.
"""

from __future__ import annotations

import lzma
import math
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec

HELD_OUT = 5  # without test samples of its own, a source gives up every fifth sample
_HELD_OUT_SEED = 0x7E57  # the same split after every start: what was tested on is never trained on
# What `zipfile` and numpy let out when a file is not what it says: damaged, encrypted, packed in ways unknown.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    ValueError,
    EOFError,
    KeyError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    OverflowError,
)
_TARGET_KINDS = {"float32": "buif", "int64": "bui"}  # numpy's dtype kinds that convert without surprise


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Samples that the owner configured: what they are (`kind`, matched with the task's) and where."""

    name: str
    kind: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class SourceMatch:
    """The source that fits a contract, or None and, for each source, why not."""

    source: DataSource | None = None
    num_samples: int = 0  # to train on
    num_test: int = 0
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.source is not None

    def __str__(self) -> str:
        if self.source is not None:
            return f"{self.source.name}: {self.num_samples} samples, {self.num_test} to test with"
        return "; ".join(self.reasons)


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Samples ready for a model: features scaled as the contract says, dtypes as it says."""

    x: NDArray[np.generic]  # [n, …]
    y: NDArray[np.generic]  # [n, …]
    x_test: NDArray[np.generic]
    y_test: NDArray[np.generic]


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """What the array takes in memory."""
        return self.dtype.itemsize * math.prod(self.shape)


def match_source(contract: DataContract, sources: Sequence[DataSource]) -> SourceMatch:
    """The first source that fits the contract. Raises nothing: what does not fit is explained."""
    reasons = []
    for source in sources:
        if source.kind != contract.kind:
            continue
        try:
            num_samples, num_test = _fits(contract, source)
        except TaskError as error:
            reasons.append(str(error))
        else:
            return SourceMatch(source=source, num_samples=num_samples, num_test=num_test)
    if not reasons:
        kinds = ", ".join(sorted({source.kind for source in sources})) or "none"
        reasons.append(f"no data source of the kind {contract.kind!r} (configured kinds: {kinds})")
    return SourceMatch(reasons=tuple(reasons))


def load_samples(contract: DataContract, source: DataSource) -> Samples:
    """Load and prepare the samples of a source that matches.

    Without `x_test` and `y_test`, every fifth sample (drawn once and for all) is held out.
    Raises TaskError when the file does not fit the contract, or holds numbers that are not finite
    or classes outside `num_classes`.
    """
    _fits(contract, source)
    num_bytes, free = sum(h.num_bytes for h in _headers(source).values()), psutil.virtual_memory().available
    if num_bytes > free:
        raise TaskError(
            f"{source.name}: {source.path.name} holds {num_bytes:,} bytes of samples, but only {free:,} bytes of "
            "memory are free: take fewer samples"
        )
    try:
        with np.load(source.path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("x", "y", "x_test", "y_test") if name in archive}
    except (OSError, *_UNREADABLE) as error:
        raise TaskError(f"{source.name}: cannot read {source.path}: {error}") from error
    if "x_test" not in arrays:
        order = np.random.default_rng(_HELD_OUT_SEED).permutation(len(arrays["x"]))
        test, train = np.split(order, [len(order) // HELD_OUT])
        arrays = {name: arrays[name][train] for name in "xy"} | {f"{n}_test": arrays[n][test] for n in "xy"}
    where = f"{source.name}: {source.path.name}"
    return Samples(
        x=prepare_features(arrays["x"], contract, where),
        y=prepare_targets(arrays["y"], contract, where),
        x_test=prepare_features(arrays["x_test"], contract, where),
        y_test=prepare_targets(arrays["y_test"], contract, where),
    )


# --- matching -------------------------------------------------------------------------------------


def _fits(contract: DataContract, source: DataSource) -> tuple[int, int]:
    """How many samples there are to train and to test with. Raises TaskError when the file does not fit."""
    headers = _headers(source)
    for name in ("x", "y"):
        if name not in headers:
            raise TaskError(f"{source.name}: {source.path.name} has no array {name!r}; save it with np.savez")
    if ("x_test" in headers) != ("y_test" in headers):
        raise TaskError(f"{source.name}: x_test and y_test belong together; {source.path.name} has one of them")
    counts = {}
    for name, header in headers.items():
        spec = contract.features if name.startswith("x") else contract.target
        counts[name] = _count(header, spec, f"{source.name}: {name}")
    for x, y in (("x", "y"), ("x_test", "y_test")):
        if counts.get(x) != counts.get(y):
            raise TaskError(f"{source.name}: {counts[x]} samples in {x} but {counts[y]} in {y}")
    if counts["x"] < contract.minimum_samples:
        raise TaskError(f"{source.name}: {counts['x']} samples, the task needs {contract.minimum_samples}")
    num_test = counts["x_test"] if "x_test" in counts else counts["x"] // HELD_OUT
    return counts["x"] - (0 if "x_test" in counts else num_test), num_test


def _count(header: _Header, spec: FeatureSpec, where: str) -> int:
    if header.shape[1:] != spec.shape or not header.shape:
        wanted = ", ".join(["n", *map(str, spec.shape)])
        raise TaskError(f"{where} has the shape {list(header.shape)}, the task takes [{wanted}]")
    if header.dtype.kind not in _TARGET_KINDS[spec.dtype]:
        raise TaskError(f"{where} holds {header.dtype}, the task takes {spec.dtype}")
    return header.shape[0]


def _headers(source: DataSource) -> Mapping[str, _Header]:
    """The dtypes and shapes of the arrays that matter. Raises TaskError when the file cannot be read."""
    try:
        found = source.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is a folder or a device")
        return _read_headers(source.path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise TaskError(f"{source.name}: cannot read {source.path}: {error.strerror}") from error
    except _UNREADABLE as error:
        raise TaskError(f"{source.name}: {source.path} is not an npz file: {error}") from error


@lru_cache(maxsize=64)
def _read_headers(path: Path, mtime_ns: int, size: int) -> Mapping[str, _Header]:  # noqa: ARG001 — they date the entry
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for name in ("x", "y", "x_test", "y_test"):
            if f"{name}.npy" not in archive.namelist():
                continue
            with archive.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                header = _Header(dtype, tuple(shape))
                # Whoever packs a small file can write any shape into it: what the array claims must be what is packed.
                packed = archive.getinfo(f"{name}.npy").file_size - file.tell()
                if not dtype.hasobject and packed != header.num_bytes:
                    raise ValueError(f"{name} says that it is {list(shape)} of {dtype}, and takes {packed:,} bytes")
            headers[name] = header
    return headers


# --- preparing ------------------------------------------------------------------------------------


def prepare_features(array: NDArray[np.generic], contract: DataContract, where: str) -> NDArray[np.generic]:
    """Features [n, …] scaled as the contract says. Raises TaskError, naming `where` they came from, if not finite."""
    if contract.features.dtype == "int64":
        return array.astype(np.int64)
    with np.errstate(over="ignore"):  # what overflows float32 is found below
        shifted = array.astype(np.float32) - np.float32(contract.offset)
        prepared = (shifted * np.float32(contract.scale)).astype(np.float32)
    _check_finite(prepared, where)
    return prepared


def prepare_targets(array: NDArray[np.generic], contract: DataContract, where: str) -> NDArray[np.generic]:
    """Targets [n, …] of the contract's dtype. Raises TaskError if there are classes that the task does not have."""
    with np.errstate(over="ignore"):
        prepared = array.astype(contract.target.dtype)
    if contract.num_classes:
        if prepared.size and not 0 <= int(prepared.min()) <= int(prepared.max()) < contract.num_classes:
            raise TaskError(
                f"{where}: classes from {prepared.min()} to {prepared.max()}; "
                f"the task has 0 to {contract.num_classes - 1}"
            )
    elif contract.target.dtype == "float32":
        _check_finite(prepared, where)
    return prepared


def _check_finite(array: NDArray[np.generic], where: str) -> None:
    total = float(np.abs(array.astype(np.float32)).sum(dtype=np.float64))
    if not math.isfinite(total):
        raise TaskError(f"{where} holds numbers that are not finite; leave those samples out")
