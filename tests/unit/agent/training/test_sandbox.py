"""What a trainer process can still do once it is closed: it computes and answers, and that is all."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grapevine_agent.training.landlock import landlock_version, ruleset
from grapevine_agent.training.process import environment_for
from grapevine_agent.training.seccomp import ALLOW, DENY, KILL_PROCESS, NO_SUCH_CALL, Instruction, trainer_filter
from grapevine_agent.training.syscalls import ARCHITECTURES, CALLS, Architecture, architecture_of

PID = 4242
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
architectures = st.sampled_from(list(ARCHITECTURES.values()))


def _escape(folder: Path, *outer: str) -> str:
    (folder / "secret").write_text("owner's")
    script = Path(__file__).with_name("escapes.py")
    done = subprocess.run(
        [sys.executable, script, folder, *outer],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert (folder / "secret").read_text() == "owner's"
    assert not (folder / "loot").exists()
    return done.stdout


@pytest.mark.parametrize("outer", ["", "filter", "kill"])
def test_nothing_that_an_intruder_would_try_works_in_a_closed_sandbox(tmp_path: Path, outer: str) -> None:
    """Alone, inside a hardened unit, and inside a unit that kills whoever asks for Landlock."""
    answer = json.loads(_escape(tmp_path, *filter(None, [outer])))
    assert {name: result for name, result in answer["found"].items() if result not in ("EPERM", "ENOSYS")} == {
        "write through an open file": "EFBIG"
    }
    assert (tmp_path / "open").stat().st_size == 0
    has_landlock = landlock_version() > 0 and outer != "kill"
    assert ("Landlock" in answer["protection"].partition("(")[0]) == has_landlock


def test_where_the_hard_limit_of_core_files_is_0_the_trainer_starts_and_dumps_none() -> None:
    script = """
        import ctypes, resource
        from grapevine_agent.training.sandbox import limit_leftovers
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit_leftovers()
        print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "(0, 0) 0", done.stderr


def test_a_sandbox_that_cannot_be_closed_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    assert 'limits.sandbox = "off"' in _escape(tmp_path, "none")


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no Landlock")
def test_landlock_alone_leaves_no_file_to_open_and_none_to_change(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("owner's")
    script = f"""
        import os
        from pathlib import Path
        from grapevine_agent.training.landlock import give_up_files
        secret = Path({str(tmp_path / "secret")!r})
        assert give_up_files() > 0
        for attempt in (secret.read_text, secret.unlink, lambda: secret.write_text("x"), lambda: os.listdir("/")):
            try:
                attempt()
            except PermissionError:
                print("denied")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["denied"] * 4, done.stderr


def test_a_ruleset_of_landlock_has_the_size_that_its_version_takes() -> None:
    assert [len(ruleset(version)) for version in (1, 2, 3, 4, 5, 6, 7, 99)] == [8, 8, 8, 16, 16, 24, 24, 24]


def test_the_trainer_sees_no_secret_of_the_environment() -> None:
    environ = {"GRAPEVINE_MQTT_PASSWORD": "x", "AWS_SECRET_ACCESS_KEY": "x", "PATH": "/bin", "PYTHONPATH": "here"}
    seen = environment_for(environ, 3)
    assert "x" not in seen.values()
    assert (seen["PATH"], seen["PYTHONPATH"], seen["OMP_NUM_THREADS"]) == ("/bin", "here", "3")


# --- the filter, on all processors -------------------------------------------------------------------


def _verdict(program: Sequence[Instruction], architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """What the kernel would say: classic BPF as in linux/filter.h, over struct seccomp_data."""
    words = {0: number, 4: architecture}
    for i in range(6):
        argument = arguments[i] if i < len(arguments) else 0
        words[16 + 8 * i], words[20 + 8 * i] = argument & 0xFFFF_FFFF, argument >> 32
    accumulator = at = 0
    while True:
        instruction = program[at]
        at += 1
        match instruction.code:
            case 0x20:
                accumulator = words[instruction.constant]
            case 0x54:
                accumulator &= instruction.constant
            case 0x15:
                at += instruction.when if accumulator == instruction.constant else instruction.otherwise
            case 0x35:
                at += instruction.when if accumulator >= instruction.constant else instruction.otherwise
            case 0x06:
                return instruction.constant
            case _:
                raise AssertionError(f"the kernel does not know {instruction}")


def _number(name: str, architecture: Architecture) -> int:
    number = CALLS[name][architecture.column]
    assert number is not None
    return number


@given(architectures, U32, st.lists(U64, min_size=6, max_size=6))
@example(ARCHITECTURES["x86_64"], 0x4000_0000 + 41, [0] * 6)  # socket(2) as x32 calls it
def test_whatever_is_not_on_the_list_is_denied(architecture: Architecture, number: int, arguments: list[int]) -> None:
    verdict = _verdict(trainer_filter(architecture, PID), architecture.audit, number, arguments)
    if number not in {numbers[architecture.column] for numbers in CALLS.values()}:
        assert verdict == (DENY if number < 424 else NO_SUCH_CALL)
    else:
        assert verdict in (ALLOW, DENY)


@given(architectures, U32, U32)
def test_a_call_in_another_processors_way_kills(architecture: Architecture, other: int, number: int) -> None:
    verdict = _verdict(trainer_filter(architecture, PID), other, number)
    assert (verdict == KILL_PROCESS) == (other != architecture.audit)


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=str)
def test_the_filter_looks_at_flags_and_numbers(architecture: Architecture) -> None:
    program = trainer_filter(architecture, PID)
    thread = 0x3D0F00  # what glibc gives clone(2) for a thread
    fcntl = "fcntl64" if architecture.name == "arm" else "fcntl"
    for name, arguments, verdict in (
        ("clone", [thread], ALLOW),
        ("clone", [17], DENY),  # fork: SIGCHLD
        ("clone", [thread | 0x1000_0000], DENY),  # with a user namespace
        ("clone", [thread | 0x0000_4000], DENY),  # vfork
        ("kill", [PID, 9], ALLOW),
        ("kill", [1, 9], DENY),
        ("kill", [0xFFFF_FFFF, 9], DENY),  # everybody
        ("tgkill", [PID, 1, 6], ALLOW),
        ("tgkill", [PID + 1, 1, 6], DENY),
        (fcntl, [0, 3], ALLOW),
        (fcntl, [0, 8, 1], DENY),  # F_SETOWN
        ("sendto", [3, 1, 1, 0, 0, 0], ALLOW),
        ("sendto", [3, 1, 1, 0, 1, 0], DENY),
        ("prctl", [15], ALLOW),
        ("prctl", [22], DENY),  # PR_SET_SECCOMP
        ("prlimit64", [0, 7, 0, 1], ALLOW),
        ("prlimit64", [0, 7, 1, 0], DENY),
        ("prlimit64", [1, 7, 0, 1], DENY),
    ):
        found = _verdict(program, architecture.audit, _number(name, architecture), arguments)
        assert found == verdict, (name, arguments)
    if architecture.name != "arm":  # the upper half of a pointer counts
        found = _verdict(program, architecture.audit, _number("sendto", architecture), [3, 1, 1, 0, 1 << 32, 0])
        assert found == DENY


def test_a_32_bit_system_on_a_64_bit_kernel_makes_32_bit_calls() -> None:
    assert architecture_of("aarch64", pointer_bytes=4) == ARCHITECTURES["arm"]
    assert architecture_of("armv7l", pointer_bytes=4) == ARCHITECTURES["arm"]
    assert architecture_of("aarch64", pointer_bytes=8) == ARCHITECTURES["aarch64"]
    assert architecture_of("i686", pointer_bytes=4) is None
    assert architecture_of("riscv64", pointer_bytes=8) is None


_HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("name", _HEADERS)
def test_the_numbers_are_the_kernels(name: str) -> None:
    if not (header := _HEADERS[name]).exists():
        pytest.skip(f"{header} is not installed")
    pattern = re.compile(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)
    kernels = {call: int(number) for call, number in pattern.findall(header.read_text())}
    column = ARCHITECTURES[name].column
    ours = {call: numbers[column] for call, numbers in CALLS.items() if numbers[column] is not None}
    assert ours == {call: kernels[call] for call in ours}


def test_this_machine_is_known_or_says_so() -> None:
    assert (architecture_of(platform.machine(), pointer_bytes=8) is None) == (
        os.uname().machine not in ("x86_64", "aarch64")
    )
