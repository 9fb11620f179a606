"""Secrets that systemd hands to the service: `LoadCredential=credentials:/etc/grapevine/credentials` in its unit.

    [mqtt] password_file = "credentials/mqtt-password"      in the folder of the configuration
      the service         $CREDENTIALS_DIRECTORY/credentials_mqtt-password, a copy that nobody else can read
      a command of root   the file itself

So one line serves both, and the file may be one that only root can read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from grapevine_agent.units import CREDENTIALS


def handed_over(path: Path, base: Path, environ: Mapping[str, str]) -> Path:
    """The service's copy of a file in the folder of credentials beside `base`, if there is one; else the path."""
    given = environ.get("CREDENTIALS_DIRECTORY", "")
    if not given or path.parent != base / CREDENTIALS:
        return path
    copy = Path(given) / f"{CREDENTIALS}_{path.name}"
    with suppress(OSError):  # a kernel without access lists on tmpfs lets the service not in
        if copy.is_file():
            return copy
    return path


def comes_at_a_start(path: Path, base: Path, environ: Mapping[str, str]) -> bool:
    """Whether systemd hands this file to the service when it starts again; one that runs gets no copy of a new file."""
    given = environ.get("CREDENTIALS_DIRECTORY", "")
    return bool(given) and path.parent == base / CREDENTIALS and os.access(given, os.R_OK | os.X_OK)


def is_open_to_others(found: os.stat_result, path: Path, environ: Mapping[str, str]) -> bool:
    """Whether a secret can be read by who should not: copies of systemd's are closed by means that the mode hides."""
    given = environ.get("CREDENTIALS_DIRECTORY", "")
    if given and path.parent == Path(given):
        return False
    open_bits = stat.S_IRWXO | stat.S_IRWXG
    if found.st_uid == 0 and found.st_gid in (os.getegid(), *os.getgroups()) and os.geteuid() != 0:
        open_bits = stat.S_IRWXO | stat.S_IWGRP  # root's, for the group of the service
    return bool(found.st_mode & open_bits)
