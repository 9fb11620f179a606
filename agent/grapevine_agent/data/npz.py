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
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from grapevine_agent.data.source import DataSource, Description, Header, RawSamples
from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import derives_target

ARRAYS = ("x", "y", "x_test", "y_test")
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


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """Shapes and dtypes, from the headers of the arrays."""
    try:
        found = source.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is a folder or a device")
        headers = _read_headers(source.path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise source.error(f"cannot read {source.path}: {error.strerror}") from error
    except _UNREADABLE as error:
        raise source.error(f"{source.path} is not an npz file: {error}") from error
    if "x" not in headers:
        raise source.error(f"{source.path.name} has no array 'x'; save it with np.savez")
    if ("x_test" in headers) != ("y_test" in headers) and "y" in headers:
        raise source.error(f"x_test and y_test belong together; {source.path.name} has one of them")
    num_bytes = sum(
        math.prod(header.shape) * header.dtype.itemsize for name, header in headers.items() if name in _read(contract)
    )
    return Description(arrays=headers, newest_s=found.st_mtime, num_bytes=num_bytes, working_bytes=_WORKING_BYTES)


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The arrays as they are; no targets where the task makes its own."""
    try:
        with np.load(source.path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _read(contract) if name in archive}
    except MemoryError:
        raise
    except (OSError, *_UNREADABLE) as error:
        raise source.error(f"cannot read {source.path}: {error}") from error
    return RawSamples(**arrays)


def _read(contract: DataContract | None) -> tuple[str, ...]:
    """The arrays that are read."""
    return ("x", "x_test") if contract is not None and derives_target(contract) else ARRAYS


@lru_cache(maxsize=64)
def _read_headers(path: Path, mtime_ns: int, size: int) -> Mapping[str, Header]:  # noqa: ARG001 — they date the entry
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for name in ARRAYS:
            if f"{name}.npy" not in archive.namelist():
                continue
            with archive.open(f"{name}.npy") as packed:
                file = io.BytesIO(packed.read(_LONGEST_HEADER))  # a header that says it is longer is none
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                num_bytes = archive.getinfo(f"{name}.npy").file_size - file.tell()
            if not dtype.hasobject and num_bytes != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} says that it is {list(shape)} of {dtype}, and takes {num_bytes:,} bytes")
            headers[name] = Header(dtype, tuple(shape))
    return headers
