"""Models on disk: `models/<task>/current.safetensors`, the one before it, and the best one.

A model is written beside its place, synced and renamed into it; the model that it replaces stays as
`previous.safetensors`. At every instant at least one of the two is whole. A checksum in the header
finds what a worn SD card does to a file that was whole once. Whatever cannot be read, or cannot be a model, is moved
aside, and the one before it is used.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from grapevine_agent.store.durable import (
    clear_folder,
    is_unreadable,
    make_state_dir,
    move_aside,
    prepare,
    remove_leftovers,
    replace_durably,
)
from grapevine_proto.errors import StoreError
from grapevine_proto.messages import Vector
from grapevine_proto.topics import is_id

logger = logging.getLogger(__name__)

CURRENT = "current.safetensors"
PREVIOUS = "previous.safetensors"
BEST = "best.safetensors"
_METADATA = "grapevine"
_CHECKSUM = "crc32"
_OS_ERROR = re.compile(r"os error (\d+)")
_LARGEST_FACT = (1 << 63) - 1
_PIECE = 1 << 18  # numbers that are read in one go: 1 MiB

Fact: TypeAlias = str | int | float


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """What a task's learning goes on from: named float32 vectors [n], and facts (age, version, digest …).

    Facts keep their type (str, int of 64 bits, finite float); JSON text carries anything more.
    """

    vectors: Mapping[str, Vector]
    metadata: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelsOnDisk:
    """What the folder of one task holds."""

    task: str
    num_bytes: int
    saved_s: float  # Unix time of the newest file


class ModelFiles:
    """The folder of models. Methods raise `StoreError`; task ids are checked before they become folder names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for task_dir in prepare(folder):
            if task_dir.is_dir():
                remove_leftovers(task_dir)

    def save(self, task: str, model: StoredModel) -> None:
        """Make `model` the current one of a task, and the current one its previous."""
        current = self._task_dir(task) / CURRENT
        self._write(current, model, before_rename=lambda: _keep_as_previous(current))

    def save_best(self, task: str, model: StoredModel) -> None:
        """Make `model` the best one of a task; the one before it goes."""
        self._write(self._task_dir(task) / BEST, model, before_rename=lambda: None)

    def _write(self, place: Path, model: StoredModel, *, before_rename: Callable[[], None]) -> None:
        for name, vector in model.vectors.items():
            if vector.dtype != np.float32 or vector.ndim != 1:
                raise ValueError(f"vector {name!r} is {vector.dtype}{list(vector.shape)}; give a float32 vector")
        vectors = {name: np.ascontiguousarray(vector) for name, vector in model.vectors.items()}
        facts = json.dumps(dict(model.metadata))
        header = {_METADATA: facts, _CHECKSUM: _checksum(facts, vectors)}
        clear_folder(place.parent)
        make_state_dir(place.parent)

        def write(path: Path) -> None:
            try:
                save_file(vectors, path, header)
            except SafetensorError as error:
                raise _as_os_error(error) from error

        replace_durably(place, write, before_rename=before_rename)

    def load(self, task: str) -> StoredModel | None:
        """The current model of a task, the previous one if that is damaged, None if there is neither.

        A damaged file is moved aside, so that the next `save` does not make it the previous one.
        """
        return self._first_whole(self._task_dir(task), (CURRENT, PREVIOUS))

    def load_best(self, task: str) -> StoredModel | None:
        """The best model of a task; None if there is none, or it is damaged: then it is moved aside."""
        return self._first_whole(self._task_dir(task), (BEST,))

    def _first_whole(self, task_dir: Path, names: tuple[str, ...]) -> StoredModel | None:
        for name in names:
            path = task_dir / name
            try:
                return _read(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                if not is_unreadable(error):
                    raise StoreError(f"{path}: cannot be read now ({error.strerror})") from error
                _set_aside(path, error.strerror or str(error))
            except _DamagedError as error:
                _set_aside(path, str(error))
        return None

    def tasks(self) -> list[str]:
        """The tasks that a model is held of, sorted."""
        try:
            return sorted(path.parent.name for path in self._folder.glob(f"*/{CURRENT}") if is_id(path.parent.name))
        except OSError as error:
            raise StoreError(f"{self._folder}: cannot be read ({error.strerror}); check its owner") from error

    def on_disk(self) -> tuple[ModelsOnDisk, ...]:
        """Every task's models, damaged ones included, the one that was saved longest ago first."""
        found = []
        try:
            folders = [path for path in self._folder.iterdir() if is_id(path.name) and path.is_dir()]
        except OSError as error:
            raise StoreError(f"{self._folder}: cannot be read ({error.strerror}); check its owner") from error
        for folder in folders:
            try:
                files = {status.st_ino: status for status in (path.lstat() for path in folder.iterdir())}.values()
            except OSError:  # it is being deleted, or written
                continue
            saved_s = max((status.st_mtime for status in files), default=0.0)
            found.append(
                ModelsOnDisk(task=folder.name, num_bytes=sum(status.st_size for status in files), saved_s=saved_s)
            )
        return tuple(sorted(found, key=lambda each: (each.saved_s, each.task)))

    def delete(self, task: str) -> None:
        """Delete all models of a task."""
        task_dir = self._task_dir(task)
        try:
            shutil.rmtree(task_dir)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"{task_dir}: cannot be deleted ({error.strerror}); check its owner") from error

    def _task_dir(self, task: str) -> Path:
        if not is_id(task):
            raise StoreError(
                f"task id {task[:80]!r} cannot name a folder: ids are 1 to 64 characters of a-z, 0-9 and -"
            )
        return self._folder / task


class _DamagedError(Exception):
    """The file is there and is not what was written."""


def _as_os_error(error: SafetensorError) -> OSError:
    """A full disk, as the library tells it: "I/O error: No space left on device (os error 28)"."""
    number = _OS_ERROR.search(str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))


def _set_aside(path: Path, why: str) -> None:
    """Out of the way of the next save, which would make it the previous one. A disk may refuse even that."""
    then = {
        CURRENT: "the previous model is used",
        PREVIOUS: "the task starts from its initial weights",
    }.get(path.name, "the best model from now on is kept")
    try:
        aside = move_aside(path, time.time(), keep=1)  # models are large: one specimen is enough
    except StoreError as error:
        logger.warning("%s is damaged (%s), and stays there (%s); %s", path, why, error, then)
    else:
        logger.error("%s is damaged (%s) and was moved to %s; %s", path, why, aside.name, then)


def _read(path: Path) -> StoredModel:
    """Read and check one file. Raises `OSError`, or `_DamagedError`."""
    with path.open("rb") as file:  # for the right error: safetensors has one for everything
        file.read(1)
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            vectors = {name: _vector(file, name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = json.loads(header[_METADATA])
        is_whole = header.get(_CHECKSUM) == _checksum(header[_METADATA], vectors)
    except OSError:
        raise
    except Exception as error:  # the library and NumPy raise a dozen kinds over a header that lies
        raise _DamagedError(str(error) or type(error).__name__) from error
    if not is_whole:
        raise _DamagedError("its checksum does not match")
    if not isinstance(metadata, dict) or not all(map(_is_fact, metadata.values())):
        raise _DamagedError("its facts are none")
    for name, vector in vectors.items():
        if vector.dtype != np.float32 or vector.ndim != 1:
            raise _DamagedError(f"{name!r} is {vector.dtype}{list(vector.shape)}, not a float32 vector")
        if not np.isfinite(vector).all():
            raise _DamagedError(f"{name!r} holds numbers that are not finite")
    return StoredModel(vectors=vectors, metadata=metadata)


def _vector(file: Any, name: str) -> Vector:
    """A tensor of an open file; a long vector in pieces: the library keeps the interpreter while it copies."""
    lying = file.get_slice(name)
    shape = lying.get_shape()
    if len(shape) != 1 or shape[0] <= _PIECE or lying.get_dtype() != "F32":
        tensor: Vector = file.get_tensor(name)
        return tensor
    vector = np.empty(shape[0], np.float32)
    for start in range(0, shape[0], _PIECE):
        vector[start : start + _PIECE] = lying[start : start + _PIECE]
    return vector


def _is_fact(value: object) -> bool:
    """What `save` was given. Integers have the range of what peers may claim of a model, or less."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) or (isinstance(value, int) and abs(value) <= _LARGEST_FACT)


def _keep_as_previous(current: Path) -> None:
    """Give the current file a second name, so that it is never without one."""
    previous = current.with_name(PREVIOUS)
    for path in (current, previous):
        if path.is_dir():
            move_aside(path, time.time(), keep=1)
    if not current.exists():
        return
    second_name = current.with_name(f"{PREVIOUS}.tmp-{os.getpid()}")
    second_name.unlink(missing_ok=True)
    try:
        os.link(current, second_name)
    except OSError:
        # A file system without hard links: for an instant only `previous` exists, which `load` copes with.
        current.replace(previous)
    else:
        second_name.replace(previous)


def _checksum(facts: str, vectors: Mapping[str, Vector]) -> str:
    """CRC-32 over facts, names, lengths and bytes: against a worn disk, not against an attacker."""
    checksum = zlib.crc32(facts.encode())
    for name in sorted(vectors):
        checksum = zlib.crc32(f"{len(name)}:{name}{vectors[name].size}".encode(), checksum)
        checksum = zlib.crc32(vectors[name].data, checksum)
    return f"{checksum:08x}"
