"""npz files: arrays `x` [n, …] and `y` [n, …], and optionally `x_test` and `y_test`.

Arrays of Python objects are refused: loading one would run what its author put there. Sizes are known from
the headers before anything is unpacked, and an array whose archive entry is not as large as its header
says is no array.
"""

from __future__ import annotations

import lzma
import math
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from grapevine_agent.data.source import DataSource, Description, Header, RawSamples
from grapevine_proto.manifest import DataContract

ARRAYS = ("x", "y", "x_test", "y_test")
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


def describe(source: DataSource, contract: DataContract | None) -> Description:  # noqa: ARG001 — the same for all
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
    num_bytes = sum(math.prod(header.shape) * header.dtype.itemsize for header in headers.values())
    return Description(arrays=headers, newest_s=found.st_mtime, num_bytes=num_bytes)


def load(source: DataSource, contract: DataContract | None) -> RawSamples:  # noqa: ARG001 — the same for all
    """The arrays as they are."""
    try:
        with np.load(source.path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ARRAYS if name in archive}
    except (OSError, *_UNREADABLE) as error:
        raise source.error(f"cannot read {source.path}: {error}") from error
    return RawSamples(**arrays)


@lru_cache(maxsize=64)
def _read_headers(path: Path, mtime_ns: int, size: int) -> Mapping[str, Header]:  # noqa: ARG001 — they date the entry
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for name in ARRAYS:
            if f"{name}.npy" not in archive.namelist():
                continue
            with archive.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                num_bytes = archive.getinfo(f"{name}.npy").file_size - file.tell()
            if not dtype.hasobject and num_bytes != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} says that it is {list(shape)} of {dtype}, and takes {num_bytes:,} bytes")
            headers[name] = Header(dtype, tuple(shape))
    return headers
