"""Makes sure that a broker we start does not outlive us, even when we are killed with SIGKILL.

Run as `python -m grapevine_broker.leash PARENT_PID PROGRAM ARGUMENT…` it asks Linux to end this
process when its parent ends, drops root's rights when told to, and becomes the program. Linux
means the *thread* that started the child when it says parent: see `child.ChildProcess`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int, last_signal: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send `last_signal` to this process when its parent ends.

    Elsewhere than on Linux this does nothing; a child that can should then watch a pipe as well.

    Args:
        parent_pid: Who started us. If that process has already gone, this one exits at once.
        last_signal: What to send.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(last_signal), 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before we asked: nobody will send us anything any more
        sys.exit(1)


def _become_user(name: str) -> None:
    account = pwd.getpwnam(name)
    os.setgroups([account.pw_gid])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, take the leash and become the program."""
    parser = argparse.ArgumentParser(prog="python -m grapevine_broker.leash")
    parser.add_argument("--user", default="", help="the account to run the program as")
    parser.add_argument("--kill", action="store_true", help="end it with SIGKILL: it may be standing still")
    parser.add_argument("parent_pid", type=int)
    parser.add_argument("program", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if options.user:
        _become_user(options.user)  # first, because a change of user makes Linux forget the leash
    die_with_parent(options.parent_pid, signal.SIGKILL if options.kill else signal.SIGTERM)
    os.execv(options.program[0], options.program)  # noqa: S606 - the broker that our caller chose


if __name__ == "__main__":
    main()
