"""The state folder, and the disk that it lies on."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from grapevine_agent.doctor.configured import owner_of
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.situation import Situation
from grapevine_agent.store.room import folder_bytes

LITTLE_BYTES: Final = 50_000_000  # a database, its log and a model
SLOW_S: Final = 2.0  # for a page to be on disk
_MB: Final = 1 << 20
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_READ_ONLY: Final = getattr(os, "ST_RDONLY", 1)


def state(situation: Situation) -> list[Finding]:
    """Whether the folder is there, whose it is, and whether it takes a file."""
    if situation.config is None or not situation.knows("agent"):
        return [Finding(check="state", level="skip", says="where the state folder lies is not known")]
    folder = situation.config.agent.state_dir
    facts: dict[str, Any] = {"path": str(folder)}
    try:
        about = folder.stat()
    except FileNotFoundError:
        says = f"{folder} is not there yet: it is made with the key"
        return [Finding(check="state", level="warn", says=says, facts=facts)]
    except PermissionError:
        says = f"{folder} is in another user's folder"
        return [Finding(check="state", level="skip", says=says, remedy="run this as the agent's user", facts=facts)]
    if not stat.S_ISDIR(about.st_mode):
        remedy = "move it away, or name another folder in agent.state_dir"
        return [Finding(check="state", level="fail", says=f"{folder} is no folder", remedy=remedy, facts=facts)]
    owner, mode = owner_of(folder), stat.S_IMODE(about.st_mode)
    facts |= {"owner": owner, "mode": f"{mode:o}"}
    found: list[Finding] = []
    if mode & stat.S_IWOTH:
        says = f"everybody on this machine may write into {folder} (mode {mode:o})"
        found.append(Finding(check="state", level="fail", says=says, remedy=f"chmod 700 {folder}", facts=facts))
    elif mode & _OTHERS:
        says = f"other users may look into {folder} (mode {mode:o}); its key is closed to them by itself"
        found.append(Finding(check="state", level="warn", says=says, remedy=f"chmod 700 {folder}", facts=facts))
    if about.st_uid != os.geteuid() and os.geteuid() != 0:
        says = f"{folder} belongs to {owner}, and this is another user"
        remedy = f"run this as {owner}: sudo -u {owner} grapevine doctor …"
        return [*found, Finding(check="state", level="skip", says=says, remedy=remedy, facts=facts)]
    return [*found, *_written(folder, owner, facts)]


def _written(folder: Path, owner: str, facts: dict[str, Any]) -> list[Finding]:
    """One page, as a file that is gone again: what a disk says of itself is not what it does."""
    began_s = time.monotonic()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as trial:
            trial.write(bytes(4_096))
            trial.flush()
            os.fsync(trial.fileno())
    except OSError as error:
        says = f"{folder} takes no file ({error.strerror})"
        remedy = f"see disk below; or its permissions, if the agent runs as another user than {owner}"
        return [Finding(check="state", level="fail", says=says, remedy=remedy, facts=facts)]
    took_s = time.monotonic() - began_s
    facts = facts | {"write_ms": took_s * 1e3}
    says = f"{folder}, of {owner}, takes a page in {took_s * 1e3:.0f} ms"
    if took_s > SLOW_S:
        remedy = "a slow or failing disk: look at dmesg, and have another one ready"
        return [Finding(check="state", level="warn", says=says, remedy=remedy, facts=facts)]
    return [Finding(check="state", level="ok", says=says, facts=facts)]


def disk(situation: Situation) -> list[Finding]:
    """Room on the disk of the state folder, and whether it may be written to."""
    place = place_of(situation)
    if place is None:
        return [Finding(check="disk", level="skip", says="where the state folder lies is not known")]
    about = os.statvfs(place)
    free, whole = about.f_bavail * about.f_frsize, about.f_blocks * about.f_frsize
    assert situation.config is not None
    used = folder_bytes(situation.config.agent.state_dir)
    cap_mb = situation.profile.state_mb if situation.profile is not None else None
    facts = {
        "path": str(place),
        "free_mb": free // _MB,
        "total_mb": whole // _MB,
        "state_mb": round(used / _MB, 1),
        "limit_mb": cap_mb,
        "free_files": about.f_favail if about.f_files else None,
        "read_only": bool(about.f_flag & _READ_ONLY),
    }
    says = f"{free // _MB:,} of {whole // _MB:,} MB free; the state folder takes {used / _MB:,.1f} MB"
    says += f" of {cap_mb:,} that it may" if cap_mb is not None else ""
    if about.f_flag & _READ_ONLY:
        says = f"the disk of {place} is read-only: nothing is saved"
        remedy = "look at dmesg for why (a worn card turns read-only), and mount it anew: mount -o remount,rw"
        return [Finding(check="disk", level="fail", says=says, remedy=remedy, facts=facts)]
    if free < LITTLE_BYTES or (about.f_files and about.f_favail < 100):
        what = "room" if free < LITTLE_BYTES else "places for files"
        says, remedy = (
            f"{says}; there is hardly any {what}",
            "delete what is not needed there: journalctl --vacuum-size=50M",
        )
        return [Finding(check="disk", level="fail", says=says, remedy=remedy, facts=facts)]
    if cap_mb is not None and free < cap_mb * _MB - used:
        says += "; it may grow by more than is free"
        remedy = f"write state_mb = {max(16, (used + free // 2) // _MB)} into [limits], or free some room"
        return [Finding(check="disk", level="warn", says=says, remedy=remedy, facts=facts)]
    return [Finding(check="disk", level="ok", says=says, facts=facts)]


def place_of(situation: Situation) -> Path | None:
    """The state folder, or the first above it that is there."""
    if situation.config is None or not situation.knows("agent"):
        return None
    folder = situation.config.agent.state_dir.absolute()
    return next((each for each in (folder, *folder.parents) if os.path.isdir(each)), Path("/"))  # noqa: PTH112 - never raises
