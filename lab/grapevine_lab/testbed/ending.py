"""The end of a lab: by its keeper, or without it where that is gone."""

from __future__ import annotations

import contextlib
import time
from typing import Final

import psutil

from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import NoAnswerError, NoServiceError
from grapevine_lab.testbed.engines import make_engine
from grapevine_lab.testbed.store import Lab

DOWN_S: Final = 90.0
POLL_S: Final = 0.05


def take_down(lab: Lab) -> None:
    """End all machines and remove the lab's folder. Raises GrapevineError where the engine cannot."""
    try:
        call(lab.keeper, "down", timeout_s=DOWN_S)
    except NoServiceError:
        pass  # it has ended already, or crashed: what it left is removed below
    except NoAnswerError:
        _kill_keeper(lab)
    _wait_for_keeper(lab)
    make_engine(lab.engine, lab.folder, lab.name).remove()
    lab.remove()


def is_kept(lab: Lab) -> bool:
    """Whether its keeper answers."""
    try:
        call(lab.keeper, "recorded", timeout_s=5.0)
    except (NoServiceError, NoAnswerError):
        return False
    return True


def _keeper(lab: Lab) -> psutil.Process | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(lab.keeper_pid) if lab.keeper_pid else None
        if process is not None and str(lab.folder) in process.cmdline():
            return process
    return None


def _kill_keeper(lab: Lab) -> None:
    if (process := _keeper(lab)) is not None:
        process.kill()


def _wait_for_keeper(lab: Lab) -> None:
    deadline_s = time.monotonic() + DOWN_S
    while (process := _keeper(lab)) is not None and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline_s:
            process.kill()
        time.sleep(POLL_S)
