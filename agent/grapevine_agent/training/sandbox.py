"""The trainer process gives up what it does not need, before it looks at a stranger's program.

In this order, once samples and PyTorch are loaded and the model's memory is mapped:

    limits     no core dumps (samples would be in them), no growing files, few descriptors
    Landlock   no files, where the kernel has it (`landlock`)
    seccomp    a short list of system calls (`seccomp`)

Memory has a limit of its own (`worker`), and CPU time is watched from outside (`process`): a limit of the
kernel's counts from the process's start, ours from a request's. Nothing here needs root, and all of it
holds inside a container or a hardened systemd unit too, where it adds to what is set there.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
from pathlib import Path
from typing import Final

from grapevine_agent.config.agent_toml import Sandbox
from grapevine_agent.training.landlock import give_up_files, landlock_version
from grapevine_agent.training.seccomp import allow_only_computing
from grapevine_proto.errors import TaskError

logger = logging.getLogger(__name__)

_PR_SET_DUMPABLE: Final = 4
NUM_DESCRIPTORS: Final = 64  # not 0: poll(2) refuses more descriptors than may be open
OFF: Final = 'limits.sandbox = "off": limits of memory and time only'


def limit_leftovers() -> None:
    """No core dumps: what is in memory belongs to the owner. To be called first."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:  # a hard limit cannot be raised, and 0 stops no pipe
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *map(ctypes.c_ulong, (0, 0, 0, 0)))
        return
    # 1 and not 0: the kernel pipes a core to a program that asked for them whatever the limit is, except for 1.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def may_use_landlock() -> bool:
    """Whether this kernel has Landlock and lends it to us. To be called while there is one thread.

    A child asks: a unit whose SystemCallFilter does not know these calls kills whoever makes them.
    """
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGSYS, signal.SIG_DFL)
        os._exit(0 if landlock_version() else 1)
    return os.waitpid(child, 0)[1] == 0


def close_sandbox(sandbox: Sandbox, *, with_landlock: bool) -> str:
    """Give up, for ever, all but computing and answering. Returns what protects the process, for people.

    Raises TaskError with a remedy when it cannot be done: a task is never trained with less than was asked for.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (NUM_DESCRIPTORS, NUM_DESCRIPTORS))
    if sandbox == "off":
        return OFF
    has_threads = len(list(Path("/proc/self/task").iterdir())) > 1
    version = give_up_files() if with_landlock else 0
    try:
        allow_only_computing(has_threads=has_threads)
    except OSError as error:
        raise TaskError(
            f"the trainer's sandbox cannot be closed (seccomp: {error.strerror}): use a kernel with "
            'CONFIG_SECCOMP_FILTER on x86-64 or ARM, or write limits.sandbox = "off" to train without it'
        ) from error
    return "seccomp" + (f", Landlock {version}" if version else " (this kernel lends no Landlock)")
