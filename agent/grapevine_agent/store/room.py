"""Room in the state folder: what lies in it, and what goes first where it has grown beyond its bound.

An agent takes part in many tasks over the years, and each leaves a model behind. Where the whole folder takes more
than the owner lends, the models of tasks that are not in use go, the one that was saved longest ago first, and then
initial weights that can be fetched again. What is in use is never touched: neither the models of joined tasks, nor
keys, databases and recordings, nor what was damaged and kept aside, which is the owner's to look at.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from grapevine_agent.store.blobs import Blobs
from grapevine_agent.store.models import ModelFiles, ModelsOnDisk

logger = logging.getLogger(__name__)

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Tenants:
    """What is in use, and stays: tasks by id, and initial weights by digest."""

    tasks: frozenset[str] = frozenset()
    weights: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What lies in the state folder."""

    num_bytes: int  # all of it
    models: tuple[ModelsOnDisk, ...]  # the one that was saved longest ago first


class Room:
    """Keeps a state folder within `cap_bytes`. Any thread may call, one at a time."""

    def __init__(self, folder: Path, models: ModelFiles, blobs: Blobs, cap_bytes: int) -> None:
        self._folder = folder
        self._models = models
        self._blobs = blobs
        self.cap_bytes = cap_bytes
        self._told = False  # that nothing is left to be given up

    def contents(self) -> Contents:
        """What lies in the folder now."""
        return Contents(num_bytes=folder_bytes(self._folder), models=self._models.on_disk())

    def make(self, tenants: Tenants) -> list[str]:
        """Give up what is not in use until the folder is within its bound. Returns what went, as it is logged.

        Raises StoreError if the disk lets nothing be deleted.
        """
        contents = self.contents()
        excess, gone = contents.num_bytes - self.cap_bytes, []
        for held in contents.models:
            if excess <= 0:
                break
            if held.task not in tenants.tasks:
                self._models.delete(held.task)
                excess -= held.num_bytes
                told = f"{_mb(held.num_bytes)} MB, last saved {_date(held.saved_s)}"
                gone.append(f"the model of {held.task[:12]} ({told})")
        if excess > 0:
            for digest, num_bytes in self._blobs.free(excess, keep=tenants.weights):
                excess -= num_bytes
                gone.append(f"initial weights {digest[:12]} ({_mb(num_bytes)} MB, can be fetched again)")
        if gone:
            logger.warning(
                "%s took %s MB of the %s that limits.state_mb allows; gave up: %s",
                self._folder,
                _mb(contents.num_bytes),
                _mb(self.cap_bytes),
                ", ".join(gone),
            )
        self._tell_of(excess)
        return gone

    def _tell_of(self, excess: int) -> None:
        """Once for as long as it lasts: what is left is in use, or not ours to delete."""
        if excess > 0 and not self._told:
            logger.warning(
                "%s takes %s MB more than limits.state_mb allows, all of it in use: raise the limit, leave a task, "
                "or delete what was kept aside there (*.corrupt-*)",
                self._folder,
                _mb(excess),
            )
        self._told = excess > 0


def folder_bytes(folder: Path) -> int:
    """What all files below a folder take, each file once however many names it has. Files may come and go meanwhile."""
    seen: dict[tuple[int, int], int] = {}
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(where, name))  # noqa: PTH118 - a path object for each would cost more
            except OSError:
                continue
            seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values())


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / MIB:,.1f}" if num_bytes < 10 * MIB else f"{num_bytes / MIB:,.0f}"


def _date(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(unix_s))
