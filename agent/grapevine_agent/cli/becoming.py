"""Becoming the service: a command that reads options is replaced by the process that serves, which needs none."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from grapevine_agent.core.settings import Role


def become(role: Role, config: Path | None, server_heartbeat_s: float = 1.0) -> NoReturn:
    """Replace this process by the service."""
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = [role, repr(server_heartbeat_s), *([str(config)] if config else [])]
    # -P: no module from the folder that we happen to be in.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "grapevine_agent.serve", *arguments])  # noqa: S606 - our own interpreter
