"""The list of system calls that a trainer process may still make, enforced by the kernel.

A task's program is a stranger's data, interpreted by PyTorch's kernels. If one of them had a bug
that such a program could use, the stranger would run code of their own in that process. It should
find nothing there that is worth having:

    it can compute, take and give back memory, start and end threads of its own,
    read and write what is open already: the socket pair to the service, its own output, the model;
    it cannot open a file, not even to read it; make, connect or listen on a socket; run a program;
    start, trace or signal another process; change its rights; reach rarely used parts of the kernel
    (io_uring, bpf, perf, userfaultfd, keys, mounts, modules).

What is left to it is what it holds: the owner's samples, and the model that goes back to the service.
It could hide the one in the other; so could any program that is trained honestly, and the service
checks of what comes back that it is a model of the right size with finite numbers.

How it works (seccomp(2)): a small program in classic BPF, put into the kernel once, looks at the
number and the arguments of each call and returns a verdict. It sees the arguments' words but not what
pointers point to, so conditions are on flags and numbers alone. Ours is an allow-list:

    another processor's calls (i386 on x86-64, say)     the process is killed
    a call of `CALLS`, its conditions met               allowed
    a call from number 424 on (Linux 5.1, x32)          ENOSYS: "this kernel has no such call"
    any other                                           EPERM

ENOSYS makes a C library fall back to the older call, whose flags can be looked at: glibc starts
threads with clone3, whose flags lie behind a pointer, and with clone where there is no clone3. EPERM
rather than death: a library that looks for something optional goes on without it, and a process that
was broken into gains nothing by asking.

The filter holds for all threads (TSYNC), cannot be taken off, and adds to those that a container or
a systemd unit has set already: the strictest verdict counts. The kernel asks for no_new_privs first.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from grapevine_agent.training.syscalls import CALLS, FIRST_NEW_CALL, Architecture, this_architecture

KILL_PROCESS: Final = 0x8000_0000
ALLOW: Final = 0x7FFF_0000
_ERRNO: Final = 0x0005_0000
DENY: Final = _ERRNO | errno.EPERM
NO_SUCH_CALL: Final = _ERRNO | errno.ENOSYS

# struct seccomp_data: nr, arch, the instruction's address, six arguments of 64 bits each.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
# Classic BPF: load a word, compare it with a constant, return one.
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_SET_MODE_FILTER, _TSYNC = 1, 1

_THREAD = 0x0001_0900  # CLONE_VM, CLONE_SIGHAND, CLONE_THREAD: all three, …
_MORE_THAN_A_THREAD = 0x7E02_E000  # … and no namespace, vfork, tracer or other parent
_HARMLESS_PRCTL = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA: names of threads and of memory
_FLAGS_OF_DESCRIPTORS = (1, 2, 3, 4)  # F_GETFD to F_SETFL; F_SETOWN and F_SETSIG would send signals
_REQUEST_AMX = (0x1021, 0x1022, 0x1023)  # ARCH_GET_XCOMP_SUPP, …_GET_XCOMP_PERM, …_REQ_XCOMP_PERM: wide registers


@dataclass(frozen=True, kw_only=True)
class Condition:
    """That an argument, masked, is one of some values. `wide` has its upper 32 bits be zero too, for pointers."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFF_FFFF
    wide: bool = False


@dataclass(frozen=True)
class Instruction:
    """struct sock_filter: jumps are relative, `when` if the comparison holds and `otherwise` if not."""

    code: int
    constant: int
    when: int = 0
    otherwise: int = 0


def conditions(pid: int) -> dict[str, tuple[Condition, ...]]:
    """What arguments must be, for the calls of `CALLS` that are not harmless in every form."""
    own = (Condition(argument=0, values=(pid,)),)
    flags = (Condition(argument=1, values=_FLAGS_OF_DESCRIPTORS),)
    return {
        "clone": (Condition(argument=0, values=(_THREAD,), mask=_THREAD | _MORE_THAN_A_THREAD),),
        "kill": own,
        "tgkill": own,
        "fcntl": flags,
        "fcntl64": flags,
        "sendto": (Condition(argument=4, values=(0,), wide=True),),  # to the peer of the socket, to nobody else
        "prctl": (Condition(argument=0, values=_HARMLESS_PRCTL),),
        "arch_prctl": (Condition(argument=0, values=_REQUEST_AMX),),
        "prlimit64": (Condition(argument=0, values=(0,)), Condition(argument=2, values=(0,), wide=True)),  # asks only
    }


def trainer_filter(architecture: Architecture, pid: int) -> tuple[Instruction, ...]:
    """The filter of a trainer process `pid`: see the module's docstring."""
    needed = conditions(pid)
    program = [
        Instruction(_LOAD, _ARCHITECTURE),
        Instruction(_IF_EQUAL, architecture.audit, when=1),
        Instruction(_RETURN, KILL_PROCESS),
        Instruction(_LOAD, _NUMBER),
    ]
    for name, numbers in CALLS.items():
        number = numbers[architecture.column]
        if number is not None:
            rule = _rule(needed.get(name, ()))
            program += [Instruction(_IF_EQUAL, number, otherwise=len(rule)), *rule]
    return (
        *program,
        Instruction(_IF_AT_LEAST, FIRST_NEW_CALL, otherwise=1),
        Instruction(_RETURN, NO_SUCH_CALL),
        Instruction(_RETURN, DENY),
    )


def _rule(needed: Iterable[Condition]) -> list[Instruction]:
    """Allow if all conditions hold, else deny. It always returns, so it may forget the call's number."""
    rule = []
    for condition in needed:
        word = _ARGUMENTS + 8 * condition.argument  # the lower half: all three processors are little-endian here
        if condition.wide:
            rule += [Instruction(_LOAD, word + 4), Instruction(_IF_EQUAL, 0, when=1), Instruction(_RETURN, DENY)]
        rule += [Instruction(_LOAD, word), Instruction(_AND, condition.mask)]
        left = len(condition.values)
        for value in condition.values:
            rule.append(Instruction(_IF_EQUAL, value, when=left))  # over the other values and the denial
            left -= 1
        rule.append(Instruction(_RETURN, DENY))
    return [*rule, Instruction(_RETURN, ALLOW)]


def allow_only_computing(*, has_threads: bool) -> None:
    """Put the trainer's filter on this process, for ever; `has_threads` says that others than this one run.

    Raises OSError when the kernel will not, or there is no list for this processor: nothing is filtered then.
    """
    architecture = this_architecture()
    if architecture is None:
        raise OSError(errno.ENOSYS, "there is no list of system calls for this processor")
    install(trainer_filter(architecture, os.getpid()), architecture, has_threads=has_threads)


def install(program: tuple[Instruction, ...], architecture: Architecture, *, has_threads: bool) -> None:
    """Put a filter on all threads of this process. Raises OSError when the kernel refuses.

    A process of one thread needs prctl(2) alone, which systemd's @system-service has always allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(struct.pack("=HBBI", i.code, i.when, i.otherwise, i.constant) for i in program)
    header = _Header(len(program), ctypes.cast(ctypes.create_string_buffer(code, len(code)), ctypes.c_void_p))
    result = libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    if result == 0 and not has_threads:
        result = libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(header))
    elif result == 0:
        libc.syscall.restype = ctypes.c_long
        call = map(ctypes.c_long, (architecture.seccomp, _SET_MODE_FILTER, _TSYNC))
        result = libc.syscall(*call, ctypes.byref(header))
    if result > 0:
        raise OSError(errno.EBUSY, f"thread {result} has another filter")
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class _Header(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))
