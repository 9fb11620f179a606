"""Boards are known by what they say of themselves, and what keeps one from training is said before it is tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from grapevine_agent.config.board import Board, System, propose, read_board, read_system, why_no_wheel
from grapevine_agent.config.machine import Machine

ARM = System(kernel="aarch64", bits=64, libc="glibc", libc_version=(2, 36), python=(3, 11), has_torch=True)
PC = replace(ARM, kernel="x86_64")
NEW_ARM, NEW_PC = replace(ARM, has_torch=False), replace(PC, has_torch=False)


def make_board(
    root: Path, *, model: str = "", compatible: str = "", dmi: dict[str, str] | None = None, cpuinfo: str = ""
) -> Path:
    """Files as kernels have them: a device tree's end in NUL, DMI's in a line feed."""
    tree, ids = root / "proc/device-tree", root / "sys/class/dmi/id"
    for folder in (tree, ids):
        folder.mkdir(parents=True)
    if model:
        (tree / "model").write_bytes(model.encode() + b"\0")
    if compatible:
        (tree / "compatible").write_bytes(compatible.replace(" ", "\0").encode() + b"\0")
    for name, value in (dmi or {}).items():
        (ids / name).write_text(value + "\n")
    (root / "proc/cpuinfo").write_text(cpuinfo)
    return root


PI_CPU = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\n\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi\n"
N100 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) N100\n"
ORIN = "nvidia,p3768-0000+p3767-0005 nvidia,p3767-0005 nvidia,tegra234"


@pytest.mark.parametrize(
    ("files", "memory_mb", "system", "profile", "says"),
    [
        # What boards report of their memory: firmware and graphics have taken their part.
        (
            {"model": "Raspberry Pi 4 Model B Rev 1.4", "cpuinfo": PI_CPU},
            3_792,
            ARM,
            "raspberry-pi-4b",
            "its device tree says 'Raspberry Pi 4 Model B Rev 1.4'; of 3,792 MB of memory, tasks may take 3,000",
        ),
        ({"model": "Raspberry Pi 400 Rev 1.0"}, 3_792, ARM, "raspberry-pi-4b", "'Raspberry Pi 400 Rev 1.0'"),
        ({"model": "Raspberry Pi Compute Module 4 Rev 1.1"}, 1_845, ARM, "raspberry-pi-4b", "tasks may take 1,400"),
        ({"model": "Raspberry Pi 5 Model B Rev 1.0"}, 8_053, ARM, "raspberry-pi-5", "tasks may take 6,000"),
        ({"model": "Raspberry Pi 3 Model B Plus Rev 1.3"}, 909, ARM, "raspberry-pi-3b-plus", "tasks may take 600"),
        ({"model": "Raspberry Pi 3 Model A Plus Rev 1.0"}, 416, ARM, "raspberry-pi-3b-plus", "tasks may take 300"),
        ({"model": "Raspberry Pi Zero 2 W Rev 1.0"}, 427, ARM, "raspberry-pi-zero-2-w", "tasks may take 320"),
        ({"model": "NVIDIA Jetson Nano Developer Kit"}, 3_956, ARM, "jetson-nano", "tasks may take 2,000"),
        ({"model": "NVIDIA Jetson Nano 2GB Developer Kit"}, 1_979, ARM, "jetson-nano", "tasks may take 1,000"),
        ({"model": "NVIDIA Orin Nano Developer Kit"}, 7_620, ARM, "jetson-orin-nano", "tasks may take 5,000"),
        (
            {"model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"},
            7_620,
            ARM,
            "jetson-orin-nano",
            "",
        ),
        (
            {"model": "Somebody's carrier board", "compatible": ORIN},
            3_300,
            ARM,
            "jetson-orin-nano",
            "its device tree says it holds the module 'nvidia,p3767-0005'; of 3,300 MB of memory, tasks may take 2,000",
        ),
        (
            {"dmi": {"sys_vendor": "NVIDIA", "product_name": "NVIDIA Jetson Orin Nano Developer Kit"}},
            7_620,
            ARM,
            "jetson-orin-nano",
            "its DMI says 'NVIDIA Jetson Orin Nano Developer Kit'",
        ),
        (
            {"dmi": {"sys_vendor": "AZW", "product_name": "EQ", "chassis_type": "3"}, "cpuinfo": N100},
            15_700,
            PC,
            "mini-pc-x86",
            "its processor is 'Intel(R) N100'; of 15,700 MB of memory, tasks may take 8,000",
        ),
        (
            {"dmi": {"sys_vendor": "Default string", "product_name": "Default string", "chassis_type": "35"}},
            7_700,
            PC,
            "mini-pc-x86",
            "its DMI says that it is a mini PC (chassis type 35)",
        ),
        # No board of ours.
        (
            {"dmi": {"sys_vendor": "LENOVO", "product_name": "20L5", "chassis_type": "10"}},
            16_000,
            PC,
            "generic",
            "'LENOVO 20L5' is no board that has a profile of its own, so it is told by its cores and memory",
        ),
        (
            {"dmi": {"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)"}, "cpuinfo": N100},
            4_000,
            PC,
            "generic",
            "'QEMU Standard PC (Q35 + ICH9, 2009)' is a virtual machine",
        ),
        ({}, 2_000, PC, "generic", "neither device tree nor DMI says what it is"),
        ({"model": "Xunlong Orange Pi Zero"}, 490, ARM, "small-board-512mb", "and with 490 MB too small to train"),
        ({"model": "Xunlong Orange Pi 5"}, 7_900, ARM, "generic", "'Xunlong Orange Pi 5' is no board"),
        ({}, 500, PC, "relay-only", "and with 500 MB too small to train"),
        (
            {"model": "Turris Omnia"},
            2_000,
            replace(NEW_ARM, kernel="armv7l", bits=32),
            "relay-only",
            "cannot be installed",
        ),
    ],
)
def test_a_board_gets_its_profile_and_is_told_why(
    tmp_path: Path, files: dict[str, str], memory_mb: int, system: System, profile: str, says: str
) -> None:
    root = make_board(tmp_path, **files)  # type: ignore[arg-type]
    proposal = propose(read_board(root, machine=Machine(cores=4, memory_mb=memory_mb), system=system))
    assert proposal.profile == profile
    assert says in proposal.why
    assert "\n" not in proposal.why


def test_every_profile_of_a_kind_of_device_can_be_proposed(tmp_path: Path) -> None:
    """The cases above name them all: one that nothing proposes would be a file that nobody finds."""
    from grapevine_agent.config.profile_files import profile_names

    marks = test_a_board_gets_its_profile_and_is_told_why.pytestmark  # type: ignore[attr-defined]
    assert {case[3] for case in marks[0].args[1]} == set(profile_names())


@pytest.mark.parametrize(
    ("system", "says"),
    [
        (replace(NEW_ARM, bits=32), "the kernel is 64-bit (aarch64), but this system's programs are 32-bit ARM"),
        (
            replace(NEW_PC, bits=32),
            "32-bit x86, for which there is no PyTorch: install the 64-bit edition",
        ),
        (replace(NEW_ARM, kernel="armv7l", bits=32), "there is no PyTorch for 32-bit armv7l"),
        (replace(NEW_ARM, kernel="riscv64"), "there is no PyTorch for riscv64"),
        (replace(NEW_ARM, libc="musl", libc_version=()), "the C library is musl, as in Alpine"),
        (replace(NEW_ARM, libc_version=(2, 27)), "glibc is 2.27, and PyTorch needs 2.28"),
        (replace(NEW_PC, python=(3, 15)), "Python is 3.15, and PyTorch is built for 3.10 to 3.14"),
        (replace(NEW_PC, implementation="PyPy"), "Python is PyPy"),
        (NEW_ARM, ""),
        (NEW_PC, ""),
        (replace(NEW_PC, libc="unknown", libc_version=()), ""),
        (replace(ARM, libc="musl", bits=32), ""),  # somebody has built one
    ],
)
def test_a_system_without_a_wheel_is_told_what_to_do(system: System, says: str) -> None:
    why = why_no_wheel(system)
    assert says in why
    assert bool(why) == bool(says)
    assert not why or ": " in why  # a remedy


def pi(memory_mb: int, system: System) -> Board:
    return Board(machine=Machine(cores=4, memory_mb=memory_mb), system=system, model="Raspberry Pi 4 Model B Rev 1.4")


def test_a_32_bit_system_on_a_pi_keeps_its_profile_and_is_warned() -> None:
    proposal = propose(pi(3_792, replace(NEW_ARM, bits=32)))
    assert proposal.profile == "raspberry-pi-4b"
    (warning,) = proposal.warnings
    assert warning.startswith("this device trains nothing: the kernel is 64-bit")
    assert warning.endswith('until then it relays, merges and serves (profile = "relay-only" says so)')


def test_little_memory_is_said_with_the_numbers() -> None:
    (warning,) = propose(pi(370, ARM)).warnings
    assert "a trainer needs 300 MB, and of 370 tasks may take 296" in warning


def test_what_can_be_installed_is_said_as_a_command() -> None:
    (warning,) = propose(pi(3_792, NEW_ARM)).warnings
    assert "PyTorch is not installed" in warning
    assert "train" in warning.split(": ", 1)[1]
    assert propose(pi(3_792, ARM)).warnings == ()


def test_files_that_are_odd_or_not_there_are_no_trouble(tmp_path: Path) -> None:
    board = read_board(tmp_path / "nowhere", machine=Machine(cores=1, memory_mb=1000), system=ARM)
    assert (board.model, board.product, board.chassis, board.cpu) == ("", "", 0, "")
    root = make_board(tmp_path, model="\x1b[31m" + "x" * 9000, dmi={"chassis_type": "²", "product_name": "None"})
    board = read_board(root, machine=Machine(cores=1, memory_mb=1000), system=ARM)
    assert len(board.model) <= 256
    assert (board.chassis, board.product) == (0, "")
    (root / "proc/device-tree/model").unlink()
    (root / "proc/device-tree/model").mkdir()
    assert read_board(root, machine=Machine(cores=1, memory_mb=1000), system=ARM).model == ""


def test_this_very_system_says_something_of_itself() -> None:
    system = read_system()
    assert system.bits in (32, 64)
    assert system.kernel
    assert system.python >= (3, 11)
    assert read_board().machine.cores >= 1
