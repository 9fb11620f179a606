"""Files that survive a kill at any instant: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from grapevine_proto.errors import StoreError

logger = logging.getLogger(__name__)

_TEMPORARY = ".tmp-"
_ASIDE = ".corrupt-"
_NOT_THE_FILE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN))


def make_state_dir(path: Path) -> None:
    """Make a folder that only its owner can enter, parents included. Raises `StoreError`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be made ({error.strerror}); set state_dir in [agent] or GRAPEVINE_STATE_DIR "
            "to a folder that this user may write to"
        ) from error


def replace_durably(
    path: Path, write: Callable[[Path], None], *, before_rename: Callable[[], None] | None = None
) -> None:
    """Replace `path` by what `write` puts into the temporary file that it is given.

    After a kill or a power cut `path` holds the old content or the new, whole. `before_rename` runs
    once the new content is safely on disk. Raises `StoreError`; then `path` is unchanged.
    """
    temporary = _temporary(path)
    try:
        write(temporary)
        _sync(temporary)
        if before_rename is not None:
            before_rename()
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def create_durably(path: Path, content: bytes, *, mode: int) -> bool:
    """Write a new file, whole or not at all; False, and nothing is changed, if `path` is there already."""
    temporary = _temporary(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike a rename, this never replaces what is there
        except FileExistsError:
            return False
        _sync(path.parent)
        return True
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def move_aside(path: Path, now_s: float, *, word: str = "corrupt", keep: int | None = None) -> Path:
    """Rename a broken file or folder to `<name>.<word>-<unix seconds>`, never onto another, and return where it went.

    `keep`: only so many of these specimens stay, the newest. Raises `StoreError`.
    """
    stem = f"{path.name}.{word}-{int(now_s)}"
    aside = path.with_name(stem)
    count = 1
    while os.path.lexists(aside):
        count += 1
        aside = path.with_name(f"{stem}-{count}")
    try:
        path.rename(aside)
        _sync(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    if keep is not None:
        _forget_specimens(path, keep)
    return aside


def clear_folder(path: Path) -> None:
    """Move aside what stands where a folder belongs. Raises `StoreError`."""
    if os.path.lexists(path) and not path.is_dir():
        logger.error("%s is no folder and was moved to %s", path, move_aside(path, time.time()))


def prepare(folder: Path) -> list[Path]:
    """Make a folder and return what is in it; nothing, and a line in the log, where the disk takes or gives nothing."""
    try:
        clear_folder(folder)
        make_state_dir(folder)
        remove_leftovers(folder)
        return list(folder.iterdir())
    except (StoreError, OSError) as error:
        logger.warning("%s cannot be used for now: %s", folder, error)
        return []


def is_unreadable(error: OSError) -> bool:
    """Whether an error of opening or reading says something of the file, and nothing of this process."""
    return error.errno not in _NOT_THE_FILE


def remove_leftovers(folder: Path) -> None:
    """Delete what writers that were killed left half-written. The caller holds the folder's lock."""
    for leftover in folder.glob(f"*{_TEMPORARY}*"):
        try:
            leftover.unlink(missing_ok=True)
        except OSError as error:  # a disk that is read-only now: it does no harm where it lies
            logger.debug("%s stays: %s", leftover, error)


def _forget_specimens(path: Path, keep: int) -> None:
    """The oldest go: a worn disk makes one after the other, until it is full of them."""
    logs = ("-wal", "-shm", "-journal")
    with contextlib.suppress(OSError):
        found = [each for each in path.parent.glob(f"{path.name}{_ASIDE}*") if not each.name.endswith(logs)]
        found.sort(key=lambda each: each.lstat().st_mtime_ns)
        for old in found[: max(0, len(found) - keep)]:
            for each in (old, *(old.with_name(old.name + suffix) for suffix in logs)):
                each.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}{_TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> StoreError:
    remedy = "check free space, owner and permissions"
    if error.errno == errno.EROFS and "INVOCATION_ID" in os.environ:  # systemd's, which walls its services in
        remedy = (
            "a service writes only where its unit lets it: systemctl edit, "
            f"[Service] ReadWritePaths={path.parent}; or the disk is mounted read-only"
        )
    return StoreError(f"{path}: cannot be written ({error.strerror or error}); {remedy}")
