"""npz files: arrays `x` [n, …] and `y` [n, …], and optionally `x_test` and `y_test`.

Arrays of Python objects are refused: loading one would run what its author put there. Sizes are known from
the headers before anything is unpacked, and an array whose archive entry is not as large as its header
says is no array.
"""

from __future__ import annotations

import io
import lzma
import math
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.judging import ARRAYS, Judge
from grapevine_agent.data.source import DataSource, Description, Header, RawSamples, Visitor
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import derives_target, spans

_NUMBERS: Final = "buifc"
_LONGEST_HEADER: Final = 2**16
_WORKING_BYTES: Final = 4 * 2**20  # what is unpacked at a time
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


@dataclass(frozen=True)
class _Stored:
    """An array in the archive: what it is, in which order, and where in its entry it begins."""

    header: Header
    is_fortran: bool
    offset: int


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """Shapes and dtypes, from the headers of the arrays."""
    with _explaining(source, "is not an npz file"):
        found = source.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is a folder or a device")
        stored = _read_headers(source.path, found.st_mtime_ns, found.st_size)
    headers = {name: each.header for name, each in stored.items()}
    if "x" not in headers:
        raise source.error(f"{source.path.name} has no array 'x'; save it with np.savez")
    for name, header in headers.items():
        if not header.shape:
            raise source.error(f"{name} is a single number, and not an array of samples [n, …]; save it with np.savez")
    if ("x_test" in headers) != ("y_test" in headers) and "y" in headers:
        raise source.error(f"x_test and y_test belong together; {source.path.name} has one of them")
    num_bytes = sum(
        math.prod(header.shape) * header.dtype.itemsize for name, header in headers.items() if name in _read(contract)
    )
    return Description(arrays=headers, newest_s=found.st_mtime, num_bytes=num_bytes, working_bytes=_WORKING_BYTES)


def examine(source: DataSource, contract: DataContract | None, visitors: Sequence[Visitor]) -> Description:
    """The same, with the arrays shown to visitors."""
    description = describe(source, contract)
    if 0 < source.max_bytes < description.num_bytes:
        return description
    for visitor in visitors:
        visitor.begin(("x", "x_test"), ("y", "y_test"))
    with _explaining(source, "cannot be read"):
        found = source.path.stat()
        stored = _read_headers(source.path, found.st_mtime_ns, found.st_size)
        for name in _read(contract):
            if name not in stored or stored[name].header.dtype.kind not in _NUMBERS:
                continue
            for row, rows in _stretches(source.path, name, stored[name]) if visitors else ():
                for visitor in visitors:
                    visitor.visit(row, {name: rows})
    return description


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The arrays as they are; no targets where the task makes its own."""
    with _explaining(source, "cannot be read"), np.load(source.path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in _read(contract) if name in archive}
    if contract is not None:
        judge = Judge(source, contract)
        for name, array in arrays.items():
            judge.visit(0, {name: array})
    return RawSamples(**arrays)


@contextmanager
def _explaining(source: DataSource, what: str) -> Iterator[None]:
    """What goes wrong with a file is a TaskError; but for memory, of which too little may have been allowed."""
    try:
        yield
    except (TaskError, MemoryError):
        raise
    except OSError as error:
        raise source.error(f"cannot read {source.path}: {error.strerror or error}") from error
    except _UNREADABLE as error:
        raise source.error(f"{source.path} {what}: {error}") from error


def _stretches(path: Path, name: str, stored: _Stored) -> Iterator[tuple[int, NDArray[Any]]]:
    """An array some rows at a time, with the number of the first; one in Fortran's order all at once."""
    shape, dtype = stored.header.shape, stored.header.dtype
    if stored.is_fortran:
        with np.load(path, allow_pickle=False) as archive:
            array = archive[name]
            for span in spans(len(array), math.prod(shape[1:])):
                yield span.start, array[span]
        return
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as packed:
        _read_exactly(packed, stored.offset)
        for span in spans(shape[0], math.prod(shape[1:])):
            num = span.stop - span.start
            rows = np.frombuffer(_read_exactly(packed, num * math.prod(shape[1:]) * dtype.itemsize), dtype)
            yield span.start, rows.reshape(num, *shape[1:])


def _read_exactly(packed: IO[bytes], num_bytes: int) -> bytes:
    content = packed.read(num_bytes)
    if len(content) != num_bytes:
        raise EOFError("it is shorter than it says")
    return content


def _read(contract: DataContract | None) -> tuple[str, ...]:
    """The arrays that are read."""
    return ("x", "x_test") if contract is not None and derives_target(contract) else ARRAYS


@lru_cache(maxsize=64)
def _read_headers(path: Path, mtime_ns: int, size: int) -> Mapping[str, _Stored]:  # noqa: ARG001 — they date the entry
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for name in ARRAYS:
            if f"{name}.npy" not in archive.namelist():
                continue
            with archive.open(f"{name}.npy") as packed:
                file = io.BytesIO(packed.read(_LONGEST_HEADER))  # a header that says it is longer is none
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, is_fortran, dtype = read(file)
                num_bytes = archive.getinfo(f"{name}.npy").file_size - file.tell()
            if any(length < 0 for length in shape):
                raise ValueError(f"{name} says that it is {list(shape)}")
            if not dtype.hasobject and num_bytes != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} says that it is {list(shape)} of {dtype}, and takes {num_bytes:,} bytes")
            is_fortran = is_fortran and len(shape) > 1
            headers[name] = _Stored(Header(dtype, tuple(shape)), is_fortran=is_fortran, offset=file.tell())
    return headers
