"""Bytes named by their SHA-256: initial weights, kept so that they are fetched once and can be passed on."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Collection
from pathlib import Path

from grapevine_agent.store.durable import (
    clear_folder,
    is_unreadable,
    make_state_dir,
    move_aside,
    prepare,
    replace_durably,
)
from grapevine_proto.errors import StoreError

logger = logging.getLogger(__name__)

DEFAULT_CAP_BYTES = 512 * 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """A folder of at most `cap_bytes`; when it is full, what was unused for longest goes first."""

    def __init__(self, folder: Path, cap_bytes: int = DEFAULT_CAP_BYTES) -> None:
        self._folder = folder
        self._cap_bytes = cap_bytes
        prepare(folder)

    def put(self, content: bytes) -> str:
        """Keep `content` and return its digest (64 hex digits). Raises `StoreError` if it is over the cap."""
        if len(content) > self._cap_bytes:
            raise StoreError(
                f"{self._folder}: {len(content)} bytes are more than the {self._cap_bytes} that this folder may hold"
            )
        digest = hashlib.sha256(content).hexdigest()
        path = self._folder / digest
        if self.get(digest) is None:  # read and checked, so that putting heals a damaged one
            clear_folder(self._folder)
            make_state_dir(self._folder)
            self._make_room(len(content))
            replace_durably(path, lambda temporary: _write(temporary, content))
        return digest

    def get(self, digest: str) -> bytes | None:
        """The bytes with this digest, or None. Damaged ones are deleted: they can be fetched again."""
        if not _DIGEST.fullmatch(digest):
            return None
        path = self._folder / digest
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            if not is_unreadable(error):
                raise StoreError(f"{path}: cannot be read now ({error.strerror})") from error
            _remove(path, error.strerror or str(error))
            return None
        if hashlib.sha256(content).hexdigest() != digest:
            _remove(path, "it is not what its name says")
            return None
        with contextlib.suppress(OSError):  # a read-only disk still gives it
            os.utime(path)
        return content

    def free(self, num_bytes: int, *, keep: Collection[str] = ()) -> list[tuple[str, int]]:
        """Delete what was unused for longest until so much is free. Returns digests and sizes of what went."""
        gone: list[tuple[str, int]] = []
        try:
            for status, path in self._files():
                if num_bytes <= 0:
                    break
                if path.name not in keep:
                    path.unlink(missing_ok=True)
                    num_bytes -= status.st_size
                    gone.append((path.name, status.st_size))
        except OSError as error:
            raise StoreError(f"{self._folder}: no room can be made ({error.strerror}); check its owner") from error
        return gone

    def delete(self, digest: str) -> None:
        """Delete the bytes with this digest, if they are here."""
        if not _DIGEST.fullmatch(digest):
            return
        path = self._folder / digest
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: cannot be deleted ({error.strerror}); check its owner") from error

    def _make_room(self, num_bytes: int) -> None:
        try:
            held = sum(status.st_size for status, _ in self._files())
        except OSError as error:
            raise StoreError(f"{self._folder}: no room can be made ({error.strerror}); check its owner") from error
        for digest, _ in self.free(held + num_bytes - self._cap_bytes):
            logger.info("blob %s… made room for another", digest[:12])

    def _files(self) -> list[tuple[os.stat_result, Path]]:
        """All of them, what was unused for longest first. Raises OSError."""
        if not self._folder.is_dir():
            return []
        files = [
            (entry.stat(), Path(entry.path))
            for entry in os.scandir(self._folder)
            if _DIGEST.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
        ]
        return sorted(files, key=lambda file: file[0].st_mtime_ns)


def _remove(path: Path, why: str) -> None:
    """A blob that is no good; it can be fetched again. What is no file is somebody's, and moved aside."""
    try:
        if path.is_dir():
            move_aside(path, time.time())
        else:
            path.unlink(missing_ok=True)
    except (OSError, StoreError) as error:
        logger.warning("%s is damaged (%s), and stays there (%s); it will be fetched again", path, why, error)
    else:
        logger.error("%s is damaged (%s) and was deleted; it will be fetched again", path, why)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
