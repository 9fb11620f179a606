"""Closes the sandbox and then tries what a trainer that was broken into would try; prints the errors as JSON.

`python escapes.py FOLDER [OUTER]`: FOLDER holds a file `secret`; OUTER is what a unit has set before:
"filter" (a seccomp filter that denies executable memory and new namespaces), "kill" (one that kills
whoever calls seccomp(2) or Landlock, as @system-service of older systemd does) or "none" (there are no
seccomp filters, as far as the process can see).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from grapevine_agent.training import sandbox, seccomp
from grapevine_agent.training.syscalls import this_architecture
from grapevine_proto.errors import TaskError

# Calls that Python has no function for, with harmless arguments: x86_64, aarch64.
RAW = {
    "io_uring_setup": (425, 425),
    "clone3": (435, 435),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "mount": (165, 40),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "memfd_create": (319, 279),
    "openat2": (437, 437),
    "open_by_handle_at": (304, 265),
    "execveat": (322, 281),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "prctl_set_mm": (157, 167),
    "personality": (135, 92),
    "setuid": (105, 146),
    "reboot": (169, 142),
}


def raw(name: str) -> None:
    """Make a system call by its number."""
    number = RAW[name][0 if platform.machine() == "x86_64" else 1]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    first = 35 if name == "prctl_set_mm" else 0  # PR_SET_MM
    if libc.syscall(*map(ctypes.c_long, (number, first, 0, 0, 0, 0))) < 0:
        raise OSError(ctypes.get_errno(), name)


def fork() -> None:
    """Start a process."""
    if os.fork() == 0:
        os._exit(0)


def attempts(folder: Path, control: socket.socket, descriptor: int) -> dict[str, Callable[[], object]]:
    """What is tried, by name."""
    return {
        "read a file": (folder / "secret").read_text,
        "read a file of Python's": lambda: Path(os.__file__).read_text(),
        "write a file": lambda: (folder / "loot").write_text("x"),
        "remove a file": (folder / "secret").unlink,
        "rename a file": lambda: (folder / "secret").rename(folder / "mine"),
        "list a folder": lambda: list(folder.iterdir()),
        "look at a file": (folder / "secret").stat,
        "change a file's mode": lambda: os.fchmod(descriptor, 0o777),
        "write through an open file": lambda: os.write(descriptor, b"x" * 100),
        "read our own memory as a file": lambda: Path("/proc/self/mem").read_bytes(),
        "make a TCP socket": socket.socket,
        "make a Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "make a socket pair": socket.socketpair,
        "bind": lambda: control.bind("\0grapevine-test"),
        "listen": control.listen,
        "send to an address": lambda: control.sendto(b"x", "\0grapevine-test"),
        "pass a descriptor": lambda: socket.send_fds(control, [b"x"], [0]),
        "own the signals of a descriptor": lambda: fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getppid()),
        "fork": fork,
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "signal everybody": lambda: os.kill(-1, 0),
        "change a limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        "change the parent's priority": lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
        **{name: lambda name=name: raw(name) for name in RAW},  # type: ignore[misc]
    }


def still_works(control: socket.socket) -> None:
    """What a trainer needs."""
    thread = threading.Thread(target=lambda: bytearray(30_000_000))
    thread.start()
    thread.join()
    control.sendall(b"x")
    mmap.mmap(-1, 1 << 20).close()
    os.kill(os.getpid(), 0)
    os.urandom(8)
    threading.Event().wait(0.001)


def outer_filter(kind: str) -> None:
    """What is set around a service before it starts."""
    architecture = this_architecture()
    assert architecture is not None
    load, equal, ret, both = 0x20, 0x15, 0x06, 0x45
    number = seccomp.Instruction(load, 0)
    deny, allow = seccomp.Instruction(ret, seccomp.DENY), seccomp.Instruction(ret, seccomp.ALLOW)
    if kind == "kill":
        kill = seccomp.Instruction(ret, seccomp.KILL_PROCESS)
        calls = (architecture.seccomp, 444, 445, 446)
        rules = [i for call in calls for i in (seccomp.Instruction(equal, call, otherwise=1), kill)]
    elif kind == "none":
        prctl = 157 if architecture.name == "x86_64" else 167
        no_filters = seccomp.Instruction(ret, 0x0005_0000 | errno.EINVAL)
        rules = [
            *(seccomp.Instruction(equal, prctl, otherwise=3), seccomp.Instruction(load, 16)),
            *(seccomp.Instruction(equal, 22, otherwise=1), no_filters),  # PR_SET_SECCOMP
        ]
    else:
        mprotect = 10 if architecture.name == "x86_64" else 226
        unshare = RAW["unshare"][0 if architecture.name == "x86_64" else 1]
        rules = [
            *(seccomp.Instruction(equal, unshare, otherwise=1), deny),
            *(seccomp.Instruction(equal, mprotect, otherwise=3), seccomp.Instruction(load, 32)),
            *(seccomp.Instruction(both, mmap.PROT_EXEC, otherwise=1), deny),
        ]
    seccomp.install((number, *rules, allow), architecture, has_threads=False)


def main() -> None:
    """See the module's docstring. What is printed must go to a pipe: files may not grow."""
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        outer_filter(sys.argv[2])
    sandbox.limit_leftovers()
    with_landlock = sandbox.may_use_landlock()
    _, control = socket.socketpair()
    tried = attempts(folder, control, os.open(folder / "open", os.O_RDWR | os.O_CREAT))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # for an error instead of the end
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    if len(sys.argv) < 3:  # a thread that is there already is held, too
        thread.start()
    try:
        protection = sandbox.close_sandbox("strict", with_landlock=with_landlock)
    except TaskError as error:
        os.write(1, str(error).encode())
        return
    found = {}
    for name, attempt in tried.items():
        try:
            attempt()
        except OSError as error:
            found[name] = errno.errorcode[error.errno or 0]
        except ValueError:  # what Python makes of setrlimit's EPERM
            found[name] = "EPERM"
        else:
            found[name] = "done"
    still_works(control)
    os.write(1, json.dumps({"protection": protection, "found": found}).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
