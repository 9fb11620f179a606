"""Which board we run on, which firmware profile fits it, and what of the system keeps it from training.

Read from: the device tree (`/proc/device-tree`, where a board names itself and its module), DMI
(`/sys/class/dmi/id`, what a PC's firmware says), `/proc/cpuinfo`, and what Python knows of itself. Reading is one
thing and judging another: `read_board` has the files, `propose` only what was found.

PyTorch has wheels for CPython 3.10 to 3.14 on x86_64 and aarch64 with glibc 2.28 or later (PyPI, torch 2.14, November
2026). There is none for 32-bit programs, be it on a 64-bit kernel, for musl as in Alpine, or for a newer Python: better
said by `grapevine init` than by the first task.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import struct
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grapevine_agent.config.firmware import DEFAULT_PROFILE, LEAST_TRAINING_MB, FirmwareProfile, load_profile
from grapevine_agent.config.machine import Machine, detect_machine, line_of, text_of
from grapevine_agent.config.profile_files import profile_names
from grapevine_proto import distribution

RELAY_PROFILE: Final = "relay-only"
SMALL_PROFILE: Final = "small-board-512mb"
SMALL_MB: Final = 700  # a board without a profile of its own that reports less is small

_LONGEST_NAME: Final = 256
_MOST_CPUINFO_BYTES: Final = 1 << 20  # a kilobyte or so for each of many cores; where ARM's names the board, at its end
_WHEEL_MACHINES: Final = ("x86_64", "aarch64")
_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 10), (3, 14)
_OLDEST_GLIBC: Final = (2, 28)
_NARROW_NAMES: Final = {"aarch64": "32-bit ARM", "x86_64": "32-bit x86"}
_NOTHING: Final = ("", "default string", "to be filled by o.e.m.", "system product name", "not specified", "none")
_VIRTUAL: Final = (
    "qemu",
    "vmware",
    "virtualbox",
    "kvm",
    "xen",
    "virtual machine",
    "google compute engine",
    "amazon ec2",
)


@dataclass(frozen=True, kw_only=True)
class System:
    """What runs on the board: the kernel's machine, the width of programs, their C library and Python."""

    kernel: str  # as `uname -m`
    bits: int  # of this very program
    libc: str  # "glibc", "musl", or another
    libc_version: tuple[int, ...] = ()
    python: tuple[int, int] = (3, 11)
    implementation: str = "CPython"
    has_torch: bool = False


@dataclass(frozen=True, kw_only=True)
class Board:
    """What was found. Empty: the machine does not say."""

    machine: Machine
    system: System
    model: str = ""  # of the device tree
    compatible: tuple[str, ...] = ()
    vendor: str = ""  # of DMI
    product: str = ""
    chassis: int = 0
    cpu: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """What it calls itself."""
        return tuple(name for name in (self.model, self.product, f"{self.vendor} {self.product}".strip()) if name)

    @property
    def is_virtual(self) -> bool:
        """Whether its firmware is that of a virtual machine."""
        said = f"{self.vendor} {self.product}".lower()
        return any(word in said for word in _VIRTUAL)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A profile, why it is that one, and what its owner should know before the first task. Each a sentence or two."""

    profile: str
    why: str
    warnings: tuple[str, ...] = ()


def read_board(root: Path = Path("/"), *, machine: Machine | None = None, system: System | None = None) -> Board:
    """What the files below `root` say, and the system that runs this; what cannot be read is left empty."""
    tree, dmi = root / "proc/device-tree", root / "sys/class/dmi/id"
    chassis = line_of(dmi / "chassis_type")
    return Board(
        machine=machine or detect_machine(root),
        system=system or read_system(),
        model=_name(tree / "model"),
        compatible=tuple(word for word in text_of(tree / "compatible").split("\0") if word),
        vendor=_said(dmi / "sys_vendor") or _said(dmi / "board_vendor"),
        product=_said(dmi / "product_name") or _said(dmi / "board_name"),
        chassis=int(chassis) if chassis.isascii() and chassis.isdigit() else 0,
        cpu=_cpu(root / "proc/cpuinfo"),
    )


def read_system() -> System:
    """The system that this program runs on."""
    libc, version = platform.libc_ver()
    if libc != "glibc" and "musl" in str(
        sysconfig.get_config_var("HOST_GNU_TYPE") or sysconfig.get_config_var("SOABI") or ""
    ):
        libc = "musl"
    return System(
        kernel=os.uname().machine,
        bits=8 * struct.calcsize("P"),
        libc=libc or "unknown",
        libc_version=tuple(int(part) for part in version.split(".") if part.isdigit()),
        python=sys.version_info[:2],
        implementation=platform.python_implementation(),
        has_torch=importlib.util.find_spec("torch") is not None,
    )


def propose(board: Board) -> Proposal:
    """The profile for a board, and why. The explanation names what was seen, and where."""
    lacking = why_no_wheel(board.system)
    profile, why = _known(board) or _unknown(board, trains=not lacking)
    found = load_profile(profile, board.machine, follows_machine=True)
    return Proposal(profile=profile, why=f"{why}{_sized_words(found, board)}", warnings=tuple(_warnings(board, found)))


def why_no_wheel(system: System) -> str:
    """Why pip finds no PyTorch for this system, and what to do; empty where it does, or where it is there already."""
    if system.has_torch:
        return ""
    is_narrow = system.bits == 32
    if is_narrow and system.kernel in _WHEEL_MACHINES:
        return (
            f"the kernel is 64-bit ({system.kernel}), but this system's programs are {_NARROW_NAMES[system.kernel]}, "
            "for which there is no PyTorch: install the 64-bit edition of the system"
        )
    if is_narrow or system.kernel not in _WHEEL_MACHINES:
        what = f"{system.bits}-bit {system.kernel}" if is_narrow else system.kernel
        return f"there is no PyTorch for {what}, only for 64-bit x86 and ARM: train on another device"
    if system.libc == "musl":
        return (
            "the C library is musl, as in Alpine, and PyTorch is built for glibc: use Debian or another system with "
            "glibc, or a container of one"
        )
    if system.libc == "glibc" and system.libc_version and system.libc_version < _OLDEST_GLIBC:
        return (
            f"glibc is {_dotted(system.libc_version)}, and PyTorch needs {_dotted(_OLDEST_GLIBC)}: install a newer "
            "release of the system"
        )
    if system.implementation != "CPython":
        return f"Python is {system.implementation}, and PyTorch is built for CPython: install CPython"
    if not _OLDEST_PYTHON <= system.python <= _NEWEST_PYTHON:
        return (
            f"Python is {_dotted(system.python)}, and PyTorch is built for {_dotted(_OLDEST_PYTHON)} to "
            f"{_dotted(_NEWEST_PYTHON)} as far as is known here: make a virtual environment with one of these"
        )
    return ""


def _known(board: Board) -> tuple[str, str] | None:
    """By its own word: the device tree, the module in it, DMI, the processor."""
    profiles = [load_profile(name, board.machine) for name in profile_names()]
    for profile in profiles:
        for name in board.names:
            if name.startswith(profile.boards):
                where = "device tree" if name == board.model else "DMI"
                return profile.name, f"its {where} says {name!r}"
    for profile in profiles:
        for word in profile.compatible:
            if word in board.compatible:
                return profile.name, f"its device tree says it holds the module {word!r}"
    for profile in profiles:
        if board.cpu and board.cpu.startswith(profile.cpus) and not board.is_virtual:
            return profile.name, f"its processor is {board.cpu!r}"
        if board.chassis and board.chassis in profile.chassis:
            return profile.name, f"its DMI says that it is a mini PC (chassis type {board.chassis})"
    return None


def _unknown(board: Board, *, trains: bool) -> tuple[str, str]:
    """By what a machine without a profile of its own can do."""
    name = board.model or " ".join(dict.fromkeys(part for part in (board.vendor, board.product) if part))
    kind = "a virtual machine" if board.is_virtual else "no board that has a profile of its own"
    what = f"{name!r} is {kind}" if name else f"neither device tree nor DMI says what it is (processor: {board.cpu!r})"
    if board.model and board.machine.memory_mb < SMALL_MB:
        return SMALL_PROFILE, f"{what}, and with {board.machine.memory_mb:,} MB too small to train"
    if not trains:
        return RELAY_PROFILE, f"{what}, and PyTorch cannot be installed on it"
    if board.machine.memory_mb // 2 < LEAST_TRAINING_MB:
        return RELAY_PROFILE, f"{what}, and with {board.machine.memory_mb:,} MB too small to train"
    return DEFAULT_PROFILE, f"{what}, so it is told by its cores and memory"


def _sized_words(profile: FirmwareProfile, board: Board) -> str:
    """What of the machine's memory the profile takes."""
    return f"; of {board.machine.memory_mb:,} MB of memory, tasks may take {profile.memory_mb:,}"


def _warnings(board: Board, profile: FirmwareProfile) -> Iterator[str]:
    relays = profile.name in (RELAY_PROFILE, SMALL_PROFILE)
    if why := why_no_wheel(board.system):
        rest = "" if relays else f'; until then it relays, merges and serves (profile = "{RELAY_PROFILE}" says so)'
        yield f"this device trains nothing: {why}{rest}"
    elif profile.can_train and not board.system.has_torch:
        install = distribution.to_add_extra("train")
        yield f"PyTorch is not installed, and without it this device trains nothing: {install}"
    if not relays and not profile.can_train:
        yield (
            f"this device trains nothing: a trainer needs {LEAST_TRAINING_MB} MB, and of {board.machine.memory_mb:,} "
            f"tasks may take {profile.memory_mb:,}; let it relay, or end other programs and raise limits.memory_mb"
        )


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _name(path: Path) -> str:
    """What a board or its maker is called, if it is no longer than a name."""
    return line_of(path)[:_LONGEST_NAME]


def _said(path: Path) -> str:
    """A field of DMI, unless its maker left it as it was."""
    name = _name(path)
    return "" if name.lower() in _NOTHING else name


def _cpu(path: Path) -> str:
    """The processor's name; ARM's `cpuinfo` mostly has none."""
    for each in text_of(path, _MOST_CPUINFO_BYTES).splitlines():
        key, colon, value = each.partition(":")
        if colon and key.strip().lower() in ("model name", "hardware"):
            return " ".join(value.split())
    return ""
