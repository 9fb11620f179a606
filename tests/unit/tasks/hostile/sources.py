"""Files of samples that an owner downloaded somewhere, and that are not what they say."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from tests.unit.tasks.hostile.attack import FEATURES, Attack, honest_manifest

from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.source import DataSource
from grapevine_proto.errors import TaskError

NUM = 10
X = np.zeros((NUM, FEATURES), np.float32)
Y = np.zeros(NUM, np.int64)


def loaded(path: Path) -> object:
    """The samples of a file, as a trainer process loads them."""
    return load_samples(honest_manifest().data, DataSource(name="points", kind="points", path=path))


def _file(name: str, target: str, write: Callable[[Path], object], reason: str) -> Attack:
    def attempt(folder: Path) -> object:
        path = folder / "samples.npz"
        write(path)
        return loaded(path)

    return Attack(name=name, target=target, attempt=attempt, reason=reason)


def _arrays(**arrays: np.ndarray[Any, Any]) -> Callable[[Path], object]:
    return lambda path: np.savez_compressed(path, **cast("dict[str, Any]", arrays))


def _array_header(shape: tuple[int, ...], descr: object = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _raw_header(text: bytes) -> bytes:
    """A header of version 2, whose text nobody has checked."""
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text


def _plain(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _zip(*, compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(f"{name}.npy", content)

    return write


def _patched(write: Callable[[Path], object], patch: Callable[[bytearray, int], None]) -> Callable[[Path], object]:
    """A zip file after `patch` has changed it; it is given where x's entry of the directory begins."""

    def write_and_patch(path: Path) -> None:
        write(path)
        content = bytearray(path.read_bytes())
        patch(content, content.index(b"PK\x01\x02"))
        path.write_bytes(content)

    return write_and_patch


def _claims(num_bytes: int, num_targets: int = 0) -> Callable[[bytearray, int], None]:
    """The directory says that x (and y) have so many bytes, unpacked."""

    def patch(content: bytearray, entry: int) -> None:
        content[entry + 24 : entry + 28] = struct.pack("<I", num_bytes)
        if num_targets:
            entry = content.index(b"PK\x01\x02", entry + 1)
            content[entry + 24 : entry + 28] = struct.pack("<I", num_targets)

    return patch


def _encrypted(content: bytearray, entry: int) -> None:
    content[entry + 8] |= 1
    content[content.index(b"PK\x03\x04") + 6] |= 1


def _packed_oddly(content: bytearray, entry: int) -> None:
    content[entry + 10 : entry + 12] = struct.pack("<H", 77)
    content[content.index(b"PK\x03\x04") + 8 : content.index(b"PK\x03\x04") + 10] = struct.pack("<H", 77)


def _damaged(content: bytearray, entry: int) -> None:
    content[entry - 60 : entry - 40] = b"\xff" * 20


def _cut_anywhere(folder: Path) -> object:
    path = folder / "samples.npz"
    np.savez_compressed(path, x=X, y=Y)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        try:
            loaded(path)
        except TaskError:
            continue
        raise AssertionError(f"a file cut after {end} of {len(whole)} bytes was taken")
    raise TaskError(f"all {len(whole)} beginnings refused")


HONEST_Y = _plain(Y)
BOMB = _array_header((2**33, FEATURES)) + bytes(2**22)
SOURCES = (
    _file("no file", "an exception", lambda _path: None, "cannot read"),
    _file("a folder", "an exception", lambda path: path.mkdir(), "cannot read|not an npz file"),
    _file("nothing", "a parser", lambda path: path.touch(), "not an npz file"),
    _file("a pickle", "running code", lambda path: path.write_bytes(pickle.dumps({"x": X})), "not an npz file"),
    _file(
        "a zstd frame",
        "unpacking without end",
        lambda path: path.write_bytes(b"\x28\xb5\x2f\xfd\xa4" + bytes(60)),
        "not an npz",
    ),
    _file(
        "a link to zeros without end",
        "memory",
        lambda path: path.symlink_to("/dev/zero"),
        "not an npz file|cannot read",
    ),
    Attack(name="cut at every byte", target="a parser", attempt=_cut_anywhere, reason="beginnings refused"),
    _file(
        "an array of Python objects", "running code", _arrays(x=np.array([{}] * NUM, object), y=Y), "holds object|shape"
    ),
    _file(
        "objects that say they are points",
        "running code",
        _zip(x=_array_header((NUM, FEATURES), "|O") + pickle.dumps([0] * NUM * FEATURES), y=HONEST_Y),
        "holds object",
    ),
    _file(
        "128 GB of zeros in a small file",
        "memory",
        _zip(x=BOMB, y=_array_header((2**33,), "<i8")),
        "says that it is",
    ),
    _file(
        "128 GB, and the directory says less",
        "memory",
        _patched(_zip(x=BOMB, y=_array_header((2**33,), "<i8")), _claims(1000)),
        "Bad CRC|says that it is",
    ),
    _file(
        "4 GB more than the array has",
        "memory",
        _patched(_zip(x=_plain(X), y=HONEST_Y), _claims(2**32 - 2)),
        "says that it is",
    ),
    _file(
        "768 MB that both say and nobody packed",
        "memory",
        _patched(
            _zip(x=_array_header((2**25, FEATURES)), y=_array_header((2**25,), "<i8")),
            _claims(128 + 2**29, 128 + 2**28),  # a header takes 128 bytes
        ),
        "cannot be read|bytes of memory are free",
    ),
    _file(
        "a shape of 2^130 numbers",
        "overflow",
        _zip(x=_array_header((2**65, 2**65)), y=HONEST_Y),
        "says that it is",
    ),
    _file(
        "2^62 samples",
        "overflow",
        _zip(x=_array_header((2**62, FEATURES)), y=_array_header((2**62,), "<i8")),
        "says that it is",
    ),
    _file(
        "less than no samples",
        "a negative size",
        _zip(x=_array_header((-5, FEATURES)), y=HONEST_Y),
        "negative|samples|says that it is",
    ),
    _file(
        "a header of brackets in brackets",
        "the stack",
        _zip(x=_raw_header(b"(" * 9_000), y=HONEST_Y),
        "not an npz file",
    ),
    _file("a header of 16 MB", "time", _zip(x=_raw_header(b" " * 2**24), y=HONEST_Y), "not an npz file"),
    _file(
        "a header that calls a function",
        "running code",
        _zip(
            x=_raw_header(b"{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (10, 4)}\n"),
            y=HONEST_Y,
        ),
        "not an npz file",
    ),
    _file(
        "a header that is cut",
        "a parser",
        _zip(x=b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31), y=HONEST_Y),
        "not an npz file",
    ),
    _file(
        "a version that nobody knows", "a parser", _zip(x=b"\x93NUMPY\x09\x00" + bytes(100), y=HONEST_Y), "not an npz"
    ),
    _file("an encrypted file", "an exception", _patched(_arrays(x=X, y=Y), _encrypted), "not an npz file"),
    _file("a packing that nobody knows", "an exception", _patched(_arrays(x=X, y=Y), _packed_oddly), "not an npz file"),
    _file(
        "damaged in the middle",
        "an exception",
        _patched(_zip(x=_plain(X), y=_plain(np.arange(NUM) % 3)), _damaged),
        "not an npz file|cannot read",
    ),
    _file(
        "samples outside the folder",
        "other files",
        _zip(**cast("dict[str, Any]", {"../x": _plain(X), "y": HONEST_Y})),
        "no array 'x'",
    ),
    _file("one array too few", "an exception", _arrays(x=X), "no array 'y'"),
    _file("half a test set", "an exception", _arrays(x=X, y=Y, x_test=X), "belong together"),
    _file("samples without their targets", "targets of others", _arrays(x=X, y=Y[:5]), "5 in y"),
    _file("samples of another shape", "memory out of bounds", _arrays(x=X[:, :2], y=Y), "the shape"),
    _file("one number for all samples", "an exception", _arrays(x=np.array(1, np.float32), y=Y), "single number"),
    _file("text for numbers", "an exception", _arrays(x=np.full((NUM, FEATURES), "a"), y=Y), "holds <U1"),
    _file(
        "numbers that are not finite", "NaN in the model", _arrays(x=np.full_like(X, np.nan), y=Y), "nan is no number"
    ),
    _file(
        "numbers beyond float32", "NaN in the model", _arrays(x=np.full(X.shape, 1e300), y=Y), "too large for float32"
    ),
    _file("classes that are not there", "an index out of range", _arrays(x=X, y=Y + 3), "3 is no class of the task"),
    _file("classes below zero", "an index out of range", _arrays(x=X, y=Y - 1), "-1 is no class of the task"),
)
